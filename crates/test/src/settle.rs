//! The wait after a test's body, in which its threads finish and close their descriptors.
//!
//! Only a test that left a descriptor open and still has threads waits at all. The wait ends early
//! when no thread can close anything any more: each of them sleeps without a time limit, and none
//! has run meanwhile. It ends late, [`LATE_MAX`] after the settle time, when one of them still may:
//! a descriptor that is closed by then was not leaked, and the report says how late it was closed.

use std::collections::BTreeMap;
use std::ffi::c_long;
use std::fs;
use std::iter;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use echown_fd::open::{self, FdIdentity};

use super::fd_snapshot::FdSnapshot;
use echown_report::Descriptor;

/// How long threads may take after the settle time.
const LATE_MAX: Duration = Duration::from_secs(10);

/// The first pause between two polls; pauses double up to the maximum.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// The minimum number of polls: a busy machine may run the test's threads as rarely as this one.
const POLLS_MIN: u32 = 20;

/// How many polls in a row have to find all threads asleep and unchanged.
const STILL_POLLS: u32 = 5;

/// The descriptors after the wait.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// They are open.
    pub(super) left: Vec<FdIdentity>,
    /// They were closed after the settle time, by so much.
    pub(super) late: Vec<(Descriptor, Duration)>,
}

/// Waits until nothing can be closed any more, and returns the descriptors that are open then and
/// were not when `before` was taken.
///
/// A descriptor counts only if *every* poll finds it: an accept loop in another thread opens and
/// closes descriptors all the time. `awaited` describes a descriptor; one for which it returns `None`
/// is not waited for. It is called once for each.
pub(super) fn settle(
    before: &FdSnapshot,
    settle: Duration,
    awaited: impl Fn(&FdIdentity) -> Option<Descriptor>,
) -> Settled {
    let deadline = Instant::now() + settle;
    let mut settled = Settled::default();
    let mut known: BTreeMap<RawFd, Option<Descriptor>> = BTreeMap::new();
    let mut stillness = Stillness::default();
    // The threads are listed before the poll: otherwise a thread could close a descriptor after the
    // poll, end, and not be listed.
    let mut others_run = others_run(before);
    settled.left = before.new_fds();
    for (poll, pause) in (1..).zip(pauses(settle)) {
        if !others_run {
            break;
        }
        for fd in &settled.left {
            known.entry(fd.number).or_insert_with(|| awaited(fd));
        }
        if settled.left.iter().all(|fd| known[&fd.number].is_none()) {
            break;
        }
        let is_over = poll > POLLS_MIN && Instant::now() >= deadline + LATE_MAX;
        if is_over || stillness.nothing_will_change(before) {
            break;
        }
        thread::sleep(pause);
        others_run = self::others_run(before);
        let (open, now) = (before.new_fds(), Instant::now());
        for fd in settled.left.iter().filter(|fd| !open.contains(fd)) {
            let descriptor = known.remove(&fd.number).flatten();
            if let Some(descriptor) = descriptor.filter(|_| now > deadline && poll > POLLS_MIN) {
                settled.late.push((descriptor, now - deadline));
            }
        }
        settled.left.retain(|fd| open.contains(fd));
    }
    settled
}

/// The pauses between polls, as an infinite iterator. The minimum number of polls fits into
/// `settle`.
fn pauses(settle: Duration) -> impl Iterator<Item = Duration> {
    let most = PAUSE_MAX.min(settle / POLLS_MIN);
    let doubled = iter::successors(Some(PAUSE_MIN.min(most)), move |it| Some((*it * 2).min(most)));
    doubled.take(POLLS_MIN as usize).chain(iter::repeat(PAUSE_MAX))
}

fn others_run(before: &FdSnapshot) -> bool {
    !before.lists_threads() || !before.new_threads().is_empty()
}

/// Compares the threads of successive polls.
#[derive(Default)]
struct Stillness {
    last: Vec<ThreadState>,
    polls: u32,
}

/// A sleeping thread, and how often it was scheduled.
#[derive(PartialEq, Eq)]
struct ThreadState {
    id: u32,
    switches: Vec<String>,
}

impl Stillness {
    /// Whether all threads that the test started have slept without a time limit for some polls.
    fn nothing_will_change(&mut self, before: &FdSnapshot) -> bool {
        let states =
            before.new_threads().into_iter().map(waiting_thread).collect::<Option<Vec<_>>>();
        let states = states.filter(|_| before.lists_threads() && !has_children() && !has_timer());
        let is_still = states.as_ref().is_some_and(|states| *states == self.last);
        self.polls = if is_still { self.polls + 1 } else { 0 };
        self.last = states.unwrap_or_default();
        self.polls >= STILL_POLLS
    }
}

