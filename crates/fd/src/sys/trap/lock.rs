//! A spin lock for the handler's data.
//!
//! It is taken in a signal handler, where all signals are blocked, and for the length of a copy.
//! Nothing is allocated or freed under it, because an allocator may itself open a file, and the
//! handler of that call would wait for this lock.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A value and its lock. Not reentrant: in a handler all signals are blocked, and elsewhere the
/// closures only copy.
pub(super) struct Locked<T> {
    is_locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is accessed only in `with`, which holds the lock.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    pub(super) const fn new(value: T) -> Locked<T> {
        Locked { is_locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // ord: Acquire; partner: the Release below. Makes the writes of the last holder visible.
        while self.is_locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: this thread holds the lock and does so once, so this is the only reference.
        let result = f(unsafe { &mut *self.value.get() });
        // ord: Release; partner: the Acquire above.
        self.is_locked.store(false, Ordering::Release);
        result
    }
}
