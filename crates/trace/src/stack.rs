//! Stacks as plain data: a frame is a place in a file, and each stack is stored once.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHasher};
use serde::{Deserialize, Serialize};

/// The maximum number of stored frames, 96 MiB: a program that makes a new stack for each call fills
/// the memory no further. Later stacks are [`StackId::NONE`].
const FRAMES_MAX: usize = 4 << 20;

/// The number of a stored stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StackId(pub u32);

impl StackId {
    /// No stack was recorded.
    pub const NONE: StackId = StackId(0);
}

/// The number of a file that contains code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModuleId(pub u32);

/// One call on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Frame {
    /// Code of a file.
    File {
        /// The file.
        module: ModuleId,
        /// The offset in the file of the instruction: of the call for all but the innermost frame.
        offset: u64,
        /// Whether the frame was found by a guess: the code has no unwind tables.
        is_guessed: bool,
    },
    /// Code that a process made at run time (a just-in-time compiler).
    Generated {
        /// The process.
        process: i32,
        /// The address.
        address: u64,
    },
    /// A function of an interpreted program, whose name is already known: an index into the names.
    Script(u32),
}

/// A file that contains code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Module {
    /// Device and inode.
    pub identity: (u64, u64),
    /// When it was modified, in nanoseconds since 1970: a file that replaces another one may have the
    /// same inode. 0 if the file could not be read.
    pub modified_ns: i64,
    /// The path in `/proc/PID/maps`, as the traced process sees it. Not escaped.
    pub path: String,
}

/// A function of an interpreted program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScriptFrame {
    /// The function. Not escaped.
    pub function: String,
    /// The source file. Not escaped.
    pub file: String,
    /// The line, counted from 1; 0 when not known.
    pub line: u32,
}

/// All stacks of a trace, each stored once.
#[derive(Debug)]
pub struct Stacks {
    /// The end of each stack in `frames`; the first stack is the empty one.
    ends: Vec<usize>,
    frames: Vec<Frame>,
    by_hash: FxHashMap<u64, Vec<StackId>>,
    modules: Vec<Module>,
    module_ids: FxHashMap<((u64, u64), i64), ModuleId>,
    files: FxHashMap<ModuleId, Arc<File>>,
    generated: FxHashMap<(i32, u64), ScriptFrame>,
    scripts: Vec<ScriptFrame>,
    script_ids: FxHashMap<ScriptFrame, u32>,
}

impl Default for Stacks {
    fn default() -> Stacks {
        Stacks {
            ends: vec![0],
            frames: Vec::new(),
            by_hash: FxHashMap::default(),
            modules: Vec::new(),
            module_ids: FxHashMap::default(),
            files: FxHashMap::default(),
            generated: FxHashMap::default(),
            scripts: Vec::new(),
            script_ids: FxHashMap::default(),
        }
    }
}

impl Stacks {
    /// No stacks.
    #[must_use]
    pub fn new() -> Stacks {
        Stacks::default()
    }

    /// Stores a stack, innermost frame first.
    pub fn intern(&mut self, frames: &[Frame]) -> StackId {
        if frames.is_empty() {
            return StackId::NONE;
        }
        let mut hasher = FxHasher::default();
        frames.hash(&mut hasher);
        let hash = hasher.finish();
        let known = self
            .by_hash
            .get(&hash)
            .and_then(|ids| ids.iter().copied().find(|id| self.frames(*id) == frames));
        if let Some(id) = known {
            return id;
        }
        let Ok(number) = u32::try_from(self.ends.len()) else { return StackId::NONE };
        if self.frames.len() + frames.len() > FRAMES_MAX {
            return StackId::NONE;
        }
        let id = StackId(number);
        self.frames.extend_from_slice(frames);
        self.ends.push(self.frames.len());
        self.by_hash.entry(hash).or_default().push(id);
        id
    }

    /// The frames of a stack, innermost first.
    #[must_use]
    pub fn frames(&self, id: StackId) -> &[Frame] {
        let index = id.0 as usize;
        match (index.checked_sub(1), self.ends.get(index)) {
            (Some(before), Some(end)) => &self.frames[self.ends[before]..*end],
            _ => &[],
        }
    }

    /// The number of a file.
    pub fn module(&mut self, module: Module) -> ModuleId {
        let modules = &mut self.modules;
        *self.module_ids.entry((module.identity, module.modified_ns)).or_insert_with(|| {
            modules.push(module);
            ModuleId(modules.len() as u32 - 1)
        })
    }

    /// A file by its number.
    #[must_use]
    pub fn module_of(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(id.0 as usize)
    }

    /// Keeps a file open until its functions are named: it may be deleted by then.
    pub fn keep_file(&mut self, id: ModuleId, file: Arc<File>) {
        self.files.insert(id, file);
    }

    /// A file that was kept open.
    #[must_use]
    pub fn kept_file(&self, id: ModuleId) -> Option<&File> {
        self.files.get(&id).map(|file| &**file)
    }

    /// Names the code that a process made at an address: see [`Frame::Generated`].
    pub fn name_generated(&mut self, process: i32, address: u64, name: ScriptFrame) {
        self.generated.insert((process, address), name);
    }

    /// The name of code that a process made.
    #[must_use]
    pub fn generated(&self, process: i32, address: u64) -> Option<&ScriptFrame> {
        self.generated.get(&(process, address))
    }

    /// A frame of an interpreted program.
    pub fn script(&mut self, frame: ScriptFrame) -> Frame {
        let scripts = &mut self.scripts;
        let id = *self.script_ids.entry(frame).or_insert_with_key(|frame| {
            scripts.push(frame.clone());
            scripts.len() as u32 - 1
        });
        Frame::Script(id)
    }

    /// A function of an interpreted program by its number.
    #[must_use]
    pub fn script_of(&self, id: u32) -> Option<&ScriptFrame> {
        self.scripts.get(id as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_stack_is_stored_once_and_found_by_its_number() {
        let mut stacks = Stacks::new();
        let module = Module { identity: (1, 2), modified_ns: 3, path: "/bin/a".into() };
        let module = stacks.module(module);
        let frame = |offset| Frame::File { module, offset, is_guessed: false };
        let one = stacks.intern(&[frame(1), frame(2)]);
        let two = stacks.intern(&[frame(1)]);
        assert_ne!(one, two);
        assert_eq!(stacks.intern(&[frame(1), frame(2)]), one);
        assert_eq!(stacks.frames(one), [frame(1), frame(2)]);
        assert_eq!(stacks.frames(two), [frame(1)]);
        assert_eq!(stacks.intern(&[]), StackId::NONE);
        assert_eq!(stacks.frames(StackId::NONE), []);
        assert_eq!(stacks.module_of(module).unwrap().path, "/bin/a");
    }
}
