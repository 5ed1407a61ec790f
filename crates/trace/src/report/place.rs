//! Places of a report: symbolised stacks, and the threads that made the calls.

use std::rc::Rc;

use echown_fd::escape;
use echown_report::{Place, StackFrame};
use rustc_hash::FxHashMap;

use crate::finding::Thread;
use crate::stack::StackId;

/// Symbolised stacks, each resolved once.
pub(super) struct Places<'a> {
    resolve: &'a mut dyn FnMut(StackId) -> Vec<StackFrame>,
    known: FxHashMap<StackId, Rc<[StackFrame]>>,
}

impl<'a> Places<'a> {
    pub(super) fn new(resolve: &'a mut dyn FnMut(StackId) -> Vec<StackFrame>) -> Places<'a> {
        Places { resolve, known: FxHashMap::default() }
    }

    /// What a thread did at a stack, for a finding about the process `pid`.
    pub(super) fn place(
        &mut self,
        what: String,
        thread: &Thread,
        stack: StackId,
        pid: i32,
    ) -> Place {
        Place { what, thread: self::thread(thread, pid), frames: self.frames(stack).to_vec() }
    }

    /// The frame of a stack that matters, in one line.
    pub(super) fn site(&mut self, stack: StackId) -> Option<String> {
        let frames = self.frames(stack).to_vec();
        let place = Place { frames, ..Place::default() };
        let named = || place.frames.iter().find(|frame| !frame.is_between());
        place.primary().or_else(named).map(ToString::to_string)
    }

    fn frames(&mut self, stack: StackId) -> Rc<[StackFrame]> {
        if stack == StackId::NONE {
            return Rc::new([]);
        }
        if let Some(frames) = self.known.get(&stack) {
            return Rc::clone(frames);
        }
        let frames = (self.resolve)(stack);
        let frames: Rc<[StackFrame]> =
            frames.into_iter().filter(|frame| !is_start(frame)).map(shown).collect();
        self.known.insert(stack, Rc::clone(&frames));
        frames
    }
}

/// Whether it is the code before `main`, which is the same in every stack.
fn is_start(frame: &StackFrame) -> bool {
    frame.function == "_start" && frame.file.is_none()
}

/// A frame as reports contain it: escaped. Code with a source line that belongs to no library has no
/// package.
fn shown(frame: StackFrame) -> StackFrame {
    let escaped = |text: String| escape::text(&text).into_owned();
    let is_named = frame.is_own && frame.file.is_some();
    if let Some(program) = unnamed_program(&frame) {
        let function = escaped(format!("{program}+{}", frame.function));
        return StackFrame { function, package: None, is_own: true, ..frame };
    }
    StackFrame {
        function: escaped(frame.function),
        file: frame.file.map(escaped),
        package: frame.package.filter(|_| !is_named).map(escaped),
        ..frame
    }
}

/// The program whose code the frame is, if only its offset is known.
fn unnamed_program(frame: &StackFrame) -> Option<&str> {
    let is_unnamed = frame.file.is_none() && frame.function.starts_with("0x");
    let program = frame.dependency().filter(|name| !name.contains(".so") && !name.contains(' '));
    program.filter(|_| is_unnamed)
}

/// A thread in a finding about the process `pid`: its number and name, and its process if it is
/// another one.
pub(super) fn thread(thread: &Thread, pid: i32) -> String {
    let name = escape::bytes(thread.name.as_bytes());
    let process = &thread.process;
    match process.pid == pid {
        true => format!("{} `{name}`", thread.tid.0),
        false => format!("{} `{name}` of {}", thread.tid.0, super::process(process)),
    }
}
