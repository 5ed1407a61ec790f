//! What a program holds: the manager of listeners and connections.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ConnCallback;
use super::life::Life;
use super::office::{Office, Wanted};
use crate::net::Stream;
use crate::ownership::Registry;
use crate::ownership::graph::Node;
use crate::pool::{Orphans, Pool};

/// Listens and connects, and calls a [`ConnCallback`].
///
/// Its tasks are children of the task that makes it, on threads of a pool: one that keeps the
/// others, one for each listener, one for each connection, and one more for each sender that is
/// shared. What is asked of it, by any task, is done by them; so what cannot be done is told by a
/// callback, and only what cannot even be asked is an error of the call. Dropped, it is aborted, and
/// its end is waited for.
pub struct SocketManager {
    works: Arc<Works>,
    /// `None`: it only serves what it is given.
    office: Option<Arc<Office>>,
    /// Holds the duty for the one child; reaps it when it ends.
    _staff: Option<Orphans<()>>,
}

/// What connections need of their manager.
pub(super) struct Works {
    pub(super) callback: Arc<dyn ConnCallback>,
    /// Stands for the manager in the graph of references.
    pub(super) node: Node,
    pub(super) registry: Registry,
    pub(super) pool: Pool,
    ids: AtomicU64,
}

impl Works {
    fn new(callback: impl ConnCallback, pool: &Pool) -> Arc<Works> {
        let registry = pool.registry().clone();
        Arc::new(Works {
            callback: Arc::new(callback),
            node: Node::new_in(&registry, "SocketManager"),
            registry,
            pool: pool.clone(),
            ids: AtomicU64::new(1),
        })
    }

    pub(super) fn next_id(&self) -> u64 {
        // ord: Relaxed; every number is drawn once, which is the increment's own.
        self.ids.fetch_add(1, Ordering::Relaxed)
    }
}

impl SocketManager {
    /// A manager that is ready to listen and to connect.
    ///
    /// # Errors
    /// No thread can be had for it, or the current task may have no more children.
    #[track_caller]
    pub fn new(callback: impl ConnCallback, pool: &Pool) -> io::Result<SocketManager> {
        let works = Works::new(callback, pool);
        let (office, staff) = Office::open(&works)?;
        Ok(SocketManager { works, office: Some(office), _staff: Some(staff) })
    }

    /// A manager that opens nothing itself, and so needs no thread: it [serves](SocketManager::serve)
    /// what it is given. The pool is for the writers of shared senders.
    #[must_use]
    pub fn serving_only(callback: impl ConnCallback, pool: &Pool) -> SocketManager {
        SocketManager { works: Works::new(callback, pool), office: None, _staff: None }
    }

    /// Serves a connection that somebody else has made, in the current task, which owns it. Comes
    /// back when the connection is over.
    ///
    /// # Errors
    /// What ended it before its time, a callback's error among it. One that was gone before its
    /// callback could be called is an error only.
    ///
    /// # Panics
    /// When a callback has; the connection is over, and its callback knows.
    pub fn serve(&self, stream: Stream) -> io::Result<()> {
        Life::begin(&self.works, stream)?.run()
    }

    /// Listens on an address such as `127.0.0.1:3000`. Whoever connects is
    /// [`on_connect`](ConnCallback::on_connect)'s; with port 0,
    /// [`on_listen`](ConnCallback::on_listen) tells which one it is.
    ///
    /// # Errors
    /// `InvalidInput`: that is no address. The manager was aborted. What is wrong with the address
    /// itself (it is busy, or another machine's) is
    /// [`on_listen_error`](ConnCallback::on_listen_error)'s.
    pub fn listen_on_addr(&self, address: &str) -> io::Result<()> {
        let address = parse(address)?;
        self.office()?.start_listening(address)
    }

    /// Connects to an address, after a delay. Leads to one call, either of
    /// [`on_connect`](ConnCallback::on_connect) or of
    /// [`on_connect_error`](ConnCallback::on_connect_error).
    ///
    /// # Errors
    /// As [`listen_on_addr`](SocketManager::listen_on_addr).
    pub fn connect_to_addr(&self, address: &str, delay: Duration) -> io::Result<()> {
        let address = parse(address)?;
        self.office()?.post(Wanted::Connect(address, delay))
    }

    /// Stops listening on an address, as it was asked for or as the kernel completed it; comes back
    /// when nobody listens any more. Connections go on.
    ///
    /// # Errors
    /// `NotFound`: it is not listened on. Else as [`listen_on_addr`](SocketManager::listen_on_addr);
    /// `Cancelled`: the current task was, while it waited.
    #[track_caller]
    pub fn cancel_listen_on_addr(&self, address: &str) -> io::Result<()> {
        let address = parse(address)?;
        self.office()?.stop_listening(address)
    }

    /// Ends everything: listeners, pending connects, connections, each with its last callback. Waits
    /// for that if told to, unless it is a task of the manager's own that asks. Asked again, it does
    /// nothing more.
    pub fn abort(&self, wait: bool) {
        let Some(office) = &self.office else { return };
        office.abort();
        if wait && !office.is_of_the_family() {
            // A task that is itself cancelled does not wait; the manager ends all the same.
            let _ = office.join();
        }
    }

    /// Waits until the manager was aborted and all of it is over; any number of times.
    ///
    /// # Errors
    /// `Cancelled`: the current task was, while it waited. `WouldBlock`: it is one of the manager's
    /// own, and would wait for itself.
    #[track_caller]
    pub fn join(&self) -> io::Result<()> {
        let Some(office) = &self.office else { return Ok(()) };
        if office.is_of_the_family() {
            let text = "a task of the manager's own cannot wait for the manager's end";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        office.join()
    }

    fn office(&self) -> io::Result<&Arc<Office>> {
        self.office.as_ref().ok_or_else(|| {
            let text = "this manager serves what it is given, and opens nothing itself";
            io::Error::new(io::ErrorKind::Unsupported, text)
        })
    }
}

impl Drop for SocketManager {
    fn drop(&mut self) {
        self.abort(true);
    }
}

impl fmt::Debug for SocketManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.office {
            Some(office) => write!(f, "SocketManager({office:?})"),
            None => f.write_str("SocketManager(serving only)"),
        }
    }
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    address.parse().map_err(|_| {
        let text = format!("`{address}` is no address, expected one such as 127.0.0.1:3000");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}
