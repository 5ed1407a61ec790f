//! The task of a connection, which owns its socket: connects, reads and calls the receiver, and
//! closes.
//!
//! The task holds references on behalf of the manager and of the callback, and they are recorded as
//! theirs: the manager holds the callback, and the callback the connection, until the peer has
//! finished. From then on only a sender holds the connection.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::context::Context;
use super::handles::{Connection, ConnectionRef, MsgSender};
use super::shared::{Callbacks, Shared, Socket, Start, State};
use super::{ConnCallback, ConnectionLabel, MsgReceiver, Taken};
use crate::echo::EndReason;
use crate::echo::exchange::timed_out;
use crate::net::Stream;
use crate::ownership::graph::{Node, TrackedArc};
use crate::ownership::{Error, TaskError, task};

/// Read at a time: the most that waits for a receiver. On the heap: a buffer on the stack would be
/// touched page by page and stay with the thread.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;

/// How often the socket of a pending receiver is checked, because nothing reports a reset while no
/// task reads: often enough not to keep a lost connection, and seldom enough to cost nothing.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// A connection before its callback is called.
pub(super) struct ConnectionTask {
    shared: Arc<Shared>,
    /// Held by the manager until the peer has finished, and then by this task.
    callback: TrackedArc<Arc<dyn ConnCallback>>,
    /// Held by the callback until the peer has finished.
    connection: Option<TrackedArc<ConnectionRef>>,
    /// Held by what refers to the connection, and by this task until the peer has finished.
    callbacks: Weak<Callbacks>,
}

impl ConnectionTask {
    /// # Errors
    /// The connection is lost already, or this task is cancelled.
    pub(super) fn begin(context: &Context, stream: Stream) -> io::Result<ConnectionTask> {
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let label = ConnectionLabel { id: context.next_connection_id(), local, peer };
        let node = Node::new("ConnCallback");
        let callback = TrackedArc::new(node, Arc::clone(&context.callback));
        let callback = callback.clone_for(&context.node);
        let shared = Shared::new(label, stream, &context.pool, task::current(&context.registry));
        Ok(ConnectionTask { shared, callback, connection: None, callbacks: Weak::new() })
    }

    /// Serves the connection to its end.
    ///
    /// # Errors
    /// What ended it early, errors of its callbacks included.
    ///
    /// # Panics
    /// If a callback panicked; the connection has ended, and its last callback has run.
    pub(super) fn run(mut self) -> io::Result<()> {
        let callback = Arc::clone(&*self.callback);
        let exchanged = catch_unwind(AssertUnwindSafe(|| self.exchange(&*callback)));
        if let Ok(Err(error)) = &exchanged
            && is_reset_by(error)
        {
            // Before the sender is dropped, which sends the end of the stream.
            self.shared.reset_on_close();
        }
        self.release_refs();
        let closing = || callback.on_connection_close(&self.shared.label);
        let closed = catch_unwind(AssertUnwindSafe(closing));
        self.shared.close();
        match (exchanged, closed) {
            (Err(panic), _) | (Ok(_), Err(panic)) => resume_unwind(panic),
            (Ok(exchanged), Ok(())) => exchanged,
        }
    }

    fn exchange(&mut self, callback: &dyn ConnCallback) -> io::Result<()> {
        let callbacks = self.connect(callback)?;
        if !self.await_start()? {
            return Ok(());
        }
        let Some(receiver) = callbacks.receiver.get() else {
            unreachable!("a connection is started with its receiver")
        };
        self.receive(&**receiver)?;
        self.confirm_end()?;
        drop(callbacks);
        self.release_refs();
        callback.on_remote_close(&self.shared.label)?;
        self.await_sender()
    }

    /// Passes the connection to the callback.
    fn connect(&mut self, callback: &dyn ConnCallback) -> io::Result<Arc<Callbacks>> {
        let socket = Node::of(&self.shared.resource);
        let node = Node::new("Connection");
        let link = ConnectionRef::new(&self.shared, &node, &socket);
        let link = TrackedArc::new(node, link);
        let callbacks = Arc::clone(&link.callbacks);
        self.callbacks = Arc::downgrade(&callbacks);
        self.connection = Some(link.clone_for(self.callback.node()));
        let node = Node::new("Sender");
        let sender = MsgSender::new(link.clone_for(&node), node);
        callback.on_connect(Connection::new(link, self.callback.node().clone()), sender)?;
        Ok(callbacks)
    }

    /// Returns false if it will not be started.
    fn await_start(&self) -> io::Result<bool> {
        loop {
            let start = self.shared.state.lock().start;
            match start {
                Start::Started => return Ok(true),
                Start::Never => return Ok(false),
                // In a drain nothing new is begun.
                Start::Awaited if self.shared.task.is_draining() => return Ok(false),
                Start::Awaited => self.park(|state| state.start != Start::Awaited)?,
            }
        }
    }

    /// Reads, and passes everything to the receiver, until the peer has finished.
    fn receive(&self, receiver: &dyn MsgReceiver) -> io::Result<()> {
        let mut buffer = crate::echo::exchange::buffer(BUFFER_BYTES)?;
        loop {
            let read = self.read(&mut buffer);
            let bytes = read.map_err(|error| timed_out(error, EndReason::IdleTimeout))?;
            if bytes == 0 {
                return Ok(());
            }
            self.deliver(receiver, &buffer[..bytes])?;
        }
    }

