"""The verdicts of `echown run` on the corpus, on programs without faults and on public bugs.

    ci/trace_check [--echown FILE] [--require] [PART [NAME...]]

Parts: corpus, silent, valgrind, bugs; all of them if none is given. `--require` makes a missing outside
program an error. Exit status 1 when a verdict differs.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import bugs
import program
import silent
import valgrind
import verdict

ROOT = Path(__file__).resolve().parents[2]


class Table:
    """The results, one line each."""

    def __init__(self, is_required):
        self.is_required = is_required
        self.failed = 0
        self.passed = 0
        self.skipped = 0

    def add(self, name, details, faults):
        word = "FAILED" if faults else "ok"
        self.failed += bool(faults)
        self.passed += not faults
        print(f"{name:44} {word:8} {details}", flush=True)
        for fault in faults:
            print(f"    {fault}", flush=True)

    def skip(self, name, missing):
        if self.is_required:
            self.add(name, "", [f"{missing} is missing"])
        else:
            self.skipped += 1
            print(f"{name:44} skipped: {missing} is missing", flush=True)


def corpus(table, echown, names):
    """Each case of each program."""
    with tempfile.TemporaryDirectory(prefix="echown-corpus-") as folder:
        for it in program.programs(names):
            missing = it.missing(has_terminal=True)
            if missing:
                table.skip(it.name, missing)
                continue
            command = it.prepare(Path(folder))
            for case in it.cases:
                name = " ".join([it.name, *case.options])
                try:
                    run = verdict.run(
                        echown,
                        case.options,
                        command,
                        it.seconds,
                        terminal=it.needs == "a terminal",
                    )
                except verdict.Failed as error:
                    table.add(name, "", [str(error)])
                    continue
                verdicts = ", ".join(finding.text for finding in case.findings) or "nothing"
                table.add(name, f"{run.seconds:5.1f} s  {verdicts}", verdict.differences(run, case, it.name))


def main():
    parts = {"corpus": corpus, "silent": silent.run, "valgrind": valgrind.run, "bugs": bugs.run}
    parser = argparse.ArgumentParser(prog="ci/trace_check")
    parser.add_argument("--echown", default=str(ROOT / "target/debug/echown"))
    parser.add_argument("--require", action="store_true", default=bool(os.environ.get("ECHOWN_REQUIRE_TOOLS")))
    parser.add_argument("part", nargs="?", choices=parts)
    parser.add_argument("name", nargs="*")
    arguments = parser.parse_args()
    table = Table(arguments.require)
    for part in [arguments.part] if arguments.part else parts:
        print(f"== {part}", flush=True)
        parts[part](table, str(Path(arguments.echown).resolve()), arguments.name)
    print(f"{table.passed} as expected, {table.failed} different, {table.skipped} skipped")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
