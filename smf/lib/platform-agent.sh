# The platform's own metadata agent, which claims the same sockets, and the instance of its service that is
# online in its stead while mdatad serves. Sourced by the methods and the installers.

PLATFORM_AGENT=svc:/system/smartdc/metadata:default
# Not :mdatad, which `svcadm restart mdatad` would mean as well as site/mdatad (scf_cmp_pattern in
# usr/src/lib/libscf/common/lowlevel.c), and refuse.
STAND_IN=svc:/system/smartdc/metadata:stand-in

service_state() {
	svcs -H -o state "$1" 2>/dev/null
}

# Whether this platform has that agent at all.
has_platform_agent() {
	[ -n "$(service_state "$PLATFORM_AGENT")" ]
}

# Ends it and waits until it is gone. Does nothing where it is disabled already, or not known.
disable_platform_agent() {
	has_platform_agent || return 0
	svcadm disable -s "$PLATFORM_AGENT"
}

# enable_stand_in COMMANDS: makes the instance by these svccfg commands where it is not there yet, whole or not
# at all. It goes online with mdatad, so nobody waits for it here.
enable_stand_in() {
	has_platform_agent || return 0
	if [ -z "$(service_state "$STAND_IN")" ] && ! svccfg -f "$1"; then
		svccfg delete -f "$STAND_IN" 2>/dev/null
		return 1
	fi
	svcadm enable "$STAND_IN"
}
