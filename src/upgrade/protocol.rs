//! The messages of a hand-over, and the channel that carries them.
//!
//! A message is a line of JSON on a Unix stream. A descriptor comes with the first byte of its message.
//!
//! | step | sender | message | waits at most |
//! |---|---|---|---|
//! | 1 | old | `offer`: its addresses; or `refused` | [`STEP_TIME`] |
//! | 2 | new | `claim`: the addresses that it wants | [`STEP_TIME`] |
//! | 3 | old | `socket`, with a descriptor, for each socket of these addresses | [`STEP_TIME`] |
//! | 4 | new | `ready`: it has started | [`START_TIME`] |
//! | 5 | old | `done`: it has stopped accepting; or `refused` | [`STEP_TIME`] |
//!
//! Until the old process has read `ready`, it serves. A `ready` that was sent counts, unless `refused`
//! follows: before the old process gives up, it makes further sends fail, and reads once more
//! ([`Channel::last`]). See docs/proof.md.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use echown_fd::escape;
use serde::{Deserialize, Serialize};

use crate::bind::Purpose;
use crate::net::Stream;
use crate::ownership::Resource;

/// The version of the messages.
pub(super) const VERSION: u32 = 1;

/// The maximum length of a message.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The maximum number of sockets in a hand-over.
pub(super) const SOCKETS_MAX: usize = 1024;

/// The time for a step.
pub(super) const STEP_TIME: Duration = Duration::from_secs(2);

/// The time for the start of the new process, after it has received the sockets.
pub(super) const START_TIME: Duration = Duration::from_secs(10);

/// Why a process that ends refuses.
pub(super) const ENDING: &str = "the old process is shutting down";

/// The bytes of one read.
const READ_BYTES: usize = 4096;

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(super) enum Message {
    /// The old process offers its addresses.
    Offer { version: u32, process: u32, addresses: Vec<OfferedAddress> },
    /// The new process wants these of them, by index.
    Claim { version: u32, addresses: Vec<usize> },
    /// A socket of an address, by its index in the offer. Its descriptor comes with it.
    Socket { address: usize },
    /// The new process has started.
    Ready,
    /// The old process has handed over.
    Done,
    /// The old process serves on, or ends, without handing over.
    Refused {
        reason: String,
        /// It ends.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_ending: bool,
    },
}

/// An address in an offer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OfferedAddress {
    pub(super) purpose: Purpose,
    /// As the kernel has it.
    pub(super) address: String,
    /// As the user wrote it. Not for Unix sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// The absolute path of a Unix socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<PathBuf>,
    /// Whether the last server removes the path; a service manager keeps its own.
    #[serde(default)]
    pub(super) removes_path: bool,
    /// How many sockets it has, each with its own queue.
    pub(super) sockets: usize,
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The other process closed the connection, or died.
    Ended,
    /// Nothing came in this time.
    Late(Duration),
    /// The other process says why not.
    Refused(String),
    /// The other process is shutting down.
    Ending,
    /// What came is not the message of this step.
    Invalid(String),
    /// An error of the connection or the registry.
    Failed(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Ended => f.write_str("the connection was closed"),
            Failure::Late(time) => write!(f, "no answer within {time:?}"),
            Failure::Refused(reason) => f.write_str(&escape::text(reason)),
            Failure::Ending => f.write_str(ENDING),
            Failure::Invalid(what) => f.write_str(&escape::text(what)),
            Failure::Failed(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, InvalidData};
        match error.kind() {
            BrokenPipe | ConnectionReset => Failure::Ended,
            InvalidData => Failure::Invalid(error.to_string()),
            _ => Failure::Failed(error),
        }
    }
}

/// A connection that carries messages.
pub(super) struct Channel {
    stream: Stream,
    input: Vec<u8>,
}

