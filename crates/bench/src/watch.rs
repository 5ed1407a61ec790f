//! Ending a run early, and the servers that were started for it with it.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Whoever watches a run, and can end it.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_stopped: AtomicBool,
    /// Servers that were started and have not ended yet.
    servers: Mutex<Vec<i32>>,
    bell: Condvar,
}

impl Watch {
    /// Ends what is measured now, early; the outcome is of the time until then.
    pub fn stop(&self) {
        let servers = self.servers();
        // ord: Relaxed; it is looked at again and again, and nothing else is told by it.
        self.0.is_stopped.store(true, Ordering::Relaxed);
        drop(servers);
        self.0.bell.notify_all();
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        // ord: Relaxed; as above.
        self.0.is_stopped.load(Ordering::Relaxed)
    }

    /// Kills the servers that were started, for whoever ends this process at once.
    pub fn kill_servers(&self) {
        for pid in self.servers().drain(..).filter_map(Pid::from_raw) {
            // It may just have ended.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Waits for the stop, at most so long.
    pub(crate) fn wait(&self, patience: Duration) {
        let is_running = |_: &mut Vec<i32>| !self.is_stopped();
        let waited = self.0.bell.wait_timeout_while(self.servers(), patience, is_running);
        drop(waited);
    }

    pub(crate) fn started(&self, pid: i32) {
        self.servers().push(pid);
    }

    /// How a server that was started has ended, if it has. From then on its number may be another's.
    pub(crate) fn reap(&self, server: &mut Child) -> io::Result<Option<ExitStatus>> {
        let mut servers = self.servers();
        let status = server.try_wait()?;
        if status.is_some() {
            servers.retain(|pid| *pid != server.id().cast_signed());
        }
        Ok(status)
    }

    fn servers(&self) -> MutexGuard<'_, Vec<i32>> {
        self.0.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
