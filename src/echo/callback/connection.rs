//! A connection, as those see it who hold it: the handle that starts it, what it keeps alive, and
//! what its task, its sender and its wakers share.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::ConnectionLabel;
use super::receiver::{MsgReceiver, MsgWaker, Notifier};
use super::waiters::lock;
use super::writer::{Outbox, over};
use crate::echo::EndReason;
use crate::net::{ReadHalf, Stream, WriteHalf};
use crate::ownership::graph::{Edge, Node, TrackedArc, edge};
use crate::ownership::task::{self, Task};
use crate::ownership::{Error, Promise, Registry, Resource, TaskError};
use crate::pool::Pool;

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// mostly earlier.
const LAST_WORDS_PATIENCE: Duration = Duration::from_secs(30);

/// A connection that stands, to be started or closed. Dropped unstarted it is closed.
pub struct Connection {
    link: TrackedArc<Link>,
    callback: Node,
}

impl Connection {
    pub(super) fn new(link: TrackedArc<Link>, callback: Node) -> Connection {
        Connection { link, callback }
    }

    /// Has what arrives given to this receiver. At once, if called in
    /// [`on_connect`](super::ConnCallback::on_connect), once that has returned.
    ///
    /// # Errors
    /// The connection is over.
    pub fn start(self, receiver: impl MsgReceiver) -> io::Result<()> {
        self.begin(Box::new(receiver), None)
    }

    /// [`start`](Connection::start) with somebody who hears when sending may go on.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(self, receiver: impl MsgReceiver, notifier: impl Notifier) -> io::Result<()> {
        self.begin(Box::new(receiver), Some(Box::new(notifier)))
    }

    fn begin(
        self,
        receiver: Box<dyn MsgReceiver>,
        notifier: Option<Box<dyn Notifier>>,
    ) -> io::Result<()> {
        let parts = &self.link.parts;
        if let Some(notifier) = notifier {
            let is_first = parts.notifier.set(notifier).is_ok();
            debug_assert!(is_first, "a handle is consumed by starting, and there is one");
        }
        let is_first = parts.receiver.set(receiver).is_ok();
        debug_assert!(is_first, "a handle is consumed by starting, and there is one");
        self.link.core.start()
    }

    /// Closes it: instead of starting it.
    pub fn close(self) {
        drop(self);
    }

    /// What resumes the receiver when it is pending.
    #[must_use]
    pub fn waker(&self) -> MsgWaker {
        MsgWaker::new(&self.link.core)
    }

    /// Which connection it is.
    #[must_use]
    pub fn label(&self) -> &ConnectionLabel {
        &self.link.core.label
    }

    /// What stands for it in the graph of references: it holds what it was started with.
    #[must_use]
    pub fn node(&self) -> &Node {
        self.link.node()
    }

    /// What stands for the callback, as far as this connection is concerned: it holds what the
    /// callback keeps for it.
    #[must_use]
    pub fn callback_node(&self) -> &Node {
        &self.callback
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.core.handle_is_gone();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.label())
    }
}

/// What a reference to a connection leads to.
pub(super) struct Link {
    core: Arc<Core>,
    parts: Arc<Parts>,
    /// To the socket, which the core holds.
    _to_stream: Edge,
}

impl Link {
    pub(super) fn new(core: &Arc<Core>, node: &Node, stream: &Node) -> Link {
        Link { core: Arc::clone(core), parts: Arc::default(), _to_stream: edge(node, stream) }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    pub(super) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }
}

/// What a connection keeps alive: as long as somebody holds the connection.
#[derive(Default)]
pub(super) struct Parts {
    receiver: OnceLock<Box<dyn MsgReceiver>>,
    notifier: OnceLock<Box<dyn Notifier>>,
}

impl Parts {
    /// Set once the connection is started.
    pub(super) fn receiver(&self) -> Option<&dyn MsgReceiver> {
        self.receiver.get().map(|receiver| &**receiver)
    }