    /// Reads. If a partial send waits for room meanwhile, calls the notifier when there is some.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let stream = match self.shared.socket()? {
                Socket::Whole(stream) => stream,
                Socket::Split(half) => return (&*half).read(buffer),
            };
            if !self.shared.state.lock().awaits_room {
                return (&*stream).read(buffer);
            }
            let (idle, write) = (stream.read_timeout()?, stream.write_timeout()?);
            let timeout = idle.into_iter().chain(write).min();
            let (is_readable, is_writable) = stream.wait_either(timeout)?;
            if !is_readable && !is_writable {
                let is_idle = idle.is_some() && timeout == idle;
                let reason = if is_idle { EndReason::IdleTimeout } else { EndReason::WriteTimeout };
                return Err(reason.into_error());
            }
            let read = is_readable.then(|| (&*stream).read(buffer));
            drop(stream);
            if is_writable {
                self.notify();
            }
            if let Some(read) = read {
                return read;
            }
        }
    }

    /// Passes all of a message to the receiver.
    fn deliver(&self, receiver: &dyn MsgReceiver, mut message: &[u8]) -> io::Result<()> {
        while !message.is_empty() {
            // Before the call: a wake during it is for this message.
            self.shared.state.lock().is_resumed = false;
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
                Taken::Pending => self.await_wake()?,
            }
        }
        Ok(())
    }

    /// Waits until the receiver may be called again.
    fn await_wake(&self) -> io::Result<()> {
        while !self.shared.state.lock().is_resumed {
            match self.shared.socket()? {
                Socket::Whole(stream) if self.shared.state.lock().awaits_room => {
                    self.await_room(stream, |state| state.is_resumed)?;
                }
                _ => self.park(|state| state.is_resumed)?,
            }
        }
        Ok(())
    }

    /// Waits until there is room to send, and calls the notifier then; or until another event.
    fn await_room(&self, stream: Arc<Stream>, event: impl Fn(&State) -> bool) -> io::Result<()> {
        let (since, timeout) = (Instant::now(), stream.write_timeout()?);
        while !event(&self.shared.state.lock()) {
            if stream.wait_writable(Some(CHECK_INTERVAL))? {
                drop(stream);
                self.notify();
                return Ok(());
            }
            if timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
                return Err(EndReason::WriteTimeout.into_error());
            }
        }
        Ok(())
    }

    /// There is room to send. The notifier may share the sender: this task must not hold the
    /// stream.
    fn notify(&self) {
        self.shared.state.lock().awaits_room = false;
        if let Some(callbacks) = self.callbacks.upgrade() {
            callbacks.notify();
        }
    }

    /// Waits for another task, at most until the next check of the connection.
    fn park(&self, done: impl Fn(&State) -> bool) -> io::Result<()> {
        let is_done = |state: &State| done(state) || state.failure.is_some();
        self.shared.state.wait(Some(Instant::now() + CHECK_INTERVAL), is_done)?;
        self.shared.state.lock().check()?;
        self.shared.socket()?.take_error()?.map_or(Ok(()), Err)
    }

    /// A reset is reported once. If the writer got it, the reader sees the end of the stream.
    fn confirm_end(&self) -> io::Result<()> {
        let socket = self.shared.socket()?;
        if let Socket::Split(half) = &socket
            && half.peer_addr().is_err_and(|error| error.kind() == io::ErrorKind::NotConnected)
        {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            // The writer has met the reset, or its end of the stream has arrived: it ends.
            self.join_writer()?;
        }
        self.shared.state.lock().check()
    }

    /// After the end of the input: the sender may continue.
    fn await_sender(&self) -> io::Result<()> {
        loop {
            let Socket::Whole(stream) = self.shared.socket()? else { return self.join_writer() };
            let is_pending = {
                let state = self.shared.state.lock();
                state.awaits_room && !state.is_sender_dropped
            };
            // No task could use a sender that is not shared and not pending.
            if !is_pending {
                return Ok(());
            }
            self.await_room(stream, |state| state.is_sender_dropped)?;
        }
    }

    /// Waits for the end of the writer, if there is one.
    ///
    /// # Errors
    /// Its error; or this task was cancelled, and the writer has ended, too.
    fn join_writer(&self) -> io::Result<()> {
        let writer = self.shared.state.lock().writer_promise.take();
        match writer.map_or(Ok(Ok(())), |writer| writer.join()) {
            Ok(written) => written,
            Err(TaskError::Refused(writer, error)) => {
                drop(writer.cancel());
                Err(error.into())
            }
            Err(failure) => Err(io::Error::other(failure.to_string())),
        }
    }

    /// The manager releases the callback, and the callback the connection.
    fn release_refs(&mut self) {
        self.connection = None;
        self.callback = self.callback.clone();
    }
}

/// Whether a connection that ends by this error is reset, so that its client does not take the end
/// of the stream for a complete answer.
fn is_reset_by(error: &io::Error) -> bool {
    // The registry's error is about the task, and after an idle timeout nothing is missing.
    Error::in_io(error).is_none() && EndReason::from_error(error) != EndReason::IdleTimeout
}
