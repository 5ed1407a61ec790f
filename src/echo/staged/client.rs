//! A client, as it goes from machine to machine.

use std::io;
use std::time::{Duration, Instant};

use super::request::Request;
use crate::net::Stream;
use crate::ownership::{Error, Offer};
use crate::stage::Tag;

/// How long the last bytes to a client that is drained may take to arrive.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(30);

/// What a machine waits for, on the thread of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Bytes, until then.
    Request(Instant),
    /// Room for bytes.
    Room,
}

/// One connection, with all that a machine needs to serve it. The descriptor belongs to whichever
/// machine the client is with.
pub(super) struct Client {
    /// Tells the connection's thread which of the machines' business is its own.
    pub(super) id: u64,
    pub(super) peer: String,
    pub(super) request: Request,
    socket: Socket,
    /// Without anything from it for so long it is cut.
    idle_timeout: Option<Duration>,
    /// Without taking anything for so long it is cut.
    write_timeout: Option<Duration>,
    /// Why it ended before its time.
    error: Option<io::Error>,
}

/// Where the descriptor is.
enum Socket {
    /// With the machine that has the client.
    Held(Stream),
    /// On its way to the next machine.
    Offered(Offer<Stream>),
    /// Closed: it could go nowhere.
    Gone,
}

impl Client {
    /// A new connection, offered by the current task to whoever comes first.
    ///
    /// # Errors
    /// The connection's, if it is over already.
    pub(super) fn new(id: u64, stream: Stream) -> io::Result<Client> {
        let mut client = Client {
            id,
            peer: stream.peer_addr()?.to_string(),
            request: Request::default(),
            idle_timeout: stream.read_timeout()?,
            write_timeout: stream.write_timeout()?,
            socket: Socket::Held(stream),
            error: None,
        };
        client.let_go();
        Ok(client)
    }

    /// Offers the descriptor to the machine that the client is sent to. What can go nowhere, because
    /// it was cancelled meanwhile, is closed here.
    pub(super) fn let_go(&mut self) {
        self.socket = match std::mem::replace(&mut self.socket, Socket::Gone) {
            Socket::Held(stream) => match stream.offer() {
                Ok(offer) => Socket::Offered(offer),
                Err(refused) => self.lose(refused.error().clone()),
            },
            other => other,
        };
    }

    /// Claims the descriptor for the machine that the client was sent to.
    pub(super) fn take_up(&mut self) {
        self.socket = match std::mem::replace(&mut self.socket, Socket::Gone) {
            Socket::Offered(offer) => match offer.claim() {
                Ok(stream) => Socket::Held(stream),
                Err(refused) => self.lose(refused.error().clone()),
            },
            other => other,
        };
    }

    fn lose(&mut self, error: Error) -> Socket {
        self.fail(error.into());
        Socket::Gone
    }

    /// Notes why the client is about to be closed; the first reason counts.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.error.get_or_insert(error);
    }

    /// Closes the connection, in the name of the machine that has it. Answers how it went.
    pub(super) fn close(self) -> io::Result<()> {
        if let Socket::Held(stream) = self.socket {
            stream.close()?;
        }
        self.error.map_or(Ok(()), Err)
    }

    /// Lets `act` work with request and connection; an error is noted, and answered by nothing.
    pub(super) fn with<R>(
        &mut self,
        act: impl FnOnce(&mut Request, &Stream) -> io::Result<R>,
    ) -> Option<R> {
        let Socket::Held(stream) = &self.socket else { return None };
        match act(&mut self.request, stream) {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.fail(error);
                None
            }
        }
    }

    /// Waits for what is wanted, in the name of the machine that wants it: the message to it, and why
    /// if it is a bad one.
    pub(super) fn wait(&mut self, wanted: Wanted) -> Tag {
        let Socket::Held(stream) = &self.socket else { return Tag::D(2) };
        let outcome = match wanted {
            Wanted::Request(deadline) => wait_for_bytes(stream, deadline, self.idle_timeout),
            Wanted::Room => wait_for_room(stream, self.write_timeout),
        };
        match outcome {
            Ok(tag) => {
                if tag == Tag::T(0) {
                    self.fail(late("a request did not come in time"));
                }
                tag
            }
            Err(error) => {
                self.fail(error);
                Tag::D(2)
            }
        }
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// `D0`: bytes are there. `D2`: the end is. `T0`: neither, in time.
fn wait_for_bytes(stream: &Stream, deadline: Instant, idle: Option<Duration>) -> io::Result<Tag> {
    loop {
        // Asked first: whoever sends a byte now and then is late all the same.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Tag::T(0));
        }
        if !stream.wait_readable(Some(idle.map_or(left, |idle| idle.min(left))))? {
            return Ok(Tag::T(0));
        }
        match stream.try_peek(&mut [0]) {
            Ok(0) => {
                // What was answered arrives, whatever the client is still sending.
                if stream.resource().registry().is_draining() {
                    stream.wait_sent(LAST_WORDS_PATIENCE)?;
                }
                return Ok(Tag::D(2));
            }
            Ok(_) => return Ok(Tag::D(0)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// `D1`: there is room.
fn wait_for_room(stream: &Stream, patience: Option<Duration>) -> io::Result<Tag> {
    if stream.wait_writable(patience)? {
        return Ok(Tag::D(1));
    }
    Err(late("the client took nothing of its answer for too long"))
}
