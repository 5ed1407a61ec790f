#!/usr/bin/env python3
"""Parking compared with a thread per connection and with event loops, and the goals that it has.

    python3 benches/parking.py [ROUNDS] [--runs N] [--load NAME]... [--server NAME[=COMMAND]]...
                               [--quick] [--keep-all] [--program PATH]

Starts echown with `--park` (`park`, and `park-off` without the checker), echown as it is by default
(`thread`), and the peers tokio and mio in turn, ROUNDS times (default 7), and loads each by `echown
bench`. Server and client have a processor each (0 and 1); with one client, both share one. Prints a
table for each load, with the ratios of the rounds, and at the end what was reached of each goal.
--runs measures everything again, for a second column of goals.

A round in which another program used the machine is repeated, at most ROUNDS times; --keep-all keeps
it. --server selects servers, or gives one a command of its own, in which {port} and {connections} are
replaced. --quick measures for shorter times. It needs `cargo build --release --workspace`, 20,000
descriptors, and two processors. It ends all that it starts.
"""

import argparse
import json
import os
import pathlib
import resource
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time

import idle

ROOT = pathlib.Path(__file__).resolve().parent.parent
SERVE = "{program} serve --listen 127.0.0.1:{{port}} --max-connections {{connections}}"
SERVERS = {
    "tokio": "{peers} tokio {{port}}",
    "mio": "{peers} mio {{port}}",
    "thread": SERVE,
    "park": SERVE + " --park",
    "park-off": SERVE + " --park --ownership off",
}


class Load:
    def __init__(self, options, unit="messages", warmup=0.3, seconds=1.0, rounds=1, levels=False,
                 pins=((0,), (1,)), connections=64, ping=False):
        self.options, self.unit, self.warmup, self.seconds = options, unit, warmup, seconds
        self.rounds, self.levels, self.pins = rounds, levels, pins
        self.connections, self.ping = connections, ping


LOADS = {
    "latency-1": Load("--connections 1", "us", 0.1, 0.4, 4, pins=((0,), (0,))),
    "throughput-64": Load("--connections 64", levels=True),
    "throughput-1k": Load("--connections 1000", warmup=2, connections=1000),
    "throughput-10k": Load("--connections 10000", warmup=6, seconds=2, connections=10_000),
    "blocking": Load("--connections 64 --client blocking"),
    "blocking-free": Load("--connections 64 --client blocking", pins=(None, None)),
    "churn": Load("--connections 16 --churn", "connections", levels=True),
    "bulk": Load("--connections 1 --size 1MiB", "MB"),
    "bulk-16": Load("--connections 16 --size 16KiB", "MB"),
    "idle": Load("--connections 100 --idle 10000", connections=10_100),
    "ping": Load("--connections 1", "us", ping=True),
}
UNITS = {
    "us": "us round trip",
    "messages": "thousand messages/s",
    "connections": "thousand connections/s",
    "MB": "MB/s",
}
MEMORY = {"memory-10k": 10_000, "memory-18k": 18_000}
# Bulk connections next to the one of `ping`, and what each sends at a time.
BULK = "--connections 4 --size 1MiB"


