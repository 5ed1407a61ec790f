//! Signal handling: maps signals to the methods of a [`SignalHandler`]. Only this file uses `ctrlc` and
//! `signal-hook`.
//!
//! `ctrlc` runs first and starts the drain; it reports neither the signal nor its sender, and it also
//! takes SIGHUP. So SIGHUP gets its default action back, and `signal-hook`, which is registered second
//! and therefore sees every signal too, logs signal and sender and handles the other signals.
//!
//! | signal | effect |
//! |---|---|
//! | SIGINT, SIGTERM | drain; a second one ends the process at once, with 130 or 143 |
//! | SIGQUIT | show the custody table, abort |
//! | SIGUSR1 | show the custody table, the totals, and the references on record |
//! | SIGHUP | reopen log and report files |
//!
//! Inherited dispositions: SIGINT, SIGQUIT and SIGHUP come from the terminal. If the parent ignores them
//! for this process (a script's background job, `nohup`), the terminal does not control the process, and
//! they stay ignored; `ctrlc` then fails to install, and the watcher starts the drain. All other signals
//! are handled, even if they are inherited as ignored or blocked: killing a process that cannot be
//! stopped otherwise loses what its clients have sent. See [`prepare`] for signals without a handler.
//!
//! One request to stop may arrive twice: `timeout(1)` sends its signal to the process and then to the
//! process group. A second signal ends the process at once, so a repetition must not count as one; see
//! `StopSignal::is_repeat_of`.
//!
//! A program that runs another one handles none of this: it passes signals on ([`passing`]).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Handle;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};

use crate::echo::Signal;
use crate::ownership::{Promise, Registry, TaskError};
use crate::thread;

#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod passing;

#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
pub(crate) use passing::PassedSignals;

/// The signals that the program handles.
const HANDLED: [i32; 5] = [SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGHUP];

/// Signals that come from the terminal. If the parent ignores them, they stay ignored.
const FROM_TERMINAL: [i32; 3] = [SIGINT, SIGQUIT, SIGHUP];

/// The same signal from the same sender counts once within this time. `timeout(1)` sends its two
/// within microseconds; a person who presses Ctrl-C twice takes longer.
const REPEAT_WINDOW: Duration = Duration::from_millis(200);

/// Sets up signal handling for a program, independent of the inherited state. Call this first in
/// `main`: threads inherit the mask.
///
/// - Unblocks the signals that the program handles.
/// - Installs a handler for SIGXFSZ that does nothing: a write beyond `RLIMIT_FSIZE` fails with `EFBIG`,
///   which is handled like a full disk. Child programs would inherit `SIG_IGN`, but not a handler.
/// - Restores the default of SIGCHLD if it is ignored: the status of child programs would be lost.
///
/// The standard library ignores SIGPIPE and restores its default in child programs.
pub(crate) fn prepare() {
    crate::sys::signal::unblock(&HANDLED);
    if !crate::sys::signal::is_ignored(SIGXFSZ) {
        // Fails only on a system without this signal.
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    }
    if crate::sys::signal::is_ignored(SIGCHLD) {
        crate::sys::signal::restore_default(SIGCHLD);
    }
}

/// The program's reactions to signals. Called on the watcher thread, except for
/// [`drain`](SignalHandler::drain), which `ctrlc`'s thread may call.
pub(crate) trait SignalHandler: Send + Sync {
    /// Starts the drain: finish open work, then end. May be called several times.
    fn drain(&self);

    /// Ends everything now.
    fn abort(&self);

    /// Shows the custody table.
    fn show_custody(&self, registry: &Registry);

    /// Closes and reopens the output files, which may have been renamed.
    fn reopen_files(&self);

    /// Called when a signal has started the drain.
    fn drain_began(&self, signal: Signal) {
        let _ = signal;
    }

    /// Flushes outputs; the process exits right after this.
    fn before_exit(&self) {}
}

/// Whether the handler of SIGINT and SIGTERM ends the process.
fn exits_on_signal() -> &'static Arc<AtomicBool> {
    static EXITS: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    EXITS.get_or_init(Arc::default)
}

/// Makes SIGINT and SIGTERM end the process at once, with 130 and 143. Called when its work is done
/// and it waits for an output; the watcher thread may have ended already.
pub(crate) fn exit_on_next_signal() {
    // ord: Relaxed; no other access depends on it.
    exits_on_signal().store(true, Ordering::Relaxed);
}

