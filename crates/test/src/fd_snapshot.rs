//! A snapshot of open descriptors and threads. Compared with a later state, it yields the
//! descriptors that a test left open and the threads that still run.

use std::fs;
use std::os::fd::RawFd;

use echown_fd::open::{self, Described, FdIdentity};

use echown_report::Descriptor;

/// The open descriptors and the threads at one moment.
pub(super) struct FdSnapshot {
    pub(super) fds: Vec<FdIdentity>,
    /// A description of each descriptor, because a closed one can no longer be described.
    words: Vec<String>,
    /// Kernel ids. Empty if the system has no list of threads.
    pub(super) threads: Vec<u32>,
}

impl FdSnapshot {
    pub(super) fn take() -> FdSnapshot {
        let fds = open::all();
        let words = fds.iter().map(|fd| described(fd.number).to_string()).collect();
        FdSnapshot { fds, words, threads: threads() }
    }

    /// Descriptors of the snapshot that are now closed or refer to another file.
    pub(super) fn closed(&self) -> impl Iterator<Item = (&FdIdentity, &str)> {
        let all = self.fds.iter().zip(self.words.iter().map(String::as_str));
        all.filter(|(fd, _)| !fd.still_holds())
    }

    /// Descriptors that are open now and are not in the snapshot.
    pub(super) fn new_fds(&self) -> Vec<FdIdentity> {
        let mut now = open::all();
        now.retain(|fd| !self.fds.contains(fd));
        now
    }

    /// Whether threads can be listed. A process has at least one.
    pub(super) fn lists_threads(&self) -> bool {
        !self.threads.is_empty()
    }

    /// Threads that started since the snapshot and still run.
    pub(super) fn new_threads(&self) -> Vec<u32> {
        threads().into_iter().filter(|thread| !self.threads.contains(thread)).collect()
    }
}

/// Describes a descriptor for reports.
pub(super) fn described(number: RawFd) -> Descriptor {
    to_descriptor(number, open::describe(number))
}

pub(super) fn to_descriptor(number: RawFd, described: Described) -> Descriptor {
    let Described { kind, local, peer, path, facts } = described;
    Descriptor { number, kind: kind.to_owned(), local, peer, path, facts }
}

fn threads() -> Vec<u32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}
