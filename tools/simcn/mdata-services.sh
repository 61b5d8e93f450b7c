#!/bin/sh
#
# The zone's services mdata:fetch and mdata:execute, as the platform runs them at each boot
# (illumos-joyent usr/src/cmd/svc/milestone, mdata-fetch and mdata-execute): scripts are fetched, the
# operator's is run and then the user's. A user's script that fails puts mdata:execute into maintenance,
# an operator's does not.
#
#   mdata-services                 both, as at boot
#   svcs [-H] [-o COLUMN,...] [SERVICE]
#   svcadm enable|disable|restart|clear|refresh [-rst] SERVICE
#
# One program under three names. A service's state is a file below /var/svc/simcn, its log is where SMF
# has it. What else of SMF there is, this does not know: the state of any other service is what svcadm
# said last, and nothing is started for it.

svc=$SIMCN_ZONEROOT/var/svc
states=$svc/simcn
fatal=95

set_state() {
	mkdir -p "$states" "$svc/log" && echo "$2" > "$states/$1"
}

fetch_one() {
	mdata-get "$1" > "$2.new"
	case $? in
	0) chmod "$3" "$2.new" && mv "$2.new" "$2" && echo "$1: fetched" ;;
	1) rm -f "$2" "$2.new"; echo "$1: none" ;;
	*) rm -f "$2.new"; echo "$1: cannot be fetched"; return $fatal ;;
	esac
}

fetch() {
	socket=${MDATA_SOCKET:-/.zonecontrol/metadata.sock}
	while [ ! -S "$socket" ]; do
		sleep 0.2
	done
	mkdir -p "$SIMCN_ZONEROOT/var/db"
	fetch_one user-data "$SIMCN_ZONEROOT/var/db/mdata-user-data" 644 &&
	    fetch_one user-script "$svc/mdata-user-script" 755 &&
	    fetch_one sdc:operator-script "$svc/mdata-operator-script" 755
}

execute() {
	if [ -f "$svc/provisioning" ]; then
		mv "$svc/provisioning" "$svc/provision_success"
	fi
	if [ -x "$svc/mdata-operator-script" ]; then
		"$svc/mdata-operator-script"
		echo "operator-script: exit status $?"
	fi
	if [ -x "$svc/mdata-user-script" ]; then
		"$svc/mdata-user-script"
		status=$?
		echo "user-script: exit status $status"
		[ $status -eq 0 ] || return $fatal
	fi
}

run_service() {
	set_state "mdata:$1" 'offline*'
	if "$1" >> "$svc/log/smartdc-mdata:$1.log" 2>&1; then
		set_state "mdata:$1" online
	else
		set_state "mdata:$1" maintenance
		return 1
	fi
}

# svc:/smartdc/mdata:fetch, smartdc/mdata:fetch and mdata:fetch are one.
short_name() {
	name=${1#svc:/}
	name=${name#smartdc/}
	case $name in
	*/*) echo "$name" | tr / , ;;
	*) echo "$name" ;;
	esac
}

svcs() {
	header=1
	columns=state,fmri
	while getopts Ho: option; do
		case $option in
		H) header=0 ;;
		o) columns=$OPTARG ;;
		*) echo 'usage: svcs [-H] [-o state,fmri] [SERVICE]' >&2; exit 2 ;;
		esac
	done
	shift $((OPTIND - 1))
	case $columns in
	state,fmri | state | fmri) ;;
	*) echo "svcs: columns are state and fmri, not $columns" >&2; exit 2 ;;
	esac
	wanted=$(short_name "${1:-}")
	if [ -n "$wanted" ] && [ ! -f "$states/$wanted" ]; then
		echo "svcs: Pattern '$1' doesn't match any instances" >&2
		exit 1
	fi
	[ $header = 0 ] || line STATE FMRI
	for file in "$states"/${wanted:-*}; do
		[ -f "$file" ] || continue
		name=$(basename "$file" | tr , /)
		case $name in mdata:*) name=smartdc/$name ;; esac
		line "$(cat "$file")" "svc:/$name"
	done
}

line() {
	case $columns in
	state) echo "$1" ;;
	fmri) echo "$2" ;;
	*) printf '%-14s %s\n' "$1" "$2" ;;
	esac
}

svcadm() {
	verb=${1:-}
	[ $# -eq 0 ] || shift
	while getopts rst option; do
		[ "$option" != '?' ] || exit 2
	done
	shift $((OPTIND - 1))
	if [ $# -ne 1 ]; then
		echo 'usage: svcadm enable|disable|restart|clear|refresh [-rst] SERVICE' >&2
		exit 2
	fi
	name=$(short_name "$1")
	case $verb:$name in
	enable:mdata:fetch | restart:mdata:fetch | clear:mdata:fetch) run_service fetch ;;
	enable:mdata:execute | restart:mdata:execute | clear:mdata:execute) run_service execute ;;
	enable:* | restart:* | clear:*) set_state "$name" online ;;
	disable:*) set_state "$name" disabled ;;
	refresh:*) ;;
	*) echo "svcadm: unknown command $verb" >&2; exit 2 ;;
	esac
}

case $(basename "$0") in
svcs) svcs "$@" ;;
svcadm) svcadm "$@" ;;
*)
	set_state mdata:execute disabled
	run_service fetch && run_service execute
	;;
esac
