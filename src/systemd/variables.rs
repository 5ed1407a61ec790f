//! The environment variables that a service manager sets.

use std::ffi::OsString;

/// The variables of a service manager, which are removed from the environment when they are read.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// Where to send messages to (`NOTIFY_SOCKET`).
    pub(crate) notify: Option<OsString>,
}

impl Variables {
    /// Reads and removes the variables.
    pub(crate) fn take() -> Variables {
        let [notify] = crate::sys::environment::take(["NOTIFY_SOCKET"]);
        Variables { notify: notify.filter(|address| !address.is_empty()) }
    }
}
