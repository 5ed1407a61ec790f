//! The places of calls in a recording: at first a file and an offset, in the end a line of the source.

use std::path::Path;

use echown_fd::escape;
use echown_report::{Place, StackFrame};
use echown_trace::stack::{Frame, StackId, Stacks};
use rustc_hash::FxHashMap;

/// Files between a program and the kernel: the place is the caller's.
const BETWEEN: [&str; 5] = ["libc.so", "ld-linux", "ld-musl", "libpthread", "[vdso]"];

/// Places that are rendered already.
#[derive(Debug, Default)]
pub(super) struct Places {
    raw: FxHashMap<StackId, Option<String>>,
    named: FxHashMap<StackId, Named>,
}

/// A stack by its source.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    /// The place in the program: `src/a.c:12:3`, or a function.
    pub(super) site: Option<String>,
    /// The frames, innermost first: `main (src/a.c:12)`.
    pub(super) stack: Option<Vec<String>>,
}

impl Places {
    /// The innermost frame of the program itself: `nginx+0x4a1b0`, or the line of a script.
    pub(super) fn raw(&mut self, stacks: &Stacks, id: StackId) -> Option<String> {
        if id == StackId::NONE {
            return None;
        }
        self.raw.entry(id).or_insert_with(|| raw(stacks, id)).clone()
    }

    /// A stack by its source.
    pub(super) fn named(
        &mut self,
        id: StackId,
        resolve: &mut dyn FnMut(StackId) -> Vec<StackFrame>,
    ) -> Named {
        if id == StackId::NONE {
            return Named::default();
        }
        self.named.entry(id).or_insert_with(|| named(resolve(id))).clone()
    }
}

fn raw(stacks: &Stacks, id: StackId) -> Option<String> {
    let frames = stacks.frames(id);
    let script = frames.iter().find_map(|frame| match frame {
        Frame::Script(script) => stacks.script_of(*script),
        _ => None,
    });
    if let Some(script) = script {
        return Some(format!("{}:{}", escape::bytes(script.file.as_bytes()), script.line));
    }
    let named = frames.iter().filter_map(|frame| match frame {
        Frame::File { module, offset, .. } => {
            let module = stacks.module_of(*module)?;
            let name = Path::new(&module.path).file_name()?.as_encoded_bytes();
            Some((escape::bytes(name), *offset))
        }
        _ => None,
    });
    let named: Vec<_> = named.collect();
    let is_own = |name: &str| !BETWEEN.iter().any(|between| name.starts_with(between));
    let own = named.iter().find(|(name, _)| is_own(name)).or(named.first());
    own.map(|(name, offset)| format!("{name}+{offset:#x}"))
}

fn named(frames: Vec<StackFrame>) -> Named {
    if frames.is_empty() {
        return Named::default();
    }
    let stack = frames.iter().map(in_full).collect();
    let place = Place { frames, ..Place::default() };
    let first = || place.frames.iter().find(|frame| !frame.is_between()).or(place.frames.first());
    let site = place.primary().or_else(first).map(ToString::to_string);
    Named { site, stack: Some(stack) }
}

fn in_full(frame: &StackFrame) -> String {
    match (&frame.file, &frame.package) {
        (Some(file), _) => format!("{} ({file}:{})", frame.function, frame.line),
        (None, Some(package)) => format!("{} ({package})", frame.function),
        (None, None) => frame.function.clone(),
    }
}

#[cfg(test)]
mod tests {
    use echown_trace::stack::Module;

    use super::*;

    #[test]
    fn a_place_is_the_programs_own_and_its_name_is_escaped() {
        let mut stacks = Stacks::new();
        let mut module = |inode, path: &str| {
            stacks.module(Module { identity: (1, inode), modified_ns: 0, path: path.to_owned() })
        };
        let (libc, own) = (module(1, "/usr/lib/libc.so.6"), module(2, "/srv/a\u{1b}b"));
        let frame = |module, offset| Frame::File { module, offset, is_guessed: false };
        let id = stacks.intern(&[frame(libc, 0x10), frame(own, 0x2a)]);
        let mut places = Places::default();
        assert_eq!(places.raw(&stacks, id).as_deref(), Some("a\\x1bb+0x2a"));
        assert_eq!(places.raw(&stacks, StackId::NONE), None);
        let only = stacks.intern(&[frame(libc, 0x10)]);
        assert_eq!(places.raw(&stacks, only).as_deref(), Some("libc.so.6+0x10"));
    }
}
