//! The fd trace with an allocator that opens files.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use super::common::{DEADLINE, poll};
use super::downstream::{DownstreamCrate, text};

#[test]
fn the_fd_trace_does_not_allocate_while_it_holds_its_lock() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let built =
        text(&DownstreamCrate::corpus().cargo(&["test", "--no-run", "--test", "allocator"]));
    let line = built.lines().find(|line| line.contains("tests/allocator.rs"));
    let path = line.and_then(|line| line.split(['(', ')']).nth(1));
    let path = path.unwrap_or_else(|| panic!("cargo names no binary:\n{built}"));
    let mut runner = Command::new(DownstreamCrate::corpus().folder.join(path));
    runner.current_dir(&DownstreamCrate::corpus().folder).env("RUST_BACKTRACE", "0");
    runner.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut runner = runner.spawn().expect("the runner starts");
    if poll(DEADLINE, || runner.try_wait().expect("it is this process's child")).is_none() {
        // Including the process that it started, which waits for its own lock.
        let group = Pid::from_child(&runner);
        kill_process_group(group, Signal::KILL).expect("it has not been waited for");
        panic!("it did not exit: {}", text(&runner.wait_with_output().expect("it was killed")));
    }
    let output = runner.wait_with_output().expect("it has ended");
    let output_text = text(&output);
    assert!(
        output_text.contains("double-close: test `a_double_close_under_an_allocator"),
        "{output_text}"
    );
    assert!(output_text.contains("closed again by close at src/closes.rs:"), "{output_text}");
}
