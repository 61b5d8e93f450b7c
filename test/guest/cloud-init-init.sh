#!/bin/sh
# /init of a guest in which cloud-init, as Debian has it, fetches its data from the serial port.
# The console gets what cloud-init.py prints, between two lines that begin with GUEST.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

say() {
  echo "GUEST $* at $(cut -d' ' -f1 /proc/uptime) s"
}

say "product $(cat /sys/class/dmi/id/product_name)"
say "starts cloud-init"
/usr/bin/python3.* /cloud-init.py
say "cloud-init ended with $?"
while :; do sleep 1000; done
