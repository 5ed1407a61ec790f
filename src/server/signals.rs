//! Signals become orders: the only file that names `ctrlc` and `signal-hook`.
//!
//! `ctrlc` comes first and orders the drain; it tells neither which signal it was nor who sent it,
//! and it also takes SIGHUP. So SIGHUP gets its default back, and `signal-hook`, which is registered
//! second and therefore sees every signal too, watches: it names signal and sender, shows the
//! custody table on SIGUSR1, and ends the process at once when a second SIGINT or SIGTERM says that
//! draining takes too long.
//!
//! A process that was started with SIGINT or SIGHUP ignored (a shell's background job, `nohup`) keeps
//! ignoring them: then `ctrlc` refuses, and the watcher orders the drain on SIGTERM.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Handle;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};

use crate::ownership::{Failure, Promise, Registry};
use crate::thread;

/// Orders that may wait for the main thread: a drain is one, and a second one says nothing new.
const ORDERS_QUEUED: usize = 1;

/// The order to drain.
#[derive(Clone, Copy, Debug)]
struct Drain;

/// What SIGUSR1 shows.
pub type ShowCustody = Arc<dyn Fn(&Registry) + Send + Sync>;

/// Signals, on their way to the main thread.
pub struct Signals {
    orders: Receiver<Drain>,
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
    pub fn install(registry: &Registry, show: ShowCustody) -> io::Result<Signals> {
        let before = crate::sys::fd::open_numbers()?;
        let (sender, orders) = sync_channel(ORDERS_QUEUED);
        let kept_ignored: Vec<i32> = [SIGINT, SIGHUP]
            .into_iter()
            .filter(|&signal| crate::sys::signal::is_ignored(signal))
            .collect();
        let to_main = sender.clone();
        let has_ctrlc = match ctrlc::try_set_handler(move || order(&to_main)) {
            Ok(()) => {
                crate::sys::signal::restore_default(SIGHUP);
                true
            }
            Err(error) => {
                tracing::warn!("Ctrl-C stays as it was set from outside ({error}); SIGTERM drains");
                false
            }
        };
        let wanted =
            [SIGINT, SIGTERM, SIGUSR1].into_iter().filter(|signal| !kept_ignored.contains(signal));
        let signals = SignalsInfo::<WithOrigin>::new(wanted)?;
        let watch = signals.handle();
        let numbers: Vec<i32> = crate::sys::fd::open_numbers()?
            .into_iter()
            .filter(|number| !before.contains(number))
            .collect();
        for &number in &numbers {
            registry.declare(number, "signal-hook", "wakes the thread that watches for signals");
        }
        let watched = registry.clone();
        let watcher = thread::spawn_in(registry, "signals", [], move || {
            watch_signals(signals, &watched, &sender, has_ctrlc, &show);
        })
        .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Signals { orders, registry: registry.clone(), numbers, watch, watcher: Some(watcher) })
    }

    /// Blocks until the drain is ordered.
    pub fn wait(&self) {
        // An error would mean that every sender is gone, and with them all reason to wait.
        let _ = self.orders.recv();
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

fn order(main: &SyncSender<Drain>) {
    match main.try_send(Drain) {
        Ok(()) | Err(TrySendError::Full(Drain) | TrySendError::Disconnected(Drain)) => {}
    }
}

fn watch_signals(
    mut signals: SignalsInfo<WithOrigin>,
    registry: &Registry,
    main: &SyncSender<Drain>,
    has_ctrlc: bool,
    show: &ShowCustody,
) {
    let mut is_draining = false;
    let mut see = |Origin { signal, process, .. }: Origin| {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
        let sender =
            process.map_or_else(String::new, |process| format!(" from PID {}", process.pid));
        match signal {
            SIGUSR1 => show(registry),
            _ if is_draining => {
                tracing::warn!("got {name}{sender} again: stopping now");
                // The conventional code of a death by this signal; no finalizer runs.
                std::process::exit(128 + signal);
            }
            _ => {
                tracing::info!("got {name}{sender}: draining");
                is_draining = true;
                if !has_ctrlc {
                    order(main);
                }
            }
        }
    };
    for origin in signals.forever() {
        see(origin);
    }
    // An idle server has drained before this thread wakes: what ended it is named all the same.
    for origin in signals.pending() {
        see(origin);
    }
}
