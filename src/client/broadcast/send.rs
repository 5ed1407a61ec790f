//! The send task: reads lines from the input and sends them as frames.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::receive::{self, EchoedFrames, PendingFrames, ReceiveEnd};
use super::{ChatClient, ChatError, ChatSummary, StopHandle};
use crate::frame::Frame;

use crate::net::{File, PipeReader, Stream, WriteHalf};
use crate::ownership::{Promise, TaskError};
use crate::thread;

/// Size of one read.
const BUFFER_BYTES: usize = 64 * 1024;

/// The maximum number of bytes in flight. A chat that sends a file would otherwise send faster than
/// it receives, and the server would treat it as a slow reader.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

/// The maximum number of frames in flight, because each received frame is searched among them.
const AHEAD_FRAMES_MAX: usize = 1024;

/// How often a task that waits for its frames checks whether it was stopped.
const SLICE: Duration = Duration::from_millis(50);

/// How long to wait for the next frame that comes back before the rest counts as missing, and how long a
/// server may take to close after us.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a stopped chat still receives.
const STOP_RECEIVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the sending has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendEnd {
    /// The input has ended.
    InputEnded,
    /// It was stopped.
    Stopped,
    /// The server has closed the connection.
    HungUp,
}

/// Connects, sends the input, and waits for the receive task.
pub(super) fn run(
    chat: &ChatClient,
    input: File,
    output: File,
    stop: PipeReader,
    stop_handle: StopHandle,
) -> Result<ChatSummary, ChatError> {
    let cannot = |error| ChatError::CannotConnect(chat.address.clone(), error);
    let stream = Stream::connect_to_endpoint(&chat.address).map_err(cannot)?;
    if stream.peer_addr().is_ok_and(|peer| peer.inet().is_some()) {
        stream.set_nodelay(true).map_err(ChatError::Connection)?;
    }
    let (reading, writing) = stream.split().map_err(|error| ChatError::Connection(error.into()))?;
    let pending = Arc::new(PendingFrames::default());
    let (echo_sender, echoes) = channel();
    let pending_frames = Arc::clone(&pending);
    let (frame_max, is_terminal) = (chat.frame_max, chat.is_terminal);
    let job = move |(reading, output)| {
        let ended =
            receive::run(reading, &output, &pending_frames, &echo_sender, frame_max, is_terminal);
        // In this order: after the stop, the sender must find that no more frames come back.
        drop(echo_sender);
        stop_handle.stop();
        ended
    };
    let handles = (reading, output);
    let listener = thread::spawn_named_with("listener", handles, job)
        .map_err(|error| ChatError::Local("start a thread", io::Error::other(error.to_string())))?;
    let mut sender = ChatSender {
        chat,
        writing,
        stop,
        pending,
        echoes,
        sent: 0,
        returned: 0,
        lost: 0,
        ahead_bytes: 0,
    };
    let end = sender.send_all(&input);
    if matches!(end, Ok(SendEnd::InputEnded)) {
        sender.wait_for_echoes();
    }
    sender.end(listener, end)
}

