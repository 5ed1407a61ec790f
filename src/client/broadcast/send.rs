//! The task that talks: lines out of the input, frames into the connection.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::receive::{self, EchoedFrames, PendingFrames, ReceiveEnd};
use super::{ChatClient, ChatError, ChatSummary, StopHandle};
use crate::frame::Frame;

use crate::net::{File, PipeReader, Stream, WriteHalf};
use crate::ownership::{Failure, Promise, Registry};
use crate::thread;

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes that may be on their way at a time. A chat that sends a file would otherwise be ahead of its
/// own listening, and the server would find it a slow reader.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

/// Frames that may be on their way at a time: among so many each one that comes is looked for.
const AHEAD_FRAMES_MAX: usize = 1024;

/// How often somebody who waits for its frames looks whether it was stop to stop.
const SLICE: Duration = Duration::from_millis(50);

/// How long nothing may come back before the rest is given up, and how long a server may take to
/// finish after us.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a chat that was stop to stop still listens.
const STOP_RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the talking is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendEnd {
    /// The input has ended.
    InputEnded,
    /// It was stop to stop.
    Stopped,
    /// The server takes nothing more.
    HungUp,
}

/// Connects, talks and listens to the end.
pub(super) fn run(
    chat: &ChatClient,
    registry: &Registry,
    input: File,
    output: File,
    stop: PipeReader,
    stopper: StopHandle,
) -> Result<ChatSummary, ChatError> {
    let cannot = |error| ChatError::CannotConnect(chat.address.clone(), error);
    let stream = Stream::connect_to_endpoint_in(registry, &chat.address).map_err(cannot)?;
    if stream.peer_addr().is_ok_and(|peer| peer.inet().is_some()) {
        stream.set_nodelay(true).map_err(ChatError::Broken)?;
    }
    let (reading, writing) = stream.split().map_err(|error| ChatError::Broken(error.into()))?;
    let expected = Arc::new(PendingFrames::default());
    let (to_us, back) = channel();
    let give = [reading.resource(), output.resource()];
    let theirs = Arc::clone(&expected);
    let (frame_max, is_terminal) = (chat.frame_max, chat.is_terminal);
    let job = move || {
        let ended = receive::run(reading, &output, &theirs, &to_us, frame_max, is_terminal);
        // In this order: who is stop to stop by this finds that nothing comes back any more.
        drop(to_us);
        stopper.stop();
        ended
    };
    let listener = thread::spawn_in(registry, "listener", give, job).map_err(|error| {
        let text = io::Error::other(error.to_string());
        drop(error.into_job());
        ChatError::Local("start a thread", text)
    })?;
    let mut sender = ChatSender {
        chat,
        writing,
        stop,
        expected,
        back,
        sent: 0,
        returned: 0,
        lost: 0,
        ahead_bytes: 0,
    };
    let over = sender.send_all(&input);
    if matches!(over, Ok(SendEnd::InputEnded)) {
        sender.wait_for_all();
    }
    sender.end(listener, over)
}

struct ChatSender<'a> {
    chat: &'a ChatClient,
    writing: WriteHalf,
    stop: PipeReader,
    expected: Arc<PendingFrames>,
    back: Receiver<EchoedFrames>,
    sent: u64,
    returned: u64,
    /// Frames that others overtook: they will not come back.
    lost: u64,
    ahead_bytes: usize,
}

