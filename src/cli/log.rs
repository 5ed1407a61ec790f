//! The log: events of `tracing` as lines on standard error, or in a file.

use std::sync::Arc;

use super::log_arguments::{LogArguments, OutputFormat};
use super::output::{Output, stderr_has_colours};

/// Starts the log. Call once per process.
pub(super) fn init(arguments: &LogArguments, output: &Arc<Output>) {
    let has_colours = arguments.log_file.is_none() && stderr_has_colours();
    let output = Arc::clone(output);
    let log = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_max_level(arguments.log_level)
        .with_writer(move || output.log_line());
    match arguments.log_format {
        OutputFormat::Text => log.with_ansi(has_colours).init(),
        OutputFormat::Json => log.json().flatten_event(true).init(),
    }
}