class Server:
    """A server that runs within `with`."""

    def __init__(self, command, connections, processors):
        self.processors = processors
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        line = command.format(port=self.port, connections=connections)
        self.command = shlex.split(line)

    def __enter__(self):
        pin = (lambda: os.sched_setaffinity(0, self.processors)) if self.processors else None
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(
            self.command, stdin=null, stdout=null, stderr=null, preexec_fn=pin
        )
        until = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return self
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.process.kill()
                    sys.exit(f"failed to start {shlex.join(self.command)}: run it to see why")
                time.sleep(0.005)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def client(program, server, options, processors, warmup, seconds):
    """Starts the load generator, as its own process."""
    command = [program, "bench", f"127.0.0.1:{server.port}", "--pid", str(server.process.pid)]
    command += ["--format", "json", *options.split()]
    command += ["--warmup", f"{warmup * 1000:.0f}ms", "--duration", f"{seconds * 1000:.0f}ms"]
    if processors:
        command += ["--pin-client", ",".join(map(str, processors))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(process, what):
    output, errors = process.communicate(timeout=120)
    if process.returncode != 0:
        sys.exit(f"{what}: {errors.strip() or output}")
    return json.loads(output)


def measure(program, name, command, load, quick):
    seconds = load.seconds / 2 if quick else load.seconds
    for_server, for_client = load.pins
    with Server(command, load.connections + 300, for_server) as server:
        bulk = None
        if load.ping:
            bulk = client(program, server, BULK, for_client, load.warmup, seconds + 0.4)
            # The ping begins and ends within the time of the bulk connections.
            time.sleep(load.warmup)
        pings = client(program, server, load.options, for_client, load.warmup, seconds)
        result = result_of(pings, name)
        bulk = bulk and result_of(bulk, name)
    latency, usage = result["latency"] or {}, result["server"]
    figure = {
        "us": latency.get("p50"),
        "messages": result["messages_per_second"] / 1e3,
        "connections": result["messages_per_second"] / 1e3,
        "MB": result["megabytes_per_second"],
    }[load.unit]
    others = [it["processors"] for it in result["warnings"] if it["kind"] == "other-load"]
    return {
        "figure": figure,
        **{key: latency.get(key) for key in ("p50", "p99", "p999", "max")},
        "cpu": usage["micros_per_message"],
        "threads": usage["threads"],
        "memory": (usage["memory_per_connection"] or 0) / 1024,
        "bulk": bulk and bulk["megabytes_per_second"],
        "starved": result["starved"],
        "errors": sum(result["errors"].values()),
        # The bulk client is another program.
        "disturbed": bool(others) and not load.ping,
    }


def rounds_of(load, names, arguments):
    kept, disturbed = [], []
    wanted = arguments.rounds * load.rounds
    while len(kept) < wanted and len(disturbed) < wanted:
        number = len(kept) + len(disturbed)
        # The first of a round comes after another load: each is the first at times.
        order = names[number % len(names):] + names[: number % len(names)]
        round_ = {}
        for name in order:
            round_[name] = measure(
                arguments.program, name, arguments.servers[name], load, arguments.quick
            )
        is_disturbed = any(one["disturbed"] for one in round_.values())
        (disturbed if is_disturbed and not arguments.keep_all else kept).append(round_)
    if len(kept) < wanted:
        kept += disturbed
        return kept, f"{len(disturbed)} of them disturbed by other programs"
    return kept, f"{len(disturbed)} more repeated: another program used the machine"


def ratios(rounds, what, first, second, key="figure"):
    """How many times as good as `second` the server `first` is in each round; None if unknown."""
    if any(name not in rounds[0] for name in (first, second)):
        return None
    is_time = what == "us"
    pairs = [(one[first][key], one[second][key]) for one in rounds]
    return [b / a if is_time else a / b for a, b in pairs if a and b]


def spread(values):
    if not values:
        return "-"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def micros(value):
    if value is None:
        return "-"
    return f"{value / 1000:.2f} ms" if value >= 1000 else f"{value:.1f} us"


def table(name, load, rounds, note):
    print(f"\n**{name}**: `{load.options}`" + (f" next to `{BULK}`" if load.ping else ""))
    where = "any processor" if not load.pins[0] else (
        "one processor" if load.pins[0] == load.pins[1] else "a processor each")
    extra = " bulk MB/s |" if load.ping else ""
    print(f"\n| server | {UNITS[load.unit]} | lowest to highest | to tokio | to thread | p50 | p99 "
          f"| p99.9 | processor time | threads | KiB each |{extra}")
    print("|---" * (11 + load.ping) + "|")
    for server in rounds[0]:
        own = [one[server] for one in rounds]
        middle = {key: statistics.median(values) if (values := [
            it[key] for it in own if it[key] is not None]) else None for key in own[0]}
        figures = [it["figure"] for it in own if it["figure"] is not None]
        low, high = (min(figures), max(figures)) if figures else (0, 0)
        to = [spread(ratios(rounds, load.unit, server, other)) for other in ("tokio", "thread")]
        cells = [server, f"{middle['figure'] or 0:.1f}", f"{low:.1f} to {high:.1f}", *to]
        cells += [micros(middle[key]) for key in ("p50", "p99", "p999")]
        cells += [micros(middle["cpu"]), f"{middle['threads']:.0f}", f"{middle['memory']:.1f}"]
        if load.ping:
            cells.append(f"{middle['bulk']:.0f}")
        print("| " + " | ".join(cells) + " |")
    print(f"\n{len(rounds)} rounds, {where}; {note}.")
    for server in rounds[0]:
        for key in ("errors", "starved"):
            if many := sum(one[server][key] for one in rounds):
                print(f"{server}: {many} {key}.")
    sys.stdout.flush()


def memory(name, count, servers):
    """What idle connections cost. Returns the figures of each server."""
    found = {}
    print(f"\n**{name}**: {count:,} idle connections, each after one message\n")
    print("| server | KiB of the process | kernel stacks, KiB | threads | mappings | ticks in 3 s |")
    print("|---|---|---|---|---|---|")
    for server, command in servers.items():
        # A thread per connection ends at some 16,000.
        if server == "thread" and count > 16_000:
            continue
        held = []
        with Server(command, count + 100, (0,)) as process:
            address, pid = ("127.0.0.1", process.port), process.process.pid
            idle.connect(address, 1, [])
            time.sleep(0.5)
            before = idle.look(pid)
            try:
                idle.connect(address, count, held)
                time.sleep(0.5)
                after = idle.look(pid)
                time.sleep(3)
                ticks = idle.look(pid)["ticks"] - after["ticks"]
                # They are served all the same.
                idle.connect(address, 50, [])
            finally:
                for one in held:
                    one.close()
        each = {key: (after[key] - before[key]) / count for key in before}
        found[server] = {**each, "all_threads": after["threads"]}
        print(f"| {server} | {each['rss']:.2f} | {each['stacks']:.1f} | {after['threads']} "
              f"| {after['maps']} | {ticks} |", flush=True)
    return found


def goals(results, memories):
    """Each goal: text, what was measured, whether that is enough."""
    def middle(load, first, second, key="figure"):
        if load not in results:
            return None
        # Percentiles are times under every load.
        unit = LOADS[load].unit if key == "figure" else "us"
        values = ratios(results[load], unit, first, second, key)
        return statistics.median(values) if values else None

    rows = []
    for load in ("throughput-64", "throughput-1k", "throughput-10k", "blocking", "churn"):
        rows.append((f"{load}: at least 0.97 of tokio", middle(load, "park", "tokio"), 0.97))
    rows.append(("bulk: ahead of tokio", middle("bulk", "park", "tokio"), 1.0))
    for load in ("throughput-64", "throughput-1k"):
        text = f"{load}: p99.9 better than tokio's"
        rows.append((text, middle(load, "park", "tokio", "p999"), 1.0))
    text = "latency-1: at most 5 % slower than a thread each"
    rows.append((text, middle("latency-1", "park", "thread"), 1 / 1.05))
    for load in ("throughput-64", "churn"):
        text = f"{load}: the checker `on` at least 0.96 of `off`"
        rows.append((text, middle(load, "park", "park-off"), 0.96))
    rows = [(text, f"{it:.3f}", it >= least) for text, it, least in rows if it is not None]
    for name, found in memories.items():
        if park := found.get("park"):
            rows.append((f"{name}: at most 2 KiB each", f"{park['rss']:.2f} KiB", park["rss"] <= 2))
            more = park["threads"] * MEMORY[name]
            rows.append((f"{name}: no thread for them", f"{more:.0f} more", round(more) == 0))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rounds", type=int, nargs="?", default=7)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--load", action="append", choices=[*LOADS, *MEMORY])
    parser.add_argument("--server", action="append", default=[])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep-all", action="store_true")
    parser.add_argument("--program", default=str(ROOT / "target/release/echown"))
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peers = pathlib.Path(arguments.program).with_name("echown-peers")
    given = dict(it.split("=", 1) if "=" in it else (it, None) for it in arguments.server)
    arguments.servers = {
        name: given.get(name)
        or SERVERS[name].format(program=shlex.quote(arguments.program), peers=shlex.quote(str(peers)))
        for name in (given or SERVERS)
    }
    reached = []
    for run in range(arguments.runs):
        if arguments.runs > 1:
            print(f"\n## Run {run + 1}")
        results, memories = {}, {}
        for name in arguments.load or [*LOADS, *MEMORY]:
            if name in MEMORY:
                servers = {one: it for one, it in arguments.servers.items() if one != "park-off"}
                memories[name] = memory(name, MEMORY[name], servers)
                continue
            load = LOADS[name]
            names = [one for one in arguments.servers if load.levels or one != "park-off"]
            results[name], note = rounds_of(load, names, arguments)
            table(name, load, results[name], note)
        reached.append(goals(results, memories))
    if rows := list(zip(*reached)):
        print("\n## Goals\n\n| goal | measured | reached |\n|---|---|---|")
        for row in rows:
            each = ", ".join(measured for _, measured, _ in row)
            print(f"| {row[0][0]} | {each} | {'yes' if all(it for *_, it in row) else '**no**'} |")


if __name__ == "__main__":
    main()
