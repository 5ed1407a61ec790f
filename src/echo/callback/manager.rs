//! The manager of listeners and connections, and its task, which is their parent.
//!
//! ```text
//! task that created the manager
//!    └ socket manager (owns the stop pipes) ── listen (owns its listener) ── callback (owns its socket)
//!                                           \─ connect (owns its socket)
//! ```
//!
//! Any task may make a request, but only a parent can give a resource to a child. So requests go
//! through a channel to a task that lives as long as the manager.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::ConnCallback;
use super::acceptor::{self, log_outcome};
use super::context::{Context, Request, RequestKind, Status, aborted};
use crate::net::{PipeWriter, pipe};
use crate::ownership::task::{self, Task};
use crate::pool::{Orphans, Pool};

/// The most requests that wait for the manager's task.
const REQUESTS_MAX: usize = 4096;

/// Listens and connects, and calls a [`ConnCallback`].
///
/// Its tasks are children of the task that creates it, on threads of a pool: one of its own, one
/// for each listener, one for each connection, and one more for each shared sender. They carry out
/// the requests, so a request that fails is reported by a callback; a call returns an error only if
/// the request cannot be made. A drop aborts the manager and waits for its end.
pub struct SocketManager {
    context: Arc<Context>,
    requests: SyncSender<Request>,
    task: Arc<Task>,
    /// Reaps the manager's task when it ends.
    _reaper: Orphans<io::Result<()>>,
}

impl SocketManager {
    /// A manager that is ready to listen and to connect.
    ///
    /// # Errors
    /// No thread can be started for it, or the current task may have no more children.
    #[track_caller]
    pub fn new(callback: impl ConnCallback, pool: &Pool) -> io::Result<SocketManager> {
        let context = Context::new(callback, pool);
        let ended = Arc::clone(&context);
        let reaper = Orphans::reaped_by(&context.registry, move |task, outcome| {
            log_outcome(task, outcome);
            // Not earlier: the program may exit as soon as `join` returns.
            ended.status.update(|status| status.has_ended = true);
        });
        let (requests, received) = sync_channel(REQUESTS_MAX);
        let theirs = Arc::clone(&context);
        let promise = pool.spawn_named("socket manager", [], move || run(&theirs, &received));
        let promise = promise.map_err(|refused| io::Error::other(refused.to_string()))?;
        let task = Arc::clone(promise.inner());
        reaper.adopt(promise).map_err(|refused| refused.error().clone())?;
        Ok(SocketManager { context, requests, task, _reaper: reaper })
    }

    /// Listens on an address such as `127.0.0.1:3000`. Each client leads to a call of
    /// [`on_connect`](ConnCallback::on_connect). For port 0,
    /// [`on_listen`](ConnCallback::on_listen) reports the port.
    ///
    /// # Errors
    /// `InvalidInput`: this is not an address. `NotConnected`: the manager was aborted.
    /// `WouldBlock`: too many requests are pending. An address that cannot be bound leads to a call
    /// of [`on_listen_error`](ConnCallback::on_listen_error).
    pub fn listen_on_addr(&self, address: &str) -> io::Result<()> {
        self.request(RequestKind::Listen, parse(address)?)
    }

    /// Connects to an address, after a delay. Leads to exactly one call, either of
    /// [`on_connect`](ConnCallback::on_connect) or of
    /// [`on_connect_error`](ConnCallback::on_connect_error).
    ///
    /// # Errors
    /// See [`listen_on_addr`](SocketManager::listen_on_addr).
    pub fn connect_to_addr(&self, address: &str, delay: Duration) -> io::Result<()> {
        self.request(RequestKind::Connect { delay }, parse(address)?)
    }

    fn request(&self, kind: RequestKind, address: SocketAddr) -> io::Result<()> {
        self.check()?;
        let request = Request::new(&self.context, kind, address);
        let (mut request, error) = match self.requests.try_send(request) {
            Ok(()) => {
                self.context.status.update(|_| ());
                return Ok(());
            }
            Err(TrySendError::Disconnected(request)) => (request, aborted()),
            Err(TrySendError::Full(request)) => {
                let text = format!("the manager has {REQUESTS_MAX} pending requests");
                (request, io::Error::new(io::ErrorKind::WouldBlock, text))
            }
        };
        request.settle();
        Err(error)
    }

