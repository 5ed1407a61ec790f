//! The options of `--style staged`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::super::output::Output;
use super::super::trace::TraceArguments;
use super::super::units::{size, timeout};
use crate::echo::{REQUEST_BYTES_MAX_DEFAULT, REQUEST_TIMEOUT_DEFAULT, Staged};

/// Options of the staged style.
#[derive(Args)]
#[command(next_help_heading = "With --style staged")]
pub(super) struct StagedArguments {
    /// Maximum length of a line, including its newline. A longer line closes the connection, with a
    /// log line. [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_request: Option<usize>,

    /// Time in which a whole line has to arrive, counted from when the server is ready for it; then
    /// the connection is closed. [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    request_timeout: Option<Duration>,

    #[command(flatten)]
    pub(super) trace: TraceArguments,
}

impl StagedArguments {
    /// The first of these options that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [
            ("--max-request", self.max_request.is_some()),
            ("--request-timeout", self.request_timeout.is_some()),
            ("--trace-events", self.trace.is_wanted()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    pub(super) fn build(&self, output: &Arc<Output>) -> Staged {
        let timeout = self.request_timeout.unwrap_or(REQUEST_TIMEOUT_DEFAULT);
        let bytes_max = self.max_request.unwrap_or(REQUEST_BYTES_MAX_DEFAULT);
        Staged::new(timeout, bytes_max, self.trace.sink(output))
    }
}