/// The installed signal handlers and their watcher thread.
pub(crate) struct Signals {
    registry: Registry,
    numbers: Vec<i32>,
    watch: Handle,
    watcher: Option<Promise<()>>,
}

/// Declares the descriptors that were opened since `before` as those of `signal-hook`. Returns them.
fn declare_opened(registry: &Registry, before: &[i32]) -> Vec<i32> {
    let opened = echown_fd::fd::open_numbers().into_iter();
    let opened: Vec<i32> = opened.filter(|number| !before.contains(number)).collect();
    for &number in &opened {
        registry.declare_external(
            number,
            "signal-hook",
            "wakes the thread that watches for signals",
        );
    }
    opened
}

impl Signals {
    /// Installs the handlers. The descriptors that this opens are declared in the registry.
    ///
    /// # Errors
    /// A handler cannot be installed, or the watcher thread cannot be started.
    pub(crate) fn install(
        registry: &Registry,
        handler: Arc<dyn SignalHandler>,
    ) -> io::Result<Signals> {
        let _entered = registry.enter();
        let before = echown_fd::fd::open_numbers();
        let is_ignored = |signal: &i32| {
            FROM_TERMINAL.contains(signal) && crate::sys::signal::is_ignored(*signal)
        };
        let (ignored, handled): (Vec<i32>, Vec<i32>) = HANDLED.into_iter().partition(is_ignored);
        // A program that does not call `prepare` has at least this thread and the watcher.
        crate::sys::signal::unblock(&HANDLED);
        let for_ctrlc = Arc::clone(&handler);
        let has_ctrlc = match ctrlc::try_set_handler(move || for_ctrlc.drain()) {
            Ok(()) => {
                crate::sys::signal::restore_default(SIGHUP);
                true
            }
            // One of its three signals is ignored, or a handler was installed before.
            Err(error) => {
                tracing::debug!(
                    "ctrlc is not available ({error}): the signal watcher starts the drain"
                );
                false
            }
        };
        if !ignored.is_empty() {
            let names: Vec<&str> = ignored.iter().map(|signal| name(*signal)).collect();
            tracing::info!(
                "signals that the parent process ignores stay ignored: {}; SIGTERM is handled",
                names.join(", ")
            );
        }
        for &signal in handled.iter().filter(|signal| [SIGINT, SIGTERM].contains(*signal)) {
            let ends = Arc::clone(exits_on_signal());
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, ends)?;
        }
        let signals = SignalsInfo::<WithOrigin>::new(handled)?;
        let watch = signals.handle();
        let numbers = declare_opened(registry, &before);
        let watcher = SignalWatcher { registry: registry.clone(), handler, has_ctrlc, stop: None };
        let watcher = thread::spawn_named("signals", [], move || watcher.watch(signals))
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Signals { registry: registry.clone(), numbers, watch, watcher: Some(watcher) })
    }

    /// Stops the watcher; the signals keep the handlers that `signal-hook` leaves installed.
    pub(crate) fn stop(mut self) {
        self.watch.close();
        if let Some(Err(failure)) = self.watcher.take().map(Promise::join)
            && !matches!(failure, TaskError::Cancelled)
        {
            tracing::error!("the signal watcher failed: {failure}");
        }
        for number in &self.numbers {
            self.registry.forget_external(*number);
        }
    }
}

struct SignalWatcher {
    registry: Registry,
    handler: Arc<dyn SignalHandler>,
    has_ctrlc: bool,
    /// The first signal that requested the drain.
    stop: Option<StopSignal>,
}

/// A request to stop: which signal, from where, when.
#[derive(Clone, Copy, Debug)]
struct StopSignal {
    signal: i32,
    /// `None`: sent by the kernel, for the terminal.
    sender: Option<i32>,
    at: Instant,
}

