"""Verdicts: runs a command under `echown run` and compares the report with what is expected."""

import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    """A finished run."""

    report: dict
    status: int
    output: str
    seconds: float

    def findings(self, *severities):
        return [it for it in self.report.get("findings", []) if it["severity"] in severities]


class Failed(Exception):
    """A run without a report."""


def run(echown, options, command, seconds, folder=None, terminal=False, environment=None):
    """Runs a command in a folder of its own and returns its report."""
    with tempfile.TemporaryDirectory(prefix="echown-trace-") as work:
        report = Path(work) / "report.json"
        cwd = folder or Path(work) / "cwd"
        Path(cwd).mkdir(exist_ok=True)
        words = [echown, "run", "--notes", *options, "--report", "json", "--report-file", str(report)]
        words += ["--", *command]
        if terminal:
            words = ["script", "-qec", shlex.join(words), "/dev/null"]
        begin = time.monotonic()
        # A group of its own, so that a run that does not end can be ended with all that it started.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Failed(f"did not end within {seconds} s") from None
        spent = time.monotonic() - begin
        text = output.decode(errors="replace")
        try:
            content = json.loads(report.read_text())
        except (OSError, ValueError) as error:
            raise Failed(f"exit status {process.returncode}, no report: {error}: {text[-600:]}") from None
        return Run(content, process.returncode, text, spent)


def differences(run, case, name):
    """What differs from the expected verdict of a case, as lines; empty if nothing does."""
    found = []
    rest = run.findings("error", "warning", "note")
    for expected in case.findings:
        reasons, is_found = [], False
        for finding in list(rest):
            reason = mismatch(finding, expected, name)
            if reason is None and (expected.is_any or not is_found):
                is_found = True
                rest.remove(finding)
            elif finding["code"] == expected.code:
                reasons.append(reason)
        if not is_found:
            why = f" ({'; '.join(reasons)})" if reasons else ""
            found.append(f"missing: {expected.text}{why}")
    for finding in rest:
        if finding["severity"] == "error" or (finding["severity"] == "warning" and not case.may_warn):
            found.append(f"not expected: {summary(finding, name)}")
    found += uncovered(run)
    if run.status != case.exit_status():
        found.append(f"exit status {run.status}, expected {case.exit_status()}")
    found += [f"not printed: {text}" for text in case.prints if text not in run.output]
    report = json.dumps(run.report, ensure_ascii=False).lower()
    found += [f"not in the report: {text}" for text in case.says if text.lower() not in report + run.output.lower()]
    return found


def uncovered(run):
    """What the report says about lists of descriptors that differ from the kernel's."""
    coverage = run.report["coverage"]
    if coverage["mismatches"] == 0:
        return []
    return [f"{coverage['mismatches']} of {coverage['checks']} comparisons with the kernel differ"]


def mismatch(finding, expected, name):
    """Why a finding is not the expected one, or None if it is."""
    if finding["code"] != expected.code:
        return f"code {finding['code']}"
    if finding["severity"] != expected.severity:
        return f"severity {finding['severity']}"
    if expected.count is not None and finding["count"] != expected.count:
        return f"count {finding['count']}"
    numbers = [it["number"] for it in finding["descriptors"]]
    if expected.number is not None and numbers[:1] != [expected.number]:
        return f"descriptors {numbers}"
    lines = iter(places(finding, name))
    if not all(line in lines for line in expected.lines):
        return f"lines {places(finding, name)}, expected {expected.lines}"
    return None


def places(finding, name):
    """The lines of the innermost frames in the program, one of each place."""
    lines = []
    for place in finding["places"]:
        frames = [it for it in place["frames"] if (it.get("file") or "").split("/")[-1] == name]
        lines.append(frames[0]["line"] if frames else 0)
    return lines


def summary(finding, name=None):
    """A finding in one line."""
    where = []
    for place in finding["places"]:
        frames = [it for it in place["frames"] if it.get("file")]
        own = [it for it in frames if it["file"].split("/")[-1] == name] or frames
        at = f"{own[0]['file']}:{own[0]['line']}" if own else "/".join(
            it["function"] for it in place["frames"][:4]
        )
        where.append(f"{place['what']} at {at}")
    process = finding["process"]["program"].split("/")[-1]
    return (
        f"{finding['code']} {finding['severity']} x{finding['count']} in {process}: "
        f"{finding['message']} [{', '.join(where)}]"
    )
