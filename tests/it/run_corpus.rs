//! Programs of `tests/corpus/run` under `echown run`: their verdicts, with lines.
//!
//! `ci/trace` runs all of them. These fourteen need nothing but a C compiler, Python and a shell.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::require_tool;

/// Runs the cases of a program and compares their reports with its header.
#[track_caller]
fn assert_verdict(program: &str) {
    let is_there = |tool: &str| {
        let mut command = Command::new(tool);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !require_tool("python3", is_there("/usr/bin/python3")) {
        return;
    }
    if program.ends_with(".c") && !require_tool("cc", is_there("cc")) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = Command::new("/usr/bin/python3")
        .args(["-B", "ci/trace_check", "--echown", env!("CARGO_BIN_EXE_echown"), "corpus", program])
        .current_dir(root)
        .output()
        .expect("python3 can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let output = text(&checked.stdout) + &text(&checked.stderr);
    assert!(checked.status.success(), "the verdict of {program} differs:\n{output}");
}

macro_rules! verdicts {
    ($($test:ident: $program:literal;)+) => {
        $(
            #[test]
            fn $test() {
                assert_verdict($program);
            }
        )+
    };
}

verdicts! {
    a_leak_on_an_error_path_is_found: "leak_on_error_path.c";
    a_double_close_is_found_in_each_mode: "double_close.c";
    a_file_with_a_long_path_is_seen: "long_path.c";
    a_double_close_across_threads_is_found: "double_close_threads.c";
    a_close_of_a_reused_number_is_found_in_three_parts: "close_of_reused_number.c";
    each_use_after_close_is_found: "use_after_close.c";
    a_stale_write_is_found_and_its_victim_intact: "stale_write.c";
    an_exec_leak_of_a_pipe_is_found: "exec_leak_pipe.c";
    a_number_in_an_argument_is_no_exec_leak: "passed_by_argument.c";
    closes_of_all_numbers_are_no_findings: "closefrom_loop.c";
    copies_of_fork_are_closed_without_findings: "fork_copies.c";
    redirections_of_a_shell_are_no_findings: "redirections.sh";
    a_program_with_its_own_seccomp_filter_is_followed: "own_seccomp_filter.c";
    the_leak_of_pty_fork_is_found_at_its_python_line: "pty_fork.py";
}
