//! Atomics and locks: the standard library's, or loom's when the models are built.
//!
//! Only the types that a model explores (the slot and the account) use this module. Statics and
//! thread-locals use `std`, because loom's types cannot outlive one execution.

#[cfg(not(echown_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

#[cfg(echown_loom)]
pub(crate) use {
    fully_explored::AtomicU64,
    loom::sync::{Mutex, MutexGuard, atomic::Ordering},
};

#[cfg(echown_loom)]
mod fully_explored {
    //! A wrapper of loom's atomic that makes loom try every order of two accesses.
    //!
    //! The failure story. To choose the next execution, loom stores only the latest access per atomic.
    //! If a thread loads and then swaps, its own load is the latest, and an earlier load of another
    //! thread is lost: loom never tries the order in which the swap comes before that load. Every
    //! transition of the slot is a load and then a swap, so most orders went untried. A model in which a
    //! check races with a transfer ended after a single execution.
    //!
    //! So every access first does a read-modify-write on `turn`, for which the latest access is enough.
    //! It is relaxed, so it orders no memory and hides no missing ordering.

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
            // ord: Relaxed; see the module's documentation.
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

/// Yields while another thread finishes a step of a few instructions or one non-blocking system call.
pub(crate) fn yield_now() {
    #[cfg(not(echown_loom))]
    std::thread::yield_now();
    #[cfg(echown_loom)]
    loom::thread::yield_now();
}

/// Locks `mutex`, even if it is poisoned.
///
/// No user code runs under the locks of this crate, so poison only means a bug in this crate. The data
/// changes in single steps and stays usable, and finalizers must still run.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
