//! The state of a connection, which its task shares with its handles and its writer.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::watched::Watched;
use super::{ConnectionLabel, MsgReceiver, Notifier};
use crate::net::{ReadHalf, Stream};
use crate::ownership::task::{self, Task};
use crate::ownership::{Promise, Registry, Resource, TaskId};
use crate::pool::Pool;

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// usually earlier.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// It holds the socket, but no receiver and no notifier: those belong to whatever refers to the
/// connection.
pub(super) struct Shared {
    pub(super) label: ConnectionLabel,
    pub(super) registry: Registry,
    pub(super) pool: Pool,
    /// The connection's own task.
    pub(super) task: Arc<Task>,
    /// Names the socket to tasks that do not own it.
    pub(super) resource: Resource,
    pub(super) state: Watched<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// `None`: the connection has ended.
    pub(super) socket: Option<Socket>,
    pub(super) start: Start,
    pub(super) is_sender_dropped: bool,
    /// The receiver may be called again.
    pub(super) is_resumed: bool,
    /// A partial send found no room: the notifier is to be called when there is some.
    pub(super) awaits_room: bool,
    /// Why nothing more is sent: the error of another task.
    pub(super) failure: Option<String>,
    /// The close will reset the connection: the end of the stream is not sent.
    is_reset: bool,
    /// Bytes that the writer has not taken.
    pub(super) queue: Vec<u8>,
    /// Bytes that the writer has taken and not written.
    pub(super) in_flight: usize,
    pub(super) writer: Option<TaskId>,
    /// To join the writer.
    pub(super) writer_promise: Option<Promise<io::Result<()>>>,
}

impl State {
    /// # Errors
    /// The error of another task.
    pub(super) fn check(&self) -> io::Result<()> {
        self.failure.as_deref().map_or(Ok(()), |reason| Err(nothing_is_sent(reason)))
    }
}

/// The connection's task owns it, except for a write half, which is the writer's.
#[derive(Clone)]
pub(super) enum Socket {
    Whole(Arc<Stream>),
    /// The sender is shared.
    Split(Arc<ReadHalf>),
}

impl Socket {
    pub(super) fn whole(stream: Stream) -> Socket {
        Socket::Whole(Arc::new(stream))
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Socket::Whole(stream) => stream.take_error(),
            Socket::Split(half) => half.take_error(),
        }
    }
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Start {
    #[default]
    Awaited,
    Started,
    /// The handle was dropped.
    Never,
}

impl Shared {
    pub(super) fn new(
        label: ConnectionLabel,
        stream: Stream,
        pool: &Pool,
        task: Arc<Task>,
    ) -> Arc<Shared> {
        let resource = stream.resource();
        let registry = resource.registry().clone();
        let socket = Some(Socket::whole(stream));
        Arc::new(Shared {
            label,
            state: Watched::new(&registry, State { socket, ..State::default() }),
            registry,
            pool: pool.clone(),
            task,
            resource,
        })
    }

    /// The socket, for the connection's own task.
    pub(super) fn socket(&self) -> io::Result<Socket> {
        self.state.lock().socket.clone().ok_or_else(ended)
    }

    /// The stream, for a task that may send directly: the connection's own, until the sender is
    /// shared. `None`: the queue is to be used.
    ///
    /// # Errors
    /// The connection has ended, or this is another task and the sender is not shared.
    #[track_caller]
    pub(super) fn direct_stream(&self) -> io::Result<Option<Arc<Stream>>> {
        match &self.state.lock().socket {
            Some(Socket::Whole(stream)) if self.is_own_task() => {
                return Ok(Some(Arc::clone(stream)));
            }
            // Another task must not hold the stream, not even briefly: it could be the last to drop
            // it.
            Some(Socket::Whole(_)) => {}
            Some(Socket::Split(_)) => return Ok(None),
            None => return Err(ended()),
        }
        self.resource.clone().into_managed().record().check_access()?;
        // Shared or ended meanwhile: the next attempt returns the reason.
        Err(nothing_is_sent("its sender is not shared"))
    }

    fn is_own_task(&self) -> bool {
        task::current_id() == self.task.id().get()
    }

    /// Ends the sending: the end of the stream follows what is queued.
    pub(super) fn sender_is_dropped(&self) {
        let is_own = self.is_own_task();
        let (stream, is_whole, is_reset) = self.state.update(|state| {
            // Before the end is sent: a task that ends because of it finds no sender.
            state.is_sender_dropped = true;
            let is_whole = matches!(state.socket, Some(Socket::Whole(_)));
            let stream = match &state.socket {
                // As in `direct_stream`.
                Some(Socket::Whole(stream)) if is_own => Some(Arc::clone(stream)),
                _ => None,
            };
            (stream, is_whole, state.is_reset)
        });
        if let Some(stream) = stream.filter(|_| !is_reset) {
            // An error: the peer has reset the connection, and reads no end.
            let _ = stream.shutdown_write(FINAL_SEND_TIMEOUT);
        }
        if is_whole && !is_own && !self.task.has_ended() {
            tracing::warn!(
                "the sender of {} was not shared and was dropped by another task: the connection ends",
                self.label
            );
            self.task.request_drain();
        }
    }

    /// Ends the sending because of an error. The first reason counts.
    pub(super) fn fail(&self, reason: &str) {
        self.state.update(|state| {
            state.failure.get_or_insert_with(|| reason.to_owned());
            state.queue = Vec::new();
        });
    }

    /// Makes the close reset the connection, in its own task.
    pub(super) fn reset_on_close(&self) {
        self.state.lock().is_reset = true;
        let _ = match self.socket() {
            Ok(Socket::Whole(stream)) => stream.reset_on_close(),
            Ok(Socket::Split(half)) => half.reset_on_close(),
            Err(_) => Ok(()),
        };
    }

    /// Closes the socket at the end of its task, unless the task's own sender still exists:
    /// something keeps it, and the registry reports what.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        if matches!(state.socket, Some(Socket::Whole(_))) && !state.is_sender_dropped {
            return;
        }
        let (socket, writer) = (state.socket.take(), state.writer_promise.take());
        drop(state);
        self.fail("the connection has ended");
        drop(socket);
        if let Some(writer) = writer {
            // The connection's own error is the one to return.
            drop(writer.cancel());
        }
    }
}

/// What a started connection calls, for as long as something refers to the connection.
#[derive(Default)]
pub(super) struct Callbacks {
    pub(super) receiver: OnceLock<Box<dyn MsgReceiver>>,
    pub(super) notifier: OnceLock<Box<dyn Notifier>>,
}

impl Callbacks {
    pub(super) fn notify(&self) {
        if let Some(notifier) = self.notifier.get() {
            notifier.on_writable();
        }
    }
}

fn nothing_is_sent(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, format!("nothing more is sent: {reason}"))
}

pub(super) fn ended() -> io::Error {
    nothing_is_sent("the connection has ended")
}
