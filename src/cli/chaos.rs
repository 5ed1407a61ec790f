//! `--chaos` and `--faults`: broken rules and broken promises of the kernel's, on purpose.

use std::sync::Arc;

use clap::Args;

use super::units::{number, parse};
use crate::echo::{Chaos, ChaosTarget, Plan, SharedHandler};
use crate::faults::{self, Saboteur};
use crate::ownership::{Builder, Level};

/// Which connections are broken, and how.
#[derive(Args)]
#[command(next_help_heading = "Chaos")]
pub(super) struct ChaosArguments {
    /// Break connections on purpose, as in `leak=0.05,panic=0.1`: the share of connections that each
    /// kind of fault strikes, after the first echo. Kinds are `panic` (in the middle of an exchange),
    /// `leak` (the handle is forgotten), `steal` (a thread that was given nothing writes), `cycle` (a
    /// cycle of references keeps the handle), `double` (a second release), `theft` (another file takes
    /// the descriptor's number) and `finalizer` (a finalizer that panics). The rates add up to 1 at
    /// most: a connection has at most one fault. In the end the summary says how many of each kind
    /// were injected, and how many were reported.
    #[arg(long, value_name = "KIND=RATE,...", value_parser = parse::<Plan>)]
    chaos: Option<Plan>,

    /// Strike the same connections, in the order of their arrival, as another run with this seed did;
    /// taken at random unless given, and said at the start.
    #[arg(long, value_name = "N", value_parser = number::<u64>, requires = "chaos")]
    chaos_seed: Option<u64>,

    /// Have system calls fail on purpose, as in `read=0.01,short=0.2`: the share of calls that each
    /// kind of fault strikes, once the server listens. `interrupt` (a signal came), `short` (fewer
    /// bytes are moved than could be) and `again` (it would have to wait) lose nothing and end no
    /// connection; `read` and `write` (reset, no buffers, no memory) end the connection that they
    /// wrap, in all styles but `broadcast` by a reset, so that nobody takes half an echo for a whole
    /// one; `accept` (aborted, no descriptors, no memory) and `thread` (none could be started) refuse a
    /// client; `close` (an error, once it is closed) is reported; `all` is all of these. `interrupt`,
    /// `again` and `all` are 0.9 at most. In the end the summary says how many calls of each kind were
    /// struck.
    #[arg(long, value_name = "KIND=RATE,...", value_parser = parse::<faults::Plan>)]
    faults: Option<faults::Plan>,

    /// Strike the same calls, each kind's in their order, as another run with this seed did; taken at
    /// random unless given, and said at the start.
    #[arg(long, value_name = "N", value_parser = number::<u64>, requires = "faults")]
    faults_seed: Option<u64>,
}

impl ChaosArguments {
    /// Whether there is somebody to find what is broken.
    ///
    /// # Errors
    /// There is not, in words.
    pub(super) fn check(&self, level: Level) -> Result<(), String> {
        if self.chaos.is_some() && level == Level::Off {
            return Err("--chaos asks what the checker finds, and --check off finds nothing".into());
        }
        Ok(())
    }

    /// The registry's settings, with somebody who makes system calls fail if that was asked for.
    pub(super) fn inject_faults(&self, settings: Builder) -> Builder {
        let Some(plan) = self.faults else { return settings };
        let seed = self.faults_seed.unwrap_or_else(|| fastrand::u64(..));
        super::stderr_line::stderr_line(format_args!("faults: {plan} with --faults-seed {seed}"));
        settings.sabotage(&Arc::new(Saboteur::new(plan, seed)))
    }

    /// The style, struck at the rates that were asked for.
    pub(super) fn wrap(&self, handler: Arc<dyn ChaosTarget>) -> SharedHandler {
        let Some(plan) = self.chaos else { return handler };
        let seed = self.chaos_seed.unwrap_or_else(|| fastrand::u64(..));
        super::stderr_line::stderr_line(format_args!("chaos: {plan} with --chaos-seed {seed}"));
        Arc::new(Chaos::new(handler, plan, seed))
    }
}