impl ChatSender<'_> {
    fn send_all(&mut self, input: &File) -> Result<SendEnd, ChatError> {
        let cannot_read = |error| ChatError::Local("read the input", error);
        let prefix = self.chat.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let line_max = self.chat.frame_max.saturating_sub(prefix.len());
        let mut lines = Lines::new(line_max);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            if !input.wait_readable_or_stop(&self.stop).map_err(cannot_read)? {
                return Ok(SendEnd::Stopped);
            }
            let mut input = input;
            let received = match input.read(&mut buffer) {
                Ok(received) => received,
                // A terminal that others have set so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(cannot_read(error)),
            };
            if received == 0 {
                break;
            }
            let mut piece = &buffer[..received];
            let too_long = |_| ChatError::LineTooLong(line_max);
            while let Some(line) = lines.take(&mut piece).map_err(too_long)? {
                match self.send_line(&prefix, &line)? {
                    SendEnd::InputEnded => {}
                    over => return Ok(over),
                }
            }
        }
        match lines.rest() {
            Some(rest) => self.send_line(&prefix, &rest),
            None => Ok(SendEnd::InputEnded),
        }
    }

    fn send_line(&mut self, prefix: &str, line: &[u8]) -> Result<SendEnd, ChatError> {
        let frame = Frame::of(&[prefix.as_bytes(), line].concat());
        let more = frame.wire().len();
        while self.expected.len() >= AHEAD_FRAMES_MAX
            || self.ahead_bytes > 0 && self.ahead_bytes + more > AHEAD_BYTES_MAX
        {
            match self.back.recv_timeout(SLICE) {
                Ok(echoed) => self.take_echoed(echoed),
                Err(RecvTimeoutError::Timeout) if !self.is_stopped() => {}
                // Told, or nobody listens any more.
                Err(_) => return Ok(SendEnd::Stopped),
            }
        }
        // PendingFrames before it is sent: it may be back before we have returned from sending.
        self.expected.push(frame.clone());
        self.ahead_bytes += more;
        self.sent += 1;
        match self.writing.write_all(frame.wire()) {
            Ok(()) => Ok(SendEnd::InputEnded),
            // The listener knows why.
            Err(error) if is_hang_up(&error) => Ok(SendEnd::HungUp),
            Err(error) => Err(ChatError::Broken(error)),
        }
    }

    /// Waits until all that was said has come back, as long as something does.
    fn wait_for_all(&mut self) {
        let mut heard = Instant::now();
        while self.expected.len() > 0 {
            match self.back.recv_timeout(SLICE) {
                Ok(echoed) => {
                    self.take_echoed(echoed);
                    heard = Instant::now();
                }
                Err(RecvTimeoutError::Timeout)
                    if !self.is_stopped() && heard.elapsed() < SILENCE_MAX => {}
                Err(_) => break,
            }
        }
    }

    fn take_echoed(&mut self, echoed: EchoedFrames) {
        self.ahead_bytes = self.ahead_bytes.saturating_sub(echoed.bytes);
        self.lost += echoed.lost;
        self.returned += 1;
    }

    fn is_stopped(&self) -> bool {
        // An error is a cancellation: an order, too.
        self.stop.wait_readable(Duration::ZERO).unwrap_or(true)
    }

    /// Takes what has come back, without waiting. False when the listener has nothing more to tell.
    fn take_back(&mut self) -> bool {
        loop {
            match self.back.try_recv() {
                Ok(echoed) => self.take_echoed(echoed),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Says goodbye, and hears the rest.
    fn end(
        mut self,
        listener: Promise<ReceiveEnd>,
        over: Result<SendEnd, ChatError>,
    ) -> Result<ChatSummary, ChatError> {
        let is_heard = self.take_back();
        // Half-closing cannot be refused to the owner; a peer that has gone needs none.
        let _ = self.writing.release();
        let timeout = match over {
            Ok(SendEnd::InputEnded) => SILENCE_MAX,
            Ok(SendEnd::Stopped | SendEnd::HungUp) => STOP_RECEIVE_TIMEOUT,
            Err(_) => Duration::ZERO,
        };
        let ended = wait_for_receiver(listener, timeout);
        self.take_back();
        let over = over?;
        let missing = self.expected.len() as u64 + self.lost;
        let heard = self.expected.heard();
        match ended {
            Some(ReceiveEnd::Broken(error)) => Err(ChatError::Broken(error)),
            Some(ReceiveEnd::Unwritable(error)) => Err(ChatError::Local("write the output", error)),
            Some(ReceiveEnd::Finished)
                if (over == SendEnd::HungUp || !is_heard)
                    && (over != SendEnd::InputEnded || missing > 0) =>
            {
                Err(ChatError::ServerFinished(missing))
            }
            // Whoever read the output has read enough.
            Some(ReceiveEnd::Unread) => {
                Ok(ChatSummary { sent: self.sent, returned: self.returned, heard })
            }
            _ if missing > 0 => Err(ChatError::Missing(missing)),
            _ => Ok(ChatSummary { sent: self.sent, returned: self.returned, heard }),
        }
    }
}

/// How the listening ended; `None` when it had to be cut.
fn wait_for_receiver(listener: Promise<ReceiveEnd>, timeout: Duration) -> Option<ReceiveEnd> {
    let has_ended = listener.wait_until(Instant::now() + timeout).unwrap_or(false);
    match if has_ended { listener.join() } else { listener.cancel() } {
        Ok(ended) => Some(ended),
        // This task was cancelled meanwhile: so is its child.
        Err(Failure::Refused(listener, _)) => {
            drop(listener.cancel());
            None
        }
        Err(Failure::Cancelled) => None,
        Err(failure) => Some(ReceiveEnd::Broken(io::Error::other(failure.to_string()))),
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
