//! The log: events of `tracing` as lines on standard error, or in a file.

use std::sync::Arc;

use tracing::level_filters::LevelFilter;

use super::log_arguments::{LogArguments, LogFormat, LogLevel};
use super::output::{Output, stderr_has_colours};

/// Starts the log. Call once per process.
pub(super) fn init(arguments: &LogArguments, output: &Arc<Output>) {
    let level = match arguments.log_level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let has_colours = arguments.log_file.is_none() && stderr_has_colours();
    let output = Arc::clone(output);
    let log = tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_max_level(level)
        .with_writer(move || output.log_line());
    match arguments.log_format {
        LogFormat::Text => log.with_ansi(has_colours).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
