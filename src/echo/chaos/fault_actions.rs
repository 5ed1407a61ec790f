//! Fault actions: how each kind of fault is injected into a connection, for real.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use crate::faults::Fault;
use crate::net::Stream;
use crate::ownership::graph::{Edge, Node, TrackedArc, edge};
use crate::ownership::{Error, ErrorKind, Registry, TaskError};
use crate::sys;

/// Injects a fault into the stream, in the task that owns it. Calls `count` once, after the fault, or
/// before a fault that cannot fail. Returns the stream if the connection can continue.
///
/// # Errors
/// The fault was prevented, by a cancellation or the descriptor limit, and nothing was counted; or
/// an error after the fault, such as a close that fails.
pub(super) fn inject(fault: Fault, stream: Stream, count: &dyn Fn()) -> io::Result<Option<Stream>> {
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
        Fault::ForeignWrite => foreign_write(stream, count),
        Fault::Cycle => {
            count();
            leak_in_cycle(stream);
            Ok(None)
        }
        Fault::DoubleRelease => {
            // Released even if the close fails.
            let closed = stream.release();
            // The second release is the fault; a cancelled task gets a different error.
            if stream.release().is_err_and(|refused| refused.kind() == ErrorKind::DoubleRelease) {
                count();
            }
            closed?;
            Ok(None)
        }
        Fault::FdReplaced => replace_fd(stream, count).map(|()| None),
        Fault::FinalizerPanic => panic_in_finalizer(stream, count).map(|()| None),
        other => unreachable!("{other:?} strikes system calls"),
    }
}

fn registry_of(stream: &Stream) -> Registry {
    stream.resource().registry().clone()
}

/// The bytes of the foreign write, which is rejected.
const FOREIGN_BYTES: &[u8] =
    b"chaos: this was written by a thread that does not own the connection";

/// A thread that does not own the connection writes to it. The write is rejected before the system
/// call, so the client notices nothing, and the connection continues.
fn foreign_write(stream: Stream, count: &dyn Fn()) -> io::Result<Option<Stream>> {
    let shared = Arc::new(stream);
    let writer_stream = Arc::clone(&shared);
    let kind = Arc::new(OnceLock::new());
    let error_kind = Arc::clone(&kind);
    let writer = crate::thread::spawn_named("foreign-writer", [], move || {
        if let Err(error) = (&*writer_stream).write(FOREIGN_BYTES)
            && let Some(error) = Error::in_io(&error)
        {
            let _ = error_kind.set(error.kind());
        }
    });
    let ended = match writer {
        Ok(writer) => match writer.join() {
            // This task was cancelled meanwhile. Its child ends before it does.
            Err(TaskError::Refused(writer, error)) => {
                drop(writer.cancel());
                Err(error.into())
            }
            outcome => outcome.map_err(|failure| io::Error::other(failure.to_string())),
        },
        // Without a thread there is no foreign write.
        Err(refused) => {
            drop(refused.into_job());
            Ok(())
        }
    };
    // A writer that was cancelled before gets a different error.
    if kind.get() == Some(&ErrorKind::NotOwner) {
        count();
    }
    ended?;
    match Arc::try_unwrap(shared) {
        Ok(stream) => Ok(Some(stream)),
        Err(_) => unreachable!("a child's closure is gone when the child has ended"),
    }
}

/// Has a strong reference to the connection and to its watcher.
struct Session {
    _stream: Stream,
    _to_stream: Edge,
    watcher: OnceLock<TrackedArc<Watcher>>,
}

/// Has a strong reference to its session. One of the two references should be weak.
struct Watcher {
    _session: TrackedArc<Session>,
}

/// Two values with strong references to each other keep the handle: it outlives its task.
fn leak_in_cycle(stream: Stream) {
    let node = Node::new("Session");
    let to_stream = edge(&node, &Node::of(&stream.resource()));
    let session = Session { _stream: stream, _to_stream: to_stream, watcher: OnceLock::new() };
    let session = TrackedArc::new(node, session);
    let node = Node::new("Watcher");
    let watcher = TrackedArc::new(node.clone(), Watcher { _session: session.clone_for(&node) });
    // The reference that closes the cycle.
    let closing = watcher.clone_for(session.node());
    if session.watcher.set(closing).is_err() {
        unreachable!("a new session has no watcher");
    }
}

/// Another file takes the connection's descriptor number, outside the registry, which closes the
/// socket. The handle is dropped while the other file is open; the registry must not close that
/// file, and its own owner closes it afterwards.
fn replace_fd(stream: Stream, count: &dyn Fn()) -> io::Result<()> {
    let registry = registry_of(&stream);
    // A pipe: a cancellation that has just checked the number may shut it down, which does nothing to a
    // pipe; and there may be no file to open.
    let original = registry.own_fd(sys::platform::pipe()?.0)?;
    let mut newcomer = None;
    let replaced = original.with(|file| {
        stream.handle().call(|number| {
            newcomer = Some(sys::close::take_over(number, &*file)?);
            Ok(())
        })
    });
    let Some(newcomer) = newcomer else {
        return replaced?;
    };
    count();
    // Released even if the close fails; an error must not prevent the detection below.
    let closed = original.release();
    // The replacement is detected here, and again when the old handle is dropped; reported once.
    let newcomer = registry.own_fd(newcomer)?;
    drop(stream);
    // This fails if the old handle has closed a descriptor that is not its own.
    Ok(closed.and(newcomer.release())?)
}

/// Registers the connection with a finalizer that closes it and then panics.
fn panic_in_finalizer(stream: Stream, count: &dyn Fn()) -> io::Result<()> {
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
