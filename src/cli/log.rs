//! The log: events of `tracing` as lines on standard error.

use std::io;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

/// How the log is written.
#[derive(Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArguments {
    /// Which events are logged. Reports of the checker are warnings.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: Level,

    /// How a log line is written: for people, or one JSON object a line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

impl LogArguments {
    /// Begins to log. Once per process.
    pub(super) fn init(&self) {
        let level = match self.log_level {
            Level::Off => LevelFilter::OFF,
            Level::Error => LevelFilter::ERROR,
            Level::Warn => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        };
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
        match self.log_format {
            Format::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).init(),
            Format::Json => log.json().flatten_event(true).init(),
        }
    }
}