impl StopSignal {
    /// Whether this repeats `first` and is not a second request: the same signal from the same sender
    /// within [`REPEAT_WINDOW`]. A parent that forwards what the terminal has sent to the whole process
    /// group, as `timeout(1)` does with SIGINT, counts as the same sender as the terminal.
    fn is_repeat_of(&self, first: &StopSignal, parent: Option<i32>) -> bool {
        let both = [self.sender, first.sender];
        let is_passed_on = parent.is_some() && both.contains(&None) && both.contains(&parent);
        self.signal == first.signal
            && (self.sender == first.sender || is_passed_on)
            && self.at.saturating_duration_since(first.at) < REPEAT_WINDOW
    }
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

impl SignalWatcher {
    fn watch(mut self, mut signals: SignalsInfo<WithOrigin>) {
        for origin in signals.forever() {
            // A panic while showing something must not end the handling of signals.
            if catch_unwind(AssertUnwindSafe(|| self.handle(&origin))).is_err() {
                tracing::error!("a signal handler panicked");
            }
        }
        // An idle server may have drained before this thread wakes: still log the signal that ended
        // it.
        for origin in signals.pending() {
            self.handle(&origin);
        }
    }

    fn handle(&mut self, origin: &Origin) {
        let Origin { signal, process, .. } = origin;
        let name = name(*signal);
        let sender =
            process.as_ref().map_or_else(String::new, |sender| format!(" from PID {}", sender.pid));
        match *signal {
            SIGUSR1 => self.handler.show_custody(&self.registry),
            SIGHUP => {
                tracing::info!("got {name}{sender}: reopening files");
                self.handler.reopen_files();
            }
            SIGQUIT => {
                tracing::warn!("got {name}{sender}: aborting all connections");
                // Abort first: it is urgent, and the table may be long.
                self.handler.abort();
                self.handler.show_custody(&self.registry);
            }
            _ => self.handle_stop(*signal, process.as_ref().map(|sender| sender.pid), &sender),
        }
    }

    /// SIGINT or SIGTERM: the first one drains, another one ends the process.
    fn handle_stop(&mut self, signal: i32, pid: Option<i32>, sender: &str) {
        let name = name(signal);
        let stop = StopSignal { signal, sender: pid, at: Instant::now() };
        let Some(first) = self.stop else {
            tracing::info!("got {name}{sender}: draining");
            self.stop = Some(stop);
            self.handler.drain_began(Signal { number: signal, pid });
            if !self.has_ctrlc {
                self.handler.drain();
            }
            return;
        };
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().get());
        if stop.is_repeat_of(&first, parent) {
            tracing::debug!(
                "got {name}{sender} again within {REPEAT_WINDOW:?}: ignored as a repetition"
            );
            return;
        }
        tracing::warn!("got {name}{sender} again: stopping now");
        self.handler.before_exit();
        // The conventional exit code for this signal; no finalizer runs.
        std::process::exit(128 + signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: Option<i32> = Some(7);
    const OTHER: Option<i32> = Some(8);

    type SentSignal = (i32, Option<i32>);

    fn is_one(first: SentSignal, second: SentSignal, milliseconds: u64) -> bool {
        is_one_below(PARENT, first, second, milliseconds)
    }

    fn is_one_below(
        parent: Option<i32>,
        first: SentSignal,
        second: SentSignal,
        milliseconds: u64,
    ) -> bool {
        let at = Instant::now();
        let first = StopSignal { signal: first.0, sender: first.1, at };
        let at = at + Duration::from_millis(milliseconds);
        StopSignal { signal: second.0, sender: second.1, at }.is_repeat_of(&first, parent)
    }

    #[test]
    fn the_same_signal_from_the_same_sender_counts_once_for_200_ms() {
        for sender in [PARENT, OTHER, None] {
            assert!(is_one((SIGTERM, sender), (SIGTERM, sender), 0));
            assert!(is_one((SIGTERM, sender), (SIGTERM, sender), 199));
            assert!(!is_one((SIGTERM, sender), (SIGTERM, sender), 200));
        }
    }

    #[test]
    fn another_signal_or_another_sender_counts_as_a_second_one() {
        assert!(!is_one((SIGTERM, OTHER), (SIGINT, OTHER), 0));
        assert!(!is_one((SIGTERM, OTHER), (SIGTERM, PARENT), 0));
        assert!(!is_one((SIGINT, None), (SIGINT, OTHER), 0));
    }

    #[test]
    fn a_terminal_signal_that_the_parent_forwards_counts_once() {
        assert!(is_one((SIGINT, None), (SIGINT, PARENT), 1));
        assert!(is_one((SIGINT, PARENT), (SIGINT, None), 1));
        assert!(!is_one((SIGINT, None), (SIGTERM, PARENT), 1));
        // The first process of a container has no visible parent.
        assert!(!is_one_below(None, (SIGINT, None), (SIGINT, OTHER), 1));
    }
}
