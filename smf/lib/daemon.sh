# Finds the daemon's process; sourced by the method and the installers.

# daemon_pid RUN: prints the process id in RUN/mdatad.pid if that process is a running mdatad, else nothing. The
# number in the file may be another process's by now, so its command line has to be one of ours.
#
# The whole command line is in /proc/PID/cmdline (pr_read_cmdline in usr/src/uts/common/fs/proc/prvnops.c).
# `ps -o args=` is for platforms without that file: it shows 80 bytes (PRARGSZ), too few for a Node with a long path.
daemon_pid() {
	pid=$(cat "$1/mdatad.pid" 2>/dev/null)
	[ -n "$pid" ] || return 0
	case "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" || ps -o args= -p "$pid" 2>/dev/null)" in
	*/opt/mdatad*) echo "$pid" ;;
	esac
}