/// The state of a thread that sleeps in a call without a time limit; `None` for any other.
fn waiting_thread(id: u32) -> Option<ThreadState> {
    let read = |what: &str| fs::read_to_string(format!("/proc/self/task/{id}/{what}")).ok();
    let status = read("status")?;
    let field = |name: &str| status.lines().find(|line| line.starts_with(name));
    field("State:").filter(|state| state.contains("S (sleeping)"))?;
    let switches = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
    let switches = switches.iter().filter_map(|name| field(name)).map(str::to_owned).collect();
    waits_without_limit(&read("syscall")?).then_some(ThreadState { id, switches })
}

/// Whether a line of `/proc/PID/task/TID/syscall` (`NUMBER ARGUMENT ...`) is a call that has no time
/// limit.
fn waits_without_limit(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let Some(Ok(number)) = words.next().map(str::parse::<c_long>) else { return false };
    let arguments = words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    let arguments: Vec<u64> = arguments.collect();
    let Some((_, limit)) = WAITS.iter().find(|(call, _)| *call == number) else { return false };
    match *limit {
        Limit::None => true,
        Limit::Socket(index) => {
            let number = arguments.get(index).and_then(|number| RawFd::try_from(*number).ok());
            number.is_some_and(|number| !open::has_receive_timeout(number))
        }
        Limit::Pointer(index) => arguments.get(index) == Some(&0),
        Limit::Milliseconds(index) => {
            arguments.get(index).is_some_and(|limit| (*limit as u32 as i32) < 0)
        }
    }
}

/// Where a blocking call has its time limit.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
enum Limit {
    None,
    /// The descriptor at this index, if it is a socket with a timeout.
    Socket(usize),
    /// A pointer, at this index of the arguments; null means none.
    Pointer(usize),
    /// Milliseconds; negative means none.
    Milliseconds(usize),
}

#[cfg(target_os = "linux")]
const WAITS: &[(c_long, Limit)] = &[
    (libc::SYS_futex, Limit::Pointer(3)),
    (libc::SYS_epoll_pwait, Limit::Milliseconds(3)),
    (libc::SYS_epoll_pwait2, Limit::Pointer(3)),
    (libc::SYS_ppoll, Limit::Pointer(2)),
    (libc::SYS_pselect6, Limit::Pointer(4)),
    (libc::SYS_read, Limit::Socket(0)),
    #[cfg(not(target_arch = "x86"))]
    (libc::SYS_accept, Limit::Socket(0)),
    (libc::SYS_accept4, Limit::Socket(0)),
    (libc::SYS_recvfrom, Limit::Socket(0)),
    (libc::SYS_recvmsg, Limit::Socket(0)),
    (libc::SYS_rt_sigsuspend, Limit::None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, Limit::Milliseconds(3)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, Limit::Milliseconds(2)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, Limit::Pointer(4)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, Limit::None),
];

#[cfg(not(target_os = "linux"))]
const WAITS: &[(c_long, Limit)] = &[];

/// Whether this process has child processes. Their end may wake a thread.
fn has_children() -> bool {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return true };
    let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
    // A kernel without this file does not tell.
    tasks.flatten().any(|task| children(task).map_or(true, |list| !list.trim().is_empty()))
}

/// Whether a timer of this process is running, so that it may wake a thread that polls it.
fn has_timer() -> bool {
    open::all().iter().any(|fd| open::is_running_timer(fd.number))
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

    #[test]
    #[cfg(target_os = "linux")]
    fn a_call_with_a_time_limit_is_distinguished_from_one_without() {
        let line = |call: c_long, arguments: &str| format!("{call} {arguments} 0x7ffc 0x7f01\n");
        let futex = libc::SYS_futex;
        assert!(waits_without_limit(&line(futex, "0x7f00 0x189 0x0 0x0 0x0 0xffffffff")));
        assert!(!waits_without_limit(&line(futex, "0x7f00 0x189 0x0 0x7f33 0x0 0xffffffff")));
        let epoll = libc::SYS_epoll_pwait;
        assert!(waits_without_limit(&line(epoll, "0x4 0x7f00 0x400 0xffffffff 0x0 0x8")));
        assert!(!waits_without_limit(&line(epoll, "0x4 0x7f00 0x400 0x1388 0x0 0x8")));
        let sleep = libc::SYS_clock_nanosleep;
        assert!(!waits_without_limit(&line(sleep, "0x1 0x0 0x7f00 0x0 0x0 0x0")));
        assert!(!waits_without_limit("running\n"));
    }
}
