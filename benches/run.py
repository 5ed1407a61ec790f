#!/usr/bin/env python3
"""The cost of `echown run`, next to strace and valgrind, as multiples of the native time; and its goals.

    python3 benches/run.py [ROUNDS] [--runs N] [--quick] [--workload NAME]... [--skip TOOL]...
                           [--tool NAME=COMMAND]... [--write FILE] [--program PATH]

Runs each workload natively and under each tool in turn, ROUNDS times (default 15, with --quick 7), and
takes the ratio to the native run of the same round. Prints Markdown tables: the workloads with their
goals, the bound of the mechanism, and the other modes of `echown run`. Slow combinations have three
rounds. --runs measures everything again, for a second figure in each cell. --quick measures for
shorter times: all of it takes some ten minutes. --tool replaces the command of a tool or of a mode.
--write puts the tables into FILE, between its lines `<!-- benches/run.py begins -->` and `ends`.

It needs `cargo build --release`, a C compiler, and the programs that are measured; a workload whose
program is missing is left out:

    apt-get install gcc strace redis-server redis-tools nginx-light nodejs git

valgrind is the one of Debian sid, unpacked into target/run (benches/run/valgrind.sh). All traffic is on
the loopback interface. It ends all that it starts.
"""

import argparse
import os
import pathlib
import platform
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = ROOT / "benches/run"
TOOLS = ["native", "echown", "strace", "valgrind"]
MODES = ["check-uses", "quarantine"]
BOUNDS = {
    "filter": ("-a", "the filter alone, no stops"),
    "stops": ("", "two stops: `waitpid`, `PTRACE_CONT`"),
    "calls": ("-i", "and the arguments of the calls"),
    "stacks": ("-s", "and 512 bytes of the stack"),
}
# The exit status of `echown run` with a finding: git and node may have some.
FINDING = 23
# A longer run is left out.
LIMIT_S = 150


class Failed(Exception):
    """A run that did not end well."""


class Process:
    """A process with all that it starts, which are killed at the end of `with`."""

    def __init__(self, command, environment=None, folder=None, processors=None):
        self.command, self.processors = command, processors
        self.where = {"env": {**os.environ, **(environment or {})}, "cwd": folder}

    def __enter__(self):
        pin = (lambda: os.sched_setaffinity(0, self.processors)) if self.processors else None
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
            start_new_session=True, preexec_fn=pin, **self.where,
        )
        return self

    def __exit__(self, *_):
        try:
            # Its process group exists at least until it is waited for.
            if self.process.returncode is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.communicate()
        finally:
            self.errors.close()

    def end(self, limit=LIMIT_S):
        """Waits for its end. Returns what it wrote."""
        try:
            output = self.process.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            raise Failed(f"longer than {limit} s") from None
        if self.process.returncode not in (0, FINDING):
            raise Failed(f"status {self.process.returncode}: {self.last_error()}")
        return output.decode(errors="replace")

    def last_error(self):
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"


def run(command, **where):
    """Runs a command to its end. Returns its seconds and its output."""
    begin = time.monotonic()
    with Process(command, **where) as process:
        output = process.end()
        return time.monotonic() - begin, output


