# Finds the Node that runs mdatad; sourced by the methods, the commands in bin/ and the installers.
# The platform's own Node is too old and goes with the platform, so mdatad brings its runtime along.

# find_node RELEASE HOME: sets $node, to the Node that came in the package, or else to HOME's.
# Returns 1 with $node empty when there is neither.
find_node() {
	for node in "$1/node/bin/node" "$2/node/bin/node"; do
		[ -x "$node" ] && return 0
	done
	node=
	return 1
}
