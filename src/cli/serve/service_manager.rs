//! The server and its service manager: which messages it gets, and when.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use echown_fd::fd::Number;

use super::watchdog::{RunningWatchdog, Watchdog};
use crate::bind::{Purpose, ReceivedListener, Sender};
use crate::net::Stream;
use crate::ownership::{Process, Registry};
use crate::report::Plural;
use crate::server::{ConnectionCounts, Reserved, Server, ServerSettings};
pub(super) use crate::systemd::Notifier;
use crate::systemd::{ManagerTask, NotifySocket, Passed, Variables};

/// The name of the status server's socket (`FileDescriptorName=`).
const STATUS: &str = "status";

/// What the service manager has set up, before the first thread starts.
pub(super) struct ServiceManager {
    notify: Option<NotifySocket>,
    watchdog: Option<Duration>,
    passed: Vec<Passed>,
}

impl ServiceManager {
    /// Reads the variables of the environment and connects to the manager.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn connect(registry: &Registry) -> Result<ServiceManager, String> {
        let variables = Variables::take()?;
        for passed in &variables.passed {
            // It is about to be owned, and no longer the parent's.
            registry.forget_external(passed.number());
        }
        let notify = variables.notify.and_then(|address| {
            let connected = NotifySocket::connect(registry, &address);
            connected
                .map_err(|error| tracing::warn!("failed to reach the service manager: {error}"))
                .ok()
        });
        // Without a way to send messages there is no watchdog to feed.
        let watchdog = variables.watchdog.filter(|_| notify.is_some());
        Ok(ServiceManager { notify, watchdog, passed: variables.passed })
    }

    /// Becomes the owner of the connection, if the manager has accepted one and passed nothing else
    /// (`Accept=yes`).
    ///
    /// # Errors
    /// The message for the user.
    #[track_caller]
    pub(super) fn take_connection(
        &mut self,
        settings: &ServerSettings,
    ) -> Result<Option<Stream>, String> {
        let is_connected = |passed: &Passed| {
            echown_fd::kind::is_stream(Number::of(&passed.descriptor).kind())
                && rustix::net::getpeername(&passed.descriptor).is_ok()
        };
        match &self.passed[..] {
            [passed] if is_connected(passed) => {}
            _ => return Ok(None),
        }
        let Some(passed) = self.passed.pop() else { return Ok(None) };
        let label = passed.label();
        let stream = accepted(passed.descriptor, settings).map_err(|error| {
            format!("failed to serve {label} from the service manager: {error}")
        })?;
        tracing::info!("received {label} from the service manager: one connection to serve");
        Ok(Some(stream))
    }

    /// Becomes the owner of the passed sockets.
    ///
    /// # Errors
    /// The message for the user: one of them is no listening stream socket.
    #[track_caller]
    pub(super) fn take_listeners(&mut self) -> Result<Vec<ReceivedListener>, String> {
        let mut listeners = Vec::with_capacity(self.passed.len());
        for passed in self.passed.drain(..) {
            listeners.push(received(passed)?);
        }
        Ok(listeners)
    }

    /// What this needs in addition to the echo server.
    pub(super) fn reserved(&self) -> Reserved {
        let threads = if self.notify.is_some() { ManagerTask::THREADS } else { 0 };
        let manager = Reserved { threads, ..Reserved::default() };
        manager + self.watchdog.map_or_else(Reserved::default, |_| Watchdog::RESERVED)
    }

    /// Starts the task that talks to the manager.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn start(self, server: &mut Server) -> Result<RunningManager, String> {
        let counts = server.counts_reader();
        let status = move || status(&counts.read());
        let (task, notifier) = ManagerTask::start(self.notify, status)
            .map_err(|error| format!("failed to talk to the service manager: {error}"))?;
        let watchdog = self.watchdog.map(|time| Watchdog::new(time, server.prober(), &notifier));
        Ok(RunningManager { task, notifier, watchdog, running: None })
    }
}

/// A stream with the settings of those that the server accepts.
#[track_caller]
fn accepted(descriptor: OwnedFd, settings: &ServerSettings) -> io::Result<Stream> {
    let is_unix = Number::of(&descriptor).kind() == echown_fd::kind::UNIX_STREAM;
    let stream = if is_unix {
        Stream::own(UnixStream::from(descriptor)).map_err(io::Error::from)?
    } else {
        Stream::own(TcpStream::from(descriptor)).map_err(io::Error::from)?
    };
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(settings.write_timeout)?;
    if !is_unix {
        stream.set_nodelay(true)?;
        stream.set_keep_alive(settings.keep_alive)?;
    }
    Ok(stream)
}

#[track_caller]
fn received(passed: Passed) -> Result<ReceivedListener, String> {
    let label = passed.label();
    let is_status = passed.name == STATUS;
    let received = ReceivedListener::own(passed.descriptor, None, Sender::ServiceManager);
    let mut received = received.map_err(|what| {
        format!("{label} from the service manager is {what}, and not a listening stream socket")
    })?;
    received.place.purpose = is_status.then_some(Purpose::Status);
    received.listener.resource().received_from(&Process::service_manager());
    tracing::info!("received {label} from the service manager: {}", received.place.address);
    Ok(received)
}

/// The running task, and the way to it.
#[must_use = "it runs until `stop`"]
pub(super) struct RunningManager {
    task: ManagerTask,
    notifier: Notifier,
    /// Until the server accepts.
    watchdog: Option<Watchdog>,
    running: Option<RunningWatchdog>,
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
    pub(super) fn ready(&mut self) {
        self.running = self.watchdog.take().and_then(Watchdog::start);
        self.notifier.ready();
    }

    /// Ends what uses the server; its last connection has ended.
    pub(super) fn end_probes(&mut self) {
        if let Some(watchdog) = self.running.take() {
            watchdog.stop();
        }
    }

    /// Sends what is queued, and ends.
    pub(super) fn stop(mut self) {
        self.end_probes();
        self.task.stop();
    }
}

/// A line for `systemctl status`.
fn status(counts: &ConnectionCounts) -> String {
    let refused = counts.refused();
    let all = Plural(counts.connections, "connection");
    format!("{all}, {} open, {refused} refused", counts.open)
}
