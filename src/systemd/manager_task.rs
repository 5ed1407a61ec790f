//! The task that owns the notify socket and sends what the other tasks want to tell the service manager.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::NotifySocket;
use crate::ownership::{Promise, TaskError};
use crate::thread;

/// How often the status is sent at most.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// How soon a message is sent again that the manager's full queue has rejected.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The maximum number of messages that wait for the task, and of those that it keeps for a retry.
const QUEUE_MAX: usize = 64;

/// How long the end waits for a manager that receives nothing.
const STOP_TIME: Duration = Duration::from_secs(1);

enum Message {
    /// To be delivered, after a rejection as well.
    Send(String),
    /// The same, unless the service has begun to stop.
    Serving(String),
    /// The service has begun to stop.
    Stopping(String),
    Stop,
}

/// Tells the service manager, from any task. Without a manager it does nothing. Never waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notifier(Option<SyncSender<Message>>);

impl Notifier {
    /// The service accepts connections, or has reloaded.
    pub(crate) fn ready(&self) {
        self.send(Message::Serving, &[NotifyState::Ready]);
    }

    /// This process is the main one of the service now, in place of the one that it replaces.
    pub(crate) fn is_main(&self) {
        self.send(Message::Send, &[NotifyState::MainPid(std::process::id())]);
    }

    /// The service has begun to stop.
    pub(crate) fn stopping(&self) {
        self.send(Message::Stopping, &[NotifyState::Stopping]);
    }

    /// The service reloads, which is `work`.
    pub(crate) fn reload(&self, work: impl FnOnce()) {
        // The time is what `Type=notify-reload` requires; the clock exists on every Linux.
        let now = NotifyState::monotonic_usec_now().ok();
        let states: Vec<NotifyState<'_>> =
            [NotifyState::Reloading].into_iter().chain(now).collect();
        self.send(Message::Serving, &states);
        work();
        self.ready();
    }

    /// The service works.
    pub(crate) fn watchdog(&self) {
        self.send(Message::Send, &[NotifyState::Watchdog]);
    }

    fn send(&self, message: fn(String) -> Message, states: &[NotifyState<'_>]) {
        let Some(sender) = &self.0 else { return };
        let text = states.iter().map(|state| format!("{state}\n")).collect();
        // The task never waits, so its queue is full only if it has ended.
        let _ = sender.try_send(message(text));
    }
}

/// The running task. Without a service manager there is none.
#[derive(Default)]
#[must_use = "it runs until `stop`"]
pub(crate) struct ManagerTask(Option<(SyncSender<Message>, Promise<()>)>);

impl ManagerTask {
    /// The threads that [`start`](ManagerTask::start) starts.
    pub(crate) const THREADS: usize = 1;

    /// Starts the task and gives it the socket. `status` describes the server in a line, which is sent
    /// when it has changed.
    ///
    /// # Errors
    /// No thread can be started.
    #[track_caller]
    pub(crate) fn start(
        socket: Option<NotifySocket>,
        status: impl Fn() -> String + Send + 'static,
    ) -> io::Result<(ManagerTask, Notifier)> {
        let Some(socket) = socket else { return Ok(Default::default()) };
        let (sender, messages) = sync_channel(QUEUE_MAX);
        let run = move |socket| Sender::new(socket, Box::new(status)).run(&messages);
        let task = thread::spawn_named_with("service manager", socket, run)
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok((ManagerTask(Some((sender.clone(), task))), Notifier(Some(sender))))
    }

    /// Sends what is queued, and ends.
    pub(crate) fn stop(self) {
        let Some((sender, task)) = self.0 else { return };
        let _ = sender.try_send(Message::Stop);
        match task.join() {
            Ok(()) | Err(TaskError::Cancelled) => {}
            Err(failure) => tracing::error!("the task for the service manager failed: {failure}"),
        }
    }
}

/// The state of the task.
struct Sender {
    socket: NotifySocket,
    status: Box<dyn Fn() -> String + Send>,
    sent_status: String,
    next_status: Instant,
    /// Rejected by the manager's full queue, the oldest first.
    unsent: VecDeque<String>,
    is_stopping: bool,
    is_failure_logged: bool,
}

impl Sender {
    fn new(socket: NotifySocket, status: Box<dyn Fn() -> String + Send>) -> Sender {
        Sender {
            socket,
            status,
            sent_status: String::new(),
            next_status: Instant::now(),
            unsent: VecDeque::new(),
            is_stopping: false,
            is_failure_logged: false,
        }
    }

    fn run(mut self, messages: &Receiver<Message>) {
        // First, so that `systemctl start`, which waits for `READY=1`, ends with a status.
        self.send_status();
        loop {
            let pause = self.next_status.saturating_duration_since(Instant::now());
            let pause = if self.unsent.is_empty() { pause } else { pause.min(RETRY_INTERVAL) };
            match messages.recv_timeout(pause) {
                Ok(Message::Send(message)) => self.deliver(message),
                Ok(Message::Serving(_)) if self.is_stopping => {}
                Ok(Message::Serving(message)) => self.deliver(message),
                Ok(Message::Stopping(message)) => {
                    self.is_stopping = true;
                    self.deliver(message);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.retry();
            self.send_status();
        }
        let deadline = Instant::now() + STOP_TIME;
        let left = || deadline.saturating_duration_since(Instant::now());
        while !self.unsent.is_empty() && !left().is_zero() && self.socket.wait_for_room(left()) {
            self.retry();
        }
    }

    /// Sends a message now or, if the manager's queue is full, later.
    fn deliver(&mut self, message: String) {
        self.unsent.push_back(message);
        if self.unsent.len() > QUEUE_MAX {
            self.unsent.pop_front();
        }
        self.retry();
    }

    fn retry(&mut self) {
        while let Some(message) = self.unsent.front() {
            if let Err(error) = self.socket.send(message) {
                let is_full = error.kind() == io::ErrorKind::WouldBlock;
                self.log_failure(&error);
                if is_full {
                    return;
                }
            }
            self.unsent.pop_front();
        }
    }

    /// Sends the status if it has changed, which is not worth a retry.
    fn send_status(&mut self) {
        let now = Instant::now();
        if now < self.next_status {
            return;
        }
        self.next_status = now + STATUS_INTERVAL;
        let status = (self.status)();
        if status != self.sent_status {
            match self.socket.send(&format!("{}\n", NotifyState::Status(&status))) {
                Ok(()) => self.sent_status = status,
                Err(error) => self.log_failure(&error),
            }
        }
    }

    fn log_failure(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failure_logged, true) {
            tracing::warn!("failed to notify the service manager: {error}");
        }
    }
}
