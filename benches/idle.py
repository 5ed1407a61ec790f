#!/usr/bin/env python3
"""What an idle connection costs a server in memory, threads and mappings.

    python3 benches/idle.py N [--active A] -- COMMAND...

Starts COMMAND, which says `listening on ADDRESS:PORT`, opens N connections that exchange 64 bytes and
then stay, reads /proc before and after, and ends the server with SIGTERM. With --active, A further
connections exchange messages for five seconds, alone and then beside the idle ones. The kernel's
stacks and page tables are system-wide figures of /proc/meminfo, so that other work on the machine
disturbs them.
"""

import argparse
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time

MESSAGE = b"x" * 64
SECONDS = 5


def kib(path, *names):
    found = dict(re.findall(r"^(\w+):\s+(\d+)", open(path).read(), re.M))
    return [int(found[name]) for name in names]


def look(pid):
    rss, tables, threads = kib(f"/proc/{pid}/status", "VmRSS", "VmPTE", "Threads")
    stacks, = kib("/proc/meminfo", "KernelStack")
    maps = open(f"/proc/{pid}/maps").read().count("\n")
    ticks = sum(map(int, open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[11:13]))
    return dict(rss=rss, tables=tables, stacks=stacks, maps=maps, threads=threads, ticks=ticks)


def connect(address, count, into):
    for _ in range(count):
        one = socket.create_connection(address, timeout=20)
        one.sendall(MESSAGE)
        assert one.recv(64, socket.MSG_WAITALL) == MESSAGE
        into.append(one)


def exchange(address, count):
    """Messages per second over so many connections, one event loop."""
    some = []
    connect(address, count, some)
    poll = select.epoll()
    for one in some:
        poll.register(one, select.EPOLLIN)
        one.sendall(MESSAGE)
    by_number = {one.fileno(): one for one in some}
    done, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        for number, _ in poll.poll():
            one = by_number[number]
            assert one.recv(64, socket.MSG_WAITALL) == MESSAGE
            one.sendall(MESSAGE)
            done += 1
    for one in some:
        one.close()
    return done / SECONDS


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("n", type=int)
    parser.add_argument("--active", type=int, default=0)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = subprocess.Popen(arguments.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    idle = []
    try:
        for line in server.stdout:
            found = re.search(r"listening on ([\d.]+):(\d+)", line.decode())
            if found:
                break
            print(line.decode(), end="")
        address = found.group(1), int(found.group(2))
        alone = exchange(address, arguments.active) if arguments.active else 0
        connect(address, 1, [])
        time.sleep(1)
        before = look(server.pid)
        connect(address, arguments.n, idle)
        time.sleep(1)
        after = look(server.pid)
        print(f"{arguments.n} idle connections, each:", end=" ")
        parts = {name: (after[name] - before[name]) / arguments.n for name in before}
        print(f"{parts['rss']:.2f} KiB resident, {parts['stacks']:.2f} kernel stack,", end=" ")
        print(f"{parts['tables']:.2f} page tables;", end=" ")
        print(f"together {parts['rss'] + parts['stacks'] + parts['tables']:.1f} KiB;", end=" ")
        print(f"{parts['maps']:.2f} mappings, {parts['threads']:.3f} threads")
        print(f"in all {after['maps']} mappings, {after['threads']} threads")
        time.sleep(10)
        print(f"10 s of idling took {look(server.pid)['ticks'] - after['ticks']} ticks")
        if arguments.active:
            beside = exchange(address, arguments.active)
            print(f"{arguments.active} active: {alone:.0f}/s alone, {beside:.0f}/s beside the idle")
        refused = socket.create_connection(address, timeout=20)
        refused.settimeout(0.5)
        try:
            print("one more is", "refused" if refused.recv(1) == b"" else "mad")
        except TimeoutError:
            print("one more is let in")
        for one in idle[:: max(1, len(idle) // 1000)]:
            one.sendall(MESSAGE)
            assert one.recv(64, socket.MSG_WAITALL) == MESSAGE
        print("those inside are served as before")
    finally:
        for one in idle:
            one.close()
        server.send_signal(signal.SIGTERM)
        try:
            rest, _ = server.communicate(timeout=30)
            print(rest.decode()[-600:], end="")
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            sys.exit("it did not end")
        print("exit code", server.returncode)


if __name__ == "__main__":
    main()
