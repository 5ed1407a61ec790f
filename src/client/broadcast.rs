//! The broadcast client, a chat: sends input lines as frames, and prints received frames as lines.
//!
//! ```text
//! main ── waits for signals and for the ends of the others
//!   └ chat ── connects; owns the input, and the write half
//!       └ listener ── owns the output, and the read half
//! ```
//!
//! A signal, the server's end, or a closed output stop the sending: main gets an event and closes the write
//! end of a pipe. The chat task, which polls its input and that pipe, notices.
//!
//! At the end of the input the chat waits until its own frames have come back, half-closes, and prints
//! further frames until the server closes, too.
//!
//! Received frames are untrusted: a frame is one line of output, and control sequences, invisible
//! characters and invalid UTF-8 are escaped. The same holds for pipes and files, because their text may be
//! shown on a terminal later; the notation is reversible, so that no byte is lost.
//!
//! # Limits
//!
//! A frame of another client with the same bytes as one of ours counts as ours, which matters only for
//! detecting that all frames have come back. A listener that is blocked in writing its output cannot be
//! woken: after a signal the chat ends without it.

mod lines;
mod receive;
mod send;

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::frame::FrameError;

use crate::net::{Endpoint, File, pipe};
use crate::ownership::{Registry, TaskError};
use crate::pool::Orphans;
use crate::thread;

/// How long a chat may take to end after a signal. With [`CANCEL_TIMEOUT`] it is two seconds in total.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long a cancelled chat may take to end.
const CANCEL_TIMEOUT: Duration = Duration::from_millis(500);

/// Length of the event channel: each sender sends one event, or repeats itself.
const EVENT_QUEUE_MAX: usize = 16;

/// A broadcast client.
#[derive(Debug)]
pub(crate) struct ChatClient {
    /// The server's address.
    pub address: Endpoint,
    /// Put in front of each line, with a colon.
    pub name: Option<String>,
    /// Whether input and output are one terminal: the client's own lines are then not printed again
    /// when they are echoed.
    pub is_terminal: bool,
    /// The maximum payload of a frame in bytes, in both directions.
    pub frame_max: usize,
}

/// The frame counts of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct ChatSummary {
    /// Frames sent.
    pub sent: u64,
    /// Of these, frames that have come back.
    pub returned: u64,
    /// Frames received, including one's own.
    pub received: u64,
}

/// Why a chat failed.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum ChatError {
    /// The connection could not be established.
    CannotConnect(Endpoint, io::Error),
    /// The connection failed.
    Connection(io::Error),
    /// The server closed the connection before all input was sent, or before this many of the sent frames
    /// had come back.
    ServerFinished(u64),
    /// This many of the sent frames have not come back.
    Missing(u64),
    /// An input line is longer than a frame may be.
    LineTooLong(usize),
    /// The input cannot be read, or the output cannot be written.
    Local(&'static str, io::Error),
    /// The chat was stopped and did not end in time.
    Stuck,
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChatError::CannotConnect(address, error)
                if error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                write!(f, "failed to connect to {address}: connection refused")
            }
            ChatError::CannotConnect(address, error) => {
                write!(f, "failed to connect to {address}: {error}")
            }
            ChatError::Connection(error) if is_too_long(error) => {
                write!(f, "the server does not send frames: {error}")
            }
            ChatError::Connection(error) => write!(f, "connection lost: {error}"),
            ChatError::ServerFinished(0) => f.write_str("the server has closed the connection"),
            ChatError::ServerFinished(missing) => {
                let missing = ChatError::Missing(*missing);
                write!(f, "the server has closed the connection, and {missing}")
            }
            ChatError::Missing(1) => f.write_str("1 sent frame was not received back"),
            ChatError::Missing(frames) => {
                write!(f, "{frames} sent frames were not received back")
            }
            ChatError::LineTooLong(frame_max) => {
                write!(f, "cannot send a line longer than {frame_max} bytes (--max-frame)")
            }
            ChatError::Local(what, error) => write!(f, "failed to {what}: {error}"),
            ChatError::Stuck => f.write_str("the client did not stop in time and was abandoned"),
        }
    }
}

