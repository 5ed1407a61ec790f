//! Which process the handler runs in.
//!
//! A child between fork and exec still has the handler. A forked child has a copy of this memory. A
//! child of `vfork` and `posix_spawn` shares it, but has its own descriptors. A page that the
//! kernel clears in forked children (MADV_WIPEONFORK) distinguishes them: it contains the id of the
//! process whose descriptors the table describes.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering};

use super::magic::repeat;
use super::table::TABLE;

const PAGE: usize = 4096;

/// The page with the id of the process that owns this memory. Null if it could not be made.
static OWNER: AtomicPtr<AtomicI64> = AtomicPtr::new(null_mut());

/// The id of the process that installed the trap.
static RECORDED: AtomicI64 = AtomicI64::new(0);

/// See `can_walk_stack_after_fork`.
static CAN_WALK_STACK: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Process {
    /// The one that installed the trap.
    Recorded,
    /// A forked descendant, with a table of its own.
    Forked,
    /// A child that shares the memory of its parent.
    SharesMemory,
    /// Another process; its relation is not known.
    Unknown,
}

/// Makes this process the recorded one.
pub(super) fn record_this() {
    let id = i64::from(std::process::id());
    // ord: Relaxed, all; they are read only under the filter, which this thread installs after
    // them, and other threads are started later.
    RECORDED.store(id, Ordering::Relaxed);
    // SAFETY: the name is a C string. The symbol is only looked up, and not called.
    let lock_free = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()) };
    let can_walk_stack = !lock_free.is_null() || cfg!(not(target_env = "gnu"));
    CAN_WALK_STACK.store(can_walk_stack, Ordering::Relaxed);
    if let Some(page) = wiped_page() {
        page.store(id, Ordering::Relaxed);
        OWNER.store(std::ptr::from_ref(page).cast_mut(), Ordering::Relaxed);
    }
}

/// A page that is zero in every forked child. Kernels before 4.14 cannot do that.
fn wiped_page() -> Option<&'static AtomicI64> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses; it is never unmapped. Its memory
    // is zero, which is valid for the atomic, and aligned to a page.
    unsafe {
        let page = libc::mmap(null_mut(), PAGE, access, flags, -1, 0);
        if page == libc::MAP_FAILED || libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) != 0 {
            return None;
        }
        Some(&*page.cast())
    }
}

/// The process that the handler runs in. In a forked child, the first call takes over the table.
pub(super) fn current() -> Process {
    let id = this();
    // ord: Relaxed, all; see `record_this`. In a forked child there is only one thread until its
    // first trapped call, and starting a thread makes one.
    let recorded = RECORDED.load(Ordering::Relaxed);
    // SAFETY: null, or the page, which is never unmapped.
    let owner = unsafe { OWNER.load(Ordering::Relaxed).as_ref() };
    let Some(owner) = owner else {
        return if id == recorded { Process::Recorded } else { Process::Unknown };
    };
    // ord: Relaxed; as above.
    let owner_id = owner.load(Ordering::Relaxed);
    if owner_id == 0 {
        // Another thread of the parent may have held the lock.
        TABLE.unlock_after_fork();
        // ord: Relaxed; as above.
        owner.store(id, Ordering::Relaxed);
        return Process::Forked;
    }
    match owner_id {
        owner if owner != id => Process::SharesMemory,
        _ if id == recorded => Process::Recorded,
        _ => Process::Forked,
    }
}

/// Whether a forked child can walk its stack. Before version 2.35 of the C library, the walk takes a
/// lock that another thread of the parent may have held.
pub(super) fn can_walk_stack_after_fork() -> bool {
    // ord: Relaxed; see `record_this`.
    CAN_WALK_STACK.load(Ordering::Relaxed)
}

/// The kernel's id of this process.
pub(super) fn this() -> i64 {
    // SAFETY: the call takes no arguments and cannot fail.
    unsafe { repeat(libc::SYS_getpid, [0; 5]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_finds_the_page_empty_and_takes_it_over() {
        let page = wiped_page().expect("the kernel is newer than 4.14");
        page.store(7, Ordering::Relaxed);
        // SAFETY: the child only reads and writes memory and exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let was = page.swap(8, Ordering::Relaxed);
            // SAFETY: ends the child without running the parent's cleanup.
            unsafe { libc::_exit(was as libc::c_int) };
        }
        let mut status = 0;
        // SAFETY: the kernel writes the status of this child to the integer.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(libc::WEXITSTATUS(status), 0, "the child found it empty");
        assert_eq!(page.load(Ordering::Relaxed), 7, "the parent still has its value");
    }
}
