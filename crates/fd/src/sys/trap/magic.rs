//! System calls that pass the filter.

use std::arch::asm;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The value that passes the filter, as the sixth argument of calls that take at most five.
static MAGIC: AtomicU64 = AtomicU64::new(0);

/// Chooses the value: random, so that no program has it in that register by chance, and with halves
/// that are not zero, which is common.
pub(super) fn choose() -> u64 {
    let magic = RandomState::new().build_hasher().finish() | 1 << 32 | 1;
    // ord: Relaxed; it is read only under the filter, which this thread installs later, and other
    // threads are started after that.
    MAGIC.store(magic, Ordering::Relaxed);
    magic
}

pub(super) fn value() -> u64 {
    // ord: Relaxed; see `choose`.
    MAGIC.load(Ordering::Relaxed)
}

/// A system call that passes the filter.
///
/// # Safety
/// The requirements of the call on its arguments.
// SAFETY: the caller guarantees it; see above.
pub(super) unsafe fn repeat(call: i64, arguments: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: the kernel's calling convention: the number and six arguments in these registers, the
    // result in rax, rcx and r11 clobbered, the stack untouched. None of these calls takes a sixth
    // argument. The caller is responsible for the call's memory accesses.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") call => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") value(),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}
