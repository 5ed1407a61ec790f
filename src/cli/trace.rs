//! The option `--trace-events`: a trace of the messages between state machines.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::output::Output;
use crate::stage::Sink;

/// The value that means standard error.
const STDERR: &str = "-";

/// Destination and format of the event trace.
#[derive(Args)]
pub(super) struct TraceArguments {
    /// Write every message between machines, one per line, before it is handled:
    /// `RX-4 @ WORK got 'D0' from OS`. Appended to FILE, which is created at startup; standard error
    /// without FILE. SIGHUP reopens it.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        default_missing_value = STDERR
    )]
    trace_events: Option<PathBuf>,
}

impl TraceArguments {
    pub(super) fn is_wanted(&self) -> bool {
        self.trace_events.is_some()
    }

    /// The file, unless the trace goes to standard error.
    pub(super) fn file(&self) -> Option<&Path> {
        self.trace_events.as_deref().filter(|path| *path != Path::new(STDERR))
    }

    /// The sink of the event trace, if one is requested.
    pub(super) fn sink(&self, output: &Arc<Output>) -> Option<Sink> {
        let output = Arc::clone(output);
        self.is_wanted().then(|| -> Sink { Box::new(move |line| output.event(line)) })
    }
}
