"""Comparison with valgrind: every descriptor finding of valgrind on the C part of the corpus is found by
`echown run`, too, at the same line.

Valgrind 3.27 or newer is taken from Debian sid and unpacked into a folder of its own.
"""

import os
import re
import subprocess
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

import program
import verdict

ROOT = Path(__file__).resolve().parents[2]
SID = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "trace/sid"
MIRROR = os.environ.get("ECHOWN_DEBIAN_MIRROR", "http://deb.debian.org/debian")

# Programs that valgrind cannot run, or that it takes minutes for.
LEFT_OUT = {
    "address_sanitizer.c": "valgrind cannot run AddressSanitizer",
    "calls_of_32_bits.c": "valgrind needs the 32-bit debug symbols of the C library",
    "io_uring.c": "as of the kernel's features",
    "million_opens.c": "too slow",
    "short_processes.c": "too slow",
}

# What valgrind finds there is no finding here, on purpose.
NO_FAULTS = {
    "close_minus_one.c": "`close(-1)`",
    "closefrom_loop.c": "a sweep over all numbers",
    "daemon.c": "0 to 2 stay open in most programs",
    "descending_sweep.c": "a sweep over all numbers",
    "unshared_threads.c": "each thread has a table of its own",
}

# What each kind of valgrind's findings is here.
CODES = {
    "FdBadClose": {"double-close"},
    "FdBadUse": {"use-after-close", "not-open"},
    "FdNotClosed": {"leak", "open-at-exit"},
}


def install():
    """Valgrind's program; unpacks it first if it is not there."""
    binary = SID / "root/usr/bin/valgrind.bin"
    if binary.exists():
        return binary
    for folder in ("apt/lists/partial", "apt/cache/archives/partial", "apt/debs"):
        (SID / folder).mkdir(parents=True, exist_ok=True)
    (SID / "apt/status").touch()
    source = f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {MIRROR} sid main\n"
    (SID / "apt/sources.list").write_text(source)
    options = []
    for option in (
        f"Dir::Etc::sourcelist={SID}/apt/sources.list",
        "Dir::Etc::sourceparts=-",
        f"Dir::State::lists={SID}/apt/lists",
        f"Dir::State::status={SID}/apt/status",
        f"Dir::Cache={SID}/apt/cache",
        "APT::Sandbox::User=root",
        "APT::Update::Error-Mode=any",
    ):
        options += ["-o", option]
    debs = SID / "apt/debs"
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
    subprocess.run(["apt-get", "-qq", *options, "download", "valgrind"], cwd=debs, check=True)
    (deb,) = debs.glob("valgrind_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(deb), str(SID / "root")], check=True)
    return binary


def findings_of_valgrind(binary, command, name, folder, high):
    """Valgrind's findings in a program: kind, and the program's line of the first stack."""
    environment = {
        **os.environ,
        "VALGRIND_LIB": str(SID / "root/usr/libexec/valgrind"),
        "LD_LIBRARY_PATH": "/usr/lib/debug",
    }
    options = ["--tool=none", "--track-fds=all", "--xml=yes", f"--xml-file={folder}/%p.xml"]
    options += ["--modify-fds=high"] if high else []
    subprocess.run(
        [str(binary), *options, *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    found = set()
    for path in Path(folder).glob("*.xml"):
        text = path.read_text(errors="replace")
        # The file of a process that executed another program has no end.
        for error in re.findall(r"<error>.*?</error>", text, re.DOTALL):
            # Addresses in these are not escaped: `127.0.0.1:7 <-> unbound`.
            error = xml.fromstring(re.sub(r"<(what|auxwhat|path)>.*?</\1>", "", error))
            kind, stack = error.findtext("kind"), error.find("stack")
            if not kind.startswith("Fd") or stack is None:
                continue
            frames = [it for it in stack.iter("frame") if it.findtext("file") == name]
            if frames:
                found.add((kind, int(frames[0].findtext("line"))))
        path.unlink()
    return found


def run(table, echown, names):
    binary = install()
    version = subprocess.run(
        [str(binary), "--version"],
        env={**os.environ, "VALGRIND_LIB": str(SID / "root/usr/libexec/valgrind")},
        capture_output=True,
        text=True,
    ).stdout.strip()
    print(f"compared with {version} --tool=none --track-fds=all, without and with --modify-fds=high")
    with tempfile.TemporaryDirectory(prefix="echown-valgrind-") as folder:
        folder = Path(folder)
        for it in program.programs(names):
            if it.path.suffix != ".c" or it.name in LEFT_OUT or it.missing(False):
                continue
            command = it.prepare(folder)
            theirs = set()
            for high in (False, True):
                theirs |= findings_of_valgrind(binary, command, it.name, folder, high)
            ours = set()
            try:
                for options in ([], ["--quarantine"]):
                    result = verdict.run(echown, options, command, it.seconds)
                    for finding in result.findings("error", "warning", "note"):
                        ours |= {(finding["code"], line) for line in verdict.places(finding, it.name)}
            except verdict.Failed as error:
                table.add(f"valgrind {it.name}", "", [str(error)])
                continue
            missed = [
                f"only valgrind: {kind} at line {line}"
                for kind, line in sorted(theirs)
                if not any((code, line) in ours for code in CODES.get(kind, {kind}))
            ]
            if missed and it.name in NO_FAULTS:
                table.add(f"valgrind {it.name}", f"{NO_FAULTS[it.name]}: no fault", [])
                continue
            codes = sorted({code for code, _ in ours})
            kinds = sorted({kind for kind, _ in theirs})
            details = f"{', '.join(kinds) or 'nothing'} / {', '.join(codes) or 'nothing'}"
            table.add(f"valgrind {it.name}", details, missed)