    /// Stops listening on an address, as requested or as bound, and returns when the listener is
    /// closed. Its connections continue.
    ///
    /// # Errors
    /// `InvalidInput`, `NotConnected`: see [`listen_on_addr`](SocketManager::listen_on_addr).
    /// `NotFound`: the manager does not listen on it. `Cancelled`: the current task was cancelled
    /// while it waited.
    #[track_caller]
    pub fn cancel_listen_on_addr(&self, address: &str) -> io::Result<()> {
        let address = parse(address)?;
        self.check()?;
        let stopped = self.context.status.update(|status| {
            let (id, listener) = status.listeners.iter_mut().find(|(_, listener)| {
                listener.requested == address || listener.actual == Some(address)
            })?;
            listener.is_stopped = true;
            Some(*id)
        });
        let Some(id) = stopped else {
            let text = format!("{address} is not listened on");
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        };
        let is_over = |status: &Status| status.has_ended || !status.listeners.contains_key(&id);
        self.context.status.wait(None, is_over)?;
        Ok(())
    }

    /// Ends listeners, pending connects and connections, each with its last callback. With `wait`,
    /// returns when all have ended, unless the current task is one of the manager's own. A second
    /// call changes nothing.
    pub fn abort(&self, wait: bool) {
        self.task.request_cancel();
        if wait {
            // The error of the manager's own task, or of one that is cancelled itself.
            let _ = self.join();
        }
    }

    /// Waits until the manager was aborted and has ended. It may be called any number of times.
    ///
    /// # Errors
    /// `Cancelled`: the current task was cancelled while it waited. `WouldBlock`: the current task
    /// is one of the manager's own and would wait for itself.
    #[track_caller]
    pub fn join(&self) -> io::Result<()> {
        if self.is_own_task() {
            let text = "a task of the manager cannot wait for the manager's end";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        self.context.status.wait(None, |status| status.has_ended)?;
        Ok(())
    }

    /// Whether the current task is the manager's task or below it.
    fn is_own_task(&self) -> bool {
        let current = task::current(&self.context.registry);
        std::iter::successors(Some(current), |task| task.parent())
            .any(|task| task.id() == self.task.id())
    }

    fn check(&self) -> io::Result<()> {
        let is_aborted = self.task.is_cancelled() || self.task.has_ended();
        if is_aborted { Err(aborted()) } else { Ok(()) }
    }
}

impl Drop for SocketManager {
    fn drop(&mut self) {
        self.abort(true);
    }
}

impl fmt::Debug for SocketManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketManager({})", self.task.label())
    }
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    address.parse().map_err(|_| {
        let text = format!("`{address}` is no address, expected one such as 127.0.0.1:3000");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// The manager's task: starts a child for each request until it is cancelled, then ends its
/// children. Requests that are left fail when the channel is dropped.
fn run(context: &Context, requests: &Receiver<Request>) -> io::Result<()> {
    let children = Orphans::reaped_by(&context.registry, log_outcome);
    // Dropping the write end of a listener's pipe stops it.
    let mut stops: HashMap<u64, PipeWriter> = HashMap::new();
    loop {
        let mut next = None;
        let has_work = |status: &Status| {
            next = requests.try_recv().ok();
            next.is_some() || !stops.keys().all(|id| status.is_wanted(*id))
        };
        if context.status.wait(None, has_work).is_err() {
            break;
        }
        stops.retain(|id, _| context.status.lock().is_wanted(*id));
        if let Some(request) = next {
            let id = request.id;
            stops.extend(start(context, request, &children).map(|stop| (id, stop)));
        }
    }
    Ok(children.cancel()?)
}

/// Starts the child for a request. For a listener, returns the pipe's end that stops it.
fn start(
    context: &Context,
    mut request: Request,
    children: &Orphans<io::Result<()>>,
) -> Option<PipeWriter> {
    let (name, stop) = match request.kind {
        RequestKind::Connect { .. } => ("connect", None),
        RequestKind::Listen => match pipe() {
            Ok((stopped, stop)) => {
                request.stop = Some(stopped);
                ("listen", Some(stop))
            }
            Err(error) => {
                request.fail(error);
                return None;
            }
        },
    };
    let name = format!("{name} {}", request.address);
    match context.pool.spawn_named_with(&name, request, acceptor::run) {
        Ok(child) => {
            let adopted = children.adopt(child);
            debug_assert!(adopted.is_ok(), "the parent adopts its own child");
            stop
        }
        Err(refused) => {
            let error = io::Error::other(refused.to_string());
            if let Some((request, _)) = refused.into_job() {
                request.fail(error);
            }
            None
        }
    }
}
