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
use std::panic::{self, Location, PanicHookInfo};
use std::sync::Once;

use serde::Serialize;
use tracing::Level;

use super::output::Flush;
use super::stderr_line::form::{Common, Shown, is_journal, is_json, priority};
use super::stderr_line::{self, Line, stderr_line};
use crate::sys::memory;

/// The longest line where allocation is not possible: a write of this size is not split.
const LINE_MAX: usize = 4096;

/// The longest message there, in bytes, and the longest name; longer ones are truncated. In JSON a byte
/// has up to six characters.
const MESSAGE_MAX: usize = 400;
const NAME_MAX: usize = 100;

/// The kind of message, for programs.
const EVENT: &str = "panic";

/// Replaces the standard library's hook. Call once per process.
pub(super) fn install_hook() {
    let has_room = !memory::prints_backtraces() || memory::has_room_for_symbols();
    panic::set_hook(Box::new(if has_room { print } else { print_without_memory }));
}

fn print(info: &PanicHookInfo<'_>) {
    static HINT: Once = Once::new();
    let thread = std::thread::current();
    let mut text = format!("\nthread '{}' {info}\n", name(&thread));
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    match &backtrace {
        Some(backtrace) => text += &format!("stack backtrace:\n{backtrace}"),
        None => HINT.call_once(|| {
            text += "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        }),
    }
    let line = if is_json() { Line::from(message(info)) } else { Line::from(text.trim_end()) };
    let line = line.level(Level::ERROR).event(EVENT).field("thread", name(&thread));
    let line = line.field("place", info.location().map(Shown));
    stderr_line(line.field("backtrace", backtrace));
    // The panic may become an abort.
    stderr_line::flush(Flush::Panic);
}

/// Does not allocate. Errors of the write are ignored.
fn print_without_memory(info: &PanicHookInfo<'_>) {
    let mut text = [0; LINE_MAX];
    let mut rest = &mut text[..];
    let mark = if is_journal() { priority(Level::ERROR) } else { "" };
    let thread = std::thread::current();
    let (thread, message) = (name(&thread), truncated(message(info), MESSAGE_MAX));
    let place = info.location().map(Shown);
    let _ = if is_json() {
        let common = Common::new(Level::ERROR, Some(message), Some(EVENT));
        let _ = rest.write_all(mark.as_bytes());
        let _ = serde_json::to_writer(
            &mut rest,
            &PanicLine { common, thread: truncated(thread, NAME_MAX), place, note: NO_ROOM },
        );
        rest.write_all(b"\n")
    } else {
        let _ = match place {
            Some(Shown(place)) => writeln!(rest, "{mark}thread '{thread}' panicked at {place}:"),
            None => writeln!(rest, "{mark}thread '{thread}' panicked:"),
        };
        message.lines().for_each(|line| drop(writeln!(rest, "{mark}{line}")));
        writeln!(rest, "{mark}note: {NO_ROOM}")
    };
    let left = rest.len();
    stderr_line::write_directly(&text[..LINE_MAX - left]);
}

/// A panic as JSON, where allocation is not possible.
#[derive(Serialize)]
struct PanicLine<'a> {
    #[serde(flatten)]
    common: Common<'a>,
    thread: &'a str,
    place: Option<Shown<&'a Location<'a>>>,
    note: &'static str,
}

/// Why there is no backtrace.
const NO_ROOM: &str = "a limit of memory leaves no room for a backtrace";

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload_as_str().unwrap_or("a value that is no text")
}

/// The beginning of a text, at most this many bytes.
fn truncated(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn name(thread: &std::thread::Thread) -> &str {
    thread.name().unwrap_or("<unnamed>")
}
