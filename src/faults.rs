//! Fault injection: makes system calls fail at random, with the errors that the kernel could return.
//! Also selects the connections that get a fault of `echo/chaos.rs`.
//!
//! A [`FaultInjector`] is set on a registry
//! ([`RegistryBuilder::inject_faults`](crate::ownership::RegistryBuilder::inject_faults)). From
//! [`FaultInjector::begin`] on it decides, for this registry's descriptors, about each accept, read,
//! write, wait and connect before the call, and about each close after it; and for pools of this
//! registry, about each start of a thread. An injected error looks like the kernel's own to all other
//! code. Without an injector the cost is one load of a pointer that never changes.
//!
//! | kind | what happens | allowed effect |
//! |---|---|---|
//! | interrupt | any call returns `EINTR` | none: the call is repeated with its remaining time |
//! | short | a read or write moves fewer bytes than possible, at least one | none: the rest follows later |
//! | again | a non-blocking call returns `EAGAIN` | none: the caller waits for readiness |
//! | accept | `ECONNABORTED`, `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` | a client is rejected, or accepting pauses |
//! | thread | starting a thread returns `EAGAIN` | a client is rejected |
//! | read, write | `ECONNRESET`, `ENOBUFS`, `ENOMEM`, and `EPIPE` of a write | the connection ends |
//! | connect | `ECONNREFUSED`, `ENETUNREACH`, `EADDRNOTAVAIL` | the connect fails |
//! | close | `EINTR` and `EIO`, after the descriptor was closed | a report; never a second close |
//!
//! `read` and `write` apply to sockets. Calls on files and pipes only get `interrupt` and `short`.
//!
//! The seed and the number of earlier candidate calls of a kind decide whether a call gets a fault,
//! and nothing else does. [`FaultInjector::injected`] counts faults with an effect: a shortened call
//! that had no more bytes to move does not count.
//!
//! # Examples
//! ```
//! use std::io::{Read, Write};
//! use std::sync::Arc;
//!
//! use echown::faults::FaultInjector;
//! use echown::net::Stream;
//! use echown::ownership::Registry;
//!
//! let injector = Arc::new(FaultInjector::new("short=0.9,interrupt=0.5", 1)?);
//! let registry = Registry::builder().inject_faults(&injector).build();
//! injector.begin();
//! let _entered = registry.enter();
//! let (mut ours, mut theirs) = Stream::pair()?;
//! ours.write_all(b"in pieces, but all of it")?;
//! let mut back = [0; 24];
//! theirs.read_exact(&mut back)?;
//! assert_eq!(&back, b"in pieces, but all of it");
//! assert!(injector.injected_total() > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! Faults are not injected into calls that set options, read addresses or shut down, into UDP, into
//! the wait of an event loop (`epoll_wait(2)`), or into files that the standard library opens.

mod kinds;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use echown_report::InputError;
use rustix::io::Errno;

pub use kinds::Fault;
use kinds::KINDS;
pub(crate) use kinds::{FaultCounts, FaultRates, Target};

/// Whether a call blocks until it can proceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Yes,
    No,
}

/// The seed's sequence of random numbers from which connections are drawn.
#[cfg_attr(not(feature = "serve"), allow(dead_code))]
const CONNECTIONS: usize = 0;

/// Makes system calls fail, at the given rates.
pub struct FaultInjector {
    rates: FaultRates,
    seed: u64,
    has_begun: AtomicBool,
    /// The number of candidates for each kind so far.
    seen: [AtomicU64; KINDS],
    injected: [AtomicU64; KINDS],
}

impl FaultInjector {
    /// An injector that does nothing until [`begin`](FaultInjector::begin). Rates are from 0 to 1, as
    /// in `read=0.01,short=0.2`; other kinds have the rate 0, and `all=0.01` sets all.
    ///
    /// # Errors
    /// The rates are invalid. The message contains what is expected.
    pub fn new(rates: &str, seed: u64) -> Result<FaultInjector, InputError> {
        Ok(FaultInjector::with_rates(FaultRates::of_syscalls(rates)?, seed))
    }

    pub(crate) fn with_rates(rates: FaultRates, seed: u64) -> FaultInjector {
        let zeros = || [const { AtomicU64::new(0) }; KINDS];
        let has_begun = AtomicBool::new(false);
        FaultInjector { rates, seed, has_begun, seen: zeros(), injected: zeros() }
    }

