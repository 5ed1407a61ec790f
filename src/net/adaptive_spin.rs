//! Adaptive spinning: reads and accepts that yield and poll a few times before they block.
//!
//! Blocking in `recv(2)` or `poll(2)` and being woken costs a server on few processors more than the read
//! or accept itself. Where many connections are busy, another thread always has work: yielding to it
//! (`sched_yield(2)`) and polling again (`MSG_DONTWAIT`) usually finds that the next message or client has
//! arrived, at the price of a context switch and without that of a wake-up.
//!
//! Elsewhere spinning is a waste: the next message of a lone client takes longer than any spinning,
//! and an idle client sends none. So each connection measures ([`AdaptiveSpin`]) how often spinning
//! pays; where it does not, the connection spins only occasionally, to check again. Finding input
//! does not suffice as a measure: if client and server share a processor, a lone client writes as
//! soon as it may run, and waiting for its wake-up would have been a little faster. Spinning has
//! paid if another connection has received a message meanwhile.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stream::Stream;
use crate::ownership::Registry;

/// The maximum number of attempts per call. 4 or 16 are not faster, and less fair
/// (`docs/performance.md`).
const ATTEMPTS_MAX: u8 = 2;

/// The maximum number of attempts per call of a task that waits for many connections. It stops at the first
/// event of any of them, so that more attempts are made only while there is none.
#[cfg(target_os = "linux")]
const POLLS_MAX: u8 = 64;

/// The maximum number of calls that block at once before the next attempt, where spinning does not
/// pay.
const BACKOFF_MAX: u8 = 64;

/// The connection that received the last message, as the address of its `AdaptiveSpin`.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// The adaptive state of a connection or a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdaptiveSpin {
    /// How often the next call polls before it blocks.
    attempts: u8,
    attempts_max: u8,
    /// Calls left that block at once.
    backoff: u8,
    /// The next value of `backoff`.
    next_backoff: u8,
}

impl Default for AdaptiveSpin {
    fn default() -> AdaptiveSpin {
        // The first message usually arrives with the connection: the first read finds it without spinning.
        AdaptiveSpin::up_to(ATTEMPTS_MAX)
    }
}

impl AdaptiveSpin {
    /// Never spins.
    pub(super) const fn disabled() -> AdaptiveSpin {
        AdaptiveSpin { attempts: 0, attempts_max: 0, backoff: 0, next_backoff: 0 }
    }

    /// For a task that waits for many connections at once, and is woken for each of few.
    #[cfg(target_os = "linux")]
    pub(crate) const fn of_poller() -> AdaptiveSpin {
        AdaptiveSpin::up_to(POLLS_MAX)
    }

    const fn up_to(attempts_max: u8) -> AdaptiveSpin {
        AdaptiveSpin { attempts: 1, attempts_max, backoff: 1, next_backoff: 1 }
    }

    /// How many attempts to make in this call, each after `sched_yield(2)`. The caller reports a hit or a
    /// miss afterwards.
    pub(super) fn attempts(&mut self, registry: &Registry) -> u8 {
        // Whether spinning pays depends on timing, and the calls that a fault seed selects must not.
        if registry.fault_injector().is_some() {
            return 0;
        }
        if self.backoff > 0 {
            self.backoff -= 1;
            return 0;
        }
        self.attempts
    }

    /// An attempt has paid.
    pub(super) fn hit(&mut self) {
        self.attempts = self.attempts.saturating_mul(2).clamp(1, self.attempts_max);
        self.next_backoff = 1;
    }

    /// No attempt has paid: halves the attempts, and at zero starts a backoff that grows.
    pub(super) fn miss(&mut self) {
        self.attempts /= 2;
        if self.attempts == 0 {
            self.attempts = 1;
            self.backoff = self.next_backoff;
            self.next_backoff = self.next_backoff.saturating_mul(2).min(BACKOFF_MAX);
        }
    }
}

