//! Diagnosis of a hanging test: its state, read from outside before it is killed.

use std::fs;
use std::os::fd::BorrowedFd;

use echown_fd::{escape, open};
use rustix::process::{Pid, Signal, kill_process};

use super::message::Started;
use super::platform;
use super::processes;
use super::threads::ThreadActivity;
use echown_report::Descriptor;

/// The state of a hanging test's process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hang {
    /// The descriptors that it opened.
    pub(super) descriptors: Vec<Descriptor>,
    /// Its threads, with the system call that each waits in.
    pub(super) threads: Vec<String>,
    /// The programs that it started.
    pub(super) programs: Vec<String>,
}

/// Inspects a process, except for the descriptors and threads that existed before the test, and
/// kills the programs that it started.
pub(super) fn diagnose(process: Pid, handle: Option<BorrowedFd<'_>>, started: &Started) -> Hang {
    let mut hang = Hang {
        descriptors: descriptors(process, handle, &started.before),
        threads: threads(process, &started.threads),
        programs: Vec::new(),
    };
    for program in processes::descendants(process) {
        hang.programs.push(processes::named(program));
        let _ = kill_process(program, Signal::KILL);
    }
    hang
}

fn descriptors(process: Pid, handle: Option<BorrowedFd<'_>>, before: &[i64]) -> Vec<Descriptor> {
    let mut numbers = processes::entries(process, "fd");
    numbers.retain(|number| !before.contains(number));
    numbers.sort_unstable();
    let describe = |number: i64| {
        let number = i32::try_from(number).ok()?;
        // A temporary duplicate, because the link in `/proc` does not contain socket addresses.
        let described = match &platform::duplicate_of(handle?, number) {
            Some(copy) => open::describe_borrowed(copy),
            None => open::Described { kind: "descriptor", ..open::Described::default() },
        };
        let link = fs::read_link(format!("/proc/{}/fd/{number}", process.as_raw_pid()));
        Some(Descriptor {
            number,
            kind: described.kind.to_owned(),
            local: described.local,
            peer: described.peer,
            path: described.path.or(link.ok().map(|link| escape::path(&link).into_owned())),
            facts: described.facts,
        })
    };
    numbers.into_iter().filter_map(describe).collect()
}

/// One line per thread: its name, its system call, and the kernel's function.
fn threads(process: Pid, before: &[i64]) -> Vec<String> {
    let mut threads = processes::entries(process, "task");
    threads.retain(|thread| !before.contains(thread));
    threads.sort_unstable();
    let states = threads.into_iter().filter_map(|thread| ThreadActivity::of(process, thread));
    states.map(|state| state.to_string()).collect()
}
