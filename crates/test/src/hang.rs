//! Diagnosis of a hanging test: its state, read from outside before it is killed.

use std::fs;
use std::os::fd::BorrowedFd;

use echown_fd::{escape, open};
use rustix::process::{Pid, Signal, kill_process};

use super::message::Started;
use super::platform;
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
    for program in descendants(process) {
        let name = read(program, "comm");
        let name = escape::text(name.trim_end_matches('\n'));
        hang.programs.push(format!("`{name}` (process {})", program.as_raw_pid()));
        let _ = kill_process(program, Signal::KILL);
    }
    hang
}

fn descriptors(process: Pid, handle: Option<BorrowedFd<'_>>, before: &[i64]) -> Vec<Descriptor> {
    let mut numbers = entries(process, "fd");
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
    let mut threads = entries(process, "task");
    threads.retain(|thread| !before.contains(thread));
    threads.sort_unstable();
    let line = |thread: i64| {
        let read = |what: &str| read(process, &format!("task/{thread}/{what}"));
        let name = read("comm");
        let mut line = format!("`{}`", escape::text(name.trim_end_matches('\n')));
        if let Some(call) = call(&read("syscall")) {
            line += &format!(" is in {call}");
        }
        match read("wchan").trim_end() {
            "" | "0" => line,
            wait => format!("{line}, waits in {wait}"),
        }
    };
    threads.into_iter().map(line).collect()
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
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", false),
];

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const CALLS: &[(i64, &str, bool)] = &[];

/// All descendants of a process, youngest last.
fn descendants(process: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for thread in entries(process, "task") {
        let children = read(process, &format!("task/{thread}/children"));
        let children = children.split_whitespace().filter_map(|it| Pid::from_raw(it.parse().ok()?));
        for child in children {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

fn read(process: Pid, what: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{what}", process.as_raw_pid())).unwrap_or_default()
}

/// The numeric names in a folder of `/proc/PID`.
fn entries(process: Pid, folder: &str) -> Vec<i64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{}/{folder}", process.as_raw_pid())) else {
        return Vec::new();
    };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}