class Bench:
    """The settings of a run and its files."""

    def __init__(self, folder, memory, quick):
        self.folder, self.memory, self.quick = pathlib.Path(folder), pathlib.Path(memory), quick
        self.seconds = 0.4 if quick else 1.0
        for name, options in (("open_close", ()), ("server", ()), ("bound", ()), ("load", ("-pthread",))):
            source, program = SOURCES / f"{name}.c", self.folder / name
            subprocess.run(["gcc", "-O2", *options, "-o", program, source], check=True)
        (self.folder / "www").mkdir()
        (self.folder / "www/page").write_text("0123456789abcde\n" * 256)

    def path(self, name):
        return str(self.folder / name)

    def fresh(self, path):
        """A path at which nothing is any more."""
        shutil.rmtree(path, ignore_errors=True)
        return str(path)

    def served(self, tool, command, client, stop):
        """The output of a client of a server under a tool. {port} in the commands is a free port.

        The client is on the last processor. Server and tool may use all, as they would without this.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        fill = lambda words: [str(word).replace("{port}", str(port)) for word in words]
        with Process([*tool, *fill(command)]) as server:
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if server.process.poll() is not None or time.monotonic() > until:
                        raise Failed(f"no server: {server.last_error()}") from None
                    time.sleep(0.01)
            output = run(fill(client), processors=[max(os.sched_getaffinity(0))])[1]
            stop(port)
            server.end(limit=30)
            return output


def says(message):
    """Stops a server that takes a message for that."""
    def stop(port):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(30)
            connection.sendall(message)
            try:
                connection.recv(1)
            except ConnectionResetError:
                pass
    return stop


class Workload:
    """What is measured: `measure` takes the bench and a tool, and returns a time in `unit`."""

    def __init__(self, title, unit, goal, measure, needs=(), prepare=None, slow=(), modes=False):
        self.title, self.unit, self.goal, self.measure = title, unit, goal, measure
        self.needs, self.prepare, self.slow, self.modes = needs, prepare, slow, modes


def is_slow(tool):
    return any("valgrind" in word for word in tool)


def loaded(mode, connections=1, path=()):
    """Measures the server in C."""
    def measure(bench, tool):
        client = [bench.path("load"), "{port}", bench.seconds, connections, mode, *path]
        server = [bench.path("server"), "{port}"]
        return float(bench.served(tool, server, client, says(b"q")))
    return measure


def redis(bench, tool):
    server = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--dir", bench.folder]
    client = ["redis-benchmark", "-p", "{port}", "-t", "get", "-c", "20", "--csv"]
    client += ["-n", "20000" if bench.quick else "60000"]
    rows = bench.served(tool, server, client, says(b"SHUTDOWN NOSAVE\r\n"))
    # "test","rps",... and "GET","41666.67",...
    return 1e6 / float(rows.splitlines()[-1].split(",")[1].strip('"'))


def node(bench, tool):
    server = ["node", SOURCES / "file_server.js", "{port}", bench.path("www/page")]
    # Under valgrind the functions are translated first.
    seconds = 10 if is_slow(tool) else bench.seconds
    client = [bench.path("load"), "{port}", seconds, 4, "keep", "/page"]
    stop = says(b"GET /quit HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    return float(bench.served(tool, server, client, stop))


NGINX = """daemon off; {user} worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
  access_log off; client_body_temp_path {folder}/nginx-1; proxy_temp_path {folder}/nginx-2;
  fastcgi_temp_path {folder}/nginx-3; uwsgi_temp_path {folder}/nginx-4; scgi_temp_path {folder}/nginx-5;
  server {{ listen 127.0.0.1:{{port}}; root {folder}/www; }}
}}
"""


def nginx(bench, tool):
    configuration = bench.folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(folder=bench.folder, user=user)
    write = f'printf %s {shlex.quote(text)} >{configuration}; exec "$@"'
    # The port is known only to `served`.
    command = ["sh", "-c", write, "sh", *tool, "nginx", "-c", configuration, "-p", bench.folder]
    client = [bench.path("load"), "{port}", bench.seconds, 4, "close", "/page"]

    def stop(_):
        os.kill(int((bench.folder / "nginx.pid").read_text()), signal.SIGTERM)
    return float(bench.served([], command, client, stop))


def python_start(bench, tool):
    starts = 2 if is_slow(tool) else 10 if bench.quick else 20
    command = [*tool, sys.executable, "-I", "-c", "import json"]
    return sum(run(command)[0] for _ in range(starts)) / starts * 1e3


GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_DATE": "2020-01-01T00:00Z",
    "GIT_COMMITTER_DATE": "2020-01-01T00:00Z", "GIT_AUTHOR_NAME": "bench", "GIT_COMMITTER_NAME": "bench",
    "GIT_AUTHOR_EMAIL": "bench@localhost", "GIT_COMMITTER_EMAIL": "bench@localhost",
}


def git(folder, *words):
    subprocess.run(["git", *words], cwd=folder, check=True, env={**os.environ, **GIT})


def this_repository(bench):
    # The clone has one pack, as a server has.
    git(ROOT, "clone", "-q", "--bare", "--no-local", ROOT, bench.memory / "this")


def small_files(bench):
    repository = bench.memory / "small"
    for number in range(4000):
        file = repository / f"folder-{number % 40}" / f"file-{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"line {line} of file {number}\n" for line in range(60)))
    for words in ("init -q", "add .", "commit -q -m files", "repack -a -d -q"):
        git(repository, *words.split())


def git_clone(repository):
    def measure(bench, tool):
        # With --no-local it takes the way of a remote repository: three programs and their pipes.
        command = ["git", "clone", "-q", "--no-local", str(bench.memory / repository)]
        command.append(bench.fresh(bench.memory / "clone"))
        return run([*tool, *command], environment=GIT)[0] * 1e3
    return measure


def cargo_crate(bench):
    sources = bench.folder / "crate/src"
    sources.mkdir(parents=True)
    (sources.parent / "Cargo.toml").write_text('[package]\nname = "small"\nedition = "2021"\n')
    (sources.parent / "build.rs").write_text('fn main() { println!("cargo:rerun-if-changed=build.rs"); }\n')
    modules = range(20)
    for number in modules:
        body = f"pub fn value(of: &str) -> String {{ format!(\"{{of}} {number}\") }}\n"
        (sources / f"part{number}.rs").write_text(body)
    main = "".join(f"mod part{number};\n" for number in modules) + "fn main() {\n"
    main += "".join(f"    println!(\"{{}}\", part{number}::value(\"a\"));\n" for number in modules)
    (sources / "main.rs").write_text(main + "}\n")


def cargo_build(bench, tool):
    settings = {"CARGO_TARGET_DIR": bench.fresh(bench.folder / "built"), "CARGO_INCREMENTAL": "0",
                "CARGO_ENCODED_RUSTFLAGS": "", "RUSTC_WRAPPER": "", "CARGO_NET_OFFLINE": "true"}
    command = [*tool, "cargo", "build", "-q", "--offline"]
    return run(command, environment=settings, folder=bench.folder / "crate")[0] * 1e3


def open_close(bench, tool):
    return float(run([*tool, bench.path("open_close"), str(bench.seconds), bench.path("www/page")])[1])


WORKLOADS = {
    "echo": Workload("echo, one connection", "us a round trip", 1.10, loaded("echo")),
    "redis": Workload("redis GET, 20 connections", "us a request", 1.10, redis,
                      needs=("redis-server", "redis-benchmark")),
    "python": Workload("start of Python", "ms", 1.10, python_start, slow=("valgrind",)),
    "git": Workload("git clone of this repository", "ms", 1.10, git_clone("this"), ("git",), this_repository,
                    slow=("valgrind",), modes=True),
    "git-files": Workload("git clone, 4,000 small files", "ms", None, git_clone("small"), ("git",),
                          small_files, slow=("valgrind",)),
    "cargo": Workload("cargo build of a small crate", "ms", 1.25, cargo_build, ("cargo",), cargo_crate,
                      slow=("valgrind",)),
    "churn": Workload("accept, one message, close", "us a connection", 1.6, loaded("churn"), modes=True),
    "node": Workload("node, a file for each request", "us a request", 2.0, node, ("node",),
                     slow=("valgrind",)),
    "nginx": Workload("nginx, a connection for each request", "us a request", 2.4, nginx, ("nginx",)),
    "open-close": Workload("open and close in a loop", "us a pair", None, open_close, modes=True),
}


def tools(bench, arguments):
    """The command of each tool, by its name."""
    program = arguments.program
    found = {
        "native": [],
        "echown": [program, "run", "--"],
        "strace": ["strace", "-f", "--seccomp-bpf", "-e", "trace=%desc", "-o", "/dev/null"],
        **{mode: [program, "run", f"--{mode}", "--"] for mode in MODES},
        **{f"bound-{name}": [bench.path("bound"), *option.split()] for name, (option, _) in BOUNDS.items()},
    }
    found.update((name, shlex.split(command)) for name, command in arguments.tool)
    if "valgrind" not in [*found, *arguments.skip]:
        paths = subprocess.run([SOURCES / "valgrind.sh"], stdout=subprocess.PIPE, text=True, check=True)
        valgrind, os.environ["VALGRIND_LIB"] = paths.stdout.split()
        found["valgrind"] = [valgrind, "--tool=none", "--track-fds=yes", "--trace-children=yes", "-q"]
    return {name: command for name, command in found.items() if name not in arguments.skip}


def rounds_of(bench, name, commands, arguments):
    """The times of each tool in each round, and why a tool has none."""
    workload = WORKLOADS[name]
    bounds = [f"bound-{bound}" for bound in BOUNDS] if name == "open-close" else []
    names = [*TOOLS, *(MODES if workload.modes else []), *bounds]
    names = [one for one in names if one in commands]
    rounds, failures = [], {}
    for number in range(arguments.rounds):
        # The first of a round comes after another one: each is the first at times.
        turn = number % len(names)
        times = {}
        for tool in names[turn:] + names[:turn]:
            if tool in failures or (tool in workload.slow and number >= arguments.slow_rounds):
                continue
            try:
                times[tool] = workload.measure(bench, commands[tool])
            except Failed as failure:
                failures[tool] = str(failure)
        if "native" in failures:
            sys.exit(f"{name} failed natively: {failures['native']}")
        rounds.append(times)
    return rounds, failures


def ratios(rounds, tool):
    """How many times as long as natively each round took."""
    return [times[tool] / times["native"] for times in rounds if tool in times]


def figure(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


class Results:
    """The rounds of all runs: a cell of a table has a figure of each run."""

    def __init__(self):
        self.runs = []

    def medians(self, workload, tool):
        found = [ratios(run[workload], tool) for run in self.runs if workload in run]
        return [statistics.median(values) for values in found if values]

    def cell(self, workload, tool):
        return ", ".join(map(figure, self.medians(workload, tool))) or "-"

    def spread(self, workload, tool):
        values = [value for run in self.runs for value in ratios(run[workload], tool)]
        return f"{figure(min(values))} to {figure(max(values))}" if values else "-"

    def time(self, workload, tool):
        times = [[it[tool] for it in run[workload] if tool in it] for run in self.runs]
        return ", ".join(figure(statistics.median(values)) for values in times if values) or "-"

    def tables(self):
        names = [name for name in WORKLOADS if name in self.runs[0]]
        yield "| workload | native | `echown run` | lowest to highest | goal | reached | strace | valgrind |"
        yield "|---" * 8 + "|"
        for name in names:
            it = WORKLOADS[name]
            medians = self.medians(name, "echown")
            reached = "-"
            if it.goal and medians:
                reached = "yes" if all(value <= it.goal for value in medians) else "**no**"
            cells = [it.title, f"{self.time(name, 'native')} {it.unit}", f"**{self.cell(name, 'echown')}**"]
            cells += [self.spread(name, "echown"), f"{it.goal:.2f}" if it.goal else "-", reached]
            yield f"| {' | '.join([*cells, self.cell(name, 'strace'), self.cell(name, 'valgrind')])} |"
        if "open-close" in names:
            rows = {f"bound-{name}": text for name, (_, text) in BOUNDS.items()}
            rows["echown"] = "`echown run`"
            yield "\n| open and close in a loop | us a pair | times native |\n|---|---|---|"
            for tool, text in {"native": "native", **rows}.items():
                yield f"| {text} | {self.time('open-close', tool)} | {self.cell('open-close', tool)} |"
        yield f"\n| workload | `echown run` | {' | '.join(f'`--{mode}`' for mode in MODES)} |"
        yield "|---" * (2 + len(MODES)) + "|"
        for name in names:
            if WORKLOADS[name].modes:
                cells = [self.cell(name, tool) for tool in ("echown", *MODES)]
                yield f"| {WORKLOADS[name].title} | {' | '.join(cells)} |"


def machine(commands):
    """The processor, the system and the versions, in one line."""
    info = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in info if line.startswith("model name")), "unknown")
    parts = [f"{model}, {os.cpu_count()} processors", f"Linux {platform.release().split('-')[0]}"]
    versions = {"strace": ["strace", "--version"], "node": ["node", "--version"],
                "git": ["git", "--version"], "nginx": ["nginx", "-v"], "redis": ["redis-server", "--version"]}
    if "valgrind" in commands:
        versions["valgrind"] = [commands["valgrind"][0], "--version"]
    for name, command in versions.items():
        if shutil.which(command[0]):
            text = subprocess.run(command, capture_output=True, text=True)
            words = (text.stdout + text.stderr).replace("=", " ").replace("/", " ").replace("-", " ").split()
            number = next((it.lstrip("v") for it in words if it.lstrip("v")[:1].isdigit()), "unknown")
            parts.append(f"{name} {number}")
    return ", ".join([*parts, f"Python {platform.python_version()}"])


def write(path, lines):
    """Replaces what is between the two marks of a file."""
    begin, end = (f"<!-- benches/run.py {word} -->" for word in ("begins", "ends"))
    text = path.read_text()
    before, found, rest = text.partition(begin)
    after = rest.partition(end)
    if not found or not after[1]:
        sys.exit(f"{path} has no lines {begin} and {end}")
    path.write_text("\n".join([before + begin, *lines, end]) + after[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rounds", type=int, nargs="?")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS))
    parser.add_argument("--skip", action="append", default=[], metavar="TOOL")
    parser.add_argument("--tool", action="append", default=[], type=lambda it: it.split("=", 1))
    parser.add_argument("--write", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--program", default=str(ROOT / "target/release/echown"))
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (7 if arguments.quick else 15)
    arguments.slow_rounds = 3
    # What was started is ended, and the files are removed.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    results, notes = Results(), []
    # A repository in memory: with a disk the times depend on what was removed from it before.
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="echown-run-") as folder, \
            tempfile.TemporaryDirectory(prefix="echown-run-", dir=shared) as memory:
        bench = Bench(folder, memory, arguments.quick)
        commands = tools(bench, arguments)
        for run_number in range(arguments.runs):
            results.runs.append({})
            for name in arguments.workload or WORKLOADS:
                workload = WORKLOADS[name]
                if run_number > 0 and name not in results.runs[0]:
                    continue
                if missing := [it for it in workload.needs if not shutil.which(it)]:
                    notes.append(f"{name} is left out: {missing[0]} is not installed.")
                    continue
                try:
                    if workload.prepare and run_number == 0:
                        workload.prepare(bench)
                except subprocess.CalledProcessError as failure:
                    notes.append(f"{name} is left out: failed to prepare it: {failure}.")
                    continue
                begin = time.monotonic()
                rounds, failures = rounds_of(bench, name, commands, arguments)
                results.runs[-1][name] = rounds
                notes += [f"{name} under {tool}: {why}." for tool, why in failures.items()]
                ratio = {tool: results.cell(name, tool) for tool in commands if tool != "native"}
                ratio = ", ".join(f"{tool} {cell}" for tool, cell in ratio.items() if cell != "-")
                print(f"{name}: {ratio} ({time.monotonic() - begin:.0f} s)", file=sys.stderr, flush=True)
        lines = [*results.tables(), "", f"{arguments.rounds} rounds each; {machine(commands)}.", *notes]
    print("\n".join(lines))
    if arguments.write:
        write(arguments.write, lines)


if __name__ == "__main__":
    main()
