//! The role of a process in a test, and the settings that the parent passes to its child.

use std::env;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use echown_fd::trap;

/// The environment variable that marks a child process and contains its settings.
pub(super) const VARIABLE: &str = "ECHOWN_TEST_CHILD";

/// What a call of a test's function means in this process.
pub(super) enum Role {
    /// The process of the test runner: the test runs in a child.
    Runner,
    /// The child: it runs the body, and reports.
    Child(ChildConfig),
    /// A process of the same binary that the test started, in order to run itself there: the body
    /// runs as in a plain test, because the code that started it expects just that.
    Copy,
}

/// The settings of a child process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChildConfig {
    /// The descriptor of the memory for the report.
    pub(super) report: RawFd,
    /// The descriptor to install as standard output and standard error; `None` leaves them
    /// unchanged. The output of the runner before the body is discarded.
    pub(super) output: Option<RawFd>,
    /// Whether and how to record opening and closing calls.
    pub(super) trace: Option<trap::Mode>,
    pub(super) is_paranoid: bool,
    /// Whether to run the body a second time if it leaves something open.
    pub(super) rerun: bool,
}

impl Role {
    /// The role of this process, in the next test that it runs.
    pub(super) fn of_this_process() -> Role {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let Some(text) = env::var_os(VARIABLE) else { return Role::Runner };
        let Some((parent, config, binary)) = parse(&text.to_string_lossy()) else {
            return Role::Runner;
        };
        if parent != std::os::unix::process::parent_id() {
            let is_same = env::current_exe().is_ok_and(|exe| hash(&exe) == binary);
            return if is_same { Role::Copy } else { Role::Runner };
        }
        // ord: Relaxed; only the runner's thread for the one test reads it. A test that is called
        // from a test's body gets a child process of its own.
        match TAKEN.swap(true, Ordering::Relaxed) {
            true => Role::Runner,
            false => Role::Child(config),
        }
    }
}

impl ChildConfig {
    pub(super) fn level(&self) -> trap::Level {
        if self.is_paranoid { trap::Level::Paranoid } else { trap::Level::Normal }
    }

    /// The value of [`VARIABLE`] for a child of the process `parent`, which runs the program `exe`.
    pub(super) fn to_variable(&self, parent: u32, exe: &Path) -> String {
        let output = self.output.map_or(String::from("-"), |number| number.to_string());
        let trace = match self.trace {
            Some(trap::Mode::Strict) => "strict",
            Some(trap::Mode::IgnoreAbort) => "ignore-abort",
            None => "-",
        };
        let rerun = if self.rerun { "rerun" } else { "-" };
        let level = if self.is_paranoid { "paranoid" } else { "-" };
        format!("{parent} {} {output} {trace} {level} {rerun} {:x}", self.report, hash(exe))
    }
}

/// The parent's process id, the settings, and the hash of the binary's path.
fn parse(text: &str) -> Option<(u32, ChildConfig, u64)> {
    let mut words = text.split(' ');
    let parent = words.next()?.parse().ok()?;
    let config = ChildConfig {
        report: words.next()?.parse().ok()?,
        output: words.next()?.parse().ok(),
        trace: match words.next()? {
            "strict" => Some(trap::Mode::Strict),
            "ignore-abort" => Some(trap::Mode::IgnoreAbort),
            _ => None,
        },
        is_paranoid: words.next()? == "paranoid",
        rerun: words.next()? == "rerun",
    };
    Some((parent, config, u64::from_str_radix(words.next()?, 16).ok()?))
}

/// FNV-1a. The same in every process of the binary.
pub(super) fn hash(path: &Path) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    path.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_arrive_as_they_were_sent() {
        let exe = Path::new("/a b/c");
        for trace in [None, Some(trap::Mode::Strict), Some(trap::Mode::IgnoreAbort)] {
            for (output, rerun) in [(None, true), (Some(7), false)] {
                let config = ChildConfig { report: 5, output, trace, is_paranoid: rerun, rerun };
                let text = config.to_variable(42, exe);
                assert_eq!(parse(&text), Some((42, config, hash(exe))));
            }
        }
        assert_eq!(parse("42 5"), None);
    }
}
