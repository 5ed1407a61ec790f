//! The symbolizer: turns addresses into source locations. Runs only if there is a report.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use echown_fd::{escape, trap::Stack};
use echown_report::{Place, StackFrame};

use super::case::Case;
use super::symbols::{Symbol, Symbols};

/// Converts stacks to places, with paths as the compiler writes them.
pub(super) struct Symbolizer {
    /// The folder in which the compiler ran. Empty if unknown.
    root: PathBuf,
    symbols: Symbols,
    /// Resolved addresses: the same code may have opened thousands of descriptors.
    cache: RefCell<HashMap<usize, Vec<StackFrame>>>,
}

impl Symbolizer {
    /// A symbolizer for the sources of one test. The root is derived from the compiler's path of
    /// the test's file.
    pub(super) fn new(case: &Case) -> Symbolizer {
        let package = Path::new(case.package.unwrap_or_default());
        let root = package.ancestors().find(|root| root.join(case.file).exists());
        Symbolizer {
            root: root.unwrap_or(Path::new("")).to_owned(),
            symbols: Symbols::of_this_process(),
            cache: RefCell::default(),
        }
    }

    /// Symbolizes a recorded stack; `what` precedes the system call's name.
    pub(super) fn place(&self, stack: Stack, what: &str) -> Place {
        let thread = match stack.thread_name.as_str() {
            "" => stack.thread.to_string(),
            name => format!("`{name}`"),
        };
        let mut frames: Vec<StackFrame> = Vec::new();
        // Frames of the C library at the top of a stack are skipped without symbolizing: reading
        // its debug information, if installed, takes longer than everything else.
        let is_in_c_library = |address: &&usize| self.symbols.is_in_c_library(**address);
        for &address in stack.addresses.iter().skip_while(is_in_c_library) {
            let mut cache = self.cache.borrow_mut();
            frames.extend_from_slice(cache.entry(address).or_insert_with(|| self.resolve(address)));
            // Frames below the body belong to the harness and are skipped, because symbolizing them
            // takes time.
            if let Some(end) = frames.iter().position(|frame| is_start(&frame.function)) {
                frames.truncate(end);
                break;
            }
        }
        Place { what: format!("{what}{}", stack.call), thread, frames }
    }

    /// The frames at an address: several if functions were inlined.
    fn resolve(&self, address: usize) -> Vec<StackFrame> {
        // A return address can belong to the next line, so one byte is subtracted.
        let symbols = self.symbols.resolve(address - 1);
        let frame = |symbol: Symbol| StackFrame {
            function: symbol.function.unwrap_or_else(|| format!("{address:#x}")),
            is_own: symbol.file.as_deref().is_some_and(is_own),
            file: symbol.file.map(|file| self.shown(&file)),
            line: symbol.line,
            column: symbol.column,
        };
        let mut frames: Vec<StackFrame> = symbols.into_iter().map(frame).collect();
        if frames.is_empty() {
            frames.push(StackFrame { function: format!("{address:#x}"), ..StackFrame::default() });
        }
        frames
    }

    fn shown(&self, path: &Path) -> String {
        escape::path(path.strip_prefix(&self.root).unwrap_or(path)).into_owned()
    }
}

/// Whether a function of this crate or of the standard library calls the user's code.
fn is_start(function: &str) -> bool {
    const STARTS: [&str; 4] = [
        "echown_test::child::",
        "std::sys::backtrace::__rust_begin_short_backtrace",
        "core::ops::function::FnOnce::call_once{{vtable.shim}}",
        "std::panicking::",
    ];
    STARTS.iter().any(|start| function.starts_with(start))
}

/// Whether a source file is the user's own, not part of the toolchain or of a registry package.
fn is_own(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let others = ["/rustc/", "/registry/src/", "/lib/rustlib/", "/git/checkouts/"];
    let is_c = path.extension().is_some_and(|extension| extension == "c" || extension == "S");
    !is_c && !others.iter().any(|other| text.contains(other))
}
