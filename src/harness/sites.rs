//! The symbolizer: turns addresses into source locations, only when there is a report to make.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use echown_fd::{escape, trap::Stack};

use super::case::Case;
use crate::report::{Frame, Place};

/// Turns stacks into places, with paths as the compiler writes them.
pub(super) struct Sites {
    /// The folder that the compiler was run in. Empty when it cannot be found out.
    root: PathBuf,
    /// Where the C library's code is. Every stack begins there and nobody wants to know where; where
    /// its debug information is installed, reading that takes longer than all the rest.
    c_library: Vec<Range<usize>>,
    /// What was found before: the same code may have opened thousands.
    known: RefCell<HashMap<usize, Vec<Frame>>>,
}

impl Sites {
    /// For the sources of one test: what the compiler called its file leads there from the root.
    pub(super) fn new(case: &Case) -> Sites {
        let package = Path::new(case.package.unwrap_or_default());
        let root = package.ancestors().find(|root| root.join(case.file).exists());
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Sites {
            root: root.unwrap_or(Path::new("")).to_owned(),
            c_library: maps.lines().filter_map(c_library).collect(),
            known: RefCell::default(),
        }
    }

    /// A noted stack in words; `what` stands before the system call's name.
    pub(super) fn place(&self, stack: Stack, what: &str) -> Place {
        let thread = match stack.thread_name.as_str() {
            "" => stack.thread.to_string(),
            name => format!("`{name}`"),
        };
        let mut frames: Vec<Frame> = Vec::new();
        let is_in_c_library =
            |address: &&usize| self.c_library.iter().any(|range| range.contains(address));
        for &address in stack.addresses.iter().skip_while(is_in_c_library) {
            let mut known = self.known.borrow_mut();
            frames.extend_from_slice(known.entry(address).or_insert_with(|| self.resolve(address)));
            // Below the body there is only how it came to be run, and each name costs time.
            if let Some(end) = frames.iter().position(|frame| is_start(&frame.function)) {
                frames.truncate(end);
                break;
            }
        }
        Place { what: format!("{what}{}", stack.call), thread, frames }
    }

    /// The calls that an address stands for: several where functions were inlined.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn resolve(&self, address: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        // A return address is that of the line after the call, when the call ends its line.
        backtrace::resolve((address - 1) as *mut std::ffi::c_void, |symbol| {
            let function = symbol.name().map(|name| format!("{name:#}"));
            let file = symbol.filename();
            frames.push(Frame {
                function: function.unwrap_or_else(|| format!("{address:#x}")),
                file: file.map(|file| self.shown(file)),
                line: symbol.lineno().unwrap_or(0),
                column: symbol.colno().unwrap_or(0),
                is_own: file.is_some_and(is_own),
            });
        });
        if frames.is_empty() {
            frames.push(Frame { function: format!("{address:#x}"), ..Frame::default() });
        }
        frames
    }

    #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
    fn resolve(&self, address: usize) -> Vec<Frame> {
        vec![Frame { function: format!("{address:#x}"), ..Frame::default() }]
    }

    fn shown(&self, path: &Path) -> String {
        escape::path(path.strip_prefix(&self.root).unwrap_or(path)).into_owned()
    }
}

/// The range of a line of `/proc/self/maps`, if it is the C library's.
fn c_library(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let name = words.nth(4)?.rsplit('/').next()?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    name.starts_with("libc.").then_some(number(start)?..number(end)?)
}

/// Where this crate, or the standard library, began to run a stranger's code.
fn is_start(function: &str) -> bool {
    const STARTS: [&str; 4] = [
        "echown::harness::child::",
        "std::sys::backtrace::__rust_begin_short_backtrace",
        "core::ops::function::FnOnce::call_once{{vtable.shim}}",
        "std::panicking::",
    ];
    STARTS.iter().any(|start| function.starts_with(start))
}

/// Whether a source is somebody's own, and not the toolchain's or a registry's.
fn is_own(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let others = ["/rustc/", "/registry/src/", "/lib/rustlib/", "/git/checkouts/"];
    let is_c = path.extension().is_some_and(|extension| extension == "c" || extension == "S");
    !is_c && !others.iter().any(|other| text.contains(other))
}
