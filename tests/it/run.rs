//! `echown run`: what passes through, exit codes, options, and processes that outlive the command.

mod forms;
mod hidden;
mod recording;
mod signals;

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use super::reports::{Folder, stderr};
use super::server::echown;
use crate::common::require_tool;

/// `echown run` with these options and words.
fn run(words: &[&str]) -> Command {
    let mut command = echown();
    command.arg("run").args(words).stdin(Stdio::null());
    command
}

fn output(words: &[&str]) -> Output {
    run(words).output().expect("the program runs")
}

/// A command that closes a descriptor twice: the second close fails with EBADF.
const DOUBLE_CLOSE: &str = "\
import os
number = os.open('/etc/passwd', os.O_RDONLY)
os.close(number)
try:
    os.close(number)
except OSError:
    pass
";

/// The interpreter itself: the command may be a script that chooses one of several.
fn python() -> Option<String> {
    let script = "import os, sys; print(os.path.realpath(sys.executable))";
    let output = Command::new("python3").args(["-c", script]).output();
    let path = output.ok().filter(|output| output.status.success());
    let path = path.and_then(|output| String::from_utf8(output.stdout).ok());
    let path = path.map(|path| path.trim().to_owned());
    require_tool("python3", path.is_some()).then_some(path).flatten()
}

/// `echown run` of [`DOUBLE_CLOSE`] with these options.
fn double_close(python: &str, options: &[&str]) -> Output {
    output(&[options, &["--", python, "-c", DOUBLE_CLOSE]].concat())
}

