//! Waiting: the deadline of the tests, and the only place where a test may sleep.

use std::thread;
use std::time::{Duration, Instant};

/// Far longer than any test takes, so that only a hang reaches it.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The pause between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(1);

/// Checks a condition until it holds. Panics at the deadline.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Checks until there is a value, and returns it. Panics at the deadline.
#[track_caller]
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    poll(DEADLINE, check).unwrap_or_else(|| panic!("not within {DEADLINE:?}: {what}"))
}

/// Checks until there is a value, or until the timeout.
pub fn poll<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Checks until a value has not changed for several checks in a row, such as the length of a full
/// queue. Panics at the deadline.
#[track_caller]
pub fn wait_until_still<T: PartialEq>(what: &str, mut value: impl FnMut() -> T) {
    const CHECKS: u32 = 200;
    let (mut last, mut same) = (value(), 0);
    wait_until(what, || {
        let now = value();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same >= CHECKS
    });
}

/// Blocks this thread for a duration that is part of the scenario: a slow peer, a pace, a window in
/// which nothing may happen. No test waits for a condition with it.
pub fn stall(time: Duration) {
    thread::sleep(time);
}
