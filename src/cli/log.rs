//! The log: events of `tracing` as lines on standard error, or in a file.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use super::output::Output;

/// Options of the log.
#[derive(Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArguments {
    /// Minimum level of logged events. Reports of the checker are not events and are always written.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,

    /// Format of the log and of the custody table: text, or one JSON object per line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,

    /// Append the log to this file instead of standard error. SIGHUP reopens it.
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

impl LogArguments {
    /// Starts the log. Call once per process.
    pub(super) fn init(&self, output: &Arc<Output>) {
        let level = match self.log_level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let has_colours = self.log_file.is_none() && super::output::stderr_has_colours();
        let output = Arc::clone(output);
        let log = tracing_subscriber::fmt()
            .log_internal_errors(false)
            .with_max_level(level)
            .with_writer(move || output.log_line());
        match self.log_format {
            LogFormat::Text => log.with_ansi(has_colours).init(),
            LogFormat::Json => log.json().flatten_event(true).init(),
        }
    }
}
