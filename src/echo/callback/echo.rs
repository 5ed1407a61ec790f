//! The echo that stands on callbacks: the cycle that it ties, and how it is cut at every end.
//!
//! | moment | what happens |
//! |---|---|
//! | connected | the receiver gets the sender, and the cycle is closed: receiver, sender, connection |
//! | remote closed | the manager has let go of the connection; the sender alone holds it |
//! | erased | the receiver's sender and notifier are taken out, the callback lets go of the receiver, and what was taken out is dropped: the counts fall to zero |
//!
//! Erasing is done when the peer finishes, and at every other end as well (a reset, an error, a panic,
//! an abort): then in `on_connection_close`, which always comes.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::mem::take;
use std::sync::{Arc, Mutex, OnceLock};

use super::waiting::lock;
use super::{
    ConnCallback, Connection, ConnectionLabel, MsgReceiver, MsgSender, MsgWaker, Notifier, Sent,
    SocketManager, Taken,
};
use crate::echo::{ChaosTarget, Handler, Memory, ServerContext};
use crate::net::Stream;
use crate::ownership::graph::{Graph, Node, NodeLabel, TrackedArc};
use crate::ownership::task;
use crate::ownership::{Registry, TaskId};
use crate::pool::Pool;

/// Where a connection stands when its references are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The echo is ready, and the cycle is closed.
    Connected,
    /// The peer has finished.
    RemoteClosed,
    /// The connection has ended in another way: a reset, an error, an abort. Comes in the place of
    /// [`RemoteClosed`](Moment::RemoteClosed).
    Closed,
    /// The sender is being dropped: its count is zero, and what it holds is still there.
    Erased,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Moment::Connected => "connected",
            Moment::RemoteClosed => "remote closed",
            Moment::Closed => "closed",
            Moment::Erased => "erased",
        })
    }
}

/// What keeps a connection alive and what it keeps alive, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Picture {
    /// Which connection.
    pub connection: ConnectionLabel,
    /// When.
    pub moment: Moment,
    /// The references, without those to the socket.
    pub graph: Graph,
}

type Show = Arc<dyn Fn(&Picture) + Send + Sync>;

/// The echo by callbacks: every byte comes back, and then the end.
#[derive(Default)]
pub struct Callback {
    show: Option<Show>,
    working: Mutex<Option<Arc<Working>>>,
}

/// While the server runs.
struct Working {
    careful: SocketManager,
    /// Leaves the cycle in place; see [`ChaosTarget::serve_leaking_cycle`]. Made when it is asked for.
    careless: OnceLock<SocketManager>,
    /// The tasks whose connection has left its cycle.
    careless_tasks: Arc<Mutex<Vec<TaskId>>>,
    pool: Pool,
}

impl Callback {
    /// An echo that shows nothing.
    #[must_use]
    pub fn new() -> Callback {
        Callback::default()
    }

    /// An echo that shows three pictures of each connection: when it is connected, when it is
    /// closed, and when its cycle is cut. `show` is called in the connection's task.
    #[must_use]
    pub fn showing(show: impl Fn(&Picture) + Send + Sync + 'static) -> Callback {
        Callback { show: Some(Arc::new(show)), working: Mutex::default() }
    }

    fn manager(&self, pool: &Pool, leaves: Option<Arc<Mutex<Vec<TaskId>>>>) -> SocketManager {
        let echo = Echo {
            registry: pool.registry().clone(),
            show: self.show.clone(),
            receivers: Mutex::default(),
            leaves,
        };
        SocketManager::serving_only(echo, pool)
    }

    fn working(&self) -> io::Result<Arc<Working>> {
        let working = lock(&self.working).clone();
        working.ok_or_else(|| io::Error::other("this way of echoing was not opened"))
    }
}

impl Handler for Callback {
    fn name(&self) -> &'static str {
        "callback"
    }

    /// Its buffer, and the references that are on record.
    fn memory(&self) -> Memory {
        const RECORD_BYTES: usize = 24 * 1024;
        Memory { own: (super::life::BUFFER_BYTES + RECORD_BYTES) as u64, pooled: 0 }
    }

    fn open(&self, context: &ServerContext) -> io::Result<()> {
        let working = Working {
            careful: self.manager(&context.pool, None),
            careless: OnceLock::new(),
            careless_tasks: Arc::default(),
            pool: context.pool.clone(),
        };
        *lock(&self.working) = Some(Arc::new(working));
        Ok(())
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        self.working()?.careful.serve(stream)
    }

    fn close(&self) {
        *lock(&self.working) = None;
    }
}

