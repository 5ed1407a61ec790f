//! Threads: what each waits in, read from `/proc`, and where it was spawned.

use std::fmt;

use echown_fd::escape;
use echown_report::Place;
use rustix::process::Pid;

use super::processes::read;

/// The maximum number of lines about threads, and of names in one.
const LINES_MAX: usize = 8;
const NAMES_MAX: usize = 4;

/// What a thread does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadActivity {
    name: String,
    /// The system call, with its descriptor.
    call: Option<String>,
    /// The kernel's function that it sleeps in.
    wait: Option<String>,
}

impl ThreadActivity {
    /// Reads it; `None` if the thread has ended.
    pub(super) fn of(process: Pid, thread: i64) -> Option<ThreadActivity> {
        let read = |what: &str| read(process, &format!("task/{thread}/{what}"));
        let name = read("comm");
        let name = name.strip_suffix('\n')?;
        let wait = read("wchan").trim_end().to_owned();
        Some(ThreadActivity {
            name: escape::text(name).into_owned(),
            call: call(&read("syscall")),
            wait: (!["", "0"].contains(&&*wait)).then_some(wait),
        })
    }

    /// What it does.
    fn facts(&self) -> impl Iterator<Item = String> + '_ {
        let call = self.call.iter().map(|call| format!("in {call}"));
        call.chain(self.wait.iter().map(|wait| format!("waits in {wait}")))
    }
}

impl fmt::Display for ThreadActivity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = match (&self.call, &self.wait) {
            (Some(_), _) => " is ",
            (None, Some(_)) => ", ",
            (None, None) => "",
        };
        write!(f, "`{}`{link}", self.name)?;
        f.write_str(&self.facts().collect::<Vec<_>>().join(", "))
    }
}

/// A line for each of this process's threads, with what it waits in and where it was spawned.
pub(super) fn still_running(
    threads: &[u32],
    spawned: impl Fn(u32) -> Option<Place>,
) -> Vec<String> {
    let process = rustix::process::getpid();
    let activity = |&thread: &u32| {
        let activity = ThreadActivity::of(process, i64::from(thread))?;
        Some((activity, spawned(thread)))
    };
    lines(&threads.iter().filter_map(activity).collect::<Vec<_>>())
}

/// One line for threads that do the same and were spawned at the same place.
fn lines(threads: &[(ThreadActivity, Option<Place>)]) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (state, spawned) in threads {
        let facts = state.facts().chain(spawned.iter().map(Place::summary));
        let facts = facts.collect::<Vec<_>>().join(", ");
        match groups.iter_mut().find(|(known, _)| *known == facts) {
            Some((_, names)) => names.push(&state.name),
            None => groups.push((facts, vec![&state.name])),
        }
    }
    let more: usize = groups.iter().skip(LINES_MAX).map(|(_, names)| names.len()).sum();
    let line = |(facts, names): &(String, Vec<&str>)| {
        let shown: Vec<_> = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
        let shown = match names.len().saturating_sub(NAMES_MAX) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        };
        let subject = match names.len() {
            1 => format!("thread {shown} still runs"),
            _ => format!("threads {shown} still run"),
        };
        if facts.is_empty() { subject } else { format!("{subject}: {facts}") }
    };
    let mut lines: Vec<_> = groups.iter().take(LINES_MAX).map(line).collect();
    if more > 0 {
        lines.push(format!("{more} more threads that the test started still run"));
    }
    lines
}

/// The name of the call in a line `NUMBER ARGUMENT ...` or `running`, with the descriptor if it
/// takes one.
fn call(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let first = words.next()?;
    let Ok(number) = first.parse::<i64>() else { return Some(format!("user code ({first})")) };
    let known = CALLS.iter().find(|(known, _, _)| *known == number);
    let Some((_, name, takes_descriptor)) = known else {
        return Some(format!("system call {number}"));
    };
    let argument = words.next().and_then(|word| i64::from_str_radix(&word[2..], 16).ok());
    Some(match argument {
        Some(fd) if *takes_descriptor => format!("{name}(fd {fd})"),
        _ => (*name).to_owned(),
    })
}

/// System calls that can block.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const CALLS: &[(i64, &str, bool)] = &[
    (libc::SYS_read, "read", true),
    (libc::SYS_write, "write", true),
    (libc::SYS_open, "open", false),
    (libc::SYS_openat, "openat", false),
    (libc::SYS_poll, "poll", false),
    (libc::SYS_ppoll, "ppoll", false),
    (libc::SYS_select, "select", false),
    (libc::SYS_pselect6, "pselect6", false),
    (libc::SYS_pause, "pause", false),
    (libc::SYS_nanosleep, "nanosleep", false),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", false),
    (libc::SYS_connect, "connect", true),
    (libc::SYS_accept, "accept", true),
    (libc::SYS_accept4, "accept4", true),
    (libc::SYS_sendto, "sendto", true),
    (libc::SYS_recvfrom, "recvfrom", true),
    (libc::SYS_sendmsg, "sendmsg", true),
    (libc::SYS_recvmsg, "recvmsg", true),
    (libc::SYS_wait4, "wait4", false),
    (libc::SYS_waitid, "waitid", false),
    (libc::SYS_flock, "flock", true),
    (libc::SYS_futex, "futex", false),
    (libc::SYS_epoll_wait, "epoll_wait", true),
    (libc::SYS_epoll_pwait, "epoll_pwait", true),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", true),
    (libc::SYS_io_uring_enter, "io_uring_enter", true),
    (libc::SYS_readv, "readv", true),
    (libc::SYS_writev, "writev", true),
    (libc::SYS_recvmmsg, "recvmmsg", true),
    (libc::SYS_fsync, "fsync", true),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", false),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", false),
];

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const CALLS: &[(i64, &str, bool)] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    fn state(name: &str, call: Option<&str>) -> ThreadActivity {
        let wait = call.map(|_| String::from("do_wait"));
        ThreadActivity { name: name.into(), call: call.map(str::to_owned), wait }
    }

    #[test]
    fn threads_that_do_the_same_are_one_line() {
        let frame = echown_report::StackFrame {
            file: Some("src/a.rs".into()),
            line: 3,
            is_own: true,
            ..Default::default()
        };
        let spawned = Place { what: "spawned".into(), frames: vec![frame], ..Place::default() };
        let mut threads = vec![
            (state("a", Some("futex")), Some(spawned.clone())),
            (state("main", None), None),
            (state("b", Some("futex")), Some(spawned)),
        ];
        let expected = [
            "threads `a`, `b` still run: in futex, waits in do_wait, spawned at src/a.rs:3",
            "thread `main` still runs",
        ];
        assert_eq!(lines(&threads), expected);
        for number in 0..20 {
            threads.push((state("w", Some(&format!("read(fd {number})"))), None));
        }
        let lines = lines(&threads);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX], "14 more threads that the test started still run");
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn a_call_is_named_with_its_descriptor() {
        for (line, expected) in [
            ("0 0x5 0x7ffc 0x1 0x0", "read(fd 5)"),
            ("202 0x7f 0x0", "futex"),
            ("running", "user code (running)"),
            ("9999 0x0", "system call 9999"),
        ] {
            assert_eq!(call(line).as_deref(), Some(expected), "{line}");
        }
        assert_eq!(call(""), None);
    }
}
