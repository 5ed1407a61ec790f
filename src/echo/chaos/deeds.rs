//! What is done to a connection that is struck. Each deed is the real thing.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use super::plan::Fault;
use crate::net::Stream;
use crate::ownership::graph::{Edge, Node, TrackedArc, edge};
use crate::ownership::{Error, ErrorKind, Registry, TaskError};
use crate::sys;

/// Commits a fault on the stream, in the task that owns it. `count` is called once, when the deed is
/// done, or at once before what cannot fail. The stream comes back when it can go on.
///
/// # Errors
/// What keeps a fault from being committed: a cancellation, no descriptor. Nothing has been counted.
/// Or what went wrong after it was, such as a close that fails.
pub(super) fn commit(fault: Fault, stream: Stream, count: &dyn Fn()) -> io::Result<Option<Stream>> {
    match fault {
        Fault::Panic => {
            count();
            panic!("chaos: a panic in the middle of an exchange");
        }
        Fault::Leak => {
            count();
            std::mem::forget(stream);
            Ok(None)
        }
        Fault::ForeignWrite => steal(stream, count),
        Fault::Cycle => {
            count();
            tie_a_knot(stream);
            Ok(None)
        }
        Fault::DoubleRelease => {
            // It is released whatever its close says.
            let closed = stream.release();
            // The second release is what this is about; a cancelled task is refused for that reason.
            if stream.release().is_err_and(|refused| refused.kind() == ErrorKind::DoubleRelease) {
                count();
            }
            closed?;
            Ok(None)
        }
        Fault::FdReplaced => rob(stream, count).map(|()| None),
        Fault::FinalizerPanic => fail_to_finalize(stream, count).map(|()| None),
    }
}

fn registry_of(stream: &Stream) -> Registry {
    stream.resource().registry().clone()
}

/// What a thief would write into the connection, if it were not refused.
const LOOT: &[u8] = b"chaos: this was written by a thread that does not own the connection";

/// A thread that was given nothing writes to the connection. It is refused before the system call, so
/// that the client notices nothing, and the connection goes on.
fn steal(stream: Stream, count: &dyn Fn()) -> io::Result<Option<Stream>> {
    let registry = registry_of(&stream);
    let shared = Arc::new(stream);
    let theirs = Arc::clone(&shared);
    let refused = Arc::new(OnceLock::new());
    let told = Arc::clone(&refused);
    let thief = crate::thread::spawn_in(&registry, "foreign-writer", [], move || {
        if let Err(error) = (&*theirs).write(LOOT)
            && let Some(error) = Error::in_io(&error)
        {
            let _ = told.set(error.kind());
        }
    });
    let ended = match thief {
        Ok(thief) => match thief.join() {
            // This task was cancelled meanwhile. Its child ends before it does.
            Err(TaskError::Refused(thief, error)) => {
                drop(thief.cancel());
                Err(error.into())
            }
            outcome => outcome.map_err(|failure| io::Error::other(failure.to_string())),
        },
        // Without a thread there is no thief.
        Err(refused) => {
            drop(refused.into_job());
            Ok(())
        }
    };
    // A thief that was cancelled before is refused for that reason.
    if refused.get() == Some(&ErrorKind::NotOwner) {
        count();
    }
    ended?;
    match Arc::try_unwrap(shared) {
        Ok(stream) => Ok(Some(stream)),
        Err(_) => unreachable!("a child's closure is gone when the child has ended"),
    }
}

/// Holds the connection, and whoever watches over it.
struct Session {
    _stream: Stream,
    _to_stream: Edge,
    watcher: OnceLock<TrackedArc<Watcher>>,
}

/// Holds the session that it watches over. One of the two would have to know the other only weakly.
struct Watcher {
    _session: TrackedArc<Session>,
}

/// Two values that hold each other hold the handle: it outlives its task.
fn tie_a_knot(stream: Stream) {
    let registry = registry_of(&stream);
    let node = Node::new_in(&registry, "Session");
    let to_stream = edge(&node, &Node::of(&stream.resource()));
    let session = Session { _stream: stream, _to_stream: to_stream, watcher: OnceLock::new() };
    let session = TrackedArc::new(node, session);
    let node = Node::new_in(&registry, "Watcher");
    let watcher = TrackedArc::new(node.clone(), Watcher { _session: session.clone_for(&node) });
    // The reference that closes the cycle.
    let closing = watcher.clone_for(session.node());
    if session.watcher.set(closing).is_err() {
        unreachable!("a new session is watched by nobody");
    }
}

/// Another file takes the connection's number, behind the registry's back: that closes the socket. The
/// handle is dropped while the newcomer is there, which the registry must leave alone; afterwards its
/// own owner closes it.
fn rob(stream: Stream, count: &dyn Fn()) -> io::Result<()> {
    let registry = registry_of(&stream);
    // No socket: a canceller that has just looked the number over may shut it down, which does nothing
    // to this one. No file either: there may be none.
    let original = registry.own_fd(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?.0)?;
    let mut taker = None;
    let robbed = original.with(|file| {
        stream.handle().call(|number| {
            taker = Some(sys::close::take_over(number, &*file)?);
            Ok(())
        })
    });
    let Some(taker) = taker else {
        return robbed?;
    };
    count();
    // Released whatever its close says; that must not keep the theft from being noticed below.
    let closed = original.release();
    // The theft is noticed here, and once more when the old handle is dropped; reported once.
    let taker = registry.own_fd(taker)?;
    drop(stream);
    // Itself a theft, if the old handle had closed what is not its own.
    Ok(closed.and(taker.release())?)
}

/// The connection gets another owner's contract: one whose finalizer closes it and then panics.
fn fail_to_finalize(stream: Stream, count: &dyn Fn()) -> io::Result<()> {
    let registry = registry_of(&stream);
    let socket = stream.disown()?;
    let owned = registry.own_fd_with(socket, |socket: OwnedFd| {
        drop(socket);
        panic!("chaos: a finalizer that panics");
    })?;
    count();
    drop(owned);
    Ok(())
}