impl Stream {
    /// [`Read::read`] that yields and polls a few times before it blocks, where that pays.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn read_spinning(
        &self,
        buffer: &mut [u8],
        spin: &mut AdaptiveSpin,
    ) -> io::Result<usize> {
        self.read_among(&LAST, buffer, spin)
    }

    /// [`Self::read_spinning`]; `last` identifies the connection that received the last message.
    #[track_caller]
    fn read_among(
        &self,
        last: &AtomicUsize,
        buffer: &mut [u8],
        spin: &mut AdaptiveSpin,
    ) -> io::Result<usize> {
        let attempts = spin.attempts(&self.handle().record().registry);
        let own = std::ptr::from_ref(spin).addr();
        // ord: Relaxed; a hint, no other access depends on it.
        let is_last = || last.load(Ordering::Relaxed) == own;
        for _ in 0..attempts {
            std::thread::yield_now();
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    if is_last() {
                        spin.miss();
                    } else {
                        spin.hit();
                        // ord: Relaxed; as above.
                        last.store(own, Ordering::Relaxed);
                    }
                    return result;
                }
            }
        }
        if attempts > 0 {
            spin.miss();
        }
        let mut stream = self;
        let result = stream.read(buffer);
        if !is_last() {
            // ord: Relaxed; as above.
            last.store(own, Ordering::Relaxed);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many attempts a thousand reads make if all of them miss.
    fn attempts_of_a_thousand_reads(mut spin: AdaptiveSpin) -> u32 {
        let read = |_| {
            let attempts = spin.attempts(Registry::global());
            if attempts > 0 {
                spin.miss();
            }
            u32::from(attempts)
        };
        (0..1000).map(read).sum()
    }

    #[test]
    fn where_spinning_does_not_pay_hardly_any_read_spins() {
        assert!(attempts_of_a_thousand_reads(AdaptiveSpin::default()) < 25);
        let mut eager = AdaptiveSpin::default();
        (0..100).for_each(|_| eager.hit());
        assert!(attempts_of_a_thousand_reads(eager) < 25 + 2 * u32::from(ATTEMPTS_MAX));
    }

    #[test]
    fn where_spinning_pays_again_it_is_noticed_soon() {
        let mut reluctant = AdaptiveSpin::default();
        (0..1000).for_each(|_| {
            if reluctant.attempts(Registry::global()) > 0 {
                reluctant.miss();
            }
        });
        let reads = (1..).find(|_| reluctant.attempts(Registry::global()) > 0).unwrap();
        assert!(reads <= u32::from(BACKOFF_MAX) + 1);
        reluctant.hit();
        assert_eq!(reluctant.attempts(Registry::global()), 2, "and from then on each time");
        assert_eq!(reluctant.attempts(Registry::global()), 2);
    }

    #[test]
    fn spinning_pays_only_among_other_connections() {
        use std::io::Write;
        use std::sync::atomic::AtomicBool;
        use std::time::{Duration, Instant};
        let (reader, writer) = Stream::pair().unwrap();
        let last = AtomicUsize::new(0);
        let mut spin = AdaptiveSpin::default();
        // The input is always there.
        let read = |spin: &mut AdaptiveSpin| {
            (&writer).write_all(b"x").unwrap();
            reader.read_among(&last, &mut [0], spin).unwrap();
        };
        (0..200).for_each(|_| read(&mut spin));
        assert_eq!(spin.next_backoff, BACKOFF_MAX, "alone it hardly spins any more");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    last.store(1, Ordering::Relaxed);
                }
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            while spin.attempts < ATTEMPTS_MAX && Instant::now() < deadline {
                read(&mut spin);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(spin.attempts, ATTEMPTS_MAX, "among others it spins as often as allowed");
    }

    #[test]
    fn a_spinning_read_returns_what_was_sent_and_then_the_end() {
        use std::io::Write;
        let (reader, writer) = Stream::pair().unwrap();
        let mut spin = AdaptiveSpin::default();
        let mut buffer = [0; 3];
        let mut read =
            || reader.read_spinning(&mut buffer, &mut spin).map(|it| buffer[..it].to_vec());
        (&writer).write_all(b"eager").unwrap();
        assert_eq!(read().unwrap(), b"eag");
        assert_eq!(read().unwrap(), b"er");
        drop(writer);
        assert_eq!(read().unwrap(), b"");
    }
}
