//! Runs a function at the very end of a thread: after the destructors of its thread-locals.
//!
//! The failure this prevents: whether a handle in a thread-local is a leak depended on which was
//! used first, that thread-local or the task's own, because destructors of thread-locals run in
//! reverse order. The destructor of a POSIX key runs after all of them. It runs in the first round
//! of such destructors, because the standard library drops the thread's name and id in the second.
//!
//! # Limits
//! Where the standard library ends thread-locals by a POSIX key of its own (it does not with glibc),
//! the order of the two is not specified. A thread-local that another key's destructor uses first
//! ends after the function.

use std::ffi::c_void;
use std::sync::OnceLock;

static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
static AT_EXIT: OnceLock<fn()> = OnceLock::new();

/// Has `f` run when this thread ends, once, however often this is called; it is the same `f` for all
/// threads. It does not run for a thread that ends with the process.
pub(crate) fn at_thread_exit(f: fn()) {
    AT_EXIT.get_or_init(|| f);
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: `key` is valid for the write, and `end` is a function for as long as the process
        // lives.
        let error = unsafe { libc::pthread_key_create(&raw mut key, Some(end)) };
        (error == 0).then_some(key)
    });
    if let Some(key) = *key {
        // Not null: a key whose value is null has no destructor run.
        let value = std::ptr::without_provenance_mut::<c_void>(1);
        // SAFETY: the key was made above and is never deleted; the value is a number, which no code
        // follows as a pointer. This fails only without memory: then the function does not run.
        unsafe { libc::pthread_setspecific(key, value) };
    }
}

extern "C" fn end(_: *mut c_void) {
    if let Some(f) = AT_EXIT.get() {
        f();
    }
}
