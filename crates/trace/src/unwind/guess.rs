//! Steps without a table: by the frame pointer, or by the next return address on the stack.

use std::rc::Rc;

use framehop::x86_64::UnwindRegsX86_64;

use super::memory::Read;
use super::{Found, Unwinder};
use crate::modules::space::Space;
use crate::stack::Frame;

/// The maximum number of words that are searched for a return address.
const SEARCHED_MAX: u64 = 512;

/// The number of words that are searched for the return address of a call to the current function.
const NEAR_WORDS: u64 = 64;

/// The maximum distance from the start of a function to an instruction in it. Those of C libraries without
/// tables are short.
const FUNCTION_MAX: u64 = 1024;

/// The maximum distance from the stack pointer to the frame that the frame pointer points to.
const FRAME_MAX: u64 = 1 << 20;

/// The maximum length of a call instruction.
const CALL_MAX: usize = 7;

/// The maximum number of addresses of a file that are known to follow a call or not.
const CALLS_MAX: usize = 1 << 16;

impl Unwinder {
    /// Goes to the caller. Nothing is found if no word on the stack is a return address.
    pub(super) fn guess(
        &mut self,
        process: i32,
        space: &mut Rc<Space>,
        found: Found,
        now: &mut UnwindRegsX86_64,
        read: &mut Read<'_>,
    ) -> Option<Found> {
        let keeps_pointers = self.keeps_pointers(process, space, found, now.ip());
        // A function that makes a system call and has no frame: the return address is on top.
        let is_innermost = found == Found::Innermost;
        let on_top = self.memory.word(now.sp(), read).filter(|_| is_innermost);
        if let Some(word) = on_top {
            // It is likely a return address, perhaps to code that was mapped since.
            self.mapping(process, space, word.wrapping_sub(1));
        }
        if is_innermost && self.try_return(space, now.sp(), now.bp(), now, read) {
            return Some(if keeps_pointers { Found::Caller } else { Found::Guess });
        }
        // Further outwards, frame pointers are the better guess: V8 keeps them in code without tables.
        let is_near = self.frames.iter().skip(1).all(is_guessed);
        if is_near && !keeps_pointers && self.try_direct_call(space, now, read) {
            return Some(Found::Guess);
        }
        if self.try_pointer(process, space, now, read) {
            return Some(if keeps_pointers { Found::Caller } else { Found::Guess });
        }
        if keeps_pointers {
            return None;
        }
        let start = now.sp();
        for word in u64::from(is_innermost)..SEARCHED_MAX {
            let address = start.saturating_add(word * 8);
            self.memory.word(address, read)?;
            if self.try_return(space, address, now.bp(), now, read) {
                return Some(Found::Guess);
            }
        }
        None
    }

    /// Whether the code is of a compiler that keeps frame pointers: Go's, and those of just-in-time
    /// compilers.
    fn keeps_pointers(
        &mut self,
        process: i32,
        space: &mut Rc<Space>,
        found: Found,
        ip: u64,
    ) -> bool {
        let address = ip.wrapping_sub(u64::from(found != Found::Innermost));
        let Some(mapping) = self.mapping(process, space, address) else { return false };
        let Some(number) = mapping.file else { return true };
        let offset = address.wrapping_add(mapping.shift);
        let facts = self.files.facts(number, offset, process, &mapping.range);
        facts.is_some_and(|facts| facts.has_pointers)
    }

    /// Takes the first return address near the stack pointer whose call is a direct one to right before
    /// here. In a function that does not set the frame pointer, that of its caller leads past the caller.
    fn try_direct_call(
        &mut self,
        space: &Space,
        now: &mut UnwindRegsX86_64,
        read: &mut Read<'_>,
    ) -> bool {
        let (here, start) = (now.ip(), now.sp());
        for word in 0..NEAR_WORDS {
            let address = start.saturating_add(word * 8);
            let Some(value) = self.memory.word(address, read) else { return false };
            let is_to_here = |target: u64| {
                let is_in_reach = target <= here && here - target <= FUNCTION_MAX;
                // An earlier call that this function has made leaves its return address below.
                is_in_reach && !(target < value && value <= here)
            };
            if self.follows_call(space, value, read)
                && direct_target(value, read).is_some_and(is_to_here)
            {
                return self.try_return(space, address, now.bp(), now, read);
            }
        }
        false
    }

