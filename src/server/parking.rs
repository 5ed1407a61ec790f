//! Parking: connections that wait for input have no thread.
//!
//! The failure story: with a thread per connection ten thousand idle clients are ten thousand threads, and
//! a thousand active ones a switch of threads for each message. So the *workers* of an acceptor, one by
//! default, wait for all of its connections in one epoll instance, and serve those that have input, in
//! *turns*: one read and its echo. In between a connection is *parked* in the acceptor's lot, which owns
//! it; the worker that gets its event claims it, and parks it again.
//!
//! 1. Workers never wait for one client. A connection that has to wait until its client reads keeps what it could
//!    not send, at most one buffer, and is parked, too; the event that there is room continues it. There are at most
//!    [`park_blocked`](super::ServerSettings::park_blocked) such connections; with one more, the one that has waited
//!    longest is reset.
//! 2. The acceptor is the only worker by default, and accepts in between. Several workers are its children; they
//!    share an epoll instance, for which each has a descriptor of its own.
//! 3. Events are edge-triggered: each arrival is reported once, to one worker. So a connection is parked only
//!    after a read that left room in the buffer, or after all has been read if the peer has finished: its end
//!    is no further event. An event for a connection that a worker still has makes that worker read again
//!    ([`Lot`](crate::ownership::Lot)).
//!    Where a read can leave input behind although it has room for it (before urgent data, on Unix sockets),
//!    the worker looks before it parks.
//! 4. A connection leaves the epoll instance before it is closed. Otherwise a worker that waits there may keep the
//!    file open, and the client waits for an end that has happened. (A worker that is cancelled can no longer do
//!    that: at an abort the registry closes.)
//! 5. Turns read one buffer at most, and after each round the worker looks at the epoll instance, so that a few
//!    busy connections do not keep the others waiting.
//!
//! # Limits
//!
//! For handlers with [`Turns`](crate::echo::Turns) only, which keep nothing on the stack between two reads.

mod acceptor;
mod connection;
mod lot;
mod timeouts;
mod worker;

use std::io;

use crate::net::{Poller, Stream};
use crate::ownership::{Give, Resource};

pub(super) use acceptor::run;

/// What one worker waits with.
pub(super) struct WaitResources {
    poller: Poller,
    /// Registered there: a cancellation of the worker shuts it down, which wakes the worker.
    wake: Stream,
    /// Its other end, which must stay open.
    wake_peer: Stream,
}

impl WaitResources {
    /// A new epoll instance, of an acceptor.
    ///
    /// # Errors
    /// There are not enough descriptors.
    #[track_caller]
    pub(super) fn new() -> io::Result<WaitResources> {
        WaitResources::with(Poller::new()?)
    }

    #[track_caller]
    fn with(poller: Poller) -> io::Result<WaitResources> {
        let (wake, wake_peer) = Stream::pair()?;
        Ok(WaitResources { poller, wake, wake_peer })
    }
}

impl Give for WaitResources {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.poller.list(resources);
        self.wake.list(resources);
        self.wake_peer.list(resources);
    }
}
