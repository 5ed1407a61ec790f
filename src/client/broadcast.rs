//! A chat: lines out as frames, frames in as lines.
//!
//! ```text
//! main ── waits for signals and for the ends of the others
//!   └ chat ── connects; owns the input, and the writing half
//!       └ listener ── owns the output, and the reading half
//! ```
//!
//! What stops the send, a signal, the server's end, an output that nobody reads any more, comes to
//! main's events; main lets go of the writing end of a pipe, and the chat, which waits for its input
//! and for that pipe at once, sees it.
//!
//! At the end of the input the chat waits until its own frames have come back, half-closes, and hears
//! whatever else comes until the server has closed, too.
//!
//! What others send is untrusted: a frame is one line of output, and what would command a terminal, is
//! invisible or is no UTF-8 is escaped. A pipe and a file get the same, because their text ends up on a
//! terminal, too; the notation is reversible, so that no byte is lost.
//!
//! # Limits
//!
//! Whoever sends the same bytes as we do at the same time is taken for us, which matters only for
//! knowing when all has come back. A listener that is blocked in writing its output cannot be woken: after a
//! signal it is given up.

mod lines;
mod receive;
mod send;

use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use crate::frame::FrameError;

use crate::net::{Endpoint, File, pipe_in};
use crate::ownership::{Failure, Registry};
use crate::pool::Orphans;
use crate::thread;

/// How long a chat may take to end after a signal. With [`CANCEL_TIMEOUT`] it is two seconds in all.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long a chat that was cancelled may take.
const CANCEL_TIMEOUT: Duration = Duration::from_millis(500);

/// What may wait for main: each says something once, or says nothing new.
const EVENT_QUEUE_MAX: usize = 16;

/// A chat to be.
#[derive(Debug)]
pub struct ChatClient {
    /// Where to.
    pub address: Endpoint,
    /// Put in front of each line, with a colon.
    pub name: Option<String>,
    /// Who speaks and who listens is one person at a terminal: what comes back of one's own lines is
    /// not shown again.
    pub is_terminal: bool,
    /// Bytes of a frame's payload at the most, either way.
    pub frame_max: usize,
}

/// What was said and heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatSummary {
    /// Frames sent.
    pub sent: u64,
    /// Of these, frames that have come back.
    pub returned: u64,
    /// Frames heard, one's own included.
    pub heard: u64,
}

/// Why a chat ended before its time.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChatError {
    /// There was nobody to talk to.
    CannotConnect(Endpoint, io::Error),
    /// The connection broke.
    Broken(io::Error),
    /// The server finished first: there was more to say, or so many of the frames that were sent
    /// have not come back.
    ServerFinished(u64),
    /// So many of the frames that were sent have not come back.
    Missing(u64),
    /// A line of the input is longer than a frame may be.
    LineTooLong(usize),
    /// The input cannot be read, or the output not be written.
    Local(&'static str, io::Error),
    /// It was told to stop and did not come to its end in time.
    Stuck,
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChatError::CannotConnect(address, error)
                if error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                write!(f, "cannot connect to {address}: nobody listens there")
            }
            ChatError::CannotConnect(address, error) => {
                write!(f, "cannot connect to {address}: {error}")
            }
            ChatError::Broken(error) if is_too_long(error) => {
                write!(f, "the server does not send frames: {error}")
            }
            ChatError::Broken(error) => write!(f, "the connection broke: {error}"),
            ChatError::ServerFinished(0) => f.write_str("the server has closed the connection"),
            ChatError::ServerFinished(missing) => {
                let missing = ChatError::Missing(*missing);
                write!(f, "the server has closed the connection, and {missing}")
            }
            ChatError::Missing(1) => f.write_str("1 frame that was sent has not come back"),
            ChatError::Missing(frames) => {
                write!(f, "{frames} frames that were sent have not come back")
            }
            ChatError::LineTooLong(frame_max) => {
                write!(
                    f,
                    "expected lines of at most {frame_max} bytes, actually there is a longer one"
                )
            }
            ChatError::Local(what, error) => write!(f, "cannot {what}: {error}"),
            ChatError::Stuck => f.write_str("it did not come to its end in time, and was given up"),
        }
    }
}

