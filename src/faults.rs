//! Fault injection: makes system calls fail at random, with the errors that the kernel could return.
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
//! let injector = Arc::new(FaultInjector::new("short=0.9,interrupt=0.5".parse()?, 1));
//! let registry = Registry::builder().inject_faults(&injector).build();
//! injector.begin();
//! let (mut ours, mut theirs) = Stream::pair_in(&registry)?;
//! ours.write_all(b"in pieces, but all of it")?;
//! let mut back = [0; 24];
//! theirs.read_exact(&mut back)?;
//! assert_eq!(&back, b"in pieces, but all of it");
//! assert!(injector.injected().total() > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! Faults are not injected into calls that set options, read addresses or shut down, into UDP, into
//! the wait of an event loop (`epoll_wait(2)`), or into files that the standard library opens.

pub(crate) mod rates;
mod syscall_fault;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

pub use syscall_fault::{FaultRates, SyscallFault, SyscallFaultCounts};

/// A system call that is about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `recv(2)`; whether it blocks.
    Receive(Waits),
    /// `send(2)`, `sendmsg(2)`; whether it blocks.
    Send(Waits),
    /// `accept4(2)`; whether it blocks.
    Accept(Waits),
    /// `connect(2)`.
    Connect,
    /// A call on a descriptor other than a socket; or `poll(2)`.
    Other,
}

/// Whether a call blocks until it can proceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Yes,
    No,
}

/// Errors of an accept.
const ACCEPTING: &[Errno] =
    &[Errno::CONNABORTED, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];

/// Errors of a read.
const READING: &[Errno] = &[Errno::CONNRESET, Errno::NOBUFS, Errno::NOMEM];

/// Errors of a write.
const WRITING: &[Errno] = &[Errno::CONNRESET, Errno::PIPE, Errno::NOBUFS, Errno::NOMEM];

/// Errors of a connect.
const CONNECTING: &[Errno] = &[Errno::CONNREFUSED, Errno::NETUNREACH, Errno::ADDRNOTAVAIL];

/// Errors of a close that has closed the descriptor.
const CLOSING: &[Errno] = &[Errno::INTR, Errno::IO];

/// Makes system calls fail, at the given [`FaultRates`].
///
/// # Examples
/// ```
/// use std::io::Read;
/// use std::sync::Arc;
///
/// use echown::{faults::FaultInjector, net::Stream, ownership::Registry};
///
/// let injector = Arc::new(FaultInjector::new("read=1".parse()?, 7));
/// let registry = Registry::builder().inject_faults(&injector).build();
/// let (mut ours, _theirs) = Stream::pair_in(&registry)?;
/// injector.begin();
/// assert!(ours.read(&mut [0]).is_err());
/// assert_eq!(injector.injected().total(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FaultInjector {
    rates: FaultRates,
    seed: u64,
    has_begun: AtomicBool,
    /// The number of candidate calls of each kind so far.
    seen: [AtomicU64; SyscallFault::ALL.len()],
    injected: [AtomicU64; SyscallFault::ALL.len()],
}

impl FaultInjector {
    /// An injector that does nothing until [`begin`](FaultInjector::begin).
    #[must_use]
    pub fn new(rates: FaultRates, seed: u64) -> FaultInjector {
        let zeros = || [const { AtomicU64::new(0) }; SyscallFault::ALL.len()];
        FaultInjector {
            rates,
            seed,
            has_begun: AtomicBool::new(false),
            seen: zeros(),
            injected: zeros(),
        }
    }

