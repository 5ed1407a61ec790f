//! Notices a fork without exec, in the child.
//!
//! The child has a copy of every record but none of the threads that could honour them, and its
//! descriptors share their open files with the parent: a `shutdown(2)` there would cut the
//! parent's connections. So the registry is off in the child, and this flag says that it is one.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static IN_FORKED_CHILD: AtomicBool = AtomicBool::new(false);
static WATCH: Once = Once::new();

/// True in a process that was forked off one that had called [`watch`], before any exec.
#[inline]
pub(crate) fn in_forked_child() -> bool {
    // ord: Relaxed; the only store happens in the forked child while it has a single thread, and
    // thread creation orders it before every later one.
    IN_FORKED_CHILD.load(Ordering::Relaxed)
}

/// Starts watching, once per process (`pthread_atfork(3)`).
///
/// Where the hook cannot be registered (out of memory at start-up), forks go unnoticed; nothing
/// else depends on it.
pub(crate) fn watch() {
    WATCH.call_once(|| {
        extern "C" fn note_child() {
            // ord: Relaxed, see `in_forked_child`.
            IN_FORKED_CHILD.store(true, Ordering::Relaxed);
        }
        // SAFETY: the handler only stores to a static atomic, which is async-signal-safe, as a
        // fork from a process with several threads demands; `None` registers nothing for the
        // other two moments.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(note_child)) };
    });
}