    /// Starts injecting. A server calls this once its own resources are open.
    pub fn begin(&self) {
        // ord: Relaxed; a concurrent call may or may not get a fault.
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// The number of injected faults of one kind so far.
    #[must_use]
    pub fn injected(&self, fault: Fault) -> u64 {
        // ord: Relaxed; a statistic, exact when the tasks that got the faults have ended.
        self.injected[fault as usize].load(Ordering::Relaxed)
    }

    /// The number of injected system call faults of all kinds so far.
    #[must_use]
    pub fn injected_total(&self) -> u64 {
        self.counts(Target::Syscalls).total()
    }

    /// The number of injected faults so far, by kind.
    pub(crate) fn counts(&self, target: Target) -> FaultCounts {
        FaultCounts::by(target, |fault| self.injected(fault))
    }

    /// The fault of the next connection: at most one. The caller counts it once it has happened.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn draw_connection(&self) -> Option<Fault> {
        let mut left = self.random(CONNECTIONS, Fault::Panic).f64();
        Target::Connections.faults().find(|&fault| {
            left -= self.rates.rate(fault);
            left < 0.0
        })
    }

    /// Decides about a call before it is made; `fault` is the kind that ends the call, if there is one.
    ///
    /// # Errors
    /// The error to return instead of making the call.
    pub(crate) fn before(&self, fault: Option<Fault>, waits: Waits) -> Result<(), Errno> {
        self.strike(Fault::Interrupt)?;
        if waits == Waits::No {
            self.strike(Fault::Again)?;
        }
        fault.map_or(Ok(()), |fault| self.strike(fault))
    }

    /// Decides about one kind of fault: of a call before it is made, of a thread before it is started,
    /// and of a close after it has closed the descriptor.
    ///
    /// # Errors
    /// The error to return.
    pub(crate) fn strike(&self, kind: Fault) -> Result<(), Errno> {
        let Some(mut random) = self.draw(kind) else { return Ok(()) };
        self.count(kind);
        let errors = kind.errors();
        Err(errors[random.usize(..errors.len())])
    }

    /// The number of bytes that a call may move, of at most `most`. [`moved`](FaultInjector::moved) counts
    /// the fault, because the call may have fewer bytes to move anyway.
    pub(crate) fn shorten(&self, most: usize) -> usize {
        if most < 2 {
            // Zero bytes would mean the end of the stream.
            return most;
        }
        self.draw(Fault::Short).map_or(most, |mut random| random.usize(1..most))
    }

    /// Records the result of a call that was allowed `room` of `most` bytes. It was shortened if it was
    /// allowed fewer bytes and used all of them.
    pub(crate) fn moved(&self, bytes: usize, room: usize, most: usize) {
        if room < most && bytes == room {
            self.count(Fault::Short);
        }
    }

