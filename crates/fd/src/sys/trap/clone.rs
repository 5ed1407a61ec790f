//! `clone` and `clone3`: what they are asked for, and how they are made again.
//!
//! The handler cannot make such a call itself: a thread that it started would return into the
//! handler, on a stack without its frames. So the calling code makes the call again: the handler
//! sets the instruction pointer back to the call's instruction, with the magic value in a register.
//! Only a `fork` with a pidfd is made in the handler, because its child has a copy of the stack.
//!
//! `clone3` takes two arguments, so the magic is in the register of the fourth; the C library has
//! nothing there. In the sixth it would let the next calls of parent and child pass as well, because
//! it stays there. For `clone` it is in the upper half of the flags, which the kernel ignores: musl
//! and Go have values in the other registers.

use super::magic::{repeat, value};

/// The length of the instruction `syscall`.
const INSTRUCTION: i64 = 2;

/// What a call asks for.
pub(super) struct Request {
    flags: u64,
    stack: u64,
    pidfd: u64,
    tls: u64,
}

impl Request {
    /// Reads it; `None` if the kernel would reject the pointer.
    pub(super) fn read(call: i64, arguments: [u64; 5]) -> Option<Request> {
        if call == libc::SYS_clone {
            let [flags, stack, pidfd, _, tls] = arguments;
            let flags = flags & 0xffff_ffff;
            return Some(Request { flags, stack, pidfd, tls });
        }
        /// The fields of the first version of `struct clone_args`.
        const FIELDS: usize = 8;
        let [pointer, size, ..] = arguments;
        let end = pointer.checked_add(8 * (FIELDS as u64 - 1))?;
        if size < 8 * FIELDS as u64 || !is_readable(pointer) || !is_readable(end) {
            return None;
        }
        // SAFETY: both ends can be read, and there is at most one page boundary between them.
        let fields = unsafe { (pointer as *const [u64; FIELDS]).read_unaligned() };
        let [flags, pidfd, _, _, _, stack, _, tls] = fields;
        Some(Request { flags, stack, pidfd, tls })
    }

    /// Where the kernel writes the number of a pidfd.
    pub(super) fn pidfd(&self) -> Option<u64> {
        (self.flags & libc::CLONE_PIDFD as u64 != 0).then_some(self.pidfd)
    }

    /// The thread pointer of the new thread.
    pub(super) fn thread_pointer(&self) -> Option<u64> {
        let both = (libc::CLONE_THREAD | libc::CLONE_SETTLS) as u64;
        (self.flags & both == both).then_some(self.tls)
    }

    /// Whether the child loses its handlers, that of SIGSYS included, which its next trapped call
    /// would kill. The C library's `posix_spawn` asks for it from version 2.38 on.
    pub(super) fn clears_handlers(&self) -> bool {
        const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
        self.flags & CLONE_CLEAR_SIGHAND != 0
    }

    /// Whether the new process has copies of the memory and of this stack.
    pub(super) fn is_fork(&self) -> bool {
        self.flags & (libc::CLONE_VM | libc::CLONE_THREAD) as u64 == 0 && self.stack == 0
    }
}

/// Sets the registers to what they will be in the caller of a function without a frame. Returns the
/// registers before.
pub(super) fn return_from_leaf(registers: &mut [libc::greg_t; 23]) -> [libc::greg_t; 23] {
    let before = *registers;
    let stack = before[libc::REG_RSP as usize];
    if is_readable(stack as u64) {
        // SAFETY: it can be read. If it is no return address, the stack walk ends there.
        registers[libc::REG_RIP as usize] = unsafe { (stack as *const i64).read_unaligned() };
        registers[libc::REG_RSP as usize] = stack + 8;
    }
    before
}

/// Makes the calling code make its call again when the handler returns.
pub(super) fn repeat_at_origin(call: i64, registers: &mut [libc::greg_t; 23]) {
    let register = |name: libc::c_int| name as usize;
    registers[register(libc::REG_RIP)] -= INSTRUCTION;
    if call == libc::SYS_clone {
        let flags = registers[register(libc::REG_RDI)] & 0xffff_ffff;
        registers[register(libc::REG_RDI)] = flags | (value() << 32) as i64;
    } else {
        registers[register(libc::REG_R10)] = value() as i64;
    }
}

/// The number at this address, if it can be read.
pub(super) fn number_at(address: u64) -> Option<i32> {
    // An aligned word contains an aligned number, and never crosses a page boundary.
    if address % 4 != 0 || !is_readable(address & !7) {
        return None;
    }
    // SAFETY: it can be read, and is aligned.
    Some(unsafe { (address as *const i32).read() })
}

/// Whether eight bytes can be read: the kernel copies a signal set before it rejects the command.
fn is_readable(address: u64) -> bool {
    const NO_COMMAND: u64 = 99;
    // SAFETY: the kernel only reads from the address, and fails in any case.
    let result = unsafe { repeat(libc::SYS_rt_sigprocmask, [NO_COMMAND, address, 0, 8, 0]) };
    address != 0 && result == -i64::from(libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_readable_addresses_are_read() {
        let number = 7_i32;
        assert_eq!(number_at(&raw const number as u64), Some(7));
        assert_eq!(number_at(0), None);
        assert_eq!(number_at(1 << 62), None);
        assert!(Request::read(libc::SYS_clone3, [8, 64, 0, 0, 0]).is_none());
    }

    #[test]
    fn a_clone_is_made_again_with_the_magic_in_an_unused_place() {
        let mut registers = [0_i64; 23];
        registers[libc::REG_RIP as usize] = 102;
        registers[libc::REG_RDI as usize] = 0x1100;
        repeat_at_origin(libc::SYS_clone, &mut registers);
        assert_eq!(registers[libc::REG_RIP as usize], 100);
        assert_eq!(registers[libc::REG_RDI as usize] & 0xffff_ffff, 0x1100);
        assert_eq!(registers[libc::REG_R9 as usize], 0);
    }
}
