//! The symbolizer: functions, files and lines of stored stacks, after the trace.
//!
//! blazesym reads debug information in a worker process, since it belongs to programs that are not
//! trusted: what a damaged file does there costs its names and not the report. A file is read only if
//! it is the one that was mapped, which may be deleted since.
//!
//! Limits: 30 s for one file, 120 s for all; 2 GiB of memory; 64 inlined functions at one place; after
//! eight failures nothing more is read. [`Symbolizer::notes`] names what failed.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use echown_report::StackFrame;
use rustc_hash::{FxHashMap, FxHashSet};

use self::origin::Origin;
use self::protocol::{Function, Request};
use crate::modules::open_if;
use crate::stack::{Frame, Module, ModuleId, ScriptFrame, StackId, Stacks};
use crate::sys::worker::Worker;

mod demangle;
mod generated;
mod go_table;
mod lookup;
mod origin;
mod protocol;

/// The maximum time for the answer to one request.
const FILE_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum time for all requests together.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(120);

/// The maximum number of workers that may fail.
const FAILURES_MAX: u32 = 8;

/// The package of code that a process made at run time.
const GENERATED: &str = "generated code";

/// Finds functions and lines. It must not be used during the trace: it starts a process and waits for it.
pub struct Symbolizer {
    /// The current folder: paths in it are shown relative to it.
    folder: String,
    places: FxHashMap<(ModuleId, u64), Vec<Function>>,
    unusable: FxHashSet<ModuleId>,
    worker: Option<Worker>,
    failures: u32,
    spent: Duration,
    unnamed: generated::Unnamed,
    notes: Vec<String>,
}

impl Default for Symbolizer {
    fn default() -> Symbolizer {
        Symbolizer::new()
    }
}

impl Symbolizer {
    /// A symbolizer that has read nothing so far.
    #[must_use]
    pub fn new() -> Symbolizer {
        let folder = std::env::current_dir().unwrap_or_default();
        Symbolizer {
            folder: folder.to_str().unwrap_or_default().to_owned(),
            places: FxHashMap::default(),
            unusable: FxHashSet::default(),
            worker: None,
            failures: 0,
            spent: Duration::ZERO,
            unnamed: generated::Unnamed::default(),
            notes: Vec::new(),
        }
    }

    /// The functions of a stack, innermost first: inlined ones, too. All texts are escaped.
    pub fn resolve(&mut self, stacks: &Stacks, id: StackId) -> Vec<StackFrame> {
        let frames = stacks.frames(id);
        self.look_up(stacks, frames);
        let mut shown = Vec::with_capacity(frames.len());
        let outermost = frames.iter().rev().find_map(|frame| match *frame {
            Frame::Script(id) => stacks.script_of(id),
            _ => None,
        });
        let starts_in_string = outermost.is_some_and(|script| script.file == origin::STRING);
        for frame in frames {
            match *frame {
                Frame::File { module, offset, is_guessed } => {
                    self.add_code(stacks, module, offset, is_guessed, &mut shown);
                }
                Frame::Generated { process, address } => {
                    shown.push(match stacks.generated(process, address) {
                        Some(script) => self.script(script),
                        None => StackFrame {
                            function: format!("{address:#x}"),
                            package: Some(String::from(GENERATED)),
                            ..StackFrame::default()
                        },
                    });
                }
                Frame::Script(id) => {
                    let script = stacks.script_of(id);
                    shown.extend(script.map(|script| self.python(script, starts_in_string)));
                }
            }
        }
        self.notes.extend(self.unnamed.note(stacks, frames, &shown).map(String::from));
        shown
    }

