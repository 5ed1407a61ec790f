//! The options of the log.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use tracing::level_filters::LevelFilter;

use super::units::one_of;

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// Options of the log.
#[derive(Args)]
#[command(next_help_heading = "Log")]
pub(super) struct LogArguments {
    /// Minimum level of logged events. Reports of the checker are not events and are always written.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = one_of::<LevelFilter>(LEVELS))]
    pub(super) log_level: LevelFilter,

    /// Format of the log and of all of standard error: text, or one JSON object per line, with the keys
    /// `timestamp`, `level` and `message`. Then reports, too, are JSON unless --report is given.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) log_format: OutputFormat,

    /// Append the log to this file instead of standard error. SIGHUP reopens it.
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,
}

/// Text for people, or one JSON object per line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Text,
    Json,
}
