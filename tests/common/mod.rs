//! Parts that several test binaries share, a file for each subject.
#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(unused_imports, reason = "as above")]

pub mod console_page;
pub mod doc_pages;
pub mod fd_misuse;
mod fds;
mod fixture;
mod own_process;
pub mod reserved;
mod results;
pub mod temp_path;
mod threads;
mod tools;
mod wait;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use fds::{FdTracker, SharedFd, assert_connected, connection, listener, target, targets};
pub use fixture::Fixture;
pub use own_process::{assert_success, in_own_process};
pub use results::{
    IntoRefusal, assert_cancelled, failure, leaked, panic_message, refusal, without_ages,
};
pub use threads::{thread_id, wait_until_blocked};
pub use tools::require_tool;
pub use wait::{DEADLINE, poll, stall, wait_for, wait_until, wait_until_still};

/// Locks a mutex, poisoned or not: a test that fails with the lock must not fail the others.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
