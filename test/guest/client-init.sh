#!/bin/sh
# /init of a guest that uses its metadata as guests' own scripts do: reads, writes, reboots, reads again.
# It runs with busybox and guest-client only. What it finds goes to the console, in lines that begin with
# GUEST; the test reads them there. Which boot it is, it knows from its metadata alone.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

PORT=/dev/ttyS1

say() {
  echo "GUEST $*"
}

stay() {
  while :; do sleep 1000; done
}

# Runs the client; any status but those named in $1 ends the guest's work.
md() {
  expected=$1
  shift
  guest-client $PORT "$@"
  status=$?
  case " $expected " in
    *" $status "*) return $status ;;
  esac
  say "FAILED $1 ${2-}: status $status"
  stay
}

# Bytes as they are, however many lines: as a digest. The client ends what it prints with a newline.
digest() {
  sha256sum | cut -d' ' -f1
}

seconds() {
  cut -d' ' -f1 /proc/uptime
}

say "asks at $(seconds) s"
boots=$(md '0 1' get boots) || boots=0
say "boot $((boots + 1)) answered at $(seconds) s"

case $boots in
  0)
    say "uuid $(md 0 get sdc:uuid)"
    say "keys $(md 0 list | sort | tr '\n' ' ')"
    say "user-script $(md 0 get user-script | digest)"
    md 1 get nosuch
    say "nosuch is not there"

    md 0 put token "made by $(uname -s) on $(uname -m)"
    say "token $(md 0 get token)"
    printf 'one\n..two\n\xc3\xa9 \xe2\x98\x83' >/tmp/lines
    md 0 put lines </tmp/lines
    say "lines $(md 0 get lines | digest)"

    head -c 30000 /dev/urandom | base64 >/tmp/large
    md 0 put large </tmp/large
    # The value ends in a newline, and get adds one.
    { cat /tmp/large; echo; } >/tmp/expected
    md 0 get large >/tmp/got
    cmp /tmp/expected /tmp/got && say "large value of $(wc -c </tmp/large) bytes came back"
    md 0 delete large
    md 1 get large
    say "large is deleted"

    md 2 put sdc:uuid x
    say "sdc:uuid cannot be put"

    # Another program was killed in the middle of its request, and the line was noisy before.
    start=$(seconds)
    printf '\0\0\rGET \377\n\0V2 21 3bd4d8bb 1a2b' >$PORT
    say "after noise $(md 0 get token)"
    say "noise from $start to $(seconds) s"

    md 0 put boots 1
    say "reboots"
    reboot -f
    ;;
  1)
    say "token $(md 0 get token)"
    say "lines $(md 0 get lines | digest)"
    md 1 get large
    md 0 put boots 2
    say "waits for the host to reboot it"
    ;;
  2)
    say "token $(md 0 get token)"
    md 0 delete token
    say "keys $(md 0 list | sort | tr '\n' ' ')"
    say "powers off"
    poweroff -f
    ;;
esac
stay
