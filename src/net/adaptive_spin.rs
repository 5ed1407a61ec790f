//! Reading and accepting that look a few times before they sleep.
//!
//! Falling asleep in `recv(2)` or `poll(2)` and being woken costs a server on few processors more than
//! the reading or accepting itself. Where many connections are busy, another thread always has
//! something to do: letting it run (`sched_yield(2)`) and looking again (`MSG_DONTWAIT`) mostly finds
//! that the next message or client has come meanwhile, at the price of a change of threads and without
//! that of a wake-up.
//!
//! Where it does not, it is a waste: a lone client's next message takes longer than any looking, and a
//! quiet one's never comes. So each connection learns from itself ([`AdaptiveSpin`]) how often it pays to
//! look, and one that has learned that it does not pay only attempts now and then whether that is still
//! so. Finding something is not enough: where client and server share a processor, the lone client
//! writes as soon as it is let run, and being woken by it would have been a little quicker. It has paid if
//! another connection has had a message meanwhile.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stream::Stream;
use crate::ownership::Registry;

/// Looks at the most. With 4 or 16 of them it is not faster, and less fair (`docs/performance.md`).
const ATTEMPTS_MAX: u8 = 2;

/// Calls that go straight to sleep before the next look, where looking does not pay.
const BACKOFF_MAX: u8 = 64;

/// Which connection has had the last message, by where its spin is.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// What a connection or a listener has learned about looking again before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveSpin {
    /// How often the next call attempts before it sleeps.
    attempts: u8,
    /// Calls that are still to go straight to sleep.
    backoff: u8,
    /// How many those are to be the next time.
    next_backoff: u8,
}

impl Default for AdaptiveSpin {
    fn default() -> AdaptiveSpin {
        // The first message mostly comes with the connection: reading finds it without looking.
        AdaptiveSpin { attempts: 1, backoff: 1, next_backoff: 1 }
    }
}

impl AdaptiveSpin {
    /// Never attempts.
    pub(super) const fn none() -> AdaptiveSpin {
        AdaptiveSpin { attempts: 0, backoff: 0, next_backoff: 0 }
    }

    /// How often to look this time, each time after `sched_yield(2)`. Whoever does says afterwards
    /// whether it has found something.
    pub(super) fn attempts(&mut self, registry: &Registry) -> u8 {
        // How often it pays depends on the moment, and which calls a seed strikes must not.
        if registry.saboteur().is_some() {
            return 0;
        }
        if self.backoff > 0 {
            self.backoff -= 1;
            return 0;
        }
        self.attempts
    }

    /// A look has paid.
    pub(super) fn hit(&mut self) {
        self.attempts = (self.attempts + 1).min(ATTEMPTS_MAX);
        self.next_backoff = 1;
    }

    /// None has paid: half as many the next time, and where that is none, a backoff that grows.
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
    /// Reads as [`Read::read`] does, but attempts a few times before it sleeps, as far as that has paid.
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn read_spinning(&self, buffer: &mut [u8], spin: &mut AdaptiveSpin) -> io::Result<usize> {
        self.read_among(&LAST, buffer, spin)
    }

    /// The same; `last` is where those leave their mark among which this connection is.
    #[track_caller]
    fn read_among(
        &self,
        last: &AtomicUsize,
        buffer: &mut [u8],
        spin: &mut AdaptiveSpin,
    ) -> io::Result<usize> {
        let attempts = spin.attempts(&self.handle().record().registry);
        let own = std::ptr::from_ref(spin).addr();
        // ord: Relaxed; a hint, and nothing else is told by it.
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

    /// How many attempts a thousand reads cost, none of which finds anything.
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
    fn where_looking_does_not_pay_hardly_any_read_looks() {
        assert!(attempts_of_a_thousand_reads(AdaptiveSpin::default()) < 25);
        let mut spoiled = AdaptiveSpin::default();
        (0..100).for_each(|_| spoiled.hit());
        assert!(attempts_of_a_thousand_reads(spoiled) < 25 + 2 * u32::from(ATTEMPTS_MAX));
    }

    #[test]
    fn where_looking_pays_again_it_is_noticed_soon() {
        let mut tired = AdaptiveSpin::default();
        (0..1000).for_each(|_| {
            if tired.attempts(Registry::global()) > 0 {
                tired.miss();
            }
        });
        let reads = (1..).find(|_| tired.attempts(Registry::global()) > 0).unwrap();
        assert!(reads <= u32::from(BACKOFF_MAX) + 1);
        tired.hit();
        assert_eq!(tired.attempts(Registry::global()), 2, "and from then on each time");
        assert_eq!(tired.attempts(Registry::global()), 2);
    }

    #[test]
    fn it_pays_only_among_others() {
        use std::io::Write;
        use std::sync::atomic::AtomicBool;
        use std::time::{Duration, Instant};
        let (reader, writer) = Stream::pair().unwrap();
        let last = AtomicUsize::new(0);
        let mut spin = AdaptiveSpin::default();
        // Whatever it attempts for is there.
        let read = |spin: &mut AdaptiveSpin| {
            (&writer).write_all(b"x").unwrap();
            reader.read_among(&last, &mut [0], spin).unwrap();
        };
        (0..200).for_each(|_| read(&mut spin));
        assert_eq!(spin.next_backoff, BACKOFF_MAX, "alone it hardly attempts any more");
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
        assert_eq!(spin.attempts, ATTEMPTS_MAX, "among others it attempts as often as it may");
    }

    #[test]
    fn what_is_read_eagerly_is_what_was_sent_and_then_the_end() {
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
