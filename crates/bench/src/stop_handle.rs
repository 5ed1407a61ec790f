//! The handle that ends a run early, and kills the servers that were started for it.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Ends a run early. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct LoadStopHandle(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    is_stopped: AtomicBool,
    /// Servers that were started and not reaped yet.
    servers: Mutex<Vec<i32>>,
    stopped: Condvar,
}

impl LoadStopHandle {
    /// Ends the run now. Its result covers the time until then.
    pub fn stop(&self) {
        let servers = self.servers();
        // ord: Relaxed; it is polled, and publishes nothing else.
        self.0.is_stopped.store(true, Ordering::Relaxed);
        drop(servers);
        self.0.stopped.notify_all();
    }

    /// Whether [`stop`](LoadStopHandle::stop) was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        // ord: Relaxed; as above.
        self.0.is_stopped.load(Ordering::Relaxed)
    }

    /// Kills the servers that were started. For a process that exits at once.
    pub fn kill_servers(&self) {
        for pid in self.servers().drain(..).filter_map(Pid::from_raw) {
            // It may just have exited.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Waits for the stop, at most for `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        let is_running = |_: &mut Vec<i32>| !self.is_stopped();
        let waited = self.0.stopped.wait_timeout_while(self.servers(), timeout, is_running);
        drop(waited);
    }

    pub(crate) fn add_server(&self, pid: i32) {
        self.servers().push(pid);
    }

    /// The exit status of a server, if it has exited. From then on its PID may be another process's.
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
