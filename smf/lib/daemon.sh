# Finds and ends the daemon's process; sourced by the methods and the installers.

# The daemon promises to end in 5 s; one that has not after these is killed.
STOP_SECONDS=20
# After SIGKILL only the kernel keeps it.
KILL_SECONDS=5

# daemon_pid RUN: prints the process id in RUN/mdatad.pid if that process is a running mdatad, else nothing. The
# number in the file may be another process's by now, so its command line has to be one of ours.
#
# The whole command line is in /proc/PID/cmdline (pr_read_cmdline in usr/src/uts/common/fs/proc/prvnops.c).
# `ps -o args=` is for platforms without that file: it shows 80 bytes (PRARGSZ), too few for a Node with a long path.
daemon_pid() {
	pid=$(cat "$1/mdatad.pid" 2>/dev/null)
	[ -n "$pid" ] || return 0
	case "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || ps_line "$pid")" in
	*/opt/mdatad/*/bundle/mdatad.js* | cut*/opt/mdatad*) echo "$pid" ;;
	esac
}

# Marked, as it may have been cut.
ps_line() {
	echo "cut $(ps -o args= -p "$1" 2>/dev/null)"
}

daemon_is_gone() {
	[ -z "$(daemon_pid "$1")" ]
}

# end_daemon RUN: ends the daemon that RUN/mdatad.pid names, if there is one. 1 where it lives on; `pid` is its process.
end_daemon() {
	pid=$(daemon_pid "$1")
	[ -n "$pid" ] || return 0
	kill -TERM "$pid" 2>/dev/null
	wait_until "$STOP_SECONDS" daemon_is_gone "$1" && return 0
	# SMF would kill ctrun, and not what ctrun started.
	kill -KILL "$pid" 2>/dev/null
	wait_until "$KILL_SECONDS" daemon_is_gone "$1"
}

# lives_on: what to say of a daemon that end_daemon could not end.
lives_on() {
	echo "the daemon, process $pid, does not end by SIGKILL: a call of it hangs in the kernel (zpool status -x); else reboot the node"
}

# wait_until SECONDS COMMAND...: waits for the command to succeed; 1 when it still fails after that time.
wait_until() {
	# Not every sleep(1) knows fractions.
	sleep 0.1 2>/dev/null && pause=0.1 checks=$(($1 * 10)) || pause=1 checks=$1
	shift
	until "$@"; do
		[ "$checks" -gt 0 ] || return 1
		sleep "$pause"
		checks=$((checks - 1))
	done
}
