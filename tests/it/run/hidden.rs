//! A program that hides from its own user, as ssh-agent and gpg-agent do.

use std::process::{Command, Stdio};

use crate::common::require_tool;
use crate::reports::stderr;

/// PR_SET_DUMPABLE, then two pipes, of whose descriptors one is closed twice.
const HIDING: &str = "\
import ctypes, os
assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0
first, second = os.pipe(), os.pipe()
os.close(second[0])
try:
    os.close(second[0])
except OSError:
    pass
";

#[test]
fn a_program_that_hides_is_followed_without_its_paths_and_stacks() {
    let echown = env!("CARGO_BIN_EXE_echown");
    let words = [echown, "run", "--", "/usr/bin/python3", "-I", "-c", HIDING];
    // From root nothing is hidden.
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(words);
        command
    } else {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    };
    let Ok(output) = command.stdin(Stdio::null()).current_dir("/").output() else {
        require_tool("setpriv", false);
        return;
    };
    let text = stderr(&output);
    // The folder of the build may be closed to others, and Python may be elsewhere.
    let is_out_of_reach =
        text.starts_with("setpriv: failed to execute") || output.status.code() == Some(127);
    if is_out_of_reach {
        return;
    }
    assert!(text.contains("error[double-close]"), "{text}");
    assert!(text.contains("(PR_SET_DUMPABLE)"), "{text}");
    assert!(!text.contains("differ") && !text.contains("missed"), "{text}");
    assert_eq!(output.status.code(), Some(23), "{text}");
}
