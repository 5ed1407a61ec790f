//! Fork detection: notices a fork without exec, in the child.
//!
//! The child has a copy of every record but none of the threads that use them, and its descriptors
//! share their open files with the parent: a `shutdown(2)` there would cut the parent's
//! connections. So the registry is off in a forked child, which this module detects.
//!
//! A lock that another thread held at the moment of the fork stays locked in the child until it
//! ends, because the thread that would unlock it does not exist there. So the child waits for no
//! lock that was created before the fork; its [`generation`] identifies locks that were created
//! afterwards.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// The number of forks between the process that called [`watch`] and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);
static WATCH: Once = Once::new();

/// True in a process that was forked, without exec, from one that had called [`watch`].
#[inline]
pub(crate) fn in_forked_child() -> bool {
    generation() != 0
}

/// The number of forks that led to this process; see the module's introduction.
#[inline]
pub(crate) fn generation() -> u32 {
    // ord: Relaxed; the only store happens in the forked child while it has a single thread, and
    // thread creation orders it before every later one.
    GENERATION.load(Ordering::Relaxed)
}

/// Starts watching, once per process (`pthread_atfork(3)`).
///
/// If the hook cannot be registered (out of memory at startup), forks are not detected; nothing
/// else depends on it.
pub(crate) fn watch() {
    WATCH.call_once(|| {
        extern "C" fn note_child() {
            // ord: Relaxed, see `generation`. The child has this one thread.
            GENERATION.store(generation() + 1, Ordering::Relaxed);
        }
        // SAFETY: the handler only stores to a static atomic, which is async-signal-safe, as
        // required after a fork of a process with several threads. `None` registers no other
        // handlers.
        let _ = unsafe { libc::pthread_atfork(None, None, Some(note_child)) };
    });
}

/// Forks, for tests.
#[cfg(test)]
pub(crate) mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

    /// Forks. Returns the child's id, and `None` in the child, which must call [`end`].
    pub(crate) fn fork() -> Option<Pid> {
        // SAFETY: the child has the memory of this process and one thread. The tests use only
        // functions that are documented as usable there, and the allocator, which the C library
        // keeps usable.
        match unsafe { libc::fork() } {
            -1 => panic!("no process can be had: {}", std::io::Error::last_os_error()),
            pid => Pid::from_raw(pid),
        }
    }

    /// Ends a child at once.
    pub(crate) fn end(code: i32) -> ! {
        // SAFETY: ends the process, and touches no memory.
        unsafe { libc::_exit(code) }
    }

    /// A child's exit code; `None` if it had to be killed after 30 seconds.
    pub(crate) fn exit_code(child: Pid) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let ended = waitpid(Some(child), WaitOptions::NOHANG).expect("it is this process's");
            if let Some((_, status)) = ended {
                return status.exit_status();
            }
            if Instant::now() > deadline {
                kill_process(child, Signal::KILL).expect("it has not been waited for");
                waitpid(Some(child), WaitOptions::empty()).expect("it is this process's");
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The exit code of a child that runs `f`, which is a failure if `f` panics.
    pub(crate) fn in_child(f: impl FnOnce()) -> Option<i32> {
        match fork() {
            Some(child) => exit_code(child),
            None => end(catch_unwind(AssertUnwindSafe(f)).map_or(101, |()| 0)),
        }
    }
}
