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
pub(crate) use {
    loom::sync::{Mutex, MutexGuard, atomic::Ordering},
    thorough::AtomicU64,
};

#[cfg(echown_loom)]
mod thorough {
    //! loom's atomic, of which every order of two accesses is tried.
    //!
    //! To choose what to try next, loom remembers one latest access per atomic. When a thread loads
    //! and then swaps, its own load is the latest, and a load of another thread before that is
    //! forgotten: the order in which the swap comes before it is never tried. Every transition of
    //! the slot is a load and then a swap, so most orders went untried: a model in which a check
    //! races with a transfer came to an end after a single execution.
    //!
    //! So every access takes a turn first: a read-modify-write, of which the latest one is all that
    //! needs to be remembered. Being relaxed, it orders no memory and hides no missing ordering.

    use loom::sync::atomic::{self, AtomicUsize, Ordering};

    pub(crate) struct AtomicU64 {
        word: atomic::AtomicU64,
        turn: AtomicUsize,
    }

    impl AtomicU64 {
        pub(crate) fn new(word: u64) -> AtomicU64 {
            AtomicU64 { word: atomic::AtomicU64::new(word), turn: AtomicUsize::new(0) }
        }

        fn take_turn(&self) {
            // ord: Relaxed; see the introduction.
            self.turn.fetch_add(1, Ordering::Relaxed);
        }

        #[track_caller]
        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.take_turn();
            self.word.load(order)
        }

        #[track_caller]
        pub(crate) fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
            self.take_turn();
            self.word.fetch_sub(less, order)
        }

        #[track_caller]
        pub(crate) fn compare_exchange_weak(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.take_turn();
            self.word.compare_exchange_weak(current, new, success, failure)
        }
    }
}

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
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
