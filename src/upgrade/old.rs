//! What the tasks of the old process share: its addresses, and the upgrade in progress.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::bind::Listening;

/// How long the answer to `ready` waits for the close of the upgrade socket.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// How long a refusal waits for the close of all listeners when the server ends. Shorter than the time that
/// an upgrade has then.
const UNBOUND_TIME: Duration = Duration::from_millis(300);

/// How often it checks them.
const UNBOUND_SLICE: Duration = Duration::from_millis(5);

/// Hands over: runs the function and stops the server, unless it is stopping already. Returns whether it
/// ran.
pub(crate) type HandOver = Box<dyn Fn(&dyn Fn()) -> bool + Send + Sync>;

/// Whether the server has begun to stop. If not, it sees at its stop what this task did before.
pub(crate) type HasBegun = Box<dyn Fn() -> bool + Send + Sync>;

/// What the tasks of the old process share.
pub(super) struct Old {
    pub(super) addresses: Vec<Listening>,
    hand_over: HandOver,
    has_begun: HasBegun,
    /// The process that an upgrade is in progress to.
    busy: Mutex<Option<u32>>,
    stopping: OnceLock<()>,
    /// Whether the upgrade socket is closed here.
    is_closed: Mutex<bool>,
    closed: Condvar,
}

impl Old {
    pub(super) fn new(addresses: Vec<Listening>, hand_over: HandOver, has_begun: HasBegun) -> Old {
        Old {
            addresses,
            hand_over,
            has_begun,
            busy: Mutex::default(),
            stopping: OnceLock::new(),
            is_closed: Mutex::default(),
            closed: Condvar::new(),
        }
    }

    /// Records that the upgrade socket is closed here.
    pub(super) fn close(&self) {
        *lock(&self.is_closed) = true;
        self.closed.notify_all();
    }

    /// Waits until the upgrade socket is closed here, so that the next process that connects to it reaches
    /// the new one. The server's task closes it soon after the hand-over.
    pub(super) fn wait_closed(&self) {
        let is_open = |closed: &mut bool| !*closed;
        let waited = self.closed.wait_timeout_while(lock(&self.is_closed), CLOSE_TIME, is_open);
        drop(waited);
    }

    /// Waits until the server, which ends, has closed its listeners, so that a process that starts
    /// without them can bind their addresses.
    pub(super) fn wait_unbound(&self) {
        let deadline = Instant::now() + UNBOUND_TIME;
        let all = self.addresses.iter().flat_map(|address| &address.listeners);
        while all.clone().any(|it| it.lend(|_| ()).is_some()) && Instant::now() < deadline {
            std::thread::sleep(UNBOUND_SLICE);
        }
    }

    pub(super) fn stop(&self) {
        self.stopping.get_or_init(|| ());
    }

    pub(super) fn hand_over(&self, mark: &dyn Fn()) -> bool {
        (self.hand_over)(mark)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get().is_some() || (self.has_begun)()
    }

    /// Begins an upgrade, if there is none.
    ///
    /// # Errors
    /// The process of the one in progress.
    pub(super) fn begin(self: &Arc<Old>, process: u32) -> Result<InProgress, u32> {
        let mut busy = lock(&self.busy);
        match *busy {
            Some(other) => Err(other),
            None => {
                *busy = Some(process);
                Ok(InProgress { old: Arc::clone(self), process })
            }
        }
    }
}

/// The upgrade in progress, until this is dropped.
pub(super) struct InProgress {
    pub(super) old: Arc<Old>,
    pub(super) process: u32,
}

impl Drop for InProgress {
    fn drop(&mut self) {
        *lock(&self.old.busy) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
