//! The environment variables that a service manager sets, and the descriptors that it passes.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use echown_fd::escape;

use crate::sys::{environment, passed};

/// What a service manager has set up. The variables are removed from the environment when they are read, so
/// that no child program takes them for its own.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// Where to send messages to (`NOTIFY_SOCKET`).
    pub(crate) notify: Option<OsString>,
    /// The manager ends this process if it is silent for this long (`WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub(crate) watchdog: Option<Duration>,
    /// The passed descriptors (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`).
    pub(crate) passed: Vec<Passed>,
}

/// A descriptor that a service manager has passed.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) descriptor: OwnedFd,
    /// `FileDescriptorName=`; the name of the socket unit by default.
    pub(crate) name: String,
}

impl Passed {
    /// `descriptor 3 ("echown.socket")`.
    pub(crate) fn label(&self) -> String {
        format!("descriptor {} (\"{}\")", self.number(), escape::text(&self.name))
    }

    /// The number that the manager chose.
    pub(crate) fn number(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

impl Variables {
    /// Reads and removes the variables, and takes the descriptors.
    ///
    /// # Errors
    /// The message for the user: the variables say something that is not so.
    pub(crate) fn take() -> Result<Variables, String> {
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        let names = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET"];
        let [pid, count, names, notify] = environment::take(names);
        environment::take(["WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PIDFDID"]);
        let passed = match count {
            // Without it, or with another process's, they are of a parent that did not remove them.
            Some(count) if is_this_process(pid.as_deref()) => passed(&count, names.as_deref())?,
            _ => Vec::new(),
        };
        let notify = notify.filter(|address| !address.is_empty());
        Ok(Variables { notify, watchdog, passed })
    }
}

fn is_this_process(pid: Option<&OsStr>) -> bool {
    let pid = pid.and_then(OsStr::to_str).and_then(|pid| pid.parse().ok());
    pid == Some(std::process::id())
}

fn passed(count: &OsStr, names: Option<&OsStr>) -> Result<Vec<Passed>, String> {
    let shown = escape::text(&count.to_string_lossy()).into_owned();
    let number = count.to_str().and_then(|count| count.parse::<u16>().ok());
    let Some(number) = number else {
        return Err(format!("LISTEN_FDS is {shown}, and not a number of descriptors"));
    };
    let descriptors = passed::take(number.into()).map_err(|missing| {
        format!(
            "LISTEN_FDS is {shown}, but the service manager has not passed descriptor {missing}"
        )
    })?;
    let names = names.map(OsStr::to_string_lossy);
    let mut names = names.iter().flat_map(|names| names.split(':'));
    let named = |descriptor| {
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        Passed { descriptor, name: name.to_owned() }
    };
    Ok(descriptors.into_iter().map(named).collect())
}
