//! What a panic prints: a backtrace, if one is wanted, only where there is memory for it.
//!
//! The failure story: with `RUST_BACKTRACE` set, the standard library's hook reads the symbols of the
//! program at the first panic, holding a lock. Where memory is limited, an allocation fails meanwhile,
//! and the message about that takes the same lock: the thread waits for itself, and every other thread
//! that panics waits for it. The server lived, served nobody, and could not be stopped. So the backtrace
//! is left out where a limit of memory has no room for the symbols.

use std::io::{self, Write as _};
use std::panic;

use crate::sys::memory;

/// Replaces the standard library's hook where its backtraces might not have the memory that they need.
/// Once per process.
pub(super) fn install_hook() {
    if !memory::prints_backtraces() || memory::has_room_for_symbols() {
        return;
    }
    panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        // Straight to standard error: here nothing may allocate. What cannot be written is lost.
        let _ = writeln!(
            io::stderr().lock(),
            "thread '{name}' {info}\nnote: a limit of memory leaves no room for a backtrace"
        );
    }));
}
