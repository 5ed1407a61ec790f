//! Standard error, which may be closed, full, or nobody's.

use std::fmt;
use std::io::{self, Write};

/// Writes a line to standard error. What cannot be written there is lost: that nobody listens must
/// not end the program, as `eprintln!` would by its panic. In one call, so that another process
/// that writes there comes between two lines and not into one.
pub(super) fn say(line: impl fmt::Display) {
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
