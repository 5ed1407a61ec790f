//! Signals become orders: the only file that names `ctrlc` and `signal-hook`.
//!
//! What an order means is up to the program's [`Response`]: a server's, a client's.
//!
//! `ctrlc` comes first and orders the drain; it tells neither which signal it was nor who sent it,
//! and it also takes SIGHUP. So SIGHUP gets its default back, and `signal-hook`, which is registered
//! second and therefore sees every signal too, watches: it names signal and sender, and does what
//! the others ask for.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGINT, SIGTERM | drain; the second one ends the process at once, with 130 or 143 |
//! | SIGQUIT | show the custody table, cut everything now |
//! | SIGUSR1 | show the custody table, and the references on record |
//! | SIGHUP | reopen log and report files |
//!
//! A process that was started with SIGINT ignored (a shell's background job) keeps ignoring it:
//! then `ctrlc` refuses, and the watcher orders the drain on SIGTERM.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Handle;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};

use crate::echo::Signal;
use crate::ownership::{Failure, Promise, Registry};
use crate::thread;

/// What the program does on signals. Called on the watching thread, but for
/// [`drain`](Response::drain), which may come from `ctrlc`'s.
pub trait Response: Send + Sync {
    /// Begins to end: finishes what is under way. May be told several times.
    fn drain(&self);

    /// Ends everything now.
    fn cut(&self);

    /// Shows the custody table.
    fn show_custody(&self, registry: &Registry);

    /// Closes and opens the files that are written to: somebody has moved them away.
    fn reopen_files(&self);

    /// A signal has begun the drain.
    fn drain_began(&self, signal: Signal) {
        let _ = signal;
    }

    /// Lets what was already said reach its place: the process stops right after this.
    fn before_exit(&self) {}
}

/// Signals that are being watched for.
pub struct Signals {
    registry: Registry,
    numbers: Vec<i32>,
    watch: Handle,
    watcher: Option<Promise<()>>,
}

impl Signals {
    /// Takes the signals over. The descriptors that this opens are declared in the registry.
    ///
    /// # Errors
    /// A handler cannot be installed, or its thread not be started.
    pub fn install(registry: &Registry, response: Arc<dyn Response>) -> io::Result<Signals> {
        let before = crate::sys::fd::open_numbers()?;
        let ignores_int = crate::sys::signal::is_ignored(SIGINT);
        let to_main = Arc::clone(&response);
        let has_ctrlc = match ctrlc::try_set_handler(move || to_main.drain()) {
            Ok(()) => {
                crate::sys::signal::restore_default(SIGHUP);
                true
            }
            Err(_) if ignores_int => {
                tracing::warn!(
                    "SIGINT was ignored when this program began, and stays so; SIGTERM drains"
                );
                false
            }
            Err(error) => {
                tracing::warn!("Ctrl-C stays as it was set from outside ({error}); SIGTERM drains");
                false
            }
        };
        let wanted = [SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGHUP]
            .into_iter()
            .filter(|&signal| !(signal == SIGINT && ignores_int));
        let signals = SignalsInfo::<WithOrigin>::new(wanted)?;
        let watch = signals.handle();
        let numbers: Vec<i32> = crate::sys::fd::open_numbers()?
            .into_iter()
            .filter(|number| !before.contains(number))
            .collect();
        for &number in &numbers {
            registry.declare(number, "signal-hook", "wakes the thread that watches for signals");
        }
        let watcher =
            Watcher { registry: registry.clone(), response, has_ctrlc, is_draining: false };
        let watcher = thread::spawn_in(registry, "signals", [], move || watcher.watch(signals))
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Signals { registry: registry.clone(), numbers, watch, watcher: Some(watcher) })
    }

    /// Ends the watching; signals fall back to what `signal-hook` leaves of them.
    pub fn stop(mut self) {
        self.watch.close();
        if let Some(Err(failure)) = self.watcher.take().map(Promise::join)
            && !matches!(failure, Failure::Cancelled)
        {
            tracing::error!("the watcher of signals: {failure}");
        }
        for number in &self.numbers {
            self.registry.retract(*number);
        }
    }
}

struct Watcher {
    registry: Registry,
    response: Arc<dyn Response>,
    has_ctrlc: bool,
    is_draining: bool,
}

impl Watcher {
    fn watch(mut self, mut signals: SignalsInfo<WithOrigin>) {
        for origin in signals.forever() {
            // A panic in showing something must not be the end of listening to orders.
            if catch_unwind(AssertUnwindSafe(|| self.see(&origin))).is_err() {
                tracing::error!("answering a signal panicked");
            }
        }
        // An idle server has drained before this thread wakes: what ended it is named all the
        // same.
        for origin in signals.pending() {
            self.see(&origin);
        }
    }

    fn see(&mut self, origin: &Origin) {
        let Origin { signal, process, .. } = origin;
        let name = signal_hook::low_level::signal_name(*signal).unwrap_or("a signal");
        let sender =
            process.as_ref().map_or_else(String::new, |sender| format!(" from PID {}", sender.pid));
        match *signal {
            SIGUSR1 => self.response.show_custody(&self.registry),
            SIGHUP => {
                tracing::info!("got {name}{sender}: reopening files");
                self.response.reopen_files();
            }
            SIGQUIT => {
                tracing::warn!("got {name}{sender}: cutting everything");
                // The order first: showing may take as long as whoever reads it.
                self.response.cut();
                self.response.show_custody(&self.registry);
            }
            _ if self.is_draining => {
                tracing::warn!("got {name}{sender} again: stopping now");
                self.response.before_exit();
                // The conventional code of a death by this signal; no finalizer runs.
                std::process::exit(128 + signal);
            }
            _ => {
                tracing::info!("got {name}{sender}: draining");
                self.is_draining = true;
                let pid = process.as_ref().map(|sender| sender.pid);
                self.response.drain_began(Signal { number: *signal, pid });
                if !self.has_ctrlc {
                    self.response.drain();
                }
            }
        }
    }
}
