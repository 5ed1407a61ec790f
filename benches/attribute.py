#!/usr/bin/env python3
"""What a clean test costs with the attribute, compared with other ways to run it.

    python3 benches/attribute.py [ROUNDS]

Builds a crate with the same tests (200; each binds a listener and closes it) as plain `#[test]`s, with
`#[echown_test::test]`, and with rusty-fork's `rusty_fork_test!`, which also has a process per test.
Runs all of them in turn, ROUNDS times (default 7), with one and with two test threads, nextest with
the plain ones as well if it is installed. Prints the median time of a run and what a test costs more
than a plain one. Downloads rusty-fork.
"""

import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
CRATE = TARGET / "tmp/bench-attribute"
TESTS = 200
BODY = 'drop(std::net::TcpListener::bind("127.0.0.1:0").unwrap());'

MANIFEST = f"""[package]
name = "bench-attribute"
version = "0.0.0"
edition = "2021"
[workspace]
[lib]
path = "lib.rs"
[dev-dependencies]
echown-test = {{ path = "{ROOT}/crates/test" }}
rusty-fork = "0.3"
"""


def write():
    (CRATE / "tests").mkdir(parents=True, exist_ok=True)
    (CRATE / "Cargo.toml").write_text(MANIFEST)
    (CRATE / "lib.rs").write_text("")

    def tests(attribute):
        return "".join(f"#[{attribute}]\nfn t{i}() {{ {BODY} }}\n" for i in range(TESTS))

    forked = f"use rusty_fork::rusty_fork_test;\nrusty_fork_test! {{\n{tests('test')}}}\n"
    sources = {"plain": tests("test"), "attribute": tests("echown_test::test"), "forked": forked}
    for name, text in sources.items():
        (CRATE / f"tests/{name}.rs").write_text(text)


def binaries():
    command = ["cargo", "test", "--no-run"]
    environment = os.environ | {"CARGO_TARGET_DIR": str(CRATE / "target")}
    built = subprocess.run(command, cwd=CRATE, env=environment, capture_output=True, text=True)
    if built.returncode != 0:
        sys.exit(built.stderr)
    return {
        name: str(CRATE / path) if not path.startswith("/") else path
        for name, path in re.findall(r"tests/(\w+)\.rs \((\S+)\)", built.stderr)
    }


def nextest(threads):
    return ["cargo", "nextest", "run", "--test", "plain", "-j", str(threads), "--status-level", "none"]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    write()
    found = binaries()
    rows = {
        "`#[test]`": lambda threads: [found["plain"], "--test-threads", str(threads)],
        "the attribute": lambda threads: [found["attribute"], "--test-threads", str(threads)],
        "`rusty_fork_test!`": lambda threads: [found["forked"], "--test-threads", str(threads)],
    }
    if shutil.which("cargo-nextest"):
        rows["`#[test]` in nextest"] = nextest
    environment = os.environ | {"CARGO_TARGET_DIR": str(CRATE / "target")}
    times = {(name, threads): [] for name in rows for threads in (1, 2)}
    for count in range(rounds):
        print(f"round {count + 1} of {rounds}", file=sys.stderr)
        for name, threads in times:
            command = rows[name](threads)
            began = time.monotonic()
            subprocess.run(command, cwd=CRATE, env=environment, check=True, capture_output=True)
            times[name, threads].append(time.monotonic() - began)
    print(f"{TESTS} tests, median of {rounds} runs\n")
    print("| | 1 thread | more per test | 2 threads | more per test |\n|---|---|---|---|---|")
    for name in rows:
        cells = []
        for threads in (1, 2):
            median = statistics.median(times[name, threads])
            plain = statistics.median(times["`#[test]`", threads])
            cells += [f"{median:.2f} s", f"{(median - plain) / TESTS * 1000:.1f} ms"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
