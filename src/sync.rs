//! The one door to atomics and locks: the standard library's, or loom's when the models are built.
//!
//! Only what a model explores comes through here (the slot and the account). Statics and
//! thread-locals stay with `std`: loom's types cannot live longer than one execution.

#[cfg(not(echown_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

#[cfg(echown_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// Gives the processor away while another thread finishes a step that is a few instructions or one
/// non-blocking system call long.
pub(crate) fn wait_a_moment() {
    #[cfg(not(echown_loom))]
    std::thread::yield_now();
    #[cfg(echown_loom)]
    loom::thread::yield_now();
}

/// Locks `mutex`, also after a panic elsewhere.
///
/// No user code runs under the locks of this crate, so a poisoned one only says that a thread of
/// ours met a bug of ours; the data behind it changes in single steps and stays usable, and
/// finalizers must still run.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
