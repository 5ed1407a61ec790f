//! The echo handler on callbacks: the reference cycle that it makes, and where it breaks it.
//!
//! | phase | what happens |
//! |---|---|
//! | connected | the receiver gets the sender, which closes the cycle: receiver, sender, connection |
//! | remote closed | the manager has released the connection: only the sender holds it |
//! | erased | sender and notifier are taken out of the receiver, the callback drops the receiver, and both are dropped: the counts fall to zero |
//!
//! The cycle is broken when the peer finishes, and after any other end (a reset, an error, a panic,
//! an abort) in `on_connection_close`, which always runs.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use super::connection_task::{BUFFER_BYTES, ConnectionTask};
use super::context::Context;
use super::watched::lock;
use super::{
    ConnCallback, Connection, ConnectionLabel, MsgReceiver, MsgSender, MsgWaker, Notifier, Taken,
};
use crate::echo::{ChaosTarget, Handler, ServerContext};
use crate::net::Stream;
use crate::ownership::graph::{Graph, Node, TrackedArc};
use crate::ownership::task;
use crate::ownership::{Registry, TaskId};

type OnGraph = Arc<dyn Fn(&ConnectionLabel, &'static str, &Graph) + Send + Sync>;

/// Records the graph of one connection in a phase, if graphs are requested.
type RecordGraph = Arc<dyn Fn(&'static str) + Send + Sync>;

/// The tasks whose connection will keep its cycle, and has not done so yet.
type UncutTasks = Arc<Mutex<HashSet<TaskId>>>;

/// The echo through callbacks: sends every byte back, and then the end of the stream.
#[derive(Default)]
pub struct Callback {
    on_graph: Option<OnGraph>,
    /// `None` while no server runs.
    context: Mutex<Option<Arc<Context>>>,
    uncut: UncutTasks,
}

impl Callback {
    /// An echo that records no graphs.
    #[must_use]
    pub fn new() -> Callback {
        Callback::default()
    }

    /// An echo that calls `on_graph` with three graphs of each connection's references, without
    /// those to the socket, in the connection's task. Their phases are `connected`: the cycle is
    /// closed; `remote closed`: the peer has finished, or `closed`: the connection has ended in
    /// another way; and `erased`: the sender is being dropped, its count is zero, and what it holds
    /// still exists.
    #[must_use]
    pub fn with_graphs(
        on_graph: impl Fn(&ConnectionLabel, &'static str, &Graph) + Send + Sync + 'static,
    ) -> Callback {
        Callback { on_graph: Some(Arc::new(on_graph)), ..Callback::default() }
    }

    fn context(&self) -> io::Result<Arc<Context>> {
        let context = lock(&self.context).clone();
        context.ok_or_else(|| io::Error::other("the handler is not open"))
    }
}

impl Handler for Callback {
    fn name(&self) -> &'static str {
        "callback"
    }

    /// Its buffer, and its recorded references.
    fn memory(&self) -> u64 {
        const RECORD_BYTES: usize = 24 * 1024;
        (BUFFER_BYTES + RECORD_BYTES) as u64
    }

    fn open(&self, context: &ServerContext) -> io::Result<()> {
        let echo = Echo {
            registry: context.pool.registry().clone(),
            on_graph: self.on_graph.clone(),
            receivers: Mutex::default(),
            uncut: Arc::clone(&self.uncut),
        };
        *lock(&self.context) = Some(Context::new(echo, &context.pool));
        Ok(())
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        let context = self.context()?;
        ConnectionTask::begin(&context, stream)?.run()
    }

    fn close(&self) {
        *lock(&self.context) = None;
    }
}

impl ChaosTarget for Callback {
    fn serve_leaking_cycle(
        &self,
        stream: Stream,
        count: &dyn Fn(),
    ) -> Result<io::Result<()>, Stream> {
        let Ok(context) = self.context() else { return Err(stream) };
        let me = task::current(stream.resource().registry());
        lock(&self.uncut).insert(me.id());
        let result = ConnectionTask::begin(&context, stream).and_then(ConnectionTask::run);
        let is_left = !lock(&self.uncut).remove(&me.id());
        // A cancelled task has no leaks: its resources are finalized.
        if is_left && !me.is_cancelled() {
            count();
        }
        Ok(result)
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

/// The callback. It holds the receiver of each connection, to break the cycle.
struct Echo {
    registry: Registry,
    on_graph: Option<OnGraph>,
    receivers: Mutex<HashMap<u64, TrackedArc<EchoReceiver>>>,
    uncut: UncutTasks,
}

impl ConnCallback for Echo {
    fn on_connect(&self, connection: Connection, sender: MsgSender) -> io::Result<()> {
        let label = connection.label().clone();
        let node = |name: &str| Node::new(name);
        let record = self.recorder(&connection);

        let waker = connection.waker();
        let waker = TrackedArc::new(waker.node().clone(), waker);
        let notifier = node("Notifier");
        let notifier = TrackedArc::new(notifier.clone(), WakeReceiver(waker.clone_for(&notifier)));
        let sender = TrackedArc::new(
            sender.node().clone(),
            EchoSender { record: Arc::clone(&record), sender },
        );
        let receiver = TrackedArc::new(node("MsgReceiver"), EchoReceiver::default());
        let known = receiver.clone_for(connection.callback_node());
        lock(&self.receivers).insert(label.id, known);

        let link = connection.node().clone();
        connection.start_with(receiver.clone_for(&link), notifier.clone_for(&link))?;
        let its_notifier = notifier.clone_for(receiver.node());
        // This closes the cycle. It is made last, because a report names the latest reference as
        // the one to cut.
        let its_sender = sender.clone_for(receiver.node());
        *lock(&receiver.parts) = Some(EchoParts { notifier: its_notifier, sender: its_sender });
        drop((waker, notifier, sender, receiver));
        record("connected");
        Ok(())
    }

    fn on_remote_close(&self, connection: &ConnectionLabel) -> io::Result<()> {
        self.break_cycle(connection, "remote closed");
        Ok(())
    }

    fn on_connection_close(&self, connection: &ConnectionLabel) {
        self.break_cycle(connection, "closed");
    }
}

impl Echo {
    fn recorder(&self, connection: &Connection) -> RecordGraph {
        let (on_graph, registry) = (self.on_graph.clone(), self.registry.clone());
        let (connection, node) = (connection.label().clone(), connection.node().label());
        Arc::new(move |phase| {
            if let Some(on_graph) = &on_graph {
                let graph = registry.graph().around(&node).without_resources();
                on_graph(&connection, phase, &graph);
            }
        })
    }

    /// Breaks the cycle, unless that was done before or `on_connect` failed before there was one.
    fn break_cycle(&self, connection: &ConnectionLabel, phase: &'static str) {
        let known = lock(&self.receivers).remove(&connection.id);
        let Some(receiver) = known else { return };
        if lock(&self.uncut).remove(&self.registry.current_task().id) {
            return;
        }
        let parts = lock(&receiver.parts).take();
        let Some(EchoParts { notifier, sender }) = parts else { return };
        (sender.record)(phase);
        drop(receiver);
        drop(notifier);
        drop(sender);
    }
}

/// Sends back what it receives.
#[derive(Default)]
struct EchoReceiver {
    parts: Mutex<Option<EchoParts>>,
}

/// What the receiver holds until the cycle is broken.
struct EchoParts {
    notifier: TrackedArc<WakeReceiver>,
    sender: TrackedArc<EchoSender>,
}

impl MsgReceiver for EchoReceiver {
    fn on_message(&self, message: &[u8]) -> io::Result<Taken> {
        let parts = lock(&self.parts);
        let Some(EchoParts { sender, .. }) = &*parts else {
            return Err(io::Error::other("the sender of this connection was erased"));
        };
        // While it is pending, the notifier wakes it.
        sender.sender.send_some(message)
    }
}

/// Resumes the receiver when there is room to send.
struct WakeReceiver(TrackedArc<MsgWaker>);

impl Notifier for WakeReceiver {
    fn on_writable(&self) {
        self.0.wake();
    }
}

/// The sender, which records the last graph when it is dropped.
struct EchoSender {
    record: RecordGraph,
    sender: MsgSender,
}

impl Drop for EchoSender {
    fn drop(&mut self) {
        // Its count is zero now; what it holds is dropped after this.
        (self.record)("erased");
    }
}
