//! Standard output: whether the program was started with it closed.
//!
//! The failure story: the standard library opens `/dev/null` in the place of a closed standard
//! stream, before `main`. From then on, output to it is discarded without an error, as if the user
//! had redirected it to `/dev/null`. So the check runs before that.

use std::sync::atomic::{AtomicBool, Ordering};

static WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Functions in this section are called before `main`, and before the standard library's own start.
// SAFETY: the section contains pointers to functions without arguments, or with those of `main`,
// which they may ignore. `check_stdout` ignores them, and uses no part of the standard library that is
// initialized at startup.
#[used]
#[unsafe(link_section = ".init_array")]
static CHECK_STDOUT: extern "C" fn() = check_stdout;

extern "C" fn check_stdout() {
    let is_closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
    // ord: Relaxed; there is only one thread.
    WAS_CLOSED.store(is_closed, Ordering::Relaxed);
}

/// Whether standard output was closed when the program started.
pub(crate) fn stdout_was_closed() -> bool {
    // ord: Relaxed; written before a second thread existed.
    WAS_CLOSED.load(Ordering::Relaxed)
}
