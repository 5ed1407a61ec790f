//! The symbolizer: turns addresses into source locations. Runs only if there is a report.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use echown_fd::{escape, trap::Stack};
use echown_report::{Place, StackFrame};

use super::case::Case;
use super::origin::{self, Folders, Origin};
use super::symbols::{Symbol, Symbols};

/// Converts stacks to places, with paths that are the same on every machine.
pub(super) struct Symbolizer {
    /// The folder in which the compiler ran. Empty if unknown.
    root: String,
    /// Read when the first stack is symbolized: most tests have none.
    symbols: OnceCell<Symbols>,
    /// Resolved addresses: the same code may have opened thousands of descriptors.
    cache: RefCell<HashMap<usize, Vec<Frame>>>,
    /// The names of packages by their folders.
    packages: RefCell<HashMap<String, Option<String>>>,
}

/// A frame, and whether the stack ends at it.
#[derive(Clone)]
enum Frame {
    Shown(StackFrame),
    /// Drop glue of the standard library for a type that is not its own.
    Drop(StackFrame),
    /// A function that calls the test, or the function of a thread.
    Start,
}

impl Symbolizer {
    /// A symbolizer for the sources of one test. The root is derived from the compiler's path of
    /// the test's file.
    pub(super) fn new(case: &Case) -> Symbolizer {
        let package = Path::new(case.package.unwrap_or_default());
        let root = package.ancestors().find(|root| root.join(case.file).exists());
        Symbolizer {
            root: root.unwrap_or(Path::new("")).to_string_lossy().into_owned(),
            symbols: OnceCell::new(),
            cache: RefCell::default(),
            packages: RefCell::default(),
        }
    }

    fn symbols(&self) -> &Symbols {
        self.symbols.get_or_init(Symbols::of_this_process)
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
        let is_in_c_library = |address: &&usize| self.symbols().is_in_c_library(**address);
        'stack: for &address in stack.addresses.iter().skip_while(is_in_c_library) {
            let mut cache = self.cache.borrow_mut();
            for frame in cache.entry(address).or_insert_with(|| self.resolve(address)) {
                match frame {
                    Frame::Shown(frame) => frames.push(frame.clone()),
                    // Below other code, it is clear which value is dropped.
                    Frame::Drop(_) if frames.iter().any(|frame| !frame.is_between()) => {}
                    Frame::Drop(frame) => frames.push(frame.clone()),
                    // Frames below the body belong to the harness and are not symbolized, because
                    // that takes time.
                    Frame::Start => break 'stack,
                }
            }
        }
        Place { what: format!("{what}{}", stack.call), thread, frames }
    }

    /// The frames at an address: several if functions were inlined.
    fn resolve(&self, address: usize) -> Vec<Frame> {
        // A return address can belong to the next line, so one byte is subtracted.
        let symbols = self.symbols().resolve(address - 1);
        let mut frames: Vec<Frame> =
            symbols.into_iter().map(|symbol| self.frame(symbol, address)).collect();
        if frames.is_empty() {
            frames.push(self.frame(Symbol::default(), address));
        }
        frames
    }

    fn frame(&self, symbol: Symbol, address: usize) -> Frame {
        let name = symbol.function.unwrap_or_else(|| format!("{address:#x}"));
        let path = symbol.file.as_deref().map(Path::to_string_lossy);
        let package_in = |folder: &str| self.package_in(folder);
        // The folder of this file.
        let harness = file!().rsplit_once(['/', '\\']).map_or("", |(folder, _)| folder);
        let folders = Folders { root: &self.root, harness, package_in: &package_in };
        let origin = origin::origin(path.as_deref(), &name, &folders);
        let origin = match origin {
            Origin::Std { .. } if symbol.is_outermost && is_of_others(&name) => Origin::Unknown,
            origin => origin,
        };
        let is_in_std = matches!(origin, Origin::Std { .. });
        if origin == Origin::Harness || is_in_std && starts_a_thread(&name) {
            return Frame::Start;
        }
        if let (true, Some(dropped)) = (is_in_std, origin::dropped_type(&name)) {
            let function = format!("the drop of {dropped}");
            return Frame::Drop(StackFrame { function, ..StackFrame::default() });
        }
        let is_own = matches!(origin, Origin::Own { .. });
        let (package, file) = match origin {
            Origin::Own { file } => (None, file),
            Origin::Package { package, file } => (Some(package), file),
            Origin::Std { file } => (Some(String::from(StackFrame::STD)), file),
            Origin::System { .. } => (Some(String::from(StackFrame::SYSTEM)), String::new()),
            Origin::Harness | Origin::Unknown => (self.symbols().library(address), String::new()),
        };
        Frame::Shown(StackFrame {
            function: origin::short(&name).to_owned(),
            file: (!file.is_empty()).then(|| escape::text(&file).into_owned()),
            line: symbol.line,
            column: symbol.column,
            is_own,
            package,
            is_guessed: false,
        })
    }

    /// The name and the version in the manifest of a folder.
    fn package_in(&self, folder: &str) -> Option<String> {
        let mut packages = self.packages.borrow_mut();
        packages.entry(folder.to_owned()).or_insert_with(|| package_in(folder)).clone()
    }
}

fn package_in(folder: &str) -> Option<String> {
    let manifest = fs::read_to_string(PathBuf::from(folder).join("Cargo.toml")).ok()?;
    named_in(&manifest)
}

/// The name and the version of the package in a manifest: `ureq 2.6.0`.
fn named_in(manifest: &str) -> Option<String> {
    let (_, package) = manifest.split_once("[package]")?;
    let package = package.split("\n[").next().unwrap_or_default();
    let value = |key: &str| {
        package.lines().find_map(|line| {
            let value = line.trim_start().strip_prefix(key)?.trim_start().strip_prefix('=')?;
            value.trim_start().strip_prefix('"')?.split('"').next()
        })
    };
    let name = value("name")?;
    Some(value("version").map_or_else(|| name.to_owned(), |version| format!("{name} {version}")))
}

/// Whether a function's name has the path of a crate other than the standard library's.
fn is_of_others(function: &str) -> bool {
    origin::crate_of(function).is_some()
        && !matches!(origin::of_function(function), Origin::Std { .. })
}

/// Whether a function of the standard library calls the function of a thread.
fn starts_a_thread(function: &str) -> bool {
    let name = function.strip_prefix("std::sys::backtrace::").unwrap_or(function);
    name.starts_with("__rust_begin_short_backtrace") || function.contains("::thread_start")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_its_package() {
        for (manifest, expected) in [
            ("[package]\nname = \"a\"\nversion = \"1.2.3\"\n", Some("a 1.2.3")),
            ("[package]\nversion.workspace = true\nname=\"a\"", Some("a")),
            ("[package]\nname = \"a\"\n[dependencies.b]\nversion = \"1.0.0\"\n", Some("a")),
            ("[workspace]\nmembers = []\n", None),
        ] {
            assert_eq!(named_in(manifest).as_deref(), expected, "{manifest}");
        }
    }

    #[test]
    fn a_thread_starts_in_the_standard_library() {
        for function in [
            "std::sys::backtrace::__rust_begin_short_backtrace",
            "__rust_begin_short_backtrace<fn(), ()>",
            "<std::sys::thread::unix::Thread>::new::thread_start",
        ] {
            assert!(starts_a_thread(function), "{function}");
        }
        assert!(!starts_a_thread("std::panicking::catch_unwind"));
    }
}
