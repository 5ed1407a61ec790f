//! The life of a connection, in the task that owns its socket: connect, read and call back, remote
//! close, close.
//!
//! Who holds whom is told by edges, and what this task holds in the manager's and the callback's
//! name is on record as theirs: the manager keeps the callback for the connection, and the callback
//! the connection, until nothing more comes from the peer. From then on only a sender holds it.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::connection::{Connection, Core, Link, Parts, Start, WayIn};
use super::context::Context;
use super::receiver::Taken;
use super::sender::MsgSender;
use super::{ConnCallback, ConnectionLabel};
use crate::echo::EndReason;
use crate::echo::plain::timed_out;
use crate::net::Stream;
use crate::ownership::graph::{Node, TrackedArc};
use crate::ownership::task;

/// Bytes that are read at a time: the most of a connection that waits for its receiver. On the heap:
/// a buffer on the stack would be touched page by page and stay with the thread.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// How often a receiver that is pending has its connection looked at: nothing tells of a reset while
/// nobody reads. Often enough not to keep what is gone, seldom enough to cost nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A connection that stands, before its callback knows of it.
pub(super) struct Life {
    core: Arc<Core>,
    /// Held by the manager until nothing more comes, and then by this task alone.
    callback: TrackedArc<Arc<dyn ConnCallback>>,
    /// Held by the callback until nothing more comes.
    connection: Option<TrackedArc<Link>>,
    socket: Node,
}

impl Life {
    /// # Errors
    /// The connection is gone already, or this task is cancelled.
    pub(super) fn begin(context: &Context, stream: Stream) -> io::Result<Life> {
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let label = ConnectionLabel { id: context.next_connection_id(), local, peer };
        let callback = TrackedArc::new(
            Node::new_in(&context.registry, "ConnCallback"),
            Arc::clone(&context.callback),
        );
        let callback = callback.clone_for(&context.node);
        let socket = Node::of(&stream.resource());
        let me = task::current(&context.registry);
        let core = Core::new(label, stream, &context.pool, me);
        Ok(Life { core, callback, connection: None, socket })
    }

    /// Serves the connection to its end.
    ///
    /// # Errors
    /// What ended it before its time.
    pub(super) fn run(mut self) -> io::Result<()> {
        let callback = Arc::clone(&*self.callback);
        let exchanged = catch_unwind(AssertUnwindSafe(|| self.exchange(&*callback)));
        if let Ok(Err(error)) = &exchanged {
            // Before whoever has the sender drops it, which would send the end.
            self.core.reset_by(error);
        }
        self.let_go();
        let closing = || callback.on_connection_close(self.core.label());
        let closed = catch_unwind(AssertUnwindSafe(closing));
        self.core.close();
        match (exchanged, closed) {
            (Err(panic), _) | (Ok(_), Err(panic)) => resume_unwind(panic),
            (Ok(exchanged), Ok(())) => exchanged,
        }
    }

    fn exchange(&mut self, callback: &dyn ConnCallback) -> io::Result<()> {
        let parts = self.connect(callback)?;
        if !self.await_start()? {
            return Ok(());
        }
        self.receive(&parts)?;
        self.confirm_end()?;
        let parts = into_weak(parts);
        self.let_go();
        callback.on_remote_close(self.core.label())?;
        self.await_sender(&parts)
    }

    /// Hands the connection over, in its two parts.
    fn connect(&mut self, callback: &dyn ConnCallback) -> io::Result<Arc<Parts>> {
        let node = Node::new_in(self.core.registry(), "Connection");
        let link = TrackedArc::new(node.clone(), Link::new(&self.core, &node, &self.socket));
        let parts = Arc::clone(link.parts());
        self.connection = Some(link.clone_for(self.callback.node()));
        let node = Node::new_in(self.core.registry(), "Sender");
        let sender = MsgSender::new(link.clone_for(&node), node);
        let connection = Connection::new(link, self.callback.node().clone());
        callback.on_connect(connection, sender)?;
        Ok(parts)
    }

    /// False: it will never be started.
    fn await_start(&self) -> io::Result<bool> {
        loop {
            match self.core.start_state() {
                Start::Started => return Ok(true),
                Start::Never => return Ok(false),
                // Nothing was begun that could be finished.
                Start::Awaited if self.core.task().is_draining() => return Ok(false),
                Start::Awaited => self.rest(|core| core.start_state() != Start::Awaited)?,
            }
        }
    }

    /// Reads, and has the receiver take it, until nothing more comes.
    fn receive(&self, parts: &Parts) -> io::Result<()> {
        let mut buffer = crate::echo::buffer(BUFFER_BYTES)?;
        loop {
            let silent = |error| timed_out(error, EndReason::IdleTimeout);
            let bytes = self.read(parts, &mut buffer).map_err(silent)?;
            if bytes == 0 {
                return Ok(());
            }
            self.deliver(parts, &buffer[..bytes])?;
        }
    }

