"""Programs of the corpus: their headers, and how they are built and run.

A header is the comment at the beginning of a program. Its first lines are text. Then follow fields:

    build: cc -pthread        the compiler and its options, or only options; C alone
    command: node --option    what runs a script, if not the usual program
    needs: bash 5.2           what may be missing; then the program is skipped
    seconds: 60               the limit of one run; 30 if not given
    run: --quarantine         begins a case: the options of `echown run`

and below each `run:` what is expected:

    expect: CODE SEVERITY [any] [fd=NUMBER] [xCOUNT] [@MARK...]
    expect: nothing           no error and no warning
    expect: no-failure        no error
    exit: 139                 the exit status; otherwise 23 with an error and 0 without
    prints: TEXT              in the program's output
    says: TEXT                in the report

`@MARK` stands for the line of the program whose comment contains `@MARK`. The innermost frames of the
finding's places that lie in the program have these lines, in this order. `any`: one or more such findings.
"""

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "tests/corpus/run"

INTERPRETERS = {
    ".py": ["/usr/bin/python3"],
    ".mjs": ["node"],
    ".sh": ["sh"],
    ".bash": ["bash"],
}

FIELD = re.compile(r"^(build|command|needs|seconds|run|expect|exit|prints|says):\s*(.*)$")


@dataclass
class Expected:
    """One expected finding."""

    text: str
    code: str
    severity: str
    is_any: bool = False
    number: int | None = None
    count: int | None = None
    lines: list[int] = field(default_factory=list)


@dataclass
class Case:
    """One run of a program with its expected verdict."""

    options: list[str]
    findings: list[Expected] = field(default_factory=list)
    may_warn: bool = False
    status: int | None = None
    prints: list[str] = field(default_factory=list)
    says: list[str] = field(default_factory=list)

    def exit_status(self):
        if self.status is not None:
            return self.status
        return 23 if any(finding.severity == "error" for finding in self.findings) else 0


class Program:
    """A program of the corpus."""

    def __init__(self, path):
        self.path = path
        self.name = path.name
        self.build = self.command = self.needs = ""
        self.seconds = 30
        self.cases = []
        self._source = path.read_text().splitlines()
        for line in self._header():
            match = FIELD.match(line)
            if match:
                self._read(*match.groups())
        if not self.cases or any(not case.findings and case.may_warn is None for case in self.cases):
            raise ValueError(f"{self.name}: a case without `expect:`")

    def _header(self):
        """The lines of the comment at the beginning, without its signs."""
        for line in self._source:
            text = re.sub(r"^(/\*|\s\*/|\s\*|//|#)\s?", "", line)
            if text == line and line:
                return
            yield text

    def _read(self, name, value):
        case = self.cases[-1] if self.cases else None
        if name == "run":
            self.cases.append(Case(shlex.split(value), may_warn=None))
        elif name == "expect" and value in ("nothing", "no-failure"):
            case.may_warn = value == "no-failure"
        elif name == "expect":
            case.findings.append(self._expected(value))
            case.may_warn = False
        elif name == "exit":
            case.status = int(value)
        elif name in ("prints", "says"):
            getattr(case, name).append(value)
        elif name == "seconds":
            self.seconds = int(value)
        else:
            setattr(self, name, value)

    def _expected(self, text):
        code, severity, *rest = text.split()
        if severity not in ("error", "warning", "note"):
            raise ValueError(f"{self.name}: no severity in {text!r}")
        expected = Expected(text, code, severity)
        for word in rest:
            if word == "any":
                expected.is_any = True
            elif word.startswith("fd="):
                expected.number = int(word[3:])
            elif word.startswith("x"):
                expected.count = int(word[1:])
            else:
                expected.lines.append(self.line_of(word))
        return expected

    def line_of(self, mark):
        """The number of the line that has a mark, counted from 1."""
        found = [
            number
            for number, line in enumerate(self._source, 1)
            if re.search(rf"(/\*|//|#) {re.escape(mark)}\b", line)
        ]
        if len(found) != 1:
            raise ValueError(f"{self.name}: {len(found)} lines with the mark {mark}")
        return found[0]

    def missing(self, has_terminal):
        """Why the program cannot run on this system, or None."""
        if self.needs == "a terminal":
            return None if has_terminal else self.needs
        if self.needs == "bash 5.2":
            version = subprocess.run(["bash", "--version"], capture_output=True, text=True).stdout
            return None if "version 5.2" in version else self.needs
        tool = self.compiler() or self.interpreter()
        if shutil.which(tool[0]) is None:
            return tool[0]
        if self.needs:
            # A compiler with options: it is there if it can build a program.
            test = subprocess.run(
                [*shlex.split(self.needs), "-x", "c", "-", "-o", "/dev/null"],
                input="#include <stdio.h>\nint main(void) { return puts(\"\"); }\n",
                text=True,
                capture_output=True,
            )
            return None if test.returncode == 0 else self.needs
        return None

    def compiler(self):
        """The compiler and its options, or None for a script."""
        if self.path.suffix == ".go":
            return ["go", "build"]
        if self.path.suffix != ".c":
            return None
        words = shlex.split(self.build)
        if not words or words[0].startswith("-"):
            words.insert(0, "cc")
        return words

    def interpreter(self):
        """The command that runs the script."""
        return shlex.split(self.command) or INTERPRETERS[self.path.suffix]

    def prepare(self, folder):
        """Builds the program, if it needs to be, and returns the command that runs it."""
        compiler = self.compiler()
        if compiler is None:
            return [*self.interpreter(), str(self.path)]
        binary = folder / self.name.replace(".", "_")
        # The linker takes from a library only what was needed before it.
        libraries = [word for word in compiler if word.startswith("-l")]
        compiler = [word for word in compiler if word not in libraries]
        if compiler[0] != "go":
            compiler += ["-g", "-Wall", "-Wextra", "-Werror"]
        command = [*compiler, "-o", str(binary), str(self.path), *libraries]
        subprocess.run(command, check=True, cwd=folder)
        return [str(binary)]


def programs(names=()):
    """The programs of the corpus, or those with these names."""
    found = sorted(path for path in FOLDER.iterdir() if path.is_file())
    unknown = set(names) - {path.name for path in found}
    if unknown:
        raise ValueError(f"no such program: {', '.join(sorted(unknown))}")
    return [Program(path) for path in found if not names or path.name in names]
