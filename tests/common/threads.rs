//! Threads by their kernel ids, and waits until one is blocked.

use super::wait::wait_until;

/// The kernel's id of the current thread.
pub fn thread_id() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

/// Waits until a thread is blocked in a system call: in a wait for another thread (a futex) if
/// `by_a_thread`, otherwise in any other call. Returns at once where the kernel hides system calls.
#[track_caller]
pub fn wait_until_blocked(thread: i32, by_a_thread: bool) {
    wait_until("the thread to block", || {
        let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
        let Ok(call) = call else { return true };
        let number = call.split(' ').next().and_then(|word| word.parse::<i64>().ok());
        number.is_some_and(|number| (number == libc::SYS_futex) == by_a_thread)
    });
}