    pub(super) fn notify(&self) {
        if let Some(notifier) = self.notifier.get() {
            notifier.on_writable();
        }
    }
}

/// What a connection's task shares with its handles. It holds the socket and none of the parts: a
/// cycle goes through a [`Link`].
pub(super) struct Core {
    label: ConnectionLabel,
    registry: Registry,
    pool: Pool,
    /// The connection's own.
    task: Arc<Task>,
    /// Names the socket, for whom it is not.
    socket: Resource,
    wire: Mutex<Wire>,
    flow: Mutex<Flow>,
}

/// The socket.
enum Wire {
    /// All of it is the connection's task's.
    Whole(Arc<Stream>),
    /// The writing half is the writer's.
    Halves(Arc<ReadHalf>, Arc<Outbox>),
    /// The connection is over.
    Gone,
}

/// By which way bytes go out.
pub(super) enum Way {
    Direct(Arc<Stream>),
    Queue(Arc<Outbox>),
}

/// By which way bytes come in.
pub(super) enum WayIn {
    Whole(Arc<Stream>),
    Half(Arc<ReadHalf>),
}

#[derive(Default)]
struct Flow {
    start: Start,
    sender_is_gone: bool,
    /// The receiver may be called again.
    is_resumed: bool,
    /// A partial send, straight to the kernel, found no room.
    awaits_room: bool,
    /// What went wrong in another task.
    failed: Option<String>,
    /// The close will reset it: no end is sent.
    is_reset: bool,
    writer: Option<Promise<io::Result<()>>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Start {
    #[default]
    Awaited,
    Started,
    /// The handle is gone.
    Never,
}

impl Core {
    pub(super) fn new(
        label: ConnectionLabel,
        stream: Stream,
        pool: &Pool,
        task: Arc<Task>,
    ) -> Arc<Core> {
        let socket = stream.resource();
        Arc::new(Core {
            label,
            registry: socket.registry().clone(),
            socket,
            pool: pool.clone(),
            task,
            wire: Mutex::new(Wire::Whole(Arc::new(stream))),
            flow: Mutex::default(),
        })
    }

