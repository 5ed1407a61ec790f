//! The panic hook: writes through the same queue as all other output, and prints a backtrace only where
//! there is memory for it.
//!
//! The failure story: the standard library's hook writes to standard error itself. A stalled standard
//! error would block the task that panicked indefinitely, and every other task that panics.
//!
//! With `RUST_BACKTRACE` set, the first panic reads the symbols of the program while it holds a lock. Under
//! a memory limit an allocation may fail meanwhile, and the message about that takes the same lock: the
//! thread deadlocks, and every other thread that panics blocks. The server stayed alive, served no client,
//! and could not be stopped. So the backtrace is omitted where a memory limit has no room for the symbols.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

use super::output::Flush;
use super::stderr_line;
use crate::sys::memory;

/// The longest message where allocation is not possible; longer ones are truncated.
const MESSAGE_MAX: usize = 1024;

/// Replaces the standard library's hook. Call once per process.
pub(super) fn install_hook() {
    let has_room = !memory::prints_backtraces() || memory::has_room_for_symbols();
    panic::set_hook(Box::new(if has_room { print } else { print_without_memory }));
}

fn print(info: &PanicHookInfo<'_>) {
    static HINT: Once = Once::new();
    let mut text = format!("\nthread '{}' {info}\n", name(&std::thread::current()));
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => text += &format!("stack backtrace:\n{backtrace}\n"),
        _ => HINT.call_once(|| {
            text += "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n";
        }),
    }
    stderr_line::write(text.into_bytes());
    // The panic may become an abort.
    stderr_line::flush(Flush::Panic);
}

/// Does not allocate. Errors of the write are ignored.
fn print_without_memory(info: &PanicHookInfo<'_>) {
    let mut text = [0; MESSAGE_MAX];
    let mut rest = &mut text[..];
    let _ = writeln!(rest, "thread '{}' {info}", name(&std::thread::current()));
    let _ = writeln!(rest, "note: a limit of memory leaves no room for a backtrace");
    let left = rest.len();
    stderr_line::write_directly(&text[..MESSAGE_MAX - left]);
}

fn name(thread: &std::thread::Thread) -> &str {
    thread.name().unwrap_or("<unnamed>")
}
