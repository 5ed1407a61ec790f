//! The options `--chaos` and `--faults`: injection of rule violations and of system call failures.

use std::sync::Arc;

use clap::Args;

use super::stderr_line::{Line, stderr_line};
use super::units::{escaped, number};
use crate::echo::{Chaos, ChaosTarget, SharedHandler};
use crate::faults::{FaultInjector, FaultRates};
use crate::ownership::{Level, RegistryBuilder};

/// Options of fault injection.
#[derive(Args)]
#[command(next_help_heading = "Chaos")]
pub(super) struct ChaosArguments {
    /// Inject faults into connections, as in `leak=0.05,panic=0.1`: each rate is the share of
    /// connections that get this fault, after their first echo. Kinds are `panic` (the task panics),
    /// `leak` (the handle is forgotten), `foreign-write` (a task that is not the owner writes), `cycle`
    /// (a reference cycle keeps the handle), `double-release` (a second release), `fd-replaced`
    /// (another file replaces the descriptor) and `finalizer-panic` (the finalizer panics). The sum of
    /// the rates is at most 1: a connection has at most one fault. The summary at exit counts, by
    /// kind, how many were injected and how many were reported.
    #[arg(long, value_name = "KIND=RATE,...", value_parser = of_connections)]
    chaos: Option<FaultRates>,

    /// Seed that selects the connections for --chaos; the same seed selects the same connections, in
    /// order of arrival. Random by default; logged at startup.
    #[arg(long, value_name = "N", value_parser = number::<u64>, requires = "chaos")]
    chaos_seed: Option<u64>,

    /// Make system calls fail, as in `read=0.01,short=0.2`: each rate is the share of calls that get
    /// this fault, once the server listens. `interrupt` (EINTR), `short` (fewer bytes are moved than
    /// possible) and `again` (EAGAIN) lose no data and end no connection. `read` and `write` (reset,
    /// no buffers, no memory) end the connection; all styles but `broadcast` reset it, so that a
    /// client does not take half an echo for a whole one. `accept` (aborted, no descriptors, no
    /// memory) and `thread` (a thread cannot be started) refuse a client. `close` (an error, after
    /// the descriptor is closed) is reported. `all` sets all of these. `interrupt`, `again` and `all`
    /// are at most 0.9. The summary at exit counts the injected failures by kind.
    #[arg(long, value_name = "KIND=RATE,...", value_parser = of_syscalls)]
    faults: Option<FaultRates>,

    /// Seed that selects the calls for --faults; the same seed selects the same calls of each kind,
    /// in order. Random by default; logged at startup.
    #[arg(long, value_name = "N", value_parser = number::<u64>, requires = "faults")]
    faults_seed: Option<u64>,
}

fn of_connections(text: &str) -> Result<FaultRates, String> {
    FaultRates::of_connections(text).map_err(escaped)
}

fn of_syscalls(text: &str) -> Result<FaultRates, String> {
    FaultRates::of_syscalls(text).map_err(escaped)
}

impl ChaosArguments {
    /// Checks that the checker is on, which finds what chaos injects.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn check(&self, level: Level) -> Result<(), String> {
        if self.chaos.is_some() && level == Level::Off {
            return Err("--chaos needs the checker: use --ownership on or full".into());
        }
        Ok(())
    }

    /// Adds the fault injector to the registry's settings if `--faults` is given.
    pub(super) fn inject_faults(&self, settings: RegistryBuilder) -> RegistryBuilder {
        let Some(plan) = self.faults else { return settings };
        let seed = self.faults_seed.unwrap_or_else(|| fastrand::u64(..));
        let text = format_args!("faults: {plan} with --faults-seed {seed}");
        stderr_line(Line::from(text).event("faults").field("seed", seed));
        settings.inject_faults(&Arc::new(FaultInjector::with_rates(plan, seed)))
    }

    /// Wraps the handler in chaos if `--chaos` is given.
    pub(super) fn wrap(&self, handler: Arc<dyn ChaosTarget>) -> SharedHandler {
        let Some(plan) = self.chaos else { return handler };
        let seed = self.chaos_seed.unwrap_or_else(|| fastrand::u64(..));
        let text = format_args!("chaos: {plan} with --chaos-seed {seed}");
        stderr_line(Line::from(text).event("chaos").field("seed", seed));
        Arc::new(Chaos::new(handler, FaultInjector::with_rates(plan, seed)))
    }
}
