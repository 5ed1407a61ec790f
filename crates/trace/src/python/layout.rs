//! Offsets of the fields of CPython's structures.
//!
//! 3.11 and 3.12 have fixed ones. From 3.13 on, `_PyRuntime` begins with `_Py_DebugOffsets`, a list of
//! offsets made for debuggers; its own order differs between versions.

use super::memory::{Memory, fill, word_at};

/// The largest offset in a structure of the interpreter, in bytes. The interpreter state of 3.14 has
/// about 400 KiB, and its list of threads lies in its first pages.
const STATE_MAX: u64 = 1 << 20;

/// The largest offset in the smaller structures, in bytes.
const OBJECT_MAX: u64 = 1024;

/// The number of 64-bit words of `_Py_DebugOffsets` that are read.
const WORDS: usize = 96;

/// Where the fields are, in bytes from the start of their structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub interpreters_head: u64,
    pub interpreter_next: u64,
    pub threads_head: u64,
    pub thread_next: usize,
    pub native_thread_id: usize,
    /// The current frame, or the pointer to it if [`Layout::frame_of_cframe`] is set.
    pub current_frame: usize,
    /// 3.11 and 3.12: the thread state points to a structure that has the current frame here.
    pub frame_of_cframe: Option<u64>,
    pub frame_previous: usize,
    pub frame_code: usize,
    pub frame_instruction: usize,
    pub frame_owner: usize,
    /// Free-threaded builds from 3.14 on: the frame's index of the copy of the code, and the array of
    /// copies in the code object.
    pub thread_code: Option<(usize, usize)>,
    pub code_file: usize,
    pub code_function: usize,
    pub code_lines: usize,
    pub code_first_line: usize,
    pub code_start: usize,
    /// The end of the header of an object with a size.
    pub header: usize,
    pub bytes_size: usize,
    pub bytes_start: usize,
    pub text_length: usize,
    pub text_state: usize,
    /// The first bit of the size of a character in the state.
    pub text_kind_bit: u32,
    pub ascii_start: usize,
    pub unicode_start: usize,
}

/// The fixed offsets of 3.11.
pub(super) const PYTHON_3_11: Layout = Layout {
    interpreters_head: 40,
    interpreter_next: 0,
    threads_head: 16,
    thread_next: 8,
    native_thread_id: 160,
    current_frame: 56,
    frame_of_cframe: Some(8),
    frame_previous: 48,
    frame_code: 32,
    frame_instruction: 56,
    frame_owner: 69,
    thread_code: None,
    code_file: 112,
    code_function: 128,
    code_lines: 136,
    code_first_line: 72,
    code_start: 184,
    header: 24,
    bytes_size: 16,
    bytes_start: 32,
    text_length: 16,
    text_state: 32,
    text_kind_bit: 2,
    ascii_start: 48,
    unicode_start: 72,
};

/// The fixed offsets of 3.12.
pub(super) const PYTHON_3_12: Layout = Layout {
    threads_head: 72,
    native_thread_id: 144,
    frame_of_cframe: Some(0),
    frame_previous: 8,
    frame_code: 0,
    frame_owner: 70,
    code_first_line: 68,
    code_start: 192,
    ascii_start: 40,
    unicode_start: 56,
    ..PYTHON_3_11
};

/// The index of the first word of each group of `_Py_DebugOffsets`, its size.
struct Groups {
    thread: usize,
    native_thread_id: usize,
    frame: usize,
    code: usize,
    bytes: usize,
    has_thread_code: bool,
}

impl Groups {
    fn of(version: u64) -> Option<Groups> {
        let groups = match version >> 16 {
            0x030d => Groups {
                thread: 19,
                native_thread_id: 25,
                frame: 28,
                code: 34,
                bytes: 64,
                has_thread_code: false,
            },
            0x030e => Groups {
                thread: 22,
                native_thread_id: 28,
                frame: 31,
                code: 39,
                bytes: 74,
                has_thread_code: true,
            },
            0x030f => Groups {
                thread: 22,
                native_thread_id: 31,
                frame: 39,
                code: 47,
                bytes: 86,
                has_thread_code: true,
            },
            _ => return None,
        };
        Some(groups)
    }
}