struct ChatSender<'a> {
    chat: &'a ChatClient,
    writing: WriteHalf,
    stop: PipeReader,
    pending: Arc<PendingFrames>,
    echoes: Receiver<EchoedFrames>,
    sent: u64,
    returned: u64,
    /// Frames that were dropped: later ones have come back.
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
                // Another program has made the terminal non-blocking.
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
                    end => return Ok(end),
                }
            }
        }
        match lines.rest() {
            Some(rest) => self.send_line(&prefix, &rest),
            None => Ok(SendEnd::InputEnded),
        }
    }

    fn send_line(&mut self, prefix: &str, line: &[u8]) -> Result<SendEnd, ChatError> {
        let frame = Frame::new(&[prefix.as_bytes(), line].concat());
        let more = frame.wire().len();
        while self.pending.len() >= AHEAD_FRAMES_MAX
            || self.ahead_bytes > 0 && self.ahead_bytes + more > AHEAD_BYTES_MAX
        {
            match self.echoes.recv_timeout(SLICE) {
                Ok(echoed) => self.take_echoed(echoed),
                Err(RecvTimeoutError::Timeout) if !self.is_stopped() => {}
                // Stopped, or the receive task has ended.
                Err(_) => return Ok(SendEnd::Stopped),
            }
        }
        // Pending before it is sent: it may come back before this call returns.
        self.pending.push(frame.clone());
        self.ahead_bytes += more;
        self.sent += 1;
        match self.writing.write_all(frame.wire()) {
            Ok(()) => Ok(SendEnd::InputEnded),
            // The receive task knows the reason.
            Err(error) if is_hang_up(&error) => Ok(SendEnd::HungUp),
            Err(error) => Err(ChatError::Connection(error)),
        }
    }

    /// Waits until all sent frames have come back, while some still do.
    fn wait_for_echoes(&mut self) {
        let mut received = Instant::now();
        while self.pending.len() > 0 {
            match self.echoes.recv_timeout(SLICE) {
                Ok(echoed) => {
                    self.take_echoed(echoed);
                    received = Instant::now();
                }
                Err(RecvTimeoutError::Timeout)
                    if !self.is_stopped() && received.elapsed() < SILENCE_MAX => {}
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
        // An error means that this task is cancelled: stop as well.
        self.stop.wait_readable(Duration::ZERO).unwrap_or(true)
    }

    /// Takes the frames that have come back, without waiting. Returns false if the receive task has ended.
    fn drain_echoes(&mut self) -> bool {
        loop {
            match self.echoes.try_recv() {
                Ok(echoed) => self.take_echoed(echoed),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Half-closes, and waits for the receive task.
    fn end(
        mut self,
        listener: Promise<ReceiveEnd>,
        end: Result<SendEnd, ChatError>,
    ) -> Result<ChatSummary, ChatError> {
        let is_receiving = self.drain_echoes();
        // The owner can always half-close; a peer that has gone needs no end of stream.
        let _ = self.writing.release();
        let timeout = match end {
            Ok(SendEnd::InputEnded) => SILENCE_MAX,
            Ok(SendEnd::Stopped | SendEnd::HungUp) => STOP_RECEIVE_TIMEOUT,
            Err(_) => Duration::ZERO,
        };
        let ended = wait_for_receiver(listener, timeout);
        self.drain_echoes();
        let end = end?;
        let missing = self.pending.len() as u64 + self.lost;
        let received = self.pending.received();
        match ended {
            Some(ReceiveEnd::Failed(error)) => Err(ChatError::Connection(error)),
            Some(ReceiveEnd::OutputFailed(error)) => {
                Err(ChatError::Local("write the output", error))
            }
            Some(ReceiveEnd::Finished)
                if (end == SendEnd::HungUp || !is_receiving)
                    && (end != SendEnd::InputEnded || missing > 0) =>
            {
                Err(ChatError::ServerFinished(missing))
            }
            // The reader of the output has read enough.
            Some(ReceiveEnd::OutputClosed) => {
                Ok(ChatSummary { sent: self.sent, returned: self.returned, received })
            }
            _ if missing > 0 => Err(ChatError::Missing(missing)),
            _ => Ok(ChatSummary { sent: self.sent, returned: self.returned, received }),
        }
    }
}

/// Returns how the receiving ended; `None` if it had to be cancelled.
fn wait_for_receiver(listener: Promise<ReceiveEnd>, timeout: Duration) -> Option<ReceiveEnd> {
    let has_ended = listener.wait_until(Instant::now() + timeout).unwrap_or(false);
    match if has_ended { listener.join() } else { listener.cancel() } {
        Ok(ended) => Some(ended),
        // This task was cancelled meanwhile, and so was its child.
        Err(TaskError::Refused(listener, _)) => {
            drop(listener.cancel());
            None
        }
        Err(TaskError::Cancelled) => None,
        Err(failure) => Some(ReceiveEnd::Failed(io::Error::other(failure.to_string()))),
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