impl ChaosTarget for Callback {
    fn serve_leaking_cycle(
        &self,
        stream: Stream,
        count: &dyn Fn(),
    ) -> Result<io::Result<()>, Stream> {
        let Ok(working) = self.working() else { return Err(stream) };
        let left = || Some(Arc::clone(&working.careless_tasks));
        let careless = working.careless.get_or_init(|| self.manager(&working.pool, left()));
        let went = careless.serve(stream);
        let me = task::current(working.pool.registry());
        let mut tasks = lock(&working.careless_tasks);
        let mine = tasks.iter().position(|&task| task == me.id());
        let has_left = mine.map(|mine| tasks.swap_remove(mine)).is_some();
        drop(tasks);
        // A cancelled task's leak is no leak: its finalizers are what cancelling is about.
        if has_left && !me.is_cancelled() {
            count();
        }
        Ok(went)
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

/// The callback: knows each connection's receiver, so that it can be erased.
struct Echo {
    registry: Registry,
    show: Option<Show>,
    receivers: Mutex<HashMap<u64, TrackedArc<Receiver>>>,
    /// Where it says whose cycle it has left in place, if it is that careless.
    leaves: Option<Arc<Mutex<Vec<TaskId>>>>,
}

impl ConnCallback for Echo {
    fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()> {
        let label = connection.label().clone();
        let node = |name: &str| Node::new_in(&self.registry, name);
        let album = Album {
            show: self.show.clone(),
            registry: self.registry.clone(),
            label: label.clone(),
            node: connection.node().label(),
        };

        let waker = connection.waker();
        let waker = TrackedArc::new(waker.node().clone(), waker);
        let notifier = node("Notifier");
        let notifier =
            TrackedArc::new(notifier.clone(), Resumes { waker: waker.clone_for(&notifier) });
        let sender =
            TrackedArc::new(sender.node().clone(), Answers { album: album.clone(), sender });
        let receiver = TrackedArc::new(node("MsgReceiver"), Receiver::default());
        let known = receiver.clone_for(connection.callback_node());
        lock(&self.receivers).insert(label.id, known);

        let link = connection.node().clone();
        connection.start_with(receiver.clone_for(&link), notifier.clone_for(&link))?;
        // This closes the cycle. It is made last: what a report advises to cut is the latest.
        let node = receiver.node();
        receiver.hold(Held {
            notifier: Some(notifier.clone_for(node)),
            sender: Some(sender.clone_for(node)),
        });
        drop((waker, notifier, sender, receiver));
        album.take(Moment::Connected);
        Ok(())
    }

    fn on_remote_close(&self, connection: &ConnectionLabel) -> io::Result<()> {
        self.erase(connection, Moment::RemoteClosed);
        Ok(())
    }

    fn on_connection_close(&self, connection: &ConnectionLabel) {
        self.erase(connection, Moment::Closed);
    }
}

impl Echo {
    /// Cuts the cycle, unless that was done before.
    fn erase(&self, connection: &ConnectionLabel, moment: Moment) {
        let known = lock(&self.receivers).remove(&connection.id);
        // Erased already, or its connecting had failed before there was anything to erase.
        let Some(receiver) = known else { return };
        if let Some(left) = &self.leaves {
            return lock(left).push(self.registry.current_task().id);
        }
        let held = receiver.let_go();
        if let Some(sender) = &held.sender {
            sender.album.take(moment);
        }
        let Held { notifier, sender } = held;
        drop(receiver);
        drop(notifier);
        drop(sender);
    }
}

/// Answers what it receives with what it has received.
#[derive(Default)]
struct Receiver {
    held: Mutex<Held>,
}

/// What closes the cycle.
#[derive(Default)]
struct Held {
    notifier: Option<TrackedArc<Resumes>>,
    sender: Option<TrackedArc<Answers>>,
}

impl Receiver {
    fn hold(&self, held: Held) {
        *lock(&self.held) = held;
    }

    fn let_go(&self) -> Held {
        take(&mut *lock(&self.held))
    }
}

impl MsgReceiver for Receiver {
    fn on_message(&self, message: &[u8]) -> io::Result<Taken> {
        let held = lock(&self.held);
        let Some(sender) = &held.sender else {
            return Err(io::Error::other("this connection's sender was erased"));
        };
        Ok(match sender.sender.send_some(message)? {
            Sent::Bytes(bytes) if bytes == message.len() => Taken::All,
            Sent::Bytes(bytes) => Taken::Some(bytes),
            // The notifier wakes it.
            Sent::Pending => Taken::Pending,
        })
    }
}

/// Room to send means that the receiver can go on.
struct Resumes {
    waker: TrackedArc<MsgWaker>,
}

impl Notifier for Resumes {
    fn on_writable(&self) {
        self.waker.wake();
    }
}

/// The sender, and who takes a last picture when it is dropped.
struct Answers {
    album: Album,
    sender: MsgSender,
}

impl Drop for Answers {
    fn drop(&mut self) {
        // Its count has fallen to zero; what it holds is let go of after this.
        self.album.take(Moment::Erased);
    }
}

/// Takes pictures of one connection, if anybody wants to see them.
#[derive(Clone)]
struct Album {
    show: Option<Show>,
    registry: Registry,
    label: ConnectionLabel,
    node: NodeLabel,
}

impl Album {
    fn take(&self, moment: Moment) {
        let Some(show) = &self.show else { return };
        let graph = self.registry.graph().around(&self.node).without_resources();
        show(&Picture { connection: self.label.clone(), moment, graph });
    }
}