/// The layout that the process itself states at the start of `_PyRuntime`. `None` for versions before
/// 3.13, for later ones than this file describes, and for offsets that cannot be right.
pub(super) fn stated(memory: &mut dyn Memory, runtime: u64) -> Option<Layout> {
    let mut bytes = [0; WORDS * 8];
    fill(memory, runtime, &mut bytes)?;
    parse(&bytes)
}

/// Whether `_PyRuntime` begins with `_Py_DebugOffsets`.
pub(super) fn states_layout(memory: &mut dyn Memory, runtime: u64) -> bool {
    let mut cookie = [0; 8];
    fill(memory, runtime, &mut cookie).is_some() && &cookie == b"xdebugpy"
}

fn parse(bytes: &[u8]) -> Option<Layout> {
    if bytes.get(..8)? != b"xdebugpy" {
        return None;
    }
    let groups = Groups::of(word_at(bytes, 8)?)?;
    let is_free_threaded = word_at(bytes, 16)? != 0;
    let state = |index: usize| word_at(bytes, index * 8).filter(|offset| *offset <= STATE_MAX);
    let object = |index: usize| {
        let offset = word_at(bytes, index * 8).filter(|offset| *offset <= OBJECT_MAX);
        offset.map(|offset| offset as usize)
    };
    let unicode = groups.bytes + 3;
    let thread_code = match is_free_threaded && groups.has_thread_code {
        true => Some((object(groups.frame + 7)?, object(groups.code + 10)?)),
        false => None,
    };
    Some(Layout {
        interpreters_head: state(5)?,
        interpreter_next: state(8)?,
        threads_head: state(9)?,
        thread_next: object(groups.thread + 2)?,
        native_thread_id: object(groups.native_thread_id)?,
        current_frame: object(groups.thread + 4)?,
        frame_of_cframe: None,
        frame_previous: object(groups.frame + 1)?,
        frame_code: object(groups.frame + 2)?,
        frame_instruction: object(groups.frame + 3)?,
        frame_owner: object(groups.frame + 5)?,
        thread_code,
        code_file: object(groups.code + 1)?,
        code_function: object(groups.code + 3)?,
        code_lines: object(groups.code + 4)?,
        code_first_line: object(groups.code + 5)?,
        code_start: object(groups.code + 9)?,
        header: if is_free_threaded { 40 } else { 24 },
        bytes_size: object(groups.bytes + 1)?,
        bytes_start: object(groups.bytes + 2)?,
        text_state: object(unicode + 1)?,
        text_length: object(unicode + 2)?,
        // From 3.14 on, free-threaded builds have a byte of their own for what comes before.
        text_kind_bit: if is_free_threaded && groups.has_thread_code { 8 } else { 2 },
        ascii_start: object(unicode + 3)?,
        // The structure of texts that are not compact has one more pointer.
        unicode_start: object(unicode)?.checked_sub(8)?,
    })
}

impl Layout {
    /// The number of bytes of a thread state that are read.
    pub(super) fn thread_size(&self) -> usize {
        self.native_thread_id.max(self.current_frame).max(self.thread_next) + 8
    }

    /// The number of bytes of a frame that are read.
    pub(super) fn frame_size(&self) -> usize {
        let words = self.frame_previous.max(self.frame_code).max(self.frame_instruction) + 8;
        let index = self.thread_code.map_or(0, |(index, _)| index + 4);
        words.max(index).max(self.frame_owner + 1)
    }

    /// The number of bytes of a code object that are read.
    pub(super) fn code_size(&self) -> usize {
        let words = self.code_file.max(self.code_function).max(self.code_lines) + 8;
        words.max(self.code_first_line + 4).max(self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_that_cannot_be_right_give_no_layout() {
        let mut bytes = vec![0; WORDS * 8];
        bytes[..8].copy_from_slice(b"xdebugpy");
        bytes[8..16].copy_from_slice(&0x030d_00f0u64.to_le_bytes());
        // The size of a text, which holds at least one pointer.
        bytes[67 * 8] = 64;
        assert!(parse(&bytes).is_some());
        bytes[23 * 8..24 * 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(parse(&bytes), None);
        assert_eq!(parse(&bytes[..100]), None);
    }

    #[test]
    fn an_unknown_version_gives_no_layout() {
        let mut bytes = vec![0; WORDS * 8];
        bytes[..8].copy_from_slice(b"xdebugpy");
        bytes[8..16].copy_from_slice(&0x0363_00f0u64.to_le_bytes());
        assert_eq!(parse(&bytes), None);
    }
}