#[test]
fn streams_arguments_and_the_exit_status_pass_through() {
    let script = "cat; echo \"$0|$1|$2\" >&2; exit 7";
    let mut child = run(&["--quiet", "--", "sh", "-c", script, "a b", "*", "--help"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n");
    assert_eq!(stderr(&output), "a b|*|--help\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn the_command_needs_no_dashes_before_it_and_has_options_of_its_own() {
    let output = output(&["-q", "sh", "-c", "exit 3"]);
    assert_eq!((output.status.code(), &*stderr(&output)), (Some(3), ""));
}

#[test]
fn the_environment_and_the_folder_pass_through() {
    let output = run(&["-q", "--", "sh", "-c", "echo \"$WORD\"; pwd"])
        .env("WORD", "a word")
        .current_dir("/")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a word\n/\n");
}

#[test]
fn a_signal_that_ends_the_command_is_in_the_exit_code() {
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("USR1", 138)] {
        let output = output(&["-q", "--", "sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(output.status.code(), Some(code), "{signal}: {}", stderr(&output));
    }
}

#[test]
fn a_broken_pipe_ends_the_command_as_it_would_without_the_tracer() {
    let script = "sh -c 'kill -PIPE $$'; echo $?";
    let output = output(&["-q", "--", "sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "141\n", "{}", stderr(&output));
}

#[test]
fn a_command_that_cannot_run_has_the_exit_code_of_a_shell_and_a_reason() {
    let folder = Folder::new("run-no-program");
    let no_program = folder.0.join("script");
    std::fs::write(&no_program, "exit 0\n").unwrap();
    std::fs::set_permissions(&no_program, Permissions::from_mode(0o700)).unwrap();
    let no_program = no_program.to_str().unwrap();
    for (words, code, reason) in [
        (
            &["--", "no-such-command-here"][..],
            127,
            "failed to run `no-such-command-here`: not found",
        ),
        (&["--", "/no/such/command"], 127, "failed to run `/no/such/command`: not found"),
        (&["--", "/"], 126, "failed to run `/`: "),
        (&["--", no_program], 126, "names its interpreter, such as `#!/bin/sh`"),
        (&["--", "/etc/passwd"], 126, "failed to run `/etc/passwd`: "),
        (&["--", "a\u{1b}b"], 127, "failed to run `a\\x1bb`: not found"),
        (&[], 2, "required"),
        (&["--fail-on", "everything", "--", "true"], 2, "expected `any`, `none`, or codes"),
        (&["--no-such-option", "--", "true"], 2, "unexpected argument"),
        (&["--report", "sarif", "--", "true"], 2, "add --report-file FILE"),
        (&["--suppressions", "/no/such", "--", "true"], 2, "failed to read the suppressions"),
        (&["--baseline", "/no/such", "--", "true"], 2, "failed to read the baseline"),
        (&["--report-file", "/no/such/file", "--", "true"], 125, "failed to write the report"),
        (&["--record", "/dev/null", "--", "true"], 125, "a recording needs a regular file"),
        (&["--record", "same", "--report-file", "same", "--", "true"], 2, "name the same file"),
    ] {
        let output = output(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).starts_with("echown: "), "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(reason), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn below_another_tracer_it_fails_with_the_reason() {
    let program = env!("CARGO_BIN_EXE_echown");
    let output = output(&["-q", "--", program, "run", "-q", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{}", stderr(&output));
    assert!(stderr(&output).contains("failed to trace `true`: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("traces this one"), "{}", stderr(&output));
}

#[test]
fn a_double_close_fails_the_run_unless_other_codes_do() {
    let Some(python) = python() else { return };
    for (options, code, expected) in [
        (&[][..], 23, "error[double-close]: `python3"),
        (&["--fail-on", "double-close"], 23, "error[double-close]: "),
        (&["--fail-on", "any"], 23, "error[double-close]: "),
        (&["--fail-on", "none"], 0, "warning[double-close]: "),
        (&["--fail-on", "leak,exec-leak"], 0, "warning[double-close]: "),
        (&["--quarantine"], 23, "error[double-close]: "),
        (&["--check-uses"], 23, "error[double-close]: "),
        (&["--quiet"], 23, "error[double-close]: "),
    ] {
        let output = double_close(&python, options);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{options:?}: {}", stderr(&output));
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn notes_fail_by_the_names_of_their_codes_only() {
    let Some(python) = python() else { return };
    // A check whether a number is open, and a descriptor that is open at the end. A low number may be one
    // that another test lets its children inherit.
    let script = "\
import fcntl, os
os.open('/etc/passwd', os.O_RDONLY)
try:
    fcntl.fcntl(654321, fcntl.F_GETFD)
except OSError:
    pass
os._exit(0)
";
    for (options, code, expected) in [
        (&["--notes"][..], 0, &["note[not-open]: ", "note[open-at-exit]: "][..]),
        (&["--notes", "--fail-on", "any"], 0, &["note[not-open]: ", "note[open-at-exit]: "]),
        (&["--notes", "--fail-on", "not-open"], 0, &["note[not-open]: "]),
        (&["--fail-on", "any"], 0, &["no findings; "]),
        (&["--fail-on", "open-at-exit"], 23, &["error[open-at-exit]: ", "1 error (open-at-exit)"]),
    ] {
        let words = [&["--check-uses"], options, &["--", &python, "-c", script]].concat();
        let output = output(&words);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {text}");
        assert!(expected.iter().all(|part| text.contains(part)), "{options:?}: {text}");
    }
}

#[test]
fn the_summary_is_the_last_line_and_quiet_omits_it() {
    let output = self::output(&["--", "true"]);
    let text = stderr(&output);
    assert_eq!(text.lines().last(), Some("`true` exited with status 0: no findings"), "{text}");
    assert!(text.contains("coverage: every call was followed ("), "{text}");
    assert_eq!(stderr(&self::output(&["--quiet", "--", "true"])), "");
}

#[test]
fn what_was_not_followed_is_named_with_its_process() {
    let Some(python) = python() else { return };
    // PTRACE_TRACEME, which fails in a process that is traced.
    let script = "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)";
    let text = stderr(&output(&["--", &python, "-c", script]));
    assert!(text.contains("coverage: not every call was followed"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let gap = lines.iter().position(|line| line.contains("a program tried to trace"));
    let named = gap.and_then(|gap| lines.get(gap + 1)).copied().unwrap_or_default();
    assert!(named.starts_with("    in `python3"), "{text}");
}

#[test]
fn the_help_names_the_exit_codes_and_fits_80_columns_below_the_options() {
    let output = output(&["--help"]);
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, notes) = help.split_once("\nFindings:\n").expect("the notes are there");
    assert!(notes.lines().all(|line| line.len() <= 80), "{notes}");
    for code in ["  2    ", "  23   ", "  125  ", "  126  ", "  127  "] {
        assert!(notes.contains(code), "{code}: {notes}");
    }
}
