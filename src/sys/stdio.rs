//! Standard output: whether the program was started with it closed.
//!
//! The failure story: the standard library opens `/dev/null` in the place of a closed standard
//! stream, before `main`. From then on, output to it is discarded without an error, as if the user
//! had redirected it to `/dev/null`. So the check runs before that.

use std::sync::atomic::{AtomicBool, Ordering};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Functions in this section are called before `main`, and before the standard library's own start.
// SAFETY: the section holds pointers to functions that take no arguments, or take those of `main` and
// may ignore them; `look` does, and it needs nothing of the standard library that is made at its start.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let is_closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
    // ord: Relaxed; there is one thread.
    WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Whether standard output was closed when the program started.
pub(crate) fn stdout_was_closed() -> bool {
    // ord: Relaxed; it was written before there was a second thread.
    WAS_CLOSED.load(Ordering::Relaxed)
}
