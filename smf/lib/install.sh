# What install, upgrade, rollback and uninstall share: their options, their checks of the machine and of the
# package, and the steps that change anything. Sourced; sets variables that they read:
#
#   package   the directory that the script came with (an unpacked package, or an installed release)
#   root      the root to work below; empty for the machine's own
#   home      $root/opt/mdatad
#   smf       yes where SMF takes part, no below a root that has no SMF
#   node      the Node that runs mdatad
#
# Every change belongs to a `step`, which says what it does; under --dry-run it says so and does nothing.

MDATAD=svc:/site/mdatad:default
TAKEOVER=svc:/site/mdatad-takeover:default

package=$(cd -P "$(dirname "$0")/.." && pwd -P)
. "$package/smf/lib/node.sh"
. "$package/smf/lib/daemon.sh"
. "$package/smf/lib/platform-agent.sh"

program=${0##*/}
# As for all programs of mdatad; --root counts more.
root=${MDATAD_ROOT:-}
node_tree=
dry_run=no
purge=no
overrides=
# What the daemon may take to serve all zones of a full node, seconds.
wait_seconds=60
steps=0

say() {
	echo "$program: $*"
}

# What came of it all, which is nothing under --dry-run.
conclude() {
	if [ "$dry_run" = yes ]; then
		say "nothing was changed (--dry-run)"
	else
		say "$*"
	fi
}

die() {
	echo "$program: $*" >&2
	exit 1
}

# step WHAT COMMAND...: WHAT is a clause in the imperative.
step() {
	what=$1
	shift
	steps=$((steps + 1))
	if [ "$dry_run" = yes ]; then
		[ "$steps" -gt 1 ] || say "these are the steps, none of them done:"
		echo "  $steps. $what"
		return 0
	fi
	say "step $steps: $what"
	"$@"
}

usage_fault() {
	echo "$program: $1" >&2
	usage >&2
	exit 2
}

# The release that the script came with.
version() {
	[ -f "$package/RELEASE" ] || die "$package is no package: it has no release"
	release_field id
}

parse_options() {
	root_from=MDATAD_ROOT
	while [ $# -gt 0 ]; do
		case "$1" in
		--dry-run) dry_run=yes ;;
		--purge) purge=yes ;;
		--root | --node | --wait | --override)
			[ $# -ge 2 ] || usage_fault "$1 wants a value"
			case "$1" in
			--override) overrides="$overrides,$2" ;;
			--root) root=$2 root_from=--root ;;
			--node) node_tree=$2 ;;
			--wait) wait_seconds=$2 ;;
			esac
			shift
			;;
		-h | --help)
			usage
			exit 0
			;;
		--version)
			version
			exit 0
			;;
		*) usage_fault "$1 is not an option of this script" ;;
		esac
		shift
	done
	case "$root" in
	'' | /*) ;;
	*) usage_fault "$root_from wants an absolute path, not $root" ;;
	esac
	case "$wait_seconds" in
	'' | *[!0-9]*) usage_fault "--wait wants seconds, not $wait_seconds" ;;
	esac
	root=${root%/}
	[ -z "$root" ] || [ "$root_from" = --root ] || say "works below $root (MDATAD_ROOT)"
}

# --- the machine ---------------------------------------------------------------------------------

check_machine() {
	if [ -n "$root" ]; then
		[ -d "$root" ] || die "$root is not a directory: --root wants one that exists"
		root=$(cd "$root" && pwd -P)
	else
		case "$(uname -s) $(uname -v)" in
		"SunOS joyent_"*) ;;
		*) die "this is not SmartOS (uname says $(uname -s) $(uname -v))" ;;
		esac
	fi
	home=$root/opt/mdatad
	if command -v zonename >/dev/null 2>&1; then
		zone=$(zonename)
		[ "$zone" = global ] || die "this is the zone $zone: mdatad runs in the global zone only"
	fi
	[ -n "$root" ] || [ "$(id -u)" = 0 ] || die "only root can do this"
	find_smf
	[ -n "$root" ] || check_opt
}

find_smf() {
	smf=yes
	for command in svcadm svccfg svcs; do
		path=$(command -v $command) || path=
		case "$path" in
		'')
			[ -n "$root" ] || die "the command $command is missing: services cannot be changed"
			smf=no
			;;
		"/usr/sbin/$command" | "/usr/bin/$command")
			# The services of this machine are not those of the node below --root.
			[ -z "$root" ] || smf=no
			;;
		esac
	done
	[ "$smf" = yes ] || say "no SMF below $root: services are left as they are"
}

# A node that was booted with "noimport" has no pool, and its /opt goes with the RAM disk.
check_opt() {
	grep "$(printf '\t/opt\tzfs\t')" /etc/mnttab >/dev/null ||
		die "/opt is not on the pool (booted with noimport?): nothing there would outlive a reboot"
}

# --- the package ---------------------------------------------------------------------------------

# release_field NAME: a line of the package's RELEASE file, which `npm run package` wrote.
release_field() {
	sed -n "s/^$1=//p" "$package/RELEASE"
}

check_package() {
	need RELEASE "this is not a package: make one with npm run package"
	need dist/tools/smf/preflight.js "what install runs first"
	need dist/src/bundle/mdatad.js "the daemon"
	need dist/tools/mdatactl/main.js "the operator's command"
	need dist/tools/smf/launch.js "what the start method runs"
	need node_modules "the packages that the daemon uses"
	need smf/mdatad.xml "the service's manifest"
	need smf/takeover.xml "the manifest of the hand-over at boot"
	need smf/stand-in.svccfg "what lets the zones boot"
	need smf/method/mdatad "the service's method"
	need smf/method/takeover "the method of the hand-over at boot"
	release=$(release_field id)
	[ -n "$release" ] || die "$package/RELEASE names no release"
	choose_node
	check_target
}

need() {
	[ -e "$package/$1" ] || die "$package/$1 is missing: $2"
}

choose_node() {
	if [ -n "$node_tree" ]; then
		[ -x "$node_tree/bin/node" ] || die "--node $node_tree: there is no $node_tree/bin/node"
		node_tree=$(cd "$node_tree" && pwd -P)
		node=$node_tree/bin/node
	elif ! find_node "$package" "$home"; then
		# A root that is not this machine's is a try-out: there this machine's Node will do.
		[ -n "$root" ] && node=$(command -v node) ||
			die "there is no Node for mdatad: name one (20.15 or later) with --node DIR, or put it at $home/node"
		node_tree=$(cd "$(dirname "$(readlink -f "$node")")/.." && pwd -P)
	fi
	"$node" -e 'const [a, b] = process.versions.node.split("."); process.exit(+a > 20 || (+a === 20 && +b >= 15) ? 0 : 1)' ||
		die "$node is $("$node" --version 2>&1): mdatad wants Node 20.15 or later"
}

# Native code runs only where it was built for, and a daemon that cannot load it helps nobody.
check_target() {
	addon=$package/native/build/Release/mdatad.node
	[ -f "$addon" ] ||
		die "$addon is missing: make the package in a SmartOS zone, as its README.md says"
	machine=$("$node" -p 'process.platform + "-" + process.arch')
	target=$(release_field target)
	[ "$target" = "$machine" ] || die "the package was made for $target, and $node is for $machine"
	fault=$(cd "$package" && "$node" -e 'require(process.argv[1]); require("ffi-napi")' "$addon" 2>&1) ||
		die "the native code does not load with $node: $(echo "$fault" | sed -n '/Error/{p;q;}')"
}

# --- the steps -----------------------------------------------------------------------------------

# The release that is in force, by name; empty when there is none.
installed_release() {
	[ -L "$home/current" ] || return 0
	target=$(readlink "$home/current")
	echo "${target##*/}"
}

