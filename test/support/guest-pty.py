"""A terminal whose other end is a guest's emulated serial port.

    guest-pty.py SOCKET

SOCKET is the guest's end of a simulated port: connecting to it is opening the port. stdout tells the
terminal's path first. Then for every line that the program on the terminal writes, counted from 0: `line
N`; the line is held back until stdin says `go`; `sent N` when the port has it. So a test can do whatever
it wants between any two requests of a program that it cannot change. Bytes of the host pass at once.
Ends with its stdin, or when the port is closed.
"""

import os
import pty
import selectors
import socket
import sys
import tty

CHUNK = 4096


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def main():
    port = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    port.connect(sys.argv[1])
    # The terminal's own end stays open: the port is there whether or not a program has it open.
    master, terminal = pty.openpty()
    tty.setraw(terminal)
    print(os.ttyname(terminal), flush=True)

    waiting = b""
    lines = 0
    held = False
    selector = selectors.DefaultSelector()
    for source in (port.fileno(), master, sys.stdin.fileno()):
        selector.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, CHUNK)
            if not data:
                return
            if key.fd == port.fileno():
                write_all(master, data)
            elif key.fd == master:
                waiting += data
            else:
                line, _, waiting = waiting.partition(b"\n")
                port.sendall(line + b"\n")
                print(f"sent {lines}", flush=True)
                lines += 1
                held = False
        if not held and b"\n" in waiting:
            held = True
            print(f"line {lines}", flush=True)


main()
