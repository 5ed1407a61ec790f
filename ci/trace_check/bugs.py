"""Public bugs of published programs and packages: each is found with the line, or the function, that causes
it. More are in the corpus, as programs of their own: pty_fork.py, stdin_pipe.go, hiredis_exec.c.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import silent
import verdict

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "trace"

NODE = ["node", "--perf-basic-prof", "--interpreted-frames-native-stack"]

APHYT = """\
import os
from aphyt import omron

for _ in range(5):
    try:
        omron.n_series.NSeries("127.0.0.1")
    except OSError:
        pass
# The threads of the failed objects would keep the process alive.
os._exit(0)
"""

PYTHON_GIT = """\
import os
import sys

import git

kept = []
for _ in range(4):
    repository = git.Repo(sys.argv[1])
    repository.head.commit.message
    kept.append(repository)
# At a normal end the objects would close what they hold.
os._exit(0)
"""

TERMINAL_SIZE = """\
import terminalSize from "terminal-size";

for (let i = 0; i < 3; i++) terminalSize();
"""

NODE_PTY = """\
const pty = require("node-pty");
const { execFileSync } = require("node:child_process");

const terminal = pty.spawn("cat", [], {});
execFileSync("true");
terminal.kill();
"""


def npm(package):
    folder = CACHE / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    name = package.split("@")[0]
    if not (folder / "node_modules" / name).exists():
        # The headers that are installed, instead of those that node-gyp downloads.
        prefix = Path(shutil.which("node")).resolve().parents[1]
        command = ["npm", "install", "--no-audit", "--no-fund", f"--nodedir={prefix}", package]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def pip(package):
    folder = CACHE / "python"
    if not (folder / package.split("=")[0]).exists():
        command = ["/usr/bin/python3", "-m", "pip", "install", "-q", "--target", str(folder), package]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def script(folder, name, content):
    path = folder / name
    path.write_text(content)
    return path


def terminal_size():
    path = script(npm("terminal-size@4.0.1"), "size.mjs", TERMINAL_SIZE)
    command = ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *NODE, str(path)]
    return command, "leak", "warning", r"terminal-size/index\.js", r"const devTty = \(\)", {"terminal": True}


def node_pty():
    path = script(npm("node-pty@1.1.0"), "pty.cjs", NODE_PTY)
    return ["node", "--perf-basic-prof", str(path)], "exec-leak", "error", r"unixTerminal\.js|pty\.node|pty\.cc|^PtyFork", None, {}


def aphyt():
    folder = pip("aphyt==0.1.29")
    command = ["/usr/bin/python3", str(script(folder, "connect.py", APHYT))]
    return command, "leak", "warning", r"aphyt/omron/n_series\.py", r"new_event_loop|loop", {}


def python_git():
    (CACHE / "git").mkdir(parents=True, exist_ok=True)
    path = script(CACHE / "git", "commits.py", PYTHON_GIT)
    command = ["/usr/bin/python3", str(path), str(ROOT)]
    return command, "leak", "warning", r"git/cmd\.py", r"Popen", {}


def pty_fork():
    text = "import os, pty\nchild, master = pty.fork()\nif child == 0: os.execv('/bin/cat', ['cat'])\n"
    command = ["/usr/bin/python3", "-c", text + "os.system('true')\n"]
    return command, "exec-leak", "error", r"/pty\.py", r"os\.forkpty\(\)", {}


def ncat():
    port = silent.free_port()
    text = (
        f"timeout 10 ncat -lk 127.0.0.1 {port} -c 'true' & "
        f"until ncat --recv-only 127.0.0.1 {port} </dev/null; do sleep 0.1; done; "
        f"ncat --recv-only 127.0.0.1 {port} </dev/null; kill $!; wait"
    )
    # Debian's program has no debug information: the program, not the line.
    return ["sh", "-c", text], "exec-leak", "error", r"^ncat(\+0x|$)", None, {}


# Name, public report, what is needed, the case.
BUGS = [
    ("Python 3.11 pty.fork", "python/cpython#139184", ["python3"], pty_fork),
    ("terminal-size 4.0.1", "sindresorhus/terminal-size#27", ["npm", "script"], terminal_size),
    ("ncat -lk -c", "nmap/nmap#2843", ["ncat"], ncat),
    ("node-pty 1.1.0", "microsoft/node-pty#657", ["npm", "g++"], node_pty),
    ("aphyt 0.1.29", "aphyt/aphytcomm#13", ["python3"], aphyt),
    ("python3-git", "gitpython-developers/GitPython#1208", ["git"], python_git),
]


def line_of(frame):
    """The text of a frame's line. The file of a package is named from the package's folder."""
    path = Path((frame.get("file") or "").removeprefix("file://"))
    folders = [CACHE, Path("/usr/lib/python3/dist-packages")]
    found = [it for folder in folders for it in folder.glob(f"**/{path}")] if path.name else []
    paths = [path] if path.is_absolute() else found
    for path in paths:
        try:
            return path.read_text().splitlines()[frame["line"] - 1]
        except (OSError, IndexError):
            continue
    return ""


def is_place(frame, where, text):
    place = f"{frame.get('package') or ''}/{frame.get('file') or ''}"
    names = [place, frame.get("package") or "", frame.get("function") or ""]
    if not any(re.search(where, name) for name in names):
        return False
    return text is None or re.search(text, line_of(frame)) is not None


def run(table, echown, names):
    for name, public, tools, case in BUGS:
        if names and not any(part in name for part in names):
            continue
        missing = [tool for tool in tools if shutil.which(tool) is None]
        if missing:
            table.skip(name, ", ".join(missing))
            continue
        try:
            command, code, severity, where, text, more = case()
        except subprocess.CalledProcessError as error:
            table.add(name, public, [f"cannot be installed: {error}"])
            continue
        folder = CACHE / "python"
        environment = {"PYTHONPATH": str(folder)} if folder.exists() else {}
        with tempfile.TemporaryDirectory(prefix="echown-bug-") as work:
            try:
                result = verdict.run(
                    echown, [], command, 60, folder=Path(work), environment=environment, **more
                )
            except verdict.Failed as error:
                table.add(name, public, [str(error)])
                continue
        found = [it for it in result.findings(severity) if it["code"] == code]
        frames = [frame for it in found for place in it["places"] for frame in place["frames"]]
        at = [frame for frame in frames if is_place(frame, where, text)]
        faults = []
        if not at:
            faults = [f"missing: {code} {severity} at {where} ({text})"]
            faults += [verdict.summary(it) for it in result.findings("error", "warning")]
        details = f"{at[0].get('file') or at[0].get('package')}:{at[0]['line']}" if at else ""
        table.add(name, f"{result.seconds:5.1f} s  {public}  {code} at {details}", faults)