impl std::error::Error for ChatError {}

fn is_too_long(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<FrameError>())
}

/// What main is told.
enum ChatEvent {
    /// There is no more send.
    Stop,
    /// The chat is over.
    Ended(Result<ChatResult, Failure<ChatResult>>),
}

type ChatResult = Result<ChatSummary, ChatError>;

/// Stops a chat, from any thread.
#[derive(Clone)]
pub struct StopHandle(SyncSender<ChatEvent>);

impl StopHandle {
    /// Has the chat say nothing more and come to its end.
    pub fn stop(&self) {
        match self.0.try_send(ChatEvent::Stop) {
            // A full events holds the same already.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopHandle")
    }
}

/// What stops a chat, and where it is heard.
pub fn stop_channel() -> (StopHandle, StopReceiver) {
    let (sender, events) = sync_channel(EVENT_QUEUE_MAX);
    (StopHandle(sender.clone()), StopReceiver { sender, events })
}

/// For [`ChatClient::run`].
#[derive(Debug)]
pub struct StopReceiver {
    sender: SyncSender<ChatEvent>,
    events: Receiver<ChatEvent>,
}

impl ChatClient {
    /// Talks until the input ends, until it is stopped, or until the server finishes. The input and the
    /// output are the current task's, and go to those who use them.
    ///
    /// # Errors
    /// It ended before its time.
    pub fn run(
        self,
        registry: &Registry,
        input: File,
        output: File,
        stopped: StopReceiver,
    ) -> Result<ChatSummary, ChatError> {
        let StopReceiver { sender, events } = stopped;
        let no_pipe = |error| ChatError::Local("make a pipe", error);
        let (told, tell) = pipe_in(registry).map_err(no_pipe)?;
        let to_main = sender.clone();
        let chat: Orphans<ChatResult> = Orphans::reaped_by(registry, move |_, outcome| {
            // Nobody waits for it any more when it was given up.
            let _ = to_main.send(ChatEvent::Ended(outcome));
        });
        let give = [input.resource(), output.resource(), told.resource()];
        let (here, stopper) = (registry.clone(), StopHandle(sender));
        let job = move || send::run(&self, &here, input, output, told, stopper);
        let promise = thread::spawn_in(registry, "chat", give, job).map_err(|error| {
            let text = io::Error::other(error.to_string());
            drop(error.into_job());
            ChatError::Local("start a thread", text)
        })?;
        let adopted = chat.adopt(promise);
        debug_assert!(adopted.is_ok(), "the parent adopts its own child");
        wait_for_end(&events, &chat, tell)
    }
}

/// Waits for the chat's end, told to stop or not.
fn wait_for_end(
    events: &Receiver<ChatEvent>,
    chat: &Orphans<ChatResult>,
    tell: crate::net::PipeWriter,
) -> ChatResult {
    let mut tell = Some(tell);
    let mut deadline: Option<Instant> = None;
    let mut is_cancelled = false;
    loop {
        let event = match deadline {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(ChatEvent::Stop) => {
                // Releasing what is ours cannot be refused. The chat sees it.
                drop(tell.take());
                deadline.get_or_insert_with(|| Instant::now() + STOP_TIMEOUT);
            }
            Ok(ChatEvent::Ended(Ok(outcome))) => return outcome,
            // Told to stop, it may have to be cut out of a connection that goes nowhere.
            Ok(ChatEvent::Ended(Err(Failure::Cancelled))) => return Err(ChatError::Stuck),
            Ok(ChatEvent::Ended(Err(failure))) => {
                return Err(ChatError::Broken(io::Error::other(failure.to_string())));
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
