//! A snapshot of open descriptors and threads. Compared with a later state, it yields the
//! descriptors that a test left open and the threads that still run.

use std::fs;
use std::iter;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use echown_fd::open::{self, Described, FdIdentity};

use echown_report::Descriptor;

/// The first pause between two polls; pauses double up to a second, see [`pauses`].
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The minimum number of polls: a busy machine may run the test's threads as rarely as this one.
const POLLS_MIN: u32 = 20;

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

    /// Descriptors that are open now, are not in the snapshot, and stay open for the time `settle`.
    ///
    /// A descriptor counts only if *every* poll finds it: an accept loop in another thread opens
    /// and closes descriptors all the time. If no other thread runs, nothing can be closed any
    /// more, so one poll is enough.
    pub(super) fn leaked_since(&self, settle: Duration) -> Vec<FdIdentity> {
        let deadline = Instant::now() + settle;
        let mut pauses = pauses(settle);
        // The threads are listed before the poll: otherwise a thread could close a descriptor after
        // the poll, end, and not be listed.
        let mut others_run = self.others_run();
        let mut left = self.new_fds();
        let mut polls = 1;
        while others_run && !left.is_empty() {
            if Instant::now() >= deadline && polls >= POLLS_MIN {
                break;
            }
            thread::sleep(pauses.next().unwrap_or(PAUSE_MAX));
            others_run = self.others_run();
            let now = self.new_fds();
            left.retain(|fd| now.contains(fd));
            polls += 1;
        }
        left
    }

    fn new_fds(&self) -> Vec<FdIdentity> {
        let mut now = open::all();
        now.retain(|fd| !self.fds.contains(fd));
        now
    }

    fn others_run(&self) -> bool {
        // A process has at least one thread: an empty list means that the list is not available.
        let now = threads();
        self.threads.is_empty() || now.is_empty() || now.iter().any(|it| !self.threads.contains(it))
    }

    /// Threads that started since the snapshot and still run.
    fn new_threads(&self) -> Vec<u32> {
        threads().into_iter().filter(|thread| !self.threads.contains(thread)).collect()
    }

    /// The names of these threads, with the system call that each waits in.
    pub(super) fn remaining_threads(&self) -> Vec<String> {
        self.new_threads().into_iter().filter_map(named).collect()
    }
}

/// The pauses between polls, as an infinite iterator. The minimum number of polls fits into
/// `settle`.
fn pauses(settle: Duration) -> impl Iterator<Item = Duration> {
    let most = PAUSE_MAX.min(settle / POLLS_MIN);
    iter::successors(Some(PAUSE_MIN.min(most)), move |pause| Some((*pause * 2).min(most)))
}

/// Describes a descriptor for reports.
pub(super) fn described(number: RawFd) -> Descriptor {
    let Described { kind, local, peer, path, facts } = open::describe(number);
    Descriptor { number, kind: kind.to_owned(), local, peer, path, facts }
}

fn threads() -> Vec<u32> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn named(thread: u32) -> Option<String> {
    let read = |what: &str| fs::read_to_string(format!("/proc/self/task/{thread}/{what}")).ok();
    let name = read("comm")?.trim_end().to_owned();
    let waits = read("wchan").filter(|wait| !wait.is_empty() && wait != "0");
    Some(match waits {
        Some(wait) => format!("`{name}` (waits in {wait})"),
        None => format!("`{name}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_polls_take_no_longer_than_the_time_given() {
        for millis in [0, 10, 20, 100, 1000, 10_000] {
            let settle = Duration::from_millis(millis);
            let total: Duration = pauses(settle).take(POLLS_MIN as usize).sum();
            assert!(total <= settle, "{total:?} of {settle:?}");
        }
        let last = pauses(Duration::from_secs(1)).take(POLLS_MIN as usize).last();
        assert_eq!(last, Some(PAUSE_MAX), "a long wait polls seldom");
    }
}
