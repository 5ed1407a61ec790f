//! A talk with the server: what a WORKER has, and sends its helpers with.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::Stop;
use crate::net::{Endpoint, LineBuffer, Readiness, Stream};
use crate::ownership::{Baton, Error, Registry};
use crate::stage::{Load, Tag};

/// What a machine waits for, on the thread of its WORKER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A connection.
    Connection,
    /// Room for bytes.
    Room,
    /// Bytes, until then.
    Reply(Instant),
    /// Nothing, until then.
    Moment(Instant),
}

/// What a helper is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Connect,
    Send,
    Receive,
}

/// One WORKER's connection, with the request and the reply that are under way.
pub(super) struct Talk {
    id: u64,
    registry: Registry,
    server: Arc<Endpoint>,
    stop: Stop,
    pub(super) errand: Errand,
    pub(super) request: Vec<u8>,
    /// The request as it goes, and the reply as it comes.
    pub(super) line: LineBuffer,
    stream: Baton<Stream>,
    /// What went wrong last.
    pub(super) error: Option<io::Error>,
}

impl Talk {
    pub(super) fn new(id: u64, registry: &Registry, server: &Arc<Endpoint>, stop: &Stop) -> Talk {
        Talk {
            id,
            registry: registry.clone(),
            server: Arc::clone(server),
            stop: stop.clone(),
            errand: Errand::Connect,
            request: Vec::new(),
            line: LineBuffer::new(),
            stream: Baton::empty(),
            error: None,
        }
    }

    /// Closes the connection, if there is one, in the name of the machine that has it.
    pub(super) fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take()
            && let Err(error) = stream.close()
        {
            tracing::warn!("closing: {error}");
        }
    }

    /// Lets `act` work with line and connection; an error is noted, and answered by nothing.
    pub(super) fn with<R>(
        &mut self,
        act: impl FnOnce(&mut LineBuffer, &Stream) -> io::Result<R>,
    ) -> Option<R> {
        let outcome = act(&mut self.line, self.stream.held()?);
        outcome.map_err(|error| self.error = Some(error)).ok()
    }

    /// Waits for what is wanted, in the name of the machine that wants it: the message to it.
    pub(super) fn wait(&mut self, wanted: Wanted) -> Tag {
        self.error = None;
        let outcome = match wanted {
            Wanted::Connection => self.connect(),
            Wanted::Room => self.wait_for_room(),
            Wanted::Reply(deadline) => self.wait_for_bytes(deadline),
            Wanted::Moment(moment) => {
                self.stop.wait_until(moment);
                Ok(Tag::T(0))
            }
        };
        outcome.unwrap_or_else(|error| {
            self.error = Some(error);
            Tag::D(2)
        })
    }

    fn connect(&mut self) -> io::Result<Tag> {
        let stream = Stream::connect_to_endpoint_in(&self.registry, &self.server)?;
        self.stream = Baton::new(stream);
        Ok(Tag::D(1))
    }

    fn stream(&self) -> io::Result<&Stream> {
        self.stream.held().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn wait_for_room(&self) -> io::Result<Tag> {
        self.stream()?.wait_writable(None)?;
        Ok(Tag::D(1))
    }

    fn wait_for_bytes(&self, deadline: Instant) -> io::Result<Tag> {
        match LineBuffer::wait(self.stream()?, deadline, None)? {
            Readiness::Bytes => Ok(Tag::D(0)),
            Readiness::Nothing => Ok(Tag::T(0)),
            Readiness::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Load for Talk {
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
        self.error = Some(error.into());
    }
}