    pub(super) fn label(&self) -> &ConnectionLabel {
        &self.label
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn task(&self) -> &Arc<Task> {
        &self.task
    }

    // What handles do, in whichever task.

    fn start(&self) -> io::Result<()> {
        if matches!(*lock(&self.wire), Wire::Gone) {
            return Err(over("the connection is over"));
        }
        lock(&self.flow).start = Start::Started;
        self.task.notify();
        Ok(())
    }

    fn handle_is_gone(&self) {
        let mut flow = lock(&self.flow);
        if flow.start == Start::Awaited {
            flow.start = Start::Never;
            drop(flow);
            self.task.notify();
        }
    }

    pub(super) fn resume(&self) {
        lock(&self.flow).is_resumed = true;
        self.task.notify();
    }

    /// The way out for the current task. Refused to all but the connection's own while the sender is
    /// not shared.
    #[track_caller]
    pub(super) fn way_out(&self) -> io::Result<Way> {
        let is_mine = task::current_id() == self.task.id().get();
        match &*lock(&self.wire) {
            Wire::Whole(stream) if is_mine => return Ok(Way::Direct(Arc::clone(stream))),
            // A stranger must not hold the stream even briefly: it might be the last who does.
            Wire::Whole(_) => {}
            Wire::Halves(_, outbox) => return Ok(Way::Queue(Arc::clone(outbox))),
            Wire::Gone => return Err(over("the connection is over")),
        }
        self.socket.clone().into_managed().record().check_access()?;
        // Shared meanwhile, or over: the next attempt finds out.
        Err(over("its sender is not shared"))
    }

    pub(super) fn await_room(&self) {
        lock(&self.flow).awaits_room = true;
    }

    /// Ends the sending: what is queued goes out, and then comes the end.
    pub(super) fn sender_is_gone(&self) {
        enum Last {
            Mine(Arc<Stream>),
            Strangers,
            Queued(Arc<Outbox>),
            Over,
        }
        // First: a task that comes to its end because of what follows finds no sender.
        let is_reset = {
            let mut flow = lock(&self.flow);
            flow.sender_is_gone = true;
            flow.is_reset
        };
        let is_mine = task::current_id() == self.task.id().get();
        let last = match &*lock(&self.wire) {
            Wire::Whole(stream) if is_mine => Last::Mine(Arc::clone(stream)),
            Wire::Whole(_) => Last::Strangers,
            Wire::Halves(_, outbox) => Last::Queued(Arc::clone(outbox)),
            Wire::Gone => Last::Over,
        };
        match last {
            // A peer that has reset the connection reads no end.
            Last::Mine(stream) if !is_reset => drop(stream.shutdown_write(LAST_WORDS_PATIENCE)),
            Last::Queued(outbox) => outbox.finish(),
            Last::Strangers if !self.task.has_ended() => {
                tracing::warn!(
                    "the sender of {} was not shared, and another task dropped it: the connection \
                     ends",
                    self.label
                );
                self.task.request_drain();
            }
            Last::Mine(_) | Last::Strangers | Last::Over => {}
        }
        self.task.notify();
    }

    /// Gives the writing half to a task of its own.
    #[track_caller]
    pub(super) fn share(self: &Arc<Core>, parts: &Arc<Parts>) -> io::Result<()> {
        // Refused to a stranger, whose split would be refused as well.
        if let Way::Queue(_) = self.way_out()? {
            return Ok(());
        }
        let wire = std::mem::replace(&mut *lock(&self.wire), Wire::Gone);
        let Wire::Whole(shared) = wire else {
            unreachable!("only the connection's own task, which is here, changes this")
        };
        let Ok(stream) = Arc::try_unwrap(shared) else {
            unreachable!("the connection's own task holds it only while it reads or sends")
        };
        let (wire, shared) = match stream.split() {
            Err(refused) => {
                let (error, stream) = refused.into_parts();
                let wire = stream.map_or(Wire::Gone, |stream| Wire::Whole(Arc::new(stream)));
                (wire, Err(error.into()))
            }
            Ok((read, write)) => match self.start_writer(write, parts) {
                Ok(outbox) => (Wire::Halves(Arc::new(read), outbox), Ok(())),
                Err((error, write)) => match Stream::rejoin(read, write) {
                    Ok(stream) => (Wire::Whole(Arc::new(stream)), Err(error)),
                    Err(refused) => (Wire::Gone, Err(refused.error().clone().into())),
                },
            },
        };
        *lock(&self.wire) = wire;
        shared
    }

    fn start_writer(
        self: &Arc<Core>,
        write: WriteHalf,
        parts: &Arc<Parts>,
    ) -> Result<Arc<Outbox>, (io::Error, WriteHalf)> {
        let outbox = Outbox::new(&self.registry);
        let give = [write.resource()];
        let name = format!("write {}", self.label.peer);
        // In a place of its own: a job that finds no thread comes back without being opened.
        let place = Arc::new(Mutex::new(Some(write)));
        let (theirs, core, parts) = (Arc::clone(&place), Arc::clone(self), Arc::downgrade(parts));
        let queue = Arc::clone(&outbox);
        let spawned = self.pool.spawn_named(&name, give, move || {
            let write = lock(&theirs).take();
            write.map_or(Ok(()), |write| queue.run(write, &core, &parts))
        });
        match spawned {
            Ok(writer) => {
                lock(&self.flow).writer = Some(writer);
                Ok(outbox)
            }
            Err(refused) => {
                let error = io::Error::other(refused.to_string());
                drop(refused);
                let Some(write) = lock(&place).take() else {
                    unreachable!("a job that got no thread has not run")
                };
                Err((error, write))
            }
        }
    }

    /// What went wrong in another task ends the reading, too.
    pub(super) fn fail(&self, why: &str) {
        lock(&self.flow).failed.get_or_insert_with(|| why.to_owned());
        // Wakes the reading; what had arrived is read, and thrown away.
        self.task.request_drain();
        self.task.notify();
    }

    // What the connection's own task does.

    pub(super) fn way_in(&self) -> io::Result<WayIn> {
        match &*lock(&self.wire) {
            Wire::Whole(stream) => Ok(WayIn::Whole(Arc::clone(stream))),
            Wire::Halves(read, _) => Ok(WayIn::Half(Arc::clone(read))),
            Wire::Gone => Err(over("the connection is over")),
        }
    }

    pub(super) fn start_state(&self) -> Start {
        lock(&self.flow).start
    }

    pub(super) fn has_sender(&self) -> bool {
        !lock(&self.flow).sender_is_gone
    }

    pub(super) fn forget_wakes(&self) {
        lock(&self.flow).is_resumed = false;
    }

    pub(super) fn is_resumed(&self) -> bool {
        lock(&self.flow).is_resumed
    }

    pub(super) fn awaits_room(&self) -> bool {
        lock(&self.flow).awaits_room
    }

    pub(super) fn has_room(&self) {
        lock(&self.flow).awaits_room = false;
    }

    /// # Errors
    /// What went wrong in another task.
    pub(super) fn check(&self) -> io::Result<()> {
        match &lock(&self.flow).failed {
            Some(why) => Err(over(why)),
            None => Ok(()),
        }
    }

    /// Waits for the writer's end, if there is a writer.
    ///
    /// # Errors
    /// Its own; or this task was cancelled, and the writer is over as well.
    pub(super) fn join_writer(&self) -> io::Result<()> {
        let writer = lock(&self.flow).writer.take();
        writer.map_or(Ok(()), |writer| settle(writer.join()))
    }

    /// It ends by this error: whoever sent something and waits for the end of the answer is not to take
    /// the end of the connection for that.
    pub(super) fn reset_by(&self, error: &io::Error) {
        // Who was refused or cancelled has nothing to say any more; silence owes nothing; and one that
        // is gone needs nothing.
        let is_silence = EndReason::from_error(error) == EndReason::IdleTimeout;
        if Error::in_io(error).is_some() || is_silence {
            return;
        }
        lock(&self.flow).is_reset = true;
        let _ = match self.way_in() {
            Ok(WayIn::Whole(stream)) => stream.reset_on_close(),
            Ok(WayIn::Half(half)) => half.reset_on_close(),
            Err(_) => Ok(()),
        };
    }

    /// The end: nothing goes out, and the socket is given back, unless the task's own sender is still
    /// there. That one is kept by something, and the registry is to see by what.
    pub(super) fn close(&self) {
        let has_sender = self.has_sender();
        let wire = {
            let mut wire = lock(&self.wire);
            if matches!(*wire, Wire::Whole(_)) && has_sender {
                return;
            }
            std::mem::replace(&mut *wire, Wire::Gone)
        };
        if let Wire::Halves(_, outbox) = &wire {
            outbox.fail("the connection is over");
        }
        drop(wire);
        let writer = lock(&self.flow).writer.take();
        if let Some(writer) = writer {
            // It is over, in whichever way: this connection's own error is the one to tell.
            drop(writer.cancel());
        }
    }
}

/// A writer's outcome as the connection's.
fn settle(outcome: Result<io::Result<()>, TaskError<io::Result<()>>>) -> io::Result<()> {
    match outcome {
        Ok(written) => written,
        // Cancelled while waiting: the child ends before its parent does.
        Err(TaskError::Refused(writer, error)) => {
            drop(writer.cancel());
            Err(error.into())
        }
        Err(failure) => Err(io::Error::other(failure.to_string())),
    }
}
