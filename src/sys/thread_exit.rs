//! Runs a function at the very end of a thread: after the destructors of its thread-locals.
//!
//! The failure story: whether a handle in a thread-local was a leak depended on which was used
//! first, that thread-local or the task's own, because destructors of thread-locals run in reverse
//! order. The destructor of a POSIX key runs after all of them. It runs in the first round of such
//! destructors, because the standard library drops the thread's name and id in the second.
//!
//! # Limits
//! If the standard library itself uses a POSIX key to destroy thread-locals (with glibc it does
//! not), the order of the two is not specified. A thread-local that is first used in another key's
//! destructor is destroyed after the function ran.

use std::ffi::c_void;
use std::sync::OnceLock;

static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
static AT_EXIT: OnceLock<fn()> = OnceLock::new();

/// Runs `f` once when this thread ends, however often this is called. `f` must be the same on all
/// threads. It does not run for a thread that ends with the process.
pub(crate) fn at_thread_exit(f: fn()) {
    AT_EXIT.get_or_init(|| f);
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is valid for the write, and `end` is a function, which lives as long as the
        // process.
        let error = unsafe { libc::pthread_key_create(&raw mut key, Some(end)) };
        (error == 0).then_some(key)
    });
    if let Some(key) = *key {
        // Not null, because a key with a null value has no destructor call.
        let value = std::ptr::without_provenance_mut::<c_void>(1);
        // SAFETY: the key was created above and is never deleted; the value is a number that is not
        // used as a pointer. This fails only if memory is exhausted; then the function does not
        // run.
        unsafe { libc::pthread_setspecific(key, value) };
    }
}

extern "C" fn end(_: *mut c_void) {
    if let Some(f) = AT_EXIT.get() {
        f();
    }
}
