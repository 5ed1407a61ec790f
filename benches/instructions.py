#!/usr/bin/env python3
"""How many instructions a server takes for a message, or for a connection, in user space.

    python3 benches/instructions.py message|connection COMMAND...

Runs COMMAND, which says `listening on ADDRESS:PORT`, under callgrind, once for N and once for 3N
messages of 64 bytes over one connection (or connections with one message each), and divides the
difference by 2N, so that the start and the end of the program fall out. Instructions are not time:
the kernel's part, which is the larger one, is not in them, nor are caches.
"""

import re
import signal
import socket
import subprocess
import sys

MESSAGE = b"x" * 64
MESSAGES, CONNECTIONS = 10_000, 500


def exchange(one):
    one.sendall(MESSAGE)
    assert one.recv(64, socket.MSG_WAITALL) == MESSAGE


def messages(address, count):
    with socket.create_connection(address) as one:
        for _ in range(count):
            exchange(one)


def connections(address, count):
    for _ in range(count):
        with socket.create_connection(address) as one:
            exchange(one)
            one.shutdown(socket.SHUT_WR)
            assert one.recv(1) == b""


def instructions(command, talk, count):
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    server = subprocess.Popen(
        valgrind + command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        for line in server.stdout:
            found = re.search(r"listening on ([\d.]+):(\d+)", line)
            if found:
                break
        talk((found.group(1), int(found.group(2))), count)
        server.send_signal(signal.SIGTERM)
        rest, _ = server.communicate(timeout=60)
    finally:
        server.kill()
    return int(re.search(r"Collected : (\d+)", rest).group(1))


def main():
    what, command = sys.argv[1], sys.argv[2:]
    talk, n = {"message": (messages, MESSAGES), "connection": (connections, CONNECTIONS)}[what]
    short, long = (instructions(command, talk, count) for count in (n, 3 * n))
    print(f"{(long - short) / (2 * n):.1f} instructions per {what}: {' '.join(command)}")


if __name__ == "__main__":
    main()