    /// Takes the caller's frame from where the frame pointer points to, if that is a frame.
    fn try_pointer(
        &mut self,
        process: i32,
        space: &mut Rc<Space>,
        now: &mut UnwindRegsX86_64,
        read: &mut Read<'_>,
    ) -> bool {
        let (sp, bp) = (now.sp(), now.bp());
        let is_plausible = bp % 8 == 0 && bp >= sp && bp - sp <= FRAME_MAX;
        if !is_plausible {
            return false;
        }
        let Some(caller) = self.memory.word(bp, read) else { return false };
        if let Some(word) = self.memory.word(bp + 8, read) {
            // The same: just-in-time compilers map code all the time.
            self.mapping(process, space, word.wrapping_sub(1));
        }
        let start = self.trail.len();
        self.trail.uses_pointer();
        self.trail.push(bp, Some(caller));
        if self.try_return(space, bp + 8, caller, now, read) {
            return true;
        }
        self.trail.cut(start);
        false
    }

    /// Takes the word at an address as the return address, if it is one.
    fn try_return(
        &mut self,
        space: &Space,
        address: u64,
        caller_pointer: u64,
        now: &mut UnwindRegsX86_64,
        read: &mut Read<'_>,
    ) -> bool {
        let Some(word) = self.memory.word(address, read) else { return false };
        if !self.follows_call(space, word, read) {
            return false;
        }
        self.trail.push(address, Some(word));
        now.set_ip(word);
        now.set_sp(address + 8);
        now.set_bp(caller_pointer);
        true
    }

    /// Whether the instruction before an address is a call.
    fn follows_call(&mut self, space: &Space, address: u64, read: &mut Read<'_>) -> bool {
        // A word of data that is no address of code is no reason to read the mappings again.
        let Some(mapping) = space.find(address.wrapping_sub(1)).cloned() else {
            return false;
        };
        let offset = address.wrapping_add(mapping.shift);
        if let Some(number) = mapping.file
            && let Some(known) = self.files.get(number).calls.get(&offset)
        {
            return *known;
        }
        let start = mapping.range.start.max(address.saturating_sub(CALL_MAX as u64));
        let mut code = [0; CALL_MAX];
        let code = &mut code[..(address - start) as usize];
        let length = read(start, code);
        let is_call = length == code.len() && ends_in_call(code);
        if let Some(number) = mapping.file {
            let calls = &mut self.files.get_mut(number).calls;
            if calls.len() >= CALLS_MAX {
                calls.clear();
            }
            calls.insert(offset, is_call);
        }
        is_call
    }
}

/// Whether the bytes end in a call instruction: `call` with a relative address, or through a register
/// or memory (opcode ff, 2 in the middle of the next byte).
fn ends_in_call(code: &[u8]) -> bool {
    let is_relative = code.len() >= 5 && code[code.len() - 5] == 0xe8;
    is_relative
        || (2..=code.len()).any(|length| match code[code.len() - length..] {
            [0xff, mode, ref rest @ ..] if mode >> 3 & 7 == 2 => {
                length == indirect_length(mode, rest.first().copied())
            }
            _ => false,
        })
}

fn is_guessed(frame: &Frame) -> bool {
    matches!(frame, Frame::File { is_guessed: true, .. })
}

/// Where the call before a return address goes, if it has a relative address.
fn direct_target(address: u64, read: &mut Read<'_>) -> Option<u64> {
    let mut code = [0; 5];
    let start = address.checked_sub(code.len() as u64)?;
    let is_direct = read(start, &mut code) == code.len() && code[0] == 0xe8;
    let distance = i32::from_le_bytes([code[1], code[2], code[3], code[4]]);
    is_direct.then(|| address.wrapping_add_signed(distance.into()))
}

/// The length of an indirect call by its second byte and the one after it.
fn indirect_length(mode: u8, next: Option<u8>) -> usize {
    let has_index = mode & 7 == 4;
    match mode >> 6 {
        3 => 2,
        0 if mode & 7 == 5 => 6,
        0 if has_index && next.is_some_and(|next| next & 7 == 5) => 7,
        0 => 2 + usize::from(has_index),
        1 => 3 + usize::from(has_index),
        _ => 6 + usize::from(has_index),
    }
}

#[cfg(test)]
mod tests {
    use super::ends_in_call;

    #[test]
    fn calls_are_recognized_by_the_bytes_before_the_return_address() {
        let calls: [&[u8]; 8] = [
            &[0x90, 0x90, 0xe8, 1, 2, 3, 4],
            &[0x90, 0xff, 0xd0],
            &[0x41, 0xff, 0xd4],
            &[0xff, 0x15, 1, 2, 3, 4],
            &[0xff, 0x50, 0x18],
            &[0xff, 0x54, 0x24, 0x18],
            &[0xff, 0x14, 0xc8],
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],
        ];
        for call in calls {
            assert!(ends_in_call(call), "{call:x?}");
        }
        let others: [&[u8]; 5] = [&[], &[0x0f, 0x05], &[0xff, 0xe0], &[0x48, 0x89, 0xe5], &[0xd0]];
        for other in others {
            assert!(!ends_in_call(other), "{other:x?}");
        }
    }
}