    /// Starts injecting. A server calls this once its own resources are open.
    pub fn begin(&self) {
        // ord: Relaxed; a concurrent call may or may not get a fault.
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// The number of injected faults so far, by kind.
    #[must_use]
    pub fn injected(&self) -> SyscallFaultCounts {
        // ord: Relaxed; a statistic, exact when the tasks that made the calls have ended.
        SyscallFaultCounts::by(|kind| self.injected[kind as usize].load(Ordering::Relaxed))
    }

    /// Decides about a call before it is made.
    ///
    /// # Errors
    /// The error to return instead of making the call.
    pub(crate) fn before(&self, call: Call) -> Result<(), Errno> {
        if self.inject(SyscallFault::Interrupt).is_some() {
            return Err(Errno::INTR);
        }
        let (waits, errors) = match call {
            Call::Receive(waits) => (waits, Some((SyscallFault::Read, READING))),
            Call::Send(waits) => (waits, Some((SyscallFault::Write, WRITING))),
            Call::Accept(waits) => (waits, Some((SyscallFault::Accept, ACCEPTING))),
            Call::Connect => (Waits::Yes, Some((SyscallFault::Connect, CONNECTING))),
            Call::Other => (Waits::Yes, None),
        };
        if waits == Waits::No && self.inject(SyscallFault::Again).is_some() {
            return Err(Errno::AGAIN);
        }
        match errors {
            Some((kind, errors)) => self.inject_one_of(kind, errors).map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// The number of bytes that a call may move, of at most `most`. [`moved`](FaultInjector::moved) counts
    /// the fault, because the call may have fewer bytes to move anyway.
    pub(crate) fn shorten(&self, most: usize) -> usize {
        if most < 2 {
            // Zero bytes would mean the end of the stream.
            return most;
        }
        self.draw(SyscallFault::Short).map_or(most, |mut random| random.usize(1..most))
    }

    /// Records the result of a call that was allowed `room` of `most` bytes. It was shortened if it was
    /// allowed fewer bytes and used all of them.
    pub(crate) fn moved(&self, bytes: usize, room: usize, most: usize) {
        if room < most && bytes == room {
            self.count(SyscallFault::Short);
        }
    }

    /// Decides about the start of a thread.
    ///
    /// # Errors
    /// The error to return instead of starting it.
    pub(crate) fn before_thread(&self) -> Result<(), Errno> {
        self.inject(SyscallFault::Thread).map_or(Ok(()), |_| Err(Errno::AGAIN))
    }

    /// Decides about the result of a close that has closed the descriptor.
    ///
    /// # Errors
    /// The error to return.
    pub(crate) fn after_close(&self) -> Result<(), Errno> {
        self.inject_one_of(SyscallFault::Close, CLOSING).map_or(Ok(()), Err)
    }

    fn inject_one_of(&self, kind: SyscallFault, errors: &[Errno]) -> Option<Errno> {
        self.inject(kind).map(|mut random| errors[random.usize(..errors.len())])
    }

    /// Decides whether to inject this kind of fault, and counts it. Returns the generator for further
    /// random choices.
    fn inject(&self, kind: SyscallFault) -> Option<fastrand::Rng> {
        self.draw(kind).inspect(|_| self.count(kind))
    }

    fn count(&self, kind: SyscallFault) {
        // ord: Relaxed; a statistic.
        self.injected[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Decides without counting; see [`inject`](FaultInjector::inject).
    fn draw(&self, kind: SyscallFault) -> Option<fastrand::Rng> {
        let rate = self.rates.rate(kind);
        // ord: Relaxed; see `begin`.
        if rate == 0.0 || !self.has_begun.load(Ordering::Relaxed) {
            return None;
        }
        // ord: Relaxed; only the atomicity of the increment matters: each number is drawn once.
        let before = self.seen[kind as usize].fetch_add(1, Ordering::Relaxed);
        let mut random = syscall_fault::random(self.seed, kind, before);
        (random.f64() < rate).then_some(random)
    }
}

impl fmt::Debug for FaultInjector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FaultInjector({} with seed {}, injected {})",
            self.rates,
            self.seed,
            self.injected()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVE: Call = Call::Receive(Waits::Yes);

    fn injector(rates: &str, seed: u64) -> FaultInjector {
        let injector = FaultInjector::new(rates.parse().expect("the rates are valid"), seed);
        injector.begin();
        injector
    }

    fn results(rates: &str, seed: u64, call: Call) -> Vec<Result<(), Errno>> {
        let injector = injector(rates, seed);
        (0..1000).map(|_| injector.before(call)).collect()
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
        assert!(half.contains(&injected("write=0.5", Call::Send(Waits::No))));
        assert!(half.contains(&injected("accept=0.5", Call::Accept(Waits::No))));
        assert!(half.contains(&injected("connect=0.5", Call::Connect)));
        assert!(half.contains(&injected("interrupt=0.5", Call::Other)));
        assert!(half.contains(&injected("again=0.5", Call::Send(Waits::No))));
        assert_eq!(
            injected("again=0.9", Call::Send(Waits::Yes)),
            0,
            "a blocking call never gets EAGAIN"
        );
        assert_eq!(injected("write=1,accept=1,connect=1,close=1,thread=1", RECEIVE), 0);
        assert_eq!(injected("read=1,write=1,accept=1,connect=1", Call::Other), 0);
    }

    #[test]
    fn every_error_of_a_kind_occurs_and_no_other() {
        let seen = |rates: &str, call: Call| -> Vec<Errno> {
            let mut seen: Vec<Errno> =
                results(rates, 3, call).into_iter().filter_map(Result::err).collect();
            seen.sort_by_key(|errno| errno.raw_os_error());
            seen.dedup();
            seen
        };
        let sorted = |errors: &[Errno]| {
            let mut errors = errors.to_vec();
            errors.sort_by_key(|errno| errno.raw_os_error());
            errors
        };
        assert_eq!(seen("read=0.5", RECEIVE), sorted(READING));
        assert_eq!(seen("write=0.5", Call::Send(Waits::Yes)), sorted(WRITING));
        assert_eq!(seen("accept=0.5", Call::Accept(Waits::Yes)), sorted(ACCEPTING));
        assert_eq!(seen("connect=0.5", Call::Connect), sorted(CONNECTING));
    }

    #[test]
    fn a_shortened_call_moves_at_least_one_byte_and_not_all() {
        let injector = injector("short=1", 1);
        for most in 2..1000 {
            assert!((1..most).contains(&injector.shorten(most)));
        }
        assert_eq!((injector.shorten(0), injector.shorten(1)), (0, 1));
        assert_eq!(injector.injected().short, 0, "nothing has moved yet");
        injector.moved(3, 5, 8);
        injector.moved(8, 8, 8);
        assert_eq!(injector.injected().short, 0, "there was no more, or all was allowed");
        injector.moved(5, 5, 8);
        assert_eq!(injector.injected().short, 1);
    }

    #[test]
    fn faults_begin_with_begin_and_are_counted() {
        let injector = FaultInjector::new("thread=1,close=1".parse().unwrap(), 1);
        assert_eq!(injector.before_thread(), Ok(()));
        assert_eq!(injector.injected().total(), 0);
        injector.begin();
        assert_eq!(injector.before_thread(), Err(Errno::AGAIN));
        assert!(injector.after_close().is_err());
        assert_eq!(injector.injected().to_string(), "1 thread, 1 close");
    }
}