# The release that was started last and served; empty when that is not known.
started_release() {
	cat "$root/var/run/mdatad/release" 2>/dev/null
}

stage() {
	step "copy release $release to $home/versions" copy_release
}

# A release appears whole or not at all.
copy_release() {
	[ ! -d "$home/versions/$release" ] || return 0
	partial=$home/versions/.partial
	mkdir -p "$home/versions" "$home/etc" &&
		chmod 700 "$home/etc" &&
		rm -rf "$partial" &&
		mkdir "$partial" &&
		cp -RPp "$package/." "$partial" &&
		mv "$partial" "$home/versions/$release" &&
		cp "$home/versions/$release/smf/mdatad.json.example" "$home/etc/mdatad.json.example"
}

# link TARGET NAME: makes or replaces a symbolic link in one operation. `ln -f` leaves a time without
# one, and `mv` onto a link to a directory moves into that directory.
link() {
	[ "$(readlink "$2" 2>/dev/null)" = "$1" ] && return 0
	rm -f "$2.new" && ln -s "$1" "$2.new" &&
		"$node" -e 'require("fs").renameSync(process.argv[1], process.argv[2])' "$2.new" "$2"
}

# put_in_force RELEASE: what is started next, and what is imported at the next boot, is this release.
put_in_force() {
	step "make $1 the release that is started next and at each boot" set_current "$1"
}

