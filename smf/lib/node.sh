# Finds the Node that runs mdatad; sourced by the methods, the commands in bin/ and the installers.
# The platform's own Node is too old and goes with the platform, so mdatad brings its runtime along.

# find_node RELEASE HOME: sets $node, to the Node that came in the package, or else to HOME's, or else to that
# of pkgsrc-tools, the pkgsrc of the global zone. Returns 1 with $node empty when there is none.
#
# A Node that came in the package brings the libraries that are not the platform's; its own run path names the
# prefix that it was built for, which need not be on this node. What the daemon starts does not inherit the
# variable: it starts programs with an environment of its own.
find_node() {
	for node in "$1/node/bin/node" "$2/node/bin/node" /opt/tools/bin/node; do
		[ -x "$node" ] || continue
		if [ "$node" = "$1/node/bin/node" ] && [ -d "$1/node/lib" ]; then
			LD_LIBRARY_PATH_64=$1/node/lib
			export LD_LIBRARY_PATH_64
		fi
		return 0
	done
	node=
	return 1
}
