//! A client, as it goes from machine to machine.

use std::io;
use std::time::{Duration, Instant};

use crate::echo::{EndReason, reset_by};
use crate::net::{LineBuffer, Readiness, Stream};
use crate::ownership::{Baton, Error};
use crate::stage::{Load, Tag};

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
    id: u64,
    pub(super) peer: String,
    /// What came, and then what goes: they are the same.
    pub(super) request: LineBuffer,
    stream: Baton<Stream>,
    /// Without anything from it for so long it is cut.
    idle_timeout: Option<Duration>,
    /// Without taking anything for so long it is cut.
    write_timeout: Option<Duration>,
    /// Why it ended before its time.
    error: Option<io::Error>,
}

impl Client {
    /// A new connection, let go of for whichever machine it is sent to.
    ///
    /// # Errors
    /// The connection's, if it is over already.
    pub(super) fn new(id: u64, stream: Stream) -> io::Result<Client> {
        let mut client = Client {
            id,
            peer: stream.peer_addr()?.to_string(),
            request: LineBuffer::new(),
            idle_timeout: stream.read_timeout()?,
            write_timeout: stream.write_timeout()?,
            stream: Baton::new(stream),
            error: None,
        };
        client.let_go();
        Ok(client)
    }

    /// Notes why the client is about to be closed; the first reason counts.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.error.get_or_insert(error);
    }

    /// [`fail`](Client::fail) with an answer owed: the peer is not to take the end for the whole.
    fn fail_owing(&mut self, error: io::Error) {
        let error = match self.stream.held() {
            Some(stream) => reset_by(stream, error),
            None => error,
        };
        self.fail(error);
    }

    /// Closes the connection, in the name of the machine that has it. Answers how it went.
    pub(super) fn close(mut self) -> io::Result<()> {
        if let Some(stream) = self.stream.take() {
            stream.close()?;
        }
        self.error.map_or(Ok(()), Err)
    }

    /// Lets `act` work with request and connection; an error is noted, and answered by nothing.
    pub(super) fn with<R>(
        &mut self,
        act: impl FnOnce(&mut LineBuffer, &Stream) -> io::Result<R>,
    ) -> Option<R> {
        let outcome = act(&mut self.request, self.stream.held()?);
        outcome.map_err(|error| self.fail_owing(error)).ok()
    }

    /// Waits for what is wanted, in the name of the machine that wants it: the message to it.
    pub(super) fn wait(&mut self, wanted: Wanted) -> Tag {
        let Some(stream) = self.stream.held() else { return Tag::D(2) };
        let outcome = match wanted {
            Wanted::Request(deadline) => wait_for_bytes(stream, deadline, self.idle_timeout),
            Wanted::Room => wait_for_room(stream, self.write_timeout),
        };
        if matches!(outcome, Ok(Tag::T(_))) {
            // Which of the two it was for: the deadline of the request is looked at first.
            let is_late = matches!(wanted, Wanted::Request(at) if at <= Instant::now());
            let reason = if is_late { EndReason::RequestTimeout } else { EndReason::IdleTimeout };
            self.fail(reason.into_error());
        }
        outcome.unwrap_or_else(|error| {
            self.fail_owing(error);
            Tag::D(2)
        })
    }
}

impl Load for Client {
    type Wanted = Wanted;

    fn id(&self) -> u64 {
        self.id
    }

    fn let_go(&mut self) {
        if let Err(error) = self.stream.let_go() {
            self.strand(error);
        }
    }

    fn take_up(&mut self) {
        if let Err(error) = self.stream.take_up() {
            self.strand(error);
        }
    }

    fn strand(&mut self, error: Error) {
        self.fail(error.into());
    }
}

/// `D0`: bytes are there. `D2`: the end is. `T0`: neither, in time.
fn wait_for_bytes(stream: &Stream, deadline: Instant, idle: Option<Duration>) -> io::Result<Tag> {
    Ok(match LineBuffer::wait(stream, deadline, idle)? {
        Readiness::Bytes => Tag::D(0),
        Readiness::Nothing => Tag::T(0),
        Readiness::End => {
            // What was answered arrives, whatever the client is still sending.
            if stream.resource().registry().is_draining() {
                stream.wait_sent(LAST_WORDS_PATIENCE)?;
            }
            Tag::D(2)
        }
    })
}

/// `D1`: there is room.
fn wait_for_room(stream: &Stream, patience: Option<Duration>) -> io::Result<Tag> {
    if stream.wait_writable(patience)? {
        return Ok(Tag::D(1));
    }
    Err(EndReason::WriteTimeout.into_error())
}