set_current() {
	from=$home/versions/$1/smf
	{ [ -z "$node_tree" ] || [ "$node_tree" = "$home/node" ] || link "$node_tree" "$home/node"; } &&
		link "versions/$1" "$home/current" &&
		link current/bin "$home/bin" &&
		link current/man "$home/man" &&
		mkdir -p "$root/opt/custom/smf" &&
		copy_whole "$from/takeover.xml" "$root/opt/custom/smf/mdatad-takeover.xml" &&
		copy_whole "$from/mdatad.xml" "$root/opt/custom/smf/mdatad.xml"
}

# Under a name that is not imported until it is whole.
copy_whole() {
	cp "$1" "$2.new" && mv -f "$2.new" "$2"
}

remove_manifests() {
	rm -f "$root/opt/custom/smf/mdatad-takeover.xml" "$root/opt/custom/smf/mdatad.xml"
}

import_manifests() {
	for manifest in mdatad-takeover.xml mdatad.xml; do
		svccfg import "$root/opt/custom/smf/$manifest" || return 1
	done
}

# start_services: nothing listens from the end of the old agent to the start of this one; the sockets' files
# stay all the while.
start_services() {
	step "import the manifests and start $MDATAD, which serves within $wait_seconds s" bring_up
}

bring_up() {
	import_manifests &&
		svcadm enable -s "$TAKEOVER" &&
		enable_stand_in "$home/current/smf/stand-in.svccfg" &&
		svcadm enable -s "$MDATAD" && probe
}

# stop_daemon: ends the service and its daemon, and this script where the daemon lives on: whoever is started next, the
# platform's agent or another mdatad, would serve the same sockets. Run again, the script goes on from here.
stop_daemon() {
	# Three times its stop method's timeout.
	take_down 200 "$MDATAD"
	# SMF runs no stop method for a service that is in maintenance.
	end_daemon "$root/var/run/mdatad" || die "$(lives_on), and run $program again"
	# Out of maintenance, where the stop method failed.
	take_down 60 "$MDATAD"
}

# delete_services: of the stand-in only the instance is ours, the service is the platform's.
delete_services() {
	for fmri in "$STAND_IN" "$MDATAD" "$TAKEOVER"; do
		[ -z "$(service_state "$fmri")" ] || svccfg delete -f "${fmri%:default}"
	done
}

probe() {
	"$node" "$home/current/dist/tools/smf/probe.js" --root "${root:-/}" --wait "$wait_seconds"
}

# give_back: the platform's own agent serves again.
give_back() {
	has_platform_agent || return 0
	svcadm enable -s "$PLATFORM_AGENT" || return 1
	[ "$(service_state "$PLATFORM_AGENT")" = online ]
}

# directory_modes save | restore: the modes that the platform gave the socket directories, which mdatad makes
# 0700. The first installation saves them, the last uninstall restores them.
directory_modes() {
	"$node" "$package/dist/tools/smf/directory-modes.js" "--$1" "$home/etc/directory-modes" \
		"$root/var/zonecontrol"
}

# From here to the end a Ctrl-C would leave zones without an agent.
no_way_back() {
	trap '' HUP INT TERM
}
