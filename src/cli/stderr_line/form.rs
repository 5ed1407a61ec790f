//! The form of standard error: text or JSON, and with or without the priorities of the journal.
//!
//! The failure story: a service manager stores standard error in its journal, line by line. Without a
//! priority each line has the same one, so that neither a filter for errors nor an alert finds anything,
//! and a time stamp stands next to the journal's own. In a log processor that expects JSON, one line of
//! plain text, such as a panic, is an error of the parser and is lost.
//!
//! # Limits
//!
//! What the Rust runtime itself prints is plain text: a failed allocation, a stack overflow, a panic within
//! a panic. So is an error of the arguments, because it comes before `--log-format` is known. An output
//! option that names `/dev/stderr` as its file has the form of a file.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Serialize, Serializer};
use tracing::Level;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::cli::log_arguments::OutputFormat;

/// Set by the systemd service manager: the device and the inode of the stream to its journal.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets the format of all following lines.
pub(in crate::cli) fn set_format(format: OutputFormat) {
    // ord: Relaxed; set by the main thread before it starts others.
    IS_JSON.store(format == OutputFormat::Json, Ordering::Relaxed);
}

/// Whether each line is a JSON object.
pub(in crate::cli) fn is_json() -> bool {
    // ord: Relaxed; see `set_format`.
    IS_JSON.load(Ordering::Relaxed)
}

/// Whether standard error is a stream to the journal. A child of a service inherits the variable also if
/// its standard error is another file, so both are compared.
pub(in crate::cli) fn is_journal() -> bool {
    static IS_JOURNAL: OnceLock<bool> = OnceLock::new();
    *IS_JOURNAL.get_or_init(|| {
        let Some(stream) = std::env::var_os(JOURNAL_STREAM) else { return false };
        let Ok(stat) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
        stream.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino))
    })
}

/// The journal's prefix of a line: `<3>` is an error, `<7>` is for debugging.
pub(in crate::cli) fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// A text as the journal needs it: each line has its priority, because each becomes an entry of its own.
/// Empty lines are omitted. Other standard errors get the text as it is.
pub(in crate::cli) fn marked(text: Vec<u8>, level: Level) -> Vec<u8> {
    if is_journal() { with_priority(&text, level) } else { text }
}

fn with_priority(text: &[u8], level: Level) -> Vec<u8> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.flat_map(|line| [priority(level).as_bytes(), line, b"\n"].concat()).collect()
}

/// What every JSON line begins with; the lines of the log begin with the same keys.
#[derive(Serialize)]
pub(in crate::cli) struct Common<'a> {
    timestamp: Shown<Now>,
    level: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
}

impl<'a> Common<'a> {
    pub(in crate::cli) fn new(
        level: Level,
        message: Option<&'a str>,
        event: Option<&'static str>,
    ) -> Common<'a> {
        Common { timestamp: Shown(Now), level: level.as_str(), message, event }
    }
}

/// The time at which it is written, as in the log.
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SystemTime.format_time(&mut Writer::new(f))
    }
}

/// What is displayed, as a JSON string; it allocates nothing.
pub(in crate::cli) struct Shown<T>(pub(in crate::cli) T);

impl<T: fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_a_text_gets_its_priority() {
        let marked =
            |text: &str, level| String::from_utf8(with_priority(text.as_bytes(), level)).unwrap();
        assert_eq!(marked("a\n", Level::ERROR), "<3>a\n");
        assert_eq!(marked("\na\n  b\n\n", Level::WARN), "<4>a\n<4>  b\n");
        assert_eq!(marked("a\n", Level::TRACE), "<7>a\n");
    }
}