impl std::error::Error for ChatError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ChatError::CannotConnect(_, error)
            | ChatError::Connection(error)
            | ChatError::Local(_, error) => Some(error),
            _ => None,
        }
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<FrameError>())
}

/// An event for the main task.
enum ChatEvent {
    /// Stop sending.
    Stop,
    /// The chat task has ended.
    Ended(Result<ChatResult, TaskError<ChatResult>>),
}

type ChatResult = Result<ChatSummary, ChatError>;

/// Stops a chat, from any thread.
#[derive(Clone)]
pub(crate) struct StopHandle(SyncSender<ChatEvent>);

impl StopHandle {
    /// Makes the chat send nothing more and end.
    pub(crate) fn stop(&self) {
        match self.0.try_send(ChatEvent::Stop) {
            // A full channel already contains the same event.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopHandle")
    }
}

/// Creates a stop handle and its receiver.
pub(crate) fn stop_channel() -> (StopHandle, StopReceiver) {
    let (sender, events) = sync_channel(EVENT_QUEUE_MAX);
    (StopHandle(sender.clone()), StopReceiver { sender, events })
}

/// The receiver of stop requests, for [`ChatClient::run`].
#[derive(Debug)]
pub(crate) struct StopReceiver {
    sender: SyncSender<ChatEvent>,
    events: Receiver<ChatEvent>,
}

impl ChatClient {
    /// Runs until the input ends, the chat is stopped, or the server closes. The input and the output are
    /// the current task's; they are given to the tasks that use them.
    ///
    /// # Errors
    /// Why the chat failed.
    pub(crate) fn run(
        self,
        registry: &Registry,
        input: File,
        output: File,
        stopped: StopReceiver,
    ) -> Result<ChatSummary, ChatError> {
        let StopReceiver { sender, events } = stopped;
        let no_pipe = |error| ChatError::Local("make a pipe", error);
        let (stop_reader, stop_writer) = pipe().map_err(no_pipe)?;
        let to_main = sender.clone();
        let chat: Orphans<ChatResult> = Orphans::reaped_by(registry, move |_, outcome| {
            // Fails only when main no longer waits for the chat.
            let _ = to_main.send(ChatEvent::Ended(outcome));
        });
        let stop_handle = StopHandle(sender);
        let handles = (input, output, stop_reader);
        let job = move |(input, output, stop)| send::run(&self, input, output, stop, stop_handle);
        let promise = thread::spawn_named_with("chat", handles, job).map_err(|error| {
            ChatError::Local("start a thread", io::Error::other(error.to_string()))
        })?;
        let adopted = chat.adopt(promise);
        debug_assert!(adopted.is_ok(), "the parent adopts its own child");
        wait_for_end(&events, &chat, stop_writer)
    }
}

/// Waits for the chat task's end, and forwards a stop request to it.
fn wait_for_end(
    events: &Receiver<ChatEvent>,
    chat: &Orphans<ChatResult>,
    stop_writer: crate::net::PipeWriter,
) -> ChatResult {
    let mut stop_writer = Some(stop_writer);
    let mut deadline: Option<Instant> = None;
    let mut is_cancelled = false;
    loop {
        let event = match deadline {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(ChatEvent::Stop) => {
                // The owner can always release its own resource. The chat notices the closed pipe.
                drop(stop_writer.take());
                deadline.get_or_insert_with(|| Instant::now() + STOP_TIMEOUT);
            }
            Ok(ChatEvent::Ended(Ok(outcome))) => return outcome,
            // After a stop request it may have to be cancelled in a connect that does not return.
            Ok(ChatEvent::Ended(Err(TaskError::Cancelled))) => return Err(ChatError::Stuck),
            Ok(ChatEvent::Ended(Err(failure))) => {
                return Err(ChatError::Connection(io::Error::other(failure.to_string())));
            }
            Err(RecvTimeoutError::Timeout) if !is_cancelled => {
                is_cancelled = true;
                deadline = Some(Instant::now() + CANCEL_TIMEOUT);
                if chat.request_cancel().is_err() {
                    return Err(ChatError::Stuck);
                }
            }
            Err(RecvTimeoutError::Timeout) => return Err(ChatError::Stuck),
            Err(RecvTimeoutError::Disconnected) => {
                unreachable!("the chat's reaper holds a sender")
            }
        }
    }
}
