//! `Session`: a WORKER's connection with its current request; what the WORKER hands to its helpers.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::StopHandle;
use crate::net::{Endpoint, LineBuffer, LineStatus, Readiness, Stream};
use crate::ownership::Resource;
use crate::stage::{Event, Payload, WaitFor};

/// What a WORKER requests from a TX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HelperJob {
    Connect,
    Send,
}

/// A WORKER's connection with its current request. The machine that has it owns the stream.
pub(super) struct Session {
    server: Arc<Endpoint>,
    stop: StopHandle,
    pub(super) job: HelperJob,
    /// The number of the latest request; counted from 1, over all connections.
    pub(super) sequence: u64,
    /// How many requests and failed attempts to connect are left.
    left: Option<u64>,
    pub(super) request: Vec<u8>,
    /// What is left to send of the request, then what has arrived of the reply.
    pub(super) line: LineBuffer,
    /// `None` while there is no connection.
    stream: Option<Stream>,
    /// The latest failure.
    pub(super) error: Option<io::Error>,
}

impl Session {
    pub(super) fn new(server: &Arc<Endpoint>, stop: &StopHandle, count: Option<u64>) -> Session {
        Session {
            server: Arc::clone(server),
            stop: stop.clone(),
            job: HelperJob::Connect,
            sequence: 0,
            left: count,
            request: Vec::new(),
            line: LineBuffer::new(),
            stream: None,
            error: None,
        }
    }

    /// Closes the connection, if there is one.
    pub(super) fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take()
            && let Err(error) = stream.close()
        {
            tracing::warn!("failed to close a connection: {error}");
        }
    }

    /// Counts a request or a failed attempt to connect. After the last one, closes the connection and
    /// returns true.
    pub(super) fn is_done(&mut self) -> bool {
        let Some(left) = &mut self.left else { return false };
        *left = left.saturating_sub(1);
        let is_done = *left == 0;
        if is_done {
            self.hang_up();
        }
        is_done
    }

    /// Receives what has arrived of the reply. `None` for a failed connection.
    pub(super) fn receive(&mut self) -> Option<LineStatus> {
        // A reply that is longer than the request is wrong; the rest of it does not matter.
        let bytes_max = self.request.len();
        self.with_stream(|line, stream| line.receive(stream, bytes_max))
    }

    /// Sends what the send buffer has space for; nothing for a new connection. Returns whether this was
    /// all; `None` for a failed connection.
    pub(super) fn send(&mut self) -> Option<bool> {
        let is_sent = match self.job {
            HelperJob::Connect => Some(true),
            HelperJob::Send => self.with_stream(|line, stream| line.send(stream)),
        };
        if is_sent == Some(true) {
            self.line.clear();
        }
        is_sent
    }

    /// Calls `act` with the line and the stream. An error is recorded and becomes `None`.
    fn with_stream<R>(
        &mut self,
        act: impl FnOnce(&mut LineBuffer, &Stream) -> io::Result<R>,
    ) -> Option<R> {
        let result = act(&mut self.line, self.stream.as_ref()?);
        result.map_err(|error| self.error = Some(error)).ok()
    }

    fn connect(&mut self) -> io::Result<Event> {
        self.stream = Some(Stream::connect_to_endpoint(&self.server)?);
        Ok(Event::D(1))
    }

    fn stream(&self) -> io::Result<&Stream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn wait_for_bytes(&self, deadline: Instant) -> io::Result<Event> {
        match LineBuffer::wait(self.stream()?, deadline, None)? {
            Readiness::Bytes => Ok(Event::D(0)),
            Readiness::Nothing => Ok(Event::T(0)),
            Readiness::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Payload for Session {
    fn resource(&self) -> Option<Resource> {
        self.stream.as_ref().map(Stream::resource)
    }

    fn transfer(&mut self) {
        if let Some(stream) = self.stream.take() {
            match stream.transfer() {
                Ok(()) => self.stream = Some(stream),
                Err(error) => self.error = Some(error.into()),
            }
        }
    }

    fn wait(&mut self, wait_for: WaitFor) -> Event {
        self.error = None;
        let waited = match wait_for {
            WaitFor::Space if self.job == HelperJob::Connect => self.connect(),
            WaitFor::Space => self.stream().and_then(|stream| {
                stream.wait_writable(None)?;
                Ok(Event::D(1))
            }),
            WaitFor::Bytes(deadline) => self.wait_for_bytes(deadline),
            WaitFor::Moment(moment) => {
                self.stop.wait_until(moment);
                Ok(Event::T(0))
            }
        };
        waited.unwrap_or_else(|error| {
            self.error = Some(error);
            Event::D(2)
        })
    }
}