    /// A reset is told once, to whoever asks first. If that was the writer, it looks like the end of
    /// the stream here.
    fn confirm_end(&self) -> io::Result<()> {
        if let WayIn::Half(half) = self.core.way_in()?
            && half.peer_addr().is_err_and(|error| error.kind() == io::ErrorKind::NotConnected)
        {
            if let Some(error) = half.take_error()? {
                return Err(error);
            }
            // It has met the reset, or it has sent the end and that has arrived: in either case it
            // comes to its end.
            self.core.join_writer()?;
        }
        self.core.check()
    }

    fn read(&self, parts: &Parts, buffer: &mut [u8]) -> io::Result<usize> {
        match self.core.way_in()? {
            WayIn::Half(half) => (&*half).read(buffer),
            WayIn::Whole(stream) => {
                while self.core.awaits_room() {
                    let (idle, write) = (stream.read_timeout()?, stream.write_timeout()?);
                    let patience = shorter(idle, write);
                    let (is_readable, is_writable) = stream.wait_either(patience)?;
                    if is_writable {
                        self.tell_of_room(parts);
                    }
                    if is_readable {
                        break;
                    }
                    if !is_writable {
                        let is_idle = idle.is_some() && patience == idle;
                        let reason =
                            if is_idle { EndReason::IdleTimeout } else { EndReason::WriteTimeout };
                        return Err(reason.into_error());
                    }
                }
                (&*stream).read(buffer)
            }
        }
    }

    /// Has the receiver take all of it.
    fn deliver(&self, parts: &Parts, mut message: &[u8]) -> io::Result<()> {
        let Some(receiver) = parts.receiver() else {
            unreachable!("a connection is read from once it was started with its receiver")
        };
        while !message.is_empty() {
            // Before the call: whoever wakes during it means this message.
            self.core.forget_wakes();
            match receiver.on_message(message)? {
                Taken::All => return Ok(()),
                Taken::Some(bytes) if (1..=message.len()).contains(&bytes) => {
                    message = &message[bytes..];
                }
                Taken::Some(bytes) => {
                    let text = format!(
                        "a receiver took {bytes} of {} bytes, expected at least one and no more",
                        message.len()
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                Taken::Pending => self.await_wake(parts)?,
            }
        }
        Ok(())
    }

    /// Waits until the receiver may be called again.
    fn await_wake(&self, parts: &Parts) -> io::Result<()> {
        let since = Instant::now();
        while !self.core.is_resumed() {
            match self.core.way_in()? {
                WayIn::Whole(stream) if self.core.awaits_room() => {
                    let patience = stream.write_timeout()?;
                    if stream.wait_writable(Some(LOOK_INTERVAL))? {
                        self.tell_of_room(parts);
                    } else if patience.is_some_and(|patience| since.elapsed() >= patience) {
                        return Err(EndReason::WriteTimeout.into_error());
                    }
                }
                _ => self.rest(Core::is_resumed)?,
            }
        }
        Ok(())
    }

    /// Waits for somebody else's doing, and looks at the connection from time to time.
    fn rest(&self, over: impl Fn(&Core) -> bool) -> io::Result<()> {
        let (core, task) = (&*self.core, self.core.task());
        let deadline = Instant::now() + LOOK_INTERVAL;
        let is_over = || over(core) || core.check().is_err() || task.is_cancelled();
        task.wait_until(is_over, Some(deadline));
        core.check()?;
        // Cancelled: each says so.
        let error = match core.way_in()? {
            WayIn::Whole(stream) => stream.take_error()?,
            WayIn::Half(half) => half.take_error()?,
        };
        error.map_or(Ok(()), Err)
    }

    fn tell_of_room(&self, parts: &Parts) {
        self.core.has_room();
        parts.notify();
    }

    /// The manager lets go of the callback, and the callback of the connection.
    fn let_go(&mut self) {
        self.connection = None;
        self.callback = self.callback.clone();
    }

    /// After the peer's end: the sender may go on.
    fn await_sender(&self, parts: &Weak<Parts>) -> io::Result<()> {
        loop {
            match self.core.way_in()? {
                WayIn::Half(_) => return self.core.join_writer(),
                // Without a send that is pending nobody is left who could use it.
                WayIn::Whole(stream) => {
                    if !self.core.has_sender() || !self.core.awaits_room() {
                        return Ok(());
                    }
                    if !stream.wait_writable(stream.write_timeout()?)? {
                        return Err(EndReason::WriteTimeout.into_error());
                    }
                }
            }
            self.core.has_room();
            if let Some(parts) = parts.upgrade() {
                parts.notify();
            }
        }
    }
}

/// From now on only whoever holds the connection keeps its parts.
fn into_weak(parts: Arc<Parts>) -> Weak<Parts> {
    Arc::downgrade(&parts)
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
