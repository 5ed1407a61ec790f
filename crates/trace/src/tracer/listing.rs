//! Lists of open descriptors of another process, from `/proc`.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use echown_fd::open;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::event::{Details, OpenFd};

/// How many descriptors of one process are described in detail at its end. Each costs about 10 us.
const DETAILED_MAX: usize = 1024;

const O_CLOEXEC: u32 = 0o2_000_000;

/// The link of a file whose path is longer than the kernel can say.
const LONG_PATH: &str = "(a path of more than 4095 bytes)";

/// The link of a number: a path, `socket:[123]`, `anon_inode:[eventpoll]`.
///
/// # Errors
/// ENOENT if it is not open; EACCES if the process hides it.
pub(super) fn link(task: i32, number: i32) -> Result<String, Errno> {
    let path = format!("/proc/{task}/fd/{number}");
    let link = match rustix::fs::readlink(path, Vec::with_capacity(256)) {
        Err(Errno::NAMETOOLONG) => return Ok(LONG_PATH.to_owned()),
        link => link?.into_bytes(),
    };
    Ok(String::from_utf8(link)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Whether a process hides its memory and descriptors from this user.
pub(super) fn is_hidden(process: i32) -> bool {
    let folder = fs::read_dir(format!("/proc/{process}/fd"));
    folder.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// All open descriptors, in ascending order. `None` if the task is gone.
pub(super) fn all(task: i32) -> Option<Vec<OpenFd>> {
    let entries = fs::read_dir(format!("/proc/{task}/fd")).ok()?;
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.sort_unstable();
    let described = |number| {
        let link = link(task, number).ok()?;
        Some(OpenFd { number, link, is_cloexec: is_cloexec(task, number), details: None })
    };
    Some(numbers.into_iter().filter_map(described).collect())
}

fn is_cloexec(task: i32, number: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/{task}/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & O_CLOEXEC != 0)
}

/// Adds details to descriptors of a process: the state of a connection cannot be seen from outside, so
/// each is duplicated into this process for the look.
pub(super) fn add_details(process: i32, fds: &mut [OpenFd], is_wanted: impl Fn(&OpenFd) -> bool) {
    let Some(pid) = Pid::from_raw(process) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    for fd in fds.iter_mut().filter(|fd| is_wanted(fd)).take(DETAILED_MAX) {
        fd.details = details(handle.as_fd(), fd.number).map(Box::new);
    }
}

fn details(process: BorrowedFd<'_>, number: i32) -> Option<Details> {
    let copy: OwnedFd = pidfd_getfd(process, number, PidfdGetfdFlags::empty()).ok()?;
    let described = open::describe(std::os::fd::AsRawFd::as_raw_fd(&copy));
    Some(Details {
        kind: described.kind,
        local: described.local,
        peer: described.peer,
        path: described.path,
        facts: described.facts,
    })
}

/// The path of a process's program.
pub(super) fn program(process: i32) -> String {
    let path = fs::read_link(format!("/proc/{process}/exe"));
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a process's program is one that runs as its owner or group.
pub(super) fn wants_privileges(process: i32) -> bool {
    let file = fs::metadata(format!("/proc/{process}/exe"));
    file.is_ok_and(|file| file.mode() & 0o6000 != 0)
}

/// The process that a task belongs to.
pub(super) fn process_of(task: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{task}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The name of a task's thread.
pub(super) fn thread_name(task: i32) -> Option<String> {
    let name = fs::read(format!("/proc/{task}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}
