//! Signals that interrupt a thread's system calls.
#![allow(unsafe_code)]

use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Ignored unless it is handled, so that one that comes late does no harm.
const SIGNAL: libc::c_int = libc::SIGURG;

/// Less than any timeout in these tests.
const PERIOD: Duration = Duration::from_millis(2);

/// When the signals end, so that even a wait that each signal restarts ends eventually.
const GIVE_UP: Duration = Duration::from_secs(10);

extern "C" fn do_nothing(_: libc::c_int) {}

/// Runs `call` while signals interrupt the system calls of this thread, again and again.
///
/// Asserts that it returned while they did.
#[track_caller]
pub fn interrupted<R>(what: &str, call: impl FnOnce() -> R) -> R {
    handle_signals();
    let thread = rustix::thread::gettid();
    let (stop, stopped) = channel::<()>();
    let sender = std::thread::spawn(move || {
        let begun = Instant::now();
        while begun.elapsed() < GIVE_UP {
            match stopped.recv_timeout(PERIOD) {
                Err(RecvTimeoutError::Timeout) => send(thread),
                _ => return true,
            }
        }
        false
    });
    let result = call();
    drop(stop);
    assert!(sender.join().expect("it only sends"), "{what} continues as long as signals arrive");
    result
}

fn handle_signals() {
    static HANDLED: Once = Once::new();
    HANDLED.call_once(|| {
        // SAFETY: all zeros is a valid `sigaction`: no flags (SA_RESTART above all), an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: the action lives for the call, and its handler touches nothing.
        let result = unsafe { libc::sigaction(SIGNAL, &action, std::ptr::null_mut()) };
        assert_eq!(result, 0, "the signal can be handled");
    });
    // SAFETY: the set is made by `sigemptyset` before it is read, and lives for the calls.
    let result = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, SIGNAL);
        // The parent of the tests may have blocked it.
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut())
    };
    assert_eq!(result, 0, "the signal can be unblocked");
}

fn send(thread: rustix::thread::Pid) {
    let (process, thread) = (std::process::id(), thread.as_raw_pid());
    // SAFETY: touches no memory. The thread still exists: it joins this one before it continues.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, SIGNAL) };
}
