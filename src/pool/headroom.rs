//! The memory check before a thread start.
//!
//! The failure story: a start that the system rejects is an error. But a thread that has started maps
//! its signal stack and allocates, and if that fails the standard library aborts the process from
//! inside the thread. So a thread is started only if more memory is available than it needs: its stack
//! and a reserve are mapped and unmapped first, which costs 2 microseconds. The number of mappings,
//! which the whole process shares, is read again as the number of threads grows.
//!
//! # Limits
//!
//! Other threads allocate memory between the check and the start. The reserve is for them.

use std::io;

use echown_limits::{MAP_COUNT, MAPPINGS_PER_THREAD, ThreadLimits};

use crate::sys::memory;

/// Address space that must be free in addition to a thread's stack: for what running threads allocate
/// for their clients, and for a few further pages of the new thread.
const RESERVE_BYTES: usize = 8 * 1024 * 1024;

/// Mappings that are never used for threads: for the time between two readings, and for other parts of
/// the program. Half of what [`ThreadLimit`](echown_limits::ThreadLimit) reserves.
const MAPPINGS_RESERVE: u64 = 256;

/// The minimum number of starts between two readings. That many threads use a quarter of the reserve.
const STARTS_MIN: u64 = 16;

/// Mappings are read again after one start per this many mappings. Reading takes half a microsecond per
/// mapping, so it costs 8 microseconds per start, independent of their number.
const MAPPINGS_PER_START: u64 = 16;

/// When to count the mappings again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Headroom {
    /// Starts until then. `None`: mappings cannot be counted.
    starts: Option<u64>,
}

impl Headroom {
    pub(super) fn new(limits: &ThreadLimits) -> Headroom {
        let mappings = limits.max_map_count.zip(limits.mappings);
        Headroom { starts: mappings.map(|(max, now)| next_reading(max, now)) }
    }

    /// Checks that there is memory for one more thread.
    ///
    /// # Errors
    /// Memory or mappings are missing; the message names which.
    pub(super) fn check(&mut self, stack_bytes: usize) -> io::Result<()> {
        if !memory::can_map(stack_bytes.saturating_add(RESERVE_BYTES)) {
            let text = format!(
                "not enough address space for its stack of {} KiB and a reserve of {} KiB \
                 (RLIMIT_AS, RLIMIT_DATA, vm.overcommit_memory)",
                stack_bytes / 1024,
                RESERVE_BYTES / 1024
            );
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
        }
        self.check_mappings(echown_limits::mappings_and_max)
    }

    fn check_mappings(&mut self, read: impl FnOnce() -> Option<(u64, u64)>) -> io::Result<()> {
        match &mut self.starts {
            None => {}
            Some(0) => {
                // Mappings can no longer be read: start without this check.
                let Some((max, now)) = read() else { return Ok(()) };
                if threads_left(max, now) == 0 {
                    let text =
                        format!("{now} memory mappings are in use, and {MAP_COUNT} is {max}");
                    return Err(io::Error::new(io::ErrorKind::OutOfMemory, text));
                }
                // Minus this start.
                self.starts = Some(next_reading(max, now) - 1);
            }
            Some(starts) => *starts -= 1,
        }
        Ok(())
    }
}

/// How many more threads are possible with this many mappings in use.
fn threads_left(max: u64, now: u64) -> u64 {
    max.saturating_sub(now).saturating_sub(MAPPINGS_RESERVE) / MAPPINGS_PER_THREAD
}

/// After how many starts mappings are counted again: at the latest after half of the threads that are
/// still possible, so that the rest of the program can use as many mappings meanwhile.
fn next_reading(max: u64, now: u64) -> u64 {
    match threads_left(max, now) {
        0 => 0,
        left => (left / 2).min(now / MAPPINGS_PER_START).max(STARTS_MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_counted_again_and_never_used_up() {
        let max = 65_530;
        let (mut mappings, mut starts, mut counted) = (40, 0, 0);
        while threads_left(max, mappings) > 0 {
            // Others take as many as the threads do.
            let next = next_reading(max, mappings);
            counted += mappings;
            starts += next;
            mappings += 2 * MAPPINGS_PER_THREAD * next;
        }
        assert!(mappings <= max, "{mappings}");
        assert!(counted <= 2 * MAPPINGS_PER_START * starts, "{counted} counted, {starts} starts");
    }

    #[test]
    fn a_thread_is_rejected_only_while_mappings_are_used_up() {
        let full = ThreadLimits {
            max_map_count: Some(1000),
            mappings: Some(990),
            ..ThreadLimits::default()
        };
        let mut headroom = Headroom::new(&full);
        for _ in 0..2 {
            let error = headroom.check_mappings(|| Some((1000, 990))).unwrap_err();
            let text = "990 memory mappings are in use, and vm.max_map_count is 1000";
            assert_eq!(error.to_string(), text);
        }
        headroom.check_mappings(|| Some((1000, 40))).expect("others have given theirs back");
        for _ in 1..STARTS_MIN {
            headroom.check_mappings(|| unreachable!("they were counted just now")).unwrap();
        }
        headroom.check_mappings(|| Some((1000, 990))).unwrap_err();
        let mut unknown = Headroom::new(&ThreadLimits::default());
        unknown.check_mappings(|| unreachable!("there is nothing to read")).unwrap();
    }

    #[test]
    fn a_stack_that_no_address_space_holds_is_an_error_that_says_so() {
        let mut headroom = Headroom::new(&ThreadLimits::default());
        let error = headroom.check(1 << 47).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
        headroom.check(128 * 1024).expect("this process has memory");
    }
}
