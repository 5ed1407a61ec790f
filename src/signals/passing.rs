//! Signals that a program passes on to another one that it runs.
//!
//! Of a terminal's signals (Ctrl-C, a hang-up) both programs get one each, because both are in the
//! terminal's foreground process group: passed on, it would arrive twice. So only what a process sends is
//! passed on. `timeout(1)` sends its signal to the process and then to its process group; the same signal
//! from the same sender counts once within [`REPEAT_WINDOW`].

use std::io;
use std::time::Instant;

use rustix::process::{Pid, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};

use super::{REPEAT_WINDOW, Signals, declare_opened};
use crate::ownership::Registry;
use crate::thread;

/// The signals that are passed on. The others have their default effect on this process.
const PASSED: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Arrived {
    signal: i32,
    /// `None`: sent by the kernel, for the terminal.
    sender: Option<i32>,
}

/// What was passed on last, to recognize a repetition.
#[derive(Debug, Default)]
struct Last(Option<(Arrived, Instant)>);

impl Last {
    /// Whether the signal is to be passed on.
    fn passes(&mut self, arrived: Arrived, now: Instant) -> bool {
        if arrived.sender.is_none() {
            return false;
        }
        let is_repeated = self.0.is_some_and(|(before, at)| {
            before == arrived && now.saturating_duration_since(at) < REPEAT_WINDOW
        });
        self.0 = Some((arrived, now));
        !is_repeated
    }
}

/// The handlers and the thread that passes signals on.
pub(crate) struct PassedSignals(Signals);

impl PassedSignals {
    /// Handles the signals from now on. `targets` is asked for the processes at each signal.
    ///
    /// # Errors
    /// A handler cannot be installed, or the thread cannot be started.
    pub(crate) fn install(
        registry: &Registry,
        targets: impl Fn() -> Vec<i32> + Send + 'static,
    ) -> io::Result<PassedSignals> {
        let _entered = registry.enter();
        let before = echown_fd::fd::open_numbers();
        // What the parent ignores for both programs stays ignored.
        let handled = PASSED.into_iter().filter(|it| !crate::sys::signal::is_ignored(*it));
        let mut signals = SignalsInfo::<WithOrigin>::new(handled.collect::<Vec<_>>())?;
        let watch = signals.handle();
        let numbers = declare_opened(registry, &before);
        let pass = move || {
            let mut last = Last::default();
            for Origin { signal, process, .. } in signals.forever() {
                let sender = process.map(|process| process.pid);
                if last.passes(Arrived { signal, sender }, Instant::now()) {
                    targets().into_iter().for_each(|target| send(target, signal));
                }
            }
        };
        let watcher = thread::spawn_named("signals", [], pass)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let registry = registry.clone();
        Ok(PassedSignals(Signals { registry, numbers, watch, watcher: Some(watcher) }))
    }

    /// Stops passing signals on.
    pub(crate) fn stop(self) {
        self.0.stop();
    }
}

fn send(process: i32, signal: i32) {
    if let (Some(process), Some(signal)) = (Pid::from_raw(process), Signal::from_named_raw(signal))
    {
        // It may have ended.
        let _ = rustix::process::kill_process(process, signal);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_terminal_sends_is_not_passed_on_and_a_repetition_counts_once() {
        let mut last = Last::default();
        let now = Instant::now();
        let from = |sender| Arrived { signal: SIGTERM, sender };
        assert!(!last.passes(from(None), now), "the terminal");
        assert!(last.passes(from(Some(7)), now));
        assert!(!last.passes(from(Some(7)), now + Duration::from_millis(199)));
        assert!(last.passes(from(Some(8)), now + Duration::from_millis(200)), "another sender");
        assert!(last.passes(from(Some(7)), now + Duration::from_millis(201)));
        let other = Arrived { signal: SIGINT, sender: Some(7) };
        assert!(last.passes(other, now + Duration::from_millis(202)), "another signal");
        assert!(last.passes(other, now + Duration::from_millis(402)), "later");
    }
}
