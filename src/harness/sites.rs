//! Addresses into places: only when there is a report to make.

use std::path::{Path, PathBuf};

use super::case::Case;
use crate::report::{Frame, Place};
use crate::sys::trap::Stack;

/// Turns stacks into places, with paths as the compiler writes them.
pub(super) struct Sites {
    /// The folder that the compiler was run in. Empty when it cannot be found out.
    root: PathBuf,
}

impl Sites {
    /// For the sources of one test: what the compiler called its file leads there from the root.
    pub(super) fn new(case: &Case) -> Sites {
        let package = Path::new(case.package.unwrap_or_default());
        let root = package.ancestors().find(|root| root.join(case.file).exists());
        Sites { root: root.unwrap_or(Path::new("")).to_owned() }
    }

    /// A noted stack in words; `what` stands before the system call's name.
    pub(super) fn place(&self, stack: Stack, what: &str) -> Place {
        let thread = match stack.thread_name.as_str() {
            "" => stack.thread.to_string(),
            name => format!("`{name}`"),
        };
        let mut frames: Vec<Frame> = Vec::new();
        for &address in &stack.addresses {
            frames.append(&mut self.resolve(address));
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
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }
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
