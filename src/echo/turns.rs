//! Serving a connection in turns: one read that does not wait and the echo of it, in whichever thread is
//! free, instead of a thread that waits.
//!
//! A turn keeps nothing on a stack that the next turn needs. So this is for handlers whose connections
//! have no state between two reads.

use std::io;

use crate::net::Stream;

/// A handler whose connections can be parked while they wait for input.
pub trait Turns: Send + Sync {
    /// Called first for every connection: how to serve it. Default: in turns.
    fn begin(&self) -> Begin {
        Begin::InTurns
    }

    /// Reads once into the buffer and echoes that, without waiting.
    ///
    /// # Errors
    /// The connection ended early.
    fn turn(&self, stream: &Stream, buffer: &mut [u8]) -> io::Result<Turn>;
}

/// Serves one connection to its end, in a task of its own.
pub type ServeInTask = Box<dyn FnOnce(Stream) -> io::Result<()> + Send>;

/// How a new connection is served.
pub enum Begin {
    /// In turns.
    InTurns,
    /// In a task of its own, by this function.
    InTask(ServeInTask),
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// All that had arrived was echoed. It can be parked: the next arrival is another event.
    Drained,
    /// More may have arrived.
    More,
    /// The peer has finished, and all was echoed.
    Finished,
    /// The bytes of the buffer in this range could not be sent without waiting.
    Blocked {
        /// The first byte that was not sent.
        from: usize,
        /// How many bytes were received.
        to: usize,
    },
}
