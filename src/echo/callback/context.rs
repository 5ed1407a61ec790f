//! What the tasks of a manager share: the callback, the requests to listen and to connect, and the
//! manager's status.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use echown_fd::escape;

use super::ConnCallback;
use super::watched::Watched;
use crate::net::PipeReader;
use crate::ownership::graph::Node;
use crate::ownership::{Give, Registry, Resource, panic_message, task};
use crate::pool::Pool;

pub(super) struct Context {
    pub(super) callback: Arc<dyn ConnCallback>,
    /// Stands for the manager in the graph of references.
    pub(super) node: Node,
    pub(super) registry: Registry,
    pub(super) pool: Pool,
    last_connection: AtomicU64,
    pub(super) status: Watched<Status>,
}

#[derive(Default)]
pub(super) struct Status {
    /// The listeners that have not ended, by the ids of their requests.
    pub(super) listeners: BTreeMap<u64, ListenerStatus>,
    pub(super) has_ended: bool,
    last_request: u64,
}

pub(super) struct ListenerStatus {
    pub(super) requested: SocketAddr,
    pub(super) actual: Option<SocketAddr>,
    pub(super) is_stopped: bool,
}

impl Status {
    /// Whether a listener has neither ended nor been stopped.
    pub(super) fn is_wanted(&self, id: u64) -> bool {
        self.listeners.get(&id).is_some_and(|listener| !listener.is_stopped)
    }
}

impl Context {
    pub(super) fn new(callback: impl ConnCallback, pool: &Pool) -> Arc<Context> {
        let registry = pool.registry().clone();
        let _entered = registry.enter();
        Arc::new(Context {
            callback: Arc::new(callback),
            node: Node::new("SocketManager"),
            status: Watched::new(&registry, Status::default()),
            registry,
            pool: pool.clone(),
            last_connection: AtomicU64::new(0),
        })
    }

    pub(super) fn next_connection_id(&self) -> u64 {
        // ord: Relaxed; only uniqueness matters, and that is the increment's own.
        self.last_connection.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Calls the callback about no connection in particular. A panic in it ends no task.
    pub(super) fn call(&self, call: impl FnOnce(&dyn ConnCallback)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| call(&*self.callback))) {
            tracing::error!("a callback panicked: {}", escape::text(panic_message(&*payload)));
            // Its destructor could panic again.
            std::mem::forget(payload);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Listen,
    /// After a delay.
    Connect {
        delay: Duration,
    },
}

/// A request to listen or to connect. A drop without success calls the callback for the error: also
/// if no task has taken the request, or its task was cancelled before it began. A listener is in
/// the manager's status until its request is dropped.
pub(super) struct Request {
    pub(super) context: Arc<Context>,
    pub(super) id: u64,
    pub(super) kind: RequestKind,
    pub(super) address: SocketAddr,
    /// Of a listener that has a task: readable when it is to stop.
    pub(super) stop: Option<PipeReader>,
    /// `None`: no callback is called.
    error: Option<io::Error>,
}

impl Request {
    pub(super) fn new(context: &Arc<Context>, kind: RequestKind, address: SocketAddr) -> Request {
        let id = context.status.update(|status| {
            status.last_request += 1;
            let id = status.last_request;
            if kind == RequestKind::Listen {
                let listener =
                    ListenerStatus { requested: address, actual: None, is_stopped: false };
                status.listeners.insert(id, listener);
            }
            id
        });
        // Every other failure sets its own error.
        let (context, error) = (Arc::clone(context), Some(aborted()));
        Request { context, id, kind, address, stop: None, error }
    }

    /// The request has succeeded, or its caller gets the error.
    pub(super) fn settle(&mut self) {
        self.error = None;
    }

    /// The request has failed, unless the current task is cancelled: then the manager was aborted.
    pub(super) fn fail(mut self, error: io::Error) {
        if !task::current(&self.context.registry).is_cancelled() {
            self.error = Some(error);
        }
    }
}

impl Give for Request {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.stop.list(resources);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // First: the callback may listen on the address again.
        self.context.status.update(|status| status.listeners.remove(&self.id));
        let Some(error) = self.error.take() else { return };
        self.context.call(|callback| match self.kind {
            RequestKind::Listen => callback.on_listen_error(self.address, &error),
            RequestKind::Connect { .. } => callback.on_connect_error(self.address, &error),
        });
    }
}

pub(super) fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the manager was aborted")
}
