//! A snapshot of open descriptors and threads, and what a test leaves compared with it: descriptors that
//! stay open, and threads that still run.

use std::fs;
use std::iter;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use echown_fd::open::{self, Described, FdIdentity};

use echown_report::Descriptor;

/// Between two polls; it doubles up to the second, see [`pauses`].
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// On a busy machine that seldom schedules this thread, the test's threads get little time, too.
const POLLS_MIN: u32 = 20;

/// The open descriptors and the threads at one moment.
pub(super) struct FdSnapshot {
    pub(super) fds: Vec<FdIdentity>,
    /// A description of each: one that is closed later can no longer be described.
    words: Vec<String>,
    /// Kernel ids. Empty where there is no list of them.
    pub(super) threads: Vec<u32>,
}

impl FdSnapshot {
    pub(super) fn take() -> FdSnapshot {
        let fds = open::all();
        let words = fds.iter().map(|fd| described(fd.number).to_string()).collect();
        FdSnapshot { fds, words, threads: threads() }
    }

    /// What was open in the snapshot and is now closed, or is another file.
    pub(super) fn closed(&self) -> impl Iterator<Item = (&FdIdentity, &str)> {
        let all = self.fds.iter().zip(self.words.iter().map(String::as_str));
        all.filter(|(fd, _)| !fd.still_holds())
    }

    /// What is open now, is not in the snapshot, and stays open for the time `settle`.
    ///
    /// Only what *every* poll finds is left: what an accept loop opens and closes in another thread
    /// comes and goes. Where no other thread is left, nothing can be closed any more, and the first
    /// poll is the last.
    pub(super) fn leaked_since(&self, settle: Duration) -> Vec<FdIdentity> {
        let deadline = Instant::now() + settle;
        let mut pauses = pauses(settle);
        // In this order: if the threads were listed after the poll, one could have closed something in
        // between and ended.
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
        // A process has at least one thread: none means that there is no list.
        let now = threads();
        self.threads.is_empty() || now.is_empty() || now.iter().any(|it| !self.threads.contains(it))
    }

    /// Threads that started since the snapshot and still run.
    fn new_threads(&self) -> Vec<u32> {
        threads().into_iter().filter(|thread| !self.threads.contains(thread)).collect()
    }

    /// The same by name, with what each waits in.
    pub(super) fn remaining_threads(&self) -> Vec<String> {
        self.new_threads().into_iter().filter_map(named).collect()
    }
}

/// The pauses between polls, endless. The fewest polls must not take longer than the time given.
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
            let whole: Duration = pauses(settle).take(POLLS_MIN as usize).sum();
            assert!(whole <= settle, "{whole:?} of {settle:?}");
        }
        let last = pauses(Duration::from_secs(1)).take(POLLS_MIN as usize).last();
        assert_eq!(last, Some(PAUSE_MAX), "a long wait polls seldom");
    }
}
