//! The server and its service manager: which messages it gets, and when.

use crate::ownership::Registry;
use crate::report::Plural;
use crate::server::{ConnectionCounts, CountsReader, Reserved};
pub(super) use crate::systemd::Notifier;
use crate::systemd::{ManagerTask, NotifySocket, Variables};

/// What the service manager has set up, before the first thread starts.
pub(super) struct ServiceManager {
    notify: Option<NotifySocket>,
}

impl ServiceManager {
    /// Reads the variables of the environment and connects to the manager.
    pub(super) fn connect(registry: &Registry) -> ServiceManager {
        let variables = Variables::take();
        let notify = variables.notify.and_then(|address| {
            let connected = NotifySocket::connect(registry, &address);
            connected
                .map_err(|error| tracing::warn!("failed to reach the service manager: {error}"))
                .ok()
        });
        ServiceManager { notify }
    }

    /// What this needs in addition to the echo server.
    pub(super) fn reserved(&self) -> Reserved {
        let threads = if self.notify.is_some() { ManagerTask::THREADS } else { 0 };
        Reserved { descriptors: 0, threads }
    }

    /// Starts the task that talks to the manager.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn start(self, counts: CountsReader) -> Result<RunningManager, String> {
        let status = move || status(&counts.read());
        let (task, notifier) = ManagerTask::start(self.notify, status)
            .map_err(|error| format!("failed to talk to the service manager: {error}"))?;
        Ok(RunningManager { task, notifier })
    }
}

/// The running task, and the way to it.
#[must_use = "it runs until `stop`"]
pub(super) struct RunningManager {
    task: ManagerTask,
    notifier: Notifier,
}

impl RunningManager {
    /// Sends messages from any task.
    pub(super) fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// This process has replaced another one.
    pub(super) fn is_main(&self) {
        self.notifier.is_main();
    }

    /// All acceptors run.
    pub(super) fn ready(&self) {
        self.notifier.ready();
    }

    /// Sends what is queued, and ends.
    pub(super) fn stop(self) {
        self.task.stop();
    }
}

/// A line for `systemctl status`.
fn status(counts: &ConnectionCounts) -> String {
    let refused = counts.refused();
    let all = Plural(counts.connections, "connection");
    format!("{all}, {} open, {refused} refused", counts.open)
}