    /// Which code has no names in the stacks, and why. Escaped.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn add_code(
        &self,
        stacks: &Stacks,
        id: ModuleId,
        offset: u64,
        is_guessed: bool,
        shown: &mut Vec<StackFrame>,
    ) {
        let path = stacks.module_of(id).map_or("", |module| &module.path);
        let unknown = [Function::default()];
        let functions = match self.places.get(&(id, offset)) {
            Some(functions) if !functions.is_empty() => &functions[..],
            _ => &unknown,
        };
        for function in functions {
            let source = function.file.as_deref();
            let origin = origin::of_code(path, &function.name, source, &self.folder);
            let name = match &*function.name {
                "" => format!("{offset:#x}"),
                name => escaped(name),
            };
            let shown_frame = frame(name, origin, function.line, function.column);
            shown.push(StackFrame { is_guessed, ..shown_frame });
        }
    }

    /// A function of Python. The standard library makes functions of text, too, such as those of
    /// dataclasses, and their file has the same name as the text of `-c`.
    fn python(&self, script: &ScriptFrame, starts_in_string: bool) -> StackFrame {
        let shown = self.script(script);
        if script.file == origin::STRING && !starts_in_string {
            return StackFrame { is_own: false, package: Some(StackFrame::STD.into()), ..shown };
        }
        shown
    }

    fn script(&self, script: &ScriptFrame) -> StackFrame {
        let origin = match &*script.file {
            "" => Origin { package: Some(String::from(GENERATED)), ..Origin::default() },
            file => origin::of_script(file, &self.folder),
        };
        frame(escaped(&script.function), origin, script.line, 0)
    }

    /// Reads what is not known about some frames.
    fn look_up(&mut self, stacks: &Stacks, frames: &[Frame]) {
        let mut wanted: Vec<(ModuleId, Vec<u64>)> = Vec::new();
        for frame in frames {
            let Frame::File { module, offset, .. } = *frame else { continue };
            if self.unusable.contains(&module) || self.places.contains_key(&(module, offset)) {
                continue;
            }
            match wanted.iter_mut().find(|(known, _)| *known == module) {
                Some((_, offsets)) => offsets.push(offset),
                None => wanted.push((module, vec![offset])),
            }
        }
        for (id, offsets) in wanted {
            let Some(module) = stacks.module_of(id) else { continue };
            match self.ask(module, stacks.kept_file(id), &offsets) {
                Ok(places) if places.len() == offsets.len() => {
                    let keys = offsets.into_iter().map(|offset| (id, offset));
                    self.places.extend(keys.zip(places));
                }
                Ok(_) => self.give_up(id, module, "the answer is damaged"),
                Err(reason) => self.give_up(id, module, &reason),
            }
        }
    }

    fn give_up(&mut self, id: ModuleId, module: &Module, reason: &str) {
        self.unusable.insert(id);
        let (path, reason) = (escaped(&module.path), escaped(reason));
        self.notes.push(format!("failed to read the names of functions of {path}: {reason}"));
    }

    fn ask(
        &mut self,
        module: &Module,
        kept: Option<&File>,
        offsets: &[u64],
    ) -> Result<Vec<Vec<Function>>, String> {
        if module.path == "[vdso]" || !module.path.starts_with('/') {
            return Ok(vec![Vec::new(); offsets.len()]);
        }
        // By its path if possible: files with its debug information may be next to it. The worker has
        // inherited the files that are open.
        let path = match (open_if(Path::new(&module.path), module), kept) {
            (Some(_), _) => module.path.clone(),
            (None, Some(kept)) => format!("/proc/self/fd/{}", kept.as_raw_fd()),
            (None, None) => return Err(String::from("the file is gone or was replaced")),
        };
        if self.failures >= FAILURES_MAX || self.spent >= TOTAL_TIMEOUT {
            return Err(String::from("too many other files failed or took too long"));
        }
        let start = Instant::now();
        let answer = self.ask_worker(Request { path, offsets: offsets.to_vec() });
        self.spent += start.elapsed();
        answer.unwrap_or_else(|error| {
            self.failures += 1;
            // Whatever it does, it ends here.
            self.worker = None;
            Err(match error.kind() {
                std::io::ErrorKind::TimedOut => format!("it took more than {FILE_TIMEOUT:?}"),
                std::io::ErrorKind::UnexpectedEof => String::from("the worker process ended"),
                _ => error.to_string(),
            })
        })
    }

    fn ask_worker(&mut self, request: Request) -> std::io::Result<protocol::Answer> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(Worker::start(lookup::responder())?),
        };
        let answer = worker.ask(&request.encode(), FILE_TIMEOUT)?;
        protocol::decode(&answer).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }
}

fn frame(function: String, origin: Origin, line: u32, column: u32) -> StackFrame {
    let file = origin.file.map(|file| escaped(&file));
    let (line, column) = if file.is_some() { (line, column) } else { (0, 0) };
    let package = origin.package.map(|package| escaped(&package));
    StackFrame { function, file, line, column, is_own: origin.is_own, package, is_guessed: false }
}

fn escaped(text: &str) -> String {
    echown_fd::escape::bytes(text.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests;
