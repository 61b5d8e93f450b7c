# The platform's own metadata agent, which claims the same sockets, and the instance of its service that is
# online in its stead while mdatad serves. Sourced, after daemon.sh, by the methods and the installers.

PLATFORM_AGENT=svc:/system/smartdc/metadata:default
# Not :mdatad, which `svcadm restart mdatad` would mean as well as site/mdatad (scf_cmp_pattern in
# usr/src/lib/libscf/common/lowlevel.c), and refuse.
STAND_IN=svc:/system/smartdc/metadata:stand-in

service_state() {
	svcs -H -o state "$1" 2>/dev/null
}

# take_down SECONDS FMRI: disables a service and waits until it is. 1 where its stop method fails: then it is in
# maintenance, and `svcadm disable -s` would wait for ever (wait_fmri_disabled in usr/src/cmd/svc/svcadm/svcadm.c).
take_down() {
	before_stop=$(service_state "$2")
	[ -n "$before_stop" ] || return 0
	svcadm disable "$2" && wait_until "$1" has_stopped "$2" && [ "$(service_state "$2")" = disabled ]
}

has_stopped() {
	case "$(service_state "$1")" in
	disabled) ;;
	# One that was there before passes through it.
	maintenance) [ "$before_stop" != maintenance ] ;;
	*) return 1 ;;
	esac
}

# Whether this platform has that agent at all.
has_platform_agent() {
	[ -n "$(service_state "$PLATFORM_AGENT")" ]
}

# Ends it and waits until it is gone. Does nothing where it is disabled already, or not known.
disable_platform_agent() {
	has_platform_agent || return 0
	take_down 30 "$PLATFORM_AGENT"
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
