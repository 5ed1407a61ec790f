//! Reading and accepting that look a few times before they sleep.
//!
//! Falling asleep in `recv(2)` or `poll(2)` and being woken costs a server on few processors more than
//! the reading or accepting itself. Where many connections are busy, another thread always has
//! something to do: letting it run (`sched_yield(2)`) and looking again (`MSG_DONTWAIT`) mostly finds
//! that the next message or client has come meanwhile, at the price of a change of threads and without
//! that of a wake-up.
//!
//! Where it does not, it is a waste: a lone client's next message takes longer than any looking, and a
//! quiet one's never comes. So each connection learns from itself ([`Eagerness`]) how often it pays to
//! look, and one that has learned that it does not pay only looks now and then whether that is still
//! so. Finding something is not enough: where client and server share a processor, the lone client
//! writes as soon as it is let run, and being woken by it would have been a little quicker. It has paid if
//! another connection has had a message meanwhile.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stream::Stream;
use crate::ownership::Registry;

/// Looks at the most. With 4 or 16 of them it is not faster, and less fair (`docs/performance.md`).
const LOOKS_MAX: u8 = 2;

/// Calls that go straight to sleep before the next look, where looking does not pay.
const REST_MAX: u8 = 64;

/// Which connection has had the last message, by where its eagerness is.
static LAST: AtomicUsize = AtomicUsize::new(0);

/// What a connection or a listener has learned about looking again before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eagerness {
    /// How often the next call looks before it sleeps.
    looks: u8,
    /// Calls that are still to go straight to sleep.
    rest: u8,
    /// How many those are to be the next time.
    next_rest: u8,
}

impl Default for Eagerness {
    fn default() -> Eagerness {
        // The first message mostly comes with the connection: reading finds it without looking.
        Eagerness { looks: 1, rest: 1, next_rest: 1 }
    }
}

impl Eagerness {
    /// Never looks.
    pub(super) const fn none() -> Eagerness {
        Eagerness { looks: 0, rest: 0, next_rest: 0 }
    }

    /// How often to look this time, each time after `sched_yield(2)`. Whoever does says afterwards
    /// whether it has found something.
    pub(super) fn looks(&mut self, registry: &Registry) -> u8 {
        // How often it pays depends on the moment, and which calls a seed strikes must not.
        if registry.saboteur().is_some() {
            return 0;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return 0;
        }
        self.looks
    }

    /// A look has paid.
    pub(super) fn gain(&mut self) {
        self.looks = (self.looks + 1).min(LOOKS_MAX);
        self.next_rest = 1;
    }

    /// None has paid: half as many the next time, and where that is none, a rest that grows.
    pub(super) fn lose(&mut self) {
        self.looks /= 2;
        if self.looks == 0 {
            self.looks = 1;
            self.rest = self.next_rest;
            self.next_rest = self.next_rest.saturating_mul(2).min(REST_MAX);
        }
    }
}

impl Stream {
    /// Reads as [`Read::read`] does, but looks a few times before it sleeps, as far as that has paid.
    ///
    /// # Errors
    /// The system call's, and the registry's.
    #[track_caller]
    pub fn read_eagerly(&self, buffer: &mut [u8], eagerness: &mut Eagerness) -> io::Result<usize> {
        self.read_among(&LAST, buffer, eagerness)
    }

    /// The same; `last` is where those leave their mark among which this connection is.
    #[track_caller]
    fn read_among(
        &self,
        last: &AtomicUsize,
        buffer: &mut [u8],
        eagerness: &mut Eagerness,
    ) -> io::Result<usize> {
        let looks = eagerness.looks(&self.handle().record().registry);
        let own = std::ptr::from_ref(eagerness).addr();
        // ord: Relaxed; a hint, and nothing else is told by it.
        let is_last = || last.load(Ordering::Relaxed) == own;
        for _ in 0..looks {
            std::thread::yield_now();
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                answer => {
                    if is_last() {
                        eagerness.lose();
                    } else {
                        eagerness.gain();
                        // ord: Relaxed; as above.
                        last.store(own, Ordering::Relaxed);
                    }
                    return answer;
                }
            }
        }
        if looks > 0 {
            eagerness.lose();
        }
        let mut stream = self;
        let answer = stream.read(buffer);
        if !is_last() {
            // ord: Relaxed; as above.
            last.store(own, Ordering::Relaxed);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many looks a thousand reads cost, none of which finds anything.
    fn looks_of_a_thousand(mut eagerness: Eagerness) -> u32 {
        let read = |_| {
            let looks = eagerness.looks(Registry::global());
            if looks > 0 {
                eagerness.lose();
            }
            u32::from(looks)
        };
        (0..1000).map(read).sum()
    }

    #[test]
    fn where_looking_does_not_pay_hardly_any_read_looks() {
        assert!(looks_of_a_thousand(Eagerness::default()) < 25);
        let mut spoiled = Eagerness::default();
        (0..100).for_each(|_| spoiled.gain());
        assert!(looks_of_a_thousand(spoiled) < 25 + 2 * u32::from(LOOKS_MAX));
    }

    #[test]
    fn where_looking_pays_again_it_is_noticed_soon() {
        let mut tired = Eagerness::default();
        (0..1000).for_each(|_| {
            if tired.looks(Registry::global()) > 0 {
                tired.lose();
            }
        });
        let reads = (1..).find(|_| tired.looks(Registry::global()) > 0).unwrap();
        assert!(reads <= u32::from(REST_MAX) + 1);
        tired.gain();
        assert_eq!(tired.looks(Registry::global()), 2, "and from then on each time");
        assert_eq!(tired.looks(Registry::global()), 2);
    }

    #[test]
    fn it_pays_only_among_others() {
        use std::io::Write;
        use std::sync::atomic::AtomicBool;
        use std::time::{Duration, Instant};
        let (reader, writer) = Stream::pair().unwrap();
        let last = AtomicUsize::new(0);
        let mut eagerness = Eagerness::default();
        // Whatever it looks for is there.
        let read = |eagerness: &mut Eagerness| {
            (&writer).write_all(b"x").unwrap();
            reader.read_among(&last, &mut [0], eagerness).unwrap();
        };
        (0..200).for_each(|_| read(&mut eagerness));
        assert_eq!(eagerness.next_rest, REST_MAX, "alone it hardly looks any more");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    last.store(1, Ordering::Relaxed);
                }
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            while eagerness.looks < LOOKS_MAX && Instant::now() < deadline {
                read(&mut eagerness);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(eagerness.looks, LOOKS_MAX, "among others it looks as often as it may");
    }

    #[test]
    fn what_is_read_eagerly_is_what_was_sent_and_then_the_end() {
        use std::io::Write;
        let (reader, writer) = Stream::pair().unwrap();
        let mut eagerness = Eagerness::default();
        let mut buffer = [0; 3];
        let mut read =
            || reader.read_eagerly(&mut buffer, &mut eagerness).map(|it| buffer[..it].to_vec());
        (&writer).write_all(b"eager").unwrap();
        assert_eq!(read().unwrap(), b"eag");
        assert_eq!(read().unwrap(), b"er");
        drop(writer);
        assert_eq!(read().unwrap(), b"");
    }
}
