//! The environment variables that a service manager sets.

use std::ffi::OsString;
use std::time::Duration;

/// The variables of a service manager, which are removed from the environment when they are read.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// Where to send messages to (`NOTIFY_SOCKET`).
    pub(crate) notify: Option<OsString>,
    /// The manager ends this process if it is silent for this long (`WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub(crate) watchdog: Option<Duration>,
}

impl Variables {
    /// Reads and removes the variables.
    pub(crate) fn take() -> Variables {
        let watchdog = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        let names = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
        let [notify, ..] = crate::sys::environment::take(names);
        Variables { notify: notify.filter(|address| !address.is_empty()), watchdog }
    }
}
