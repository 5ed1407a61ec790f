//! The service manager's watchdog: fed only after the server has served a connection to itself.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use crate::ownership::{Promise, TaskError};
use crate::server::{Prober, Reserved};
use crate::systemd::Notifier;
use crate::thread;

/// How long the exit waits for an exchange that hangs.
const STOP_TIME: Duration = Duration::from_secs(2);

/// After a failed exchange, the next one comes this much sooner: one fault must not cost the process.
const SOONER: u32 = 10;

/// Feeds the watchdog.
pub(super) struct Watchdog {
    /// Half of the time after which the manager ends the process.
    interval: Duration,
    prober: Prober,
    notifier: Notifier,
}

impl Watchdog {
    /// One thread, a pair of sockets, and the server's side of it.
    pub(super) const RESERVED: Reserved = Reserved { descriptors: 2, threads: 1, probes: 1 };

    /// `time`: how long the manager waits.
    pub(super) fn new(time: Duration, prober: Prober, notifier: &Notifier) -> Watchdog {
        Watchdog { interval: time / 2, prober, notifier: notifier.clone() }
    }

    /// Starts the task. Without a thread for it there is none, which the manager will notice.
    #[track_caller]
    pub(super) fn start(self) -> Option<RunningWatchdog> {
        let (stop, stopped) = sync_channel(0);
        let Watchdog { interval, prober, notifier } = self;
        let run = move |prober| Watchdog { interval, prober, notifier }.run(&stopped);
        match thread::spawn_named_with("watchdog", prober, run) {
            Ok(task) => Some(RunningWatchdog { stop, task }),
            Err(error) => {
                tracing::error!("the watchdog is not fed: {error}");
                None
            }
        }
    }

    fn run(mut self, stopped: &Receiver<()>) {
        let mut failures = 0_u64;
        loop {
            let begun = Instant::now();
            // A long exchange must not delay the message beyond the manager's time.
            let pause = match self.prober.exchange(begun + self.interval / 2) {
                Ok(()) => {
                    self.notifier.watchdog();
                    if failures > 0 {
                        tracing::warn!("the watchdog is fed again, after {failures} failures");
                        failures = 0;
                    }
                    self.interval
                }
                // The end of the server cancels an exchange.
                Err(_) if stopped.try_recv() == Err(TryRecvError::Disconnected) => break,
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::error!("the watchdog is not fed: {error}");
                    }
                    self.interval / SOONER
                }
            };
            let left = (begun + pause).saturating_duration_since(Instant::now());
            if stopped.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    }
}

/// The running task.
#[must_use = "it runs until `stop`"]
pub(super) struct RunningWatchdog {
    stop: SyncSender<()>,
    task: Promise<()>,
}

impl RunningWatchdog {
    /// Ends the task and an exchange that it makes.
    pub(super) fn stop(self) {
        drop(self.stop);
        // Fails only in another task than the parent.
        let _ = self.task.request_cancel();
        match self.task.wait_until(Instant::now() + STOP_TIME) {
            Ok(true) => match self.task.join() {
                Ok(()) | Err(TaskError::Cancelled) => {}
                Err(failure) => tracing::error!("the watchdog failed: {failure}"),
            },
            // Its child, the exchange, hangs outside of the sockets.
            Ok(false) | Err(_) => std::mem::forget(self.task),
        }
    }
}