impl Channel {
    pub(super) fn new(stream: Stream) -> Channel {
        Channel { stream, input: Vec::new() }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The other process does not read, or has closed the connection. The message is too long.
    pub(super) fn send(&self, message: &Message) -> Result<(), Failure> {
        self.send_bytes(&encode(message)?, 0)
    }

    /// Sends a message with the descriptor of a resource of any task.
    ///
    /// # Errors
    /// See [`send`](Channel::send). The resource is closed.
    pub(super) fn send_with(&self, message: &Message, resource: &Resource) -> Result<(), Failure> {
        let bytes = encode(message)?;
        let deadline = Instant::now() + STEP_TIME;
        loop {
            let sent = resource.lend(|fd| self.stream.try_send_with(&bytes, fd));
            match sent {
                None => {
                    return Err(Failure::Invalid(format!("{} is closed", resource.name())));
                }
                Some(Ok(sent)) => return self.send_bytes(&bytes, sent),
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_writable(deadline)?;
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    fn send_bytes(&self, bytes: &[u8], mut sent: usize) -> Result<(), Failure> {
        let deadline = Instant::now() + STEP_TIME;
        while sent < bytes.len() {
            match self.stream.try_write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_writable(deadline)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait_writable(&self, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !self.stream.wait_writable(Some(left))? {
            return Err(Failure::Late(STEP_TIME));
        }
        Ok(())
    }

    /// Receives the next message. Descriptors that come with it are closed.
    ///
    /// # Errors
    /// No message came within `time`, or no valid one; or it was `refused`.
    pub(super) fn receive(&mut self, time: Duration) -> Result<Message, Failure> {
        self.receive_line(time, |stream, buffer| stream.try_read(buffer))
    }

    /// [`receive`](Channel::receive), and appends the descriptors that came.
    ///
    /// # Errors
    /// See [`receive`](Channel::receive).
    pub(super) fn receive_with(
        &mut self,
        time: Duration,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<Message, Failure> {
        self.receive_line(time, |stream, buffer| stream.try_read_with(buffer, descriptors))
    }

    /// The last message: what the other process sends from now on fails there. `None`: nothing has come,
    /// and nothing will come.
    pub(super) fn last(&mut self) -> Option<Message> {
        // An error means that the connection has ended, or that the registry has revoked it.
        self.stream.shutdown(Shutdown::Read).ok()?;
        self.receive(Duration::ZERO).ok()
    }

    fn receive_line(
        &mut self,
        time: Duration,
        mut read: impl FnMut(&Stream, &mut [u8]) -> io::Result<usize>,
    ) -> Result<Message, Failure> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return decode(&line);
            }
            if self.input.len() > MESSAGE_BYTES_MAX {
                return Err(Failure::Invalid(too_long()));
            }
            let mut buffer = [0; READ_BYTES];
            match read(&self.stream, &mut buffer) {
                Ok(0) => return Err(Failure::Ended),
                Ok(bytes) => self.input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || !self.stream.wait_readable(Some(left))? {
                        return Err(Failure::Late(time));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn too_long() -> String {
    format!("a message has more than {MESSAGE_BYTES_MAX} bytes")
}

fn encode(message: &Message) -> Result<Vec<u8>, Failure> {
    let invalid = |error: serde_json::Error| Failure::Invalid(error.to_string());
    let mut bytes = serde_json::to_vec(message).map_err(invalid)?;
    bytes.push(b'\n');
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Failure::Invalid(too_long()));
    }
    Ok(bytes)
}

fn decode(line: &[u8]) -> Result<Message, Failure> {
    if line.len() > MESSAGE_BYTES_MAX {
        return Err(Failure::Invalid(too_long()));
    }
    match serde_json::from_slice(line) {
        Ok(Message::Refused { is_ending: true, .. }) => Err(Failure::Ending),
        Ok(Message::Refused { reason, .. }) => Err(Failure::Refused(reason)),
        Ok(message) => Ok(message),
        Err(error) => Err(Failure::Invalid(format!("no message of a hand-over: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn channels() -> (Channel, Channel) {
        let (one, other) = Stream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[test]
    fn messages_arrive_one_by_one_and_a_descriptor_with_its_own() {
        let (old, mut new) = channels();
        let offer = Message::Offer {
            version: VERSION,
            process: 7,
            addresses: vec![OfferedAddress {
                purpose: Purpose::Echo,
                address: "127.0.0.1:3000".into(),
                endpoint: Some("127.0.0.1:0".into()),
                path: None,
                removes_path: false,
                sockets: 2,
            }],
        };
        let (reader, _writer) = crate::net::pipe().unwrap();
        old.send(&offer).unwrap();
        old.send_with(&Message::Socket { address: 0 }, &reader.resource()).unwrap();
        old.send(&Message::Done).unwrap();
        let mut descriptors = Vec::new();
        assert_eq!(new.receive_with(SOON, &mut descriptors).unwrap(), offer);
        let socket = new.receive_with(SOON, &mut descriptors).unwrap();
        assert_eq!((socket, descriptors.len()), (Message::Socket { address: 0 }, 1));
        assert_eq!(new.receive(SOON).unwrap(), Message::Done);
    }

    #[test]
    fn what_is_no_message_is_an_error_and_so_are_silence_the_end_and_a_refusal() {
        let (old, mut new) = channels();
        let late = new.receive(Duration::from_millis(1)).unwrap_err();
        assert_eq!(late.to_string(), "no answer within 1ms");
        (&old.stream).write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let invalid = new.receive(SOON).unwrap_err().to_string();
        assert!(invalid.starts_with("no message of a hand-over: expected"), "{invalid}");
        old.send(&Message::Refused { reason: "no\x1b".into(), is_ending: false }).unwrap();
        assert_eq!(new.receive(SOON).unwrap_err().to_string(), "no\\x1b");
        old.send(&Message::Refused { reason: ENDING.into(), is_ending: true }).unwrap();
        assert!(matches!(new.receive(SOON), Err(Failure::Ending)));
        drop(old);
        assert!(matches!(new.receive(SOON), Err(Failure::Ended)));
        assert!(matches!(new.send(&Message::Ready), Err(Failure::Ended)));
    }

    #[test]
    fn a_message_was_sent_before_the_last_read_or_its_sender_knows_that_it_was_not() {
        let (mut old, new) = channels();
        new.send(&Message::Ready).unwrap();
        assert_eq!(old.last(), Some(Message::Ready));
        let (mut old, mut new) = channels();
        assert_eq!(old.last(), None);
        assert!(matches!(new.send(&Message::Ready), Err(Failure::Ended)));
        // The answer still arrives.
        old.send(&Message::Refused { reason: "late".into(), is_ending: false }).unwrap();
        assert!(matches!(new.receive(SOON), Err(Failure::Refused(_))));
    }

    #[test]
    fn a_message_without_an_end_is_not_collected_forever() {
        let (old, mut new) = channels();
        // The kernel's buffer has room for it.
        old.send_bytes(&vec![b'x'; MESSAGE_BYTES_MAX + READ_BYTES], 0).unwrap();
        let error = new.receive(SOON).unwrap_err().to_string();
        assert_eq!(error, "a message has more than 65536 bytes");
    }
}
