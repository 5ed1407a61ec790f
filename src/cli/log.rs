//! The log: events of `tracing` as lines on standard error, or in a file.

use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::log_arguments::{LogArguments, OutputFormat};
use super::output::{LogLine, Output, stderr_has_colours};
use super::stderr_line::form::is_journal;

/// Starts the log. Call once per process.
pub(super) fn init(arguments: &LogArguments, output: &Arc<Output>) {
    let is_on_stderr = arguments.log_file.is_none();
    let log = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_max_level(arguments.log_level)
        .with_ansi(is_on_stderr && stderr_has_colours())
        .with_writer(LogWriter(Arc::clone(output)));
    match arguments.log_format {
        OutputFormat::Json => log.json().flatten_event(true).init(),
        // The journal has its own time stamps.
        OutputFormat::Text if is_on_stderr && is_journal() => log.without_time().init(),
        OutputFormat::Text => log.init(),
    }
}

/// Makes the writer of each event, which depends on its level.
struct LogWriter(Arc<Output>);

impl MakeWriter<'_> for LogWriter {
    type Writer = LogLine;

    fn make_writer(&self) -> LogLine {
        self.0.log_line(Level::INFO)
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> LogLine {
        self.0.log_line(*event.level())
    }
}
