//! Standard error, which may be closed, full, or nobody's.

use std::fmt;
use std::io::{self, Write};

/// Writes a line to standard error. What cannot be written there is lost: that nobody listens must
/// not end the program, as `eprintln!` would by its panic.
pub(super) fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
