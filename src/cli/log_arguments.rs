//! The options of the log.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of the log.
#[derive(Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArguments {
    /// Minimum level of logged events. Reports of the checker are not events and are always written.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: LogLevel,

    /// Format of the log and of the custody table: text, or one JSON object per line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: LogFormat,

    /// Append the log to this file instead of standard error. SIGHUP reopens it.
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum LogLevel {
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
