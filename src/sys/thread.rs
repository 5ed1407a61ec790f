//! The current thread: its kernel id and its name.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use echown_fd::escape;

thread_local! {
    static KERNEL_ID: Cell<u32> = const { Cell::new(0) };
    static NAME: OnceCell<Arc<str>> = const { OnceCell::new() };
}

/// The name of the current thread. Cached per thread, because many tasks run on it.
pub(crate) fn name() -> Arc<str> {
    let ask = || escape::text(std::thread::current().name().unwrap_or("unnamed thread")).into();
    NAME.try_with(|cached| Arc::clone(cached.get_or_init(ask))).unwrap_or_else(|_| ask())
}

/// The kernel's id of the current thread (`gettid(2)`). Cached per thread.
///
/// Zero on systems without such ids.
pub(crate) fn kernel_id() -> u32 {
    KERNEL_ID
        .try_with(|cached| {
            if cached.get() == 0 {
                cached.set(ask());
            }
            cached.get()
        })
        .unwrap_or_else(|_| ask())
}

#[cfg(target_os = "linux")]
fn ask() -> u32 {
    rustix::thread::gettid().as_raw_pid().unsigned_abs()
}

#[cfg(not(target_os = "linux"))]
fn ask() -> u32 {
    0
}

/// True on the thread that the process was started with.
///
/// On systems other than Linux, it is recognized by its name in the standard library.
pub(crate) fn is_main() -> bool {
    #[cfg(target_os = "linux")]
    return kernel_id() == rustix::process::getpid().as_raw_pid().unsigned_abs();
    #[cfg(not(target_os = "linux"))]
    return std::thread::current().name() == Some("main");
}