    /// Counts a fault that has happened.
    pub(crate) fn count(&self, kind: Fault) {
        // ord: Relaxed; a statistic.
        self.injected[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Decides without counting. Returns the generator for further random choices.
    fn draw(&self, kind: Fault) -> Option<fastrand::Rng> {
        let rate = self.rates.rate(kind);
        // ord: Relaxed; see `begin`.
        if rate == 0.0 || !self.has_begun.load(Ordering::Relaxed) {
            return None;
        }
        let mut random = self.random(kind as usize, kind);
        (random.f64() < rate).then_some(random)
    }

    /// The random generator of the next candidate for this kind, from one of the seed's sequences.
    fn random(&self, sequence: usize, kind: Fault) -> fastrand::Rng {
        // ord: Relaxed; only the atomicity of the increment matters: each number is drawn once.
        let before = self.seen[kind as usize].fetch_add(1, Ordering::Relaxed);
        // Neighbouring seeds and kinds must not yield the same draws with an offset. So the seed and the
        // sequence first draw the number from which candidates are counted.
        let mut first = fastrand::Rng::with_seed(self.seed);
        let start = (0..=sequence).map(|_| first.u64(..)).last().unwrap_or_default();
        fastrand::Rng::with_seed(start.wrapping_add(before))
    }
}

impl fmt::Debug for FaultInjector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FaultInjector({} with seed {}, injected {})",
            self.rates,
            self.seed,
            self.counts(Target::Syscalls)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Call = (Option<Fault>, Waits);

    const RECEIVE: Call = (Some(Fault::Read), Waits::Yes);
    const SEND: Call = (Some(Fault::Write), Waits::No);
    const ACCEPT: Call = (Some(Fault::Accept), Waits::No);
    const CONNECT: Call = (Some(Fault::Connect), Waits::Yes);
    const OTHER: Call = (None, Waits::Yes);

    fn injector(rates: &str, seed: u64) -> FaultInjector {
        let injector = FaultInjector::new(rates, seed).expect("the rates are valid");
        injector.begin();
        injector
    }

    fn results(rates: &str, seed: u64, (fault, waits): Call) -> Vec<Result<(), Errno>> {
        let injector = injector(rates, seed);
        (0..1000).map(|_| injector.before(fault, waits)).collect()
    }

    #[test]
    fn the_same_seed_selects_the_same_calls_and_another_one_does_not() {
        let rates = "read=0.3,interrupt=0.3";
        assert_eq!(results(rates, 7, RECEIVE), results(rates, 7, RECEIVE));
        assert_ne!(results(rates, 7, RECEIVE), results(rates, 8, RECEIVE));
        assert_ne!(results(rates, 7, RECEIVE)[1..], results(rates, 8, RECEIVE)[..999]);
    }

    #[test]
    fn a_kind_affects_only_its_calls_and_at_its_rate() {
        let injected = |rates: &str, call: Call| {
            results(rates, 1, call).iter().filter(|result| result.is_err()).count()
        };
        // 500 are expected; twelve standard deviations to either side.
        let half = 300..700;
        assert!(half.contains(&injected("read=0.5", RECEIVE)));
        assert!(half.contains(&injected("write=0.5", SEND)));
        assert!(half.contains(&injected("accept=0.5", ACCEPT)));
        assert!(half.contains(&injected("connect=0.5", CONNECT)));
        assert!(half.contains(&injected("interrupt=0.5", OTHER)));
        assert!(half.contains(&injected("again=0.5", SEND)));
        assert_eq!(injected("again=0.9", RECEIVE), 0, "a blocking call never gets EAGAIN");
        assert_eq!(injected("write=1,accept=1,connect=1,close=1,thread=1", RECEIVE), 0);
        assert_eq!(injected("read=1,write=1,accept=1,connect=1", OTHER), 0);
    }

    #[test]
    fn every_error_of_a_kind_occurs_and_no_other() {
        for (rates, call) in [
            ("read=0.5", RECEIVE),
            ("write=0.5", SEND),
            ("accept=0.5", ACCEPT),
            ("connect=0.5", CONNECT),
        ] {
            let seen: Vec<Errno> =
                results(rates, 3, call).into_iter().filter_map(Result::err).collect();
            let errors = call.0.expect("a kind ends the call").errors();
            assert!(errors.iter().all(|error| seen.contains(error)), "{rates}");
            assert!(seen.iter().all(|error| errors.contains(error)), "{rates}");
        }
    }

    #[test]
    fn a_shortened_call_moves_at_least_one_byte_and_not_all() {
        let injector = injector("short=1", 1);
        for most in 2..1000 {
            assert!((1..most).contains(&injector.shorten(most)));
        }
        assert_eq!((injector.shorten(0), injector.shorten(1)), (0, 1));
        assert_eq!(injector.injected(Fault::Short), 0, "nothing has moved yet");
        injector.moved(3, 5, 8);
        injector.moved(8, 8, 8);
        assert_eq!(injector.injected(Fault::Short), 0, "there was no more, or all was allowed");
        injector.moved(5, 5, 8);
        assert_eq!(injector.injected(Fault::Short), 1);
    }

    #[test]
    fn faults_begin_with_begin_and_are_counted() {
        let injector = FaultInjector::new("thread=1,close=1", 1).unwrap();
        assert_eq!(injector.strike(Fault::Thread), Ok(()));
        assert_eq!(injector.injected_total(), 0);
        injector.begin();
        assert_eq!(injector.strike(Fault::Thread), Err(Errno::AGAIN));
        assert!(injector.strike(Fault::Close).is_err());
        assert_eq!(injector.counts(Target::Syscalls).to_string(), "1 thread, 1 close");
    }

    /// The faults of the first connections.
    fn drawn(rates: &str, seed: u64, connections: usize) -> Vec<Option<Fault>> {
        let rates = FaultRates::of_connections(rates).expect("the rates are valid");
        let injector = FaultInjector::with_rates(rates, seed);
        (0..connections).map(|_| injector.draw_connection()).collect()
    }

    #[test]
    fn the_same_seed_selects_the_same_connections_and_another_one_does_not() {
        let rates = "panic=0.3,leak=0.2,cycle=0.2";
        assert_eq!(drawn(rates, 7, 1000), drawn(rates, 7, 1000));
        assert_ne!(drawn(rates, 7, 1000), drawn(rates, 8, 1000));
        assert_ne!(drawn(rates, 7, 1000)[1..], drawn(rates, 8, 1000)[..999], "not shifted by one");
    }

    #[test]
    fn each_kind_is_drawn_for_connections_at_its_rate() {
        let drawn_at = drawn("panic=0.2,leak=0.3", 1, 10_000);
        let count = |wanted| drawn_at.iter().filter(|&&drawn| drawn == wanted).count();
        // Ten standard deviations to either side.
        assert!((1600..2400).contains(&count(Some(Fault::Panic))), "{}", count(Some(Fault::Panic)));
        assert!((2500..3500).contains(&count(Some(Fault::Leak))), "{}", count(Some(Fault::Leak)));
        assert!((4500..5500).contains(&count(None)), "{}", count(None));
        for fault in Target::Connections.faults() {
            let always = drawn(&format!("{}=1", fault.name()), 3, 1000);
            assert!(always.iter().all(|&drawn| drawn == Some(fault)));
        }
        assert!(drawn("panic=0", 3, 1000).iter().all(Option::is_none));
    }
}
