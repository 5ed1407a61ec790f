//! `Client`: a connection with its current request; what the machines hand from one to the next.

use std::io;
use std::time::{Duration, Instant};

use crate::echo::EndReason;
use crate::echo::exchange::reset_by;
use crate::net::{LineBuffer, LineStatus, Readiness, Stream};
use crate::ownership::Resource;
use crate::stage::{Event, Payload, WaitFor};

/// How long the last bytes to a drained client may take to arrive.
const SEND_TIMEOUT_IN_DRAIN: Duration = Duration::from_secs(30);

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestLimits {
    /// From when it can be sent until it is complete.
    pub(super) timeout: Duration,
    /// Its length, including the newline.
    pub(super) bytes_max: usize,
}

/// A connection with its current request. The machine that has it owns the stream.
pub(super) struct Client {
    pub(super) peer: String,
    /// The request, which is also the reply.
    request: LineBuffer,
    /// `None` after it was closed.
    stream: Option<Stream>,
    /// How long the peer may send nothing.
    idle_timeout: Option<Duration>,
    /// How long the peer may receive nothing.
    write_timeout: Option<Duration>,
    /// Why the connection ended early.
    error: Option<io::Error>,
}

impl Client {
    /// A new connection.
    ///
    /// # Errors
    /// The connection's, if it has ended already.
    pub(super) fn new(stream: Stream) -> io::Result<Client> {
        Ok(Client {
            peer: stream.peer_addr()?.to_string(),
            request: LineBuffer::new(),
            idle_timeout: stream.read_timeout()?,
            write_timeout: stream.write_timeout()?,
            stream: Some(stream),
            error: None,
        })
    }

    /// Receives what has arrived of the request. Returns these bytes, and what they make of it; `None`
    /// for a failed connection.
    pub(super) fn receive(&mut self, bytes_max: usize) -> (&[u8], Option<LineStatus>) {
        let before = self.request.bytes().len();
        let status = self.with_stream(|request, stream| request.receive(stream, bytes_max));
        if status == Some(LineStatus::TooLong) {
            self.fail(EndReason::Protocol.into_error());
        }
        (&self.request.bytes()[before..], status)
    }

    /// Sends what the send buffer has space for. Returns whether this was all; `None` for a failed
    /// connection.
    pub(super) fn send(&mut self) -> Option<bool> {
        let is_sent = self.with_stream(|request, stream| request.send(stream));
        if is_sent == Some(true) {
            self.request.clear();
        }
        is_sent
    }

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        if let Some(stream) = self.stream.take()
            && let Err(error) = stream.close()
        {
            self.error = Some(error.into());
        }
    }

    /// How the connection ended.
    pub(super) fn into_result(self) -> io::Result<()> {
        self.error.map_or(Ok(()), Err)
    }

    /// Calls `act` with the request and the stream. An error is recorded and becomes `None`.
    fn with_stream<R>(
        &mut self,
        act: impl FnOnce(&mut LineBuffer, &Stream) -> io::Result<R>,
    ) -> Option<R> {
        let result = act(&mut self.request, self.stream.as_ref()?);
        result.map_err(|error| self.fail_with_reset(error)).ok()
    }

    /// Records why the connection is closed; the first reason counts.
    fn fail(&mut self, error: io::Error) {
        self.error.get_or_insert(error);
    }

    /// [`fail`](Client::fail) with a reply missing: the peer must not see an ordinary end.
    fn fail_with_reset(&mut self, error: io::Error) {
        let error = match &self.stream {
            Some(stream) => reset_by(stream, error),
            None => error,
        };
        self.fail(error);
    }
}

impl Payload for Client {
    fn resource(&self) -> Option<Resource> {
        self.stream.as_ref().map(Stream::resource)
    }

    fn transfer(&mut self) {
        if let Some(stream) = self.stream.take() {
            match stream.transfer() {
                Ok(()) => self.stream = Some(stream),
                Err(error) => self.fail(error.into()),
            }
        }
    }

    fn wait(&mut self, wait_for: WaitFor) -> Event {
        let Some(stream) = &self.stream else { return Event::D(2) };
        let waited = match wait_for {
            WaitFor::Bytes(deadline) => wait_for_bytes(stream, deadline, self.idle_timeout),
            WaitFor::Space => match stream.wait_writable(self.write_timeout) {
                Ok(false) => Err(EndReason::WriteTimeout.into_error()),
                waited => waited.map(|_| Event::D(1)),
            },
            WaitFor::Moment(_) => unreachable!("no machine of the server pauses"),
        };
        if matches!(waited, Ok(Event::T(_))) {
            // Either timeout may have passed; the one of the request counts first.
            let is_late = matches!(wait_for, WaitFor::Bytes(at) if at <= Instant::now());
            let reason = if is_late { EndReason::RequestTimeout } else { EndReason::IdleTimeout };
            self.fail(reason.into_error());
        }
        waited.unwrap_or_else(|error| {
            self.fail_with_reset(error);
            Event::D(2)
        })
    }
}

/// `D0`: bytes arrived. `D2`: the stream has ended. `T0`: neither, in time.
fn wait_for_bytes(stream: &Stream, deadline: Instant, idle: Option<Duration>) -> io::Result<Event> {
    Ok(match LineBuffer::wait(stream, deadline, idle)? {
        Readiness::Bytes => Event::D(0),
        Readiness::Nothing => Event::T(0),
        Readiness::End => {
            // The replies must arrive even if the client is still sending.
            if stream.resource().registry().is_draining() {
                stream.wait_sent(SEND_TIMEOUT_IN_DRAIN)?;
            }
            Event::D(2)
        }
    })
}
