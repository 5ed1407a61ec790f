#!/usr/bin/env python3
"""What observers of the server cost its clients: a viewer of the live events, and a recording.

    python3 benches/observed.py [ROUNDS] [PROGRAM]

Starts the server of PROGRAM (default target/release/echown) without an observer, with `--status` and
a viewer that reads every event, with one that reads nothing, and with `--record`, and loads each with
short connections (16 at a time, one message each) by `echown bench`, in turn, ROUNDS times (default
7). Prints the medians of the connections per second and of the server's processor time per
connection, and their ratios to the server without an observer. On loopback only; ends by itself.
"""

import json
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHURN = ["--churn", "--connections", "16", "--duration", "3s", "--warmup", "500ms", "--format", "json"]
KINDS = ["none", "viewer", "stalled viewer", "recording"]


def start(program, kind, folder):
    command = [program, "serve", "--listen", "127.0.0.1:0", "--log-level", "warn"]
    if "viewer" in kind:
        command += ["--status", "127.0.0.1:0"]
    if kind == "recording":
        command += ["--record", f"{folder}/recording.jsonl", "--record-limit", "4GiB"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    echo = status = None
    while echo is None or ("viewer" in kind and status is None):
        line = server.stderr.readline()
        assert line, "the server has ended"
        if found := re.search(r"listening on ([\d.:]+)", line):
            echo = found.group(1)
        if found := re.search(r"status on http://([\d.]+):(\d+)", line):
            status = (found.group(1), int(found.group(2)))
    return server, echo, status


def watch(status, reads):
    """Subscribes. Returns the connection, and a function that returns the bytes received."""
    viewer = socket.create_connection(status)
    viewer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    received = len(viewer.recv(1))
    counts = [received]

    def read():
        while part := viewer.recv(1 << 16):
            counts[0] += len(part)

    if reads:
        threading.Thread(target=read, daemon=True).start()
    return viewer, lambda: counts[0]


def measure(program, kind, folder):
    server, echo, status = start(program, kind, folder)
    viewer, received = watch(status, kind == "viewer") if status else (None, lambda: 0)
    pid = ["--pid", str(server.pid)]
    output = subprocess.run(
        [program, "bench", echo, *CHURN, *pid], capture_output=True, text=True, check=True
    )
    result = json.loads(output.stdout)
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=30)
    if viewer:
        viewer.close()
    return result, received()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    program = sys.argv[2] if len(sys.argv) > 2 else str(ROOT / "target/release/echown")
    rates = {kind: [] for kind in KINDS}
    costs = {kind: [] for kind in KINDS}
    bytes_seen = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for kind in KINDS:
                result, received = measure(program, kind, folder)
                rates[kind].append(result["messages_per_second"])
                costs[kind].append(result["server"]["micros_per_message"])
                if kind == "viewer":
                    bytes_seen.append(received)
    base_rate, base_cost = (statistics.median(of["none"]) for of in (rates, costs))
    print(f"{'observer':16} {'connections/s':>14} {'ratio':>6} {'us each':>9} {'ratio':>6}")
    for kind in KINDS:
        rate, cost = statistics.median(rates[kind]), statistics.median(costs[kind])
        print(f"{kind:16} {rate:14.0f} {rate / base_rate:6.3f} {cost:9.1f} {cost / base_cost:6.3f}")
    print(f"the viewer received {statistics.median(bytes_seen) / 1e6:.1f} MB in a round")


if __name__ == "__main__":
    main()
