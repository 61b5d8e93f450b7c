# The platform's own metadata agent, which claims the same sockets. Sourced by the methods and installers.

PLATFORM_AGENT=svc:/system/smartdc/metadata:default

# Whether this platform has that agent at all.
has_platform_agent() {
	svcs -H -o state "$PLATFORM_AGENT" >/dev/null 2>&1
}

# Ends it and waits until it is gone. Does nothing where it is disabled already, or not known.
disable_platform_agent() {
	has_platform_agent || return 0
	svcadm disable -s "$PLATFORM_AGENT"
}
