//! Faults at the border to the kernel: system calls that fail on purpose, as they do in bad times.
//!
//! A [`Saboteur`] is given to a registry ([`RegistryBuilder::sabotage`](crate::ownership::RegistryBuilder::sabotage)).
//! From [`Saboteur::begin`] on it is asked before each system call by which that registry's
//! descriptors are accepted, read, written, waited for and connected, at the start of each thread of a
//! pool that is at home there, and after each close. What it answers goes on as the kernel's own
//! answer: nothing above knows the difference. Without a saboteur that is one look at a pointer that
//! never changes.
//!
//! Two families of faults, by what has to follow from them:
//!
//! | kind | what happens | what may follow |
//! |---|---|---|
//! | interrupt | `EINTR` from any of them | nothing: the call is made again, with what is left of its time |
//! | short | a read or write moves fewer bytes than it could, at least one | nothing: the rest comes later |
//! | again | `EAGAIN` from a call that was told not to wait | nothing: it is waited for |
//! | accept | `ECONNABORTED`, `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM` | a client is refused, a pause |
//! | thread | `EAGAIN` where a thread was to start | a client is refused |
//! | read, write | `ECONNRESET`, `ENOBUFS`, `ENOMEM`, and `EPIPE` of a write | that connection ends |
//! | connect | `ECONNREFUSED`, `ENETUNREACH`, `EADDRNOTAVAIL` | that connection does not begin |
//! | close | `EINTR` and `EIO`, after the descriptor was closed | a report; never a second close |
//!
//! `read` and `write` strike sockets. Files and pipes are interrupted and cut short only.
//!
//! Which of the calls that a kind can strike are struck follows from the seed and from how many there
//! were before, and from nothing else. [`Saboteur::struck`] counts what was done: a call that is allowed
//! fewer bytes than there is room for, and has no more to move anyway, was not cut short.
//!
//! # Examples
//! ```
//! use std::io::{Read, Write};
//! use std::sync::Arc;
//!
//! use echown::faults::Saboteur;
//! use echown::net::Stream;
//! use echown::ownership::Registry;
//!
//! let saboteur = Arc::new(Saboteur::new("short=0.9,interrupt=0.5".parse()?, 1));
//! let registry = Registry::builder().sabotage(&saboteur).build();
//! saboteur.begin();
//! let (mut ours, mut theirs) = Stream::pair_in(&registry)?;
//! ours.write_all(b"in pieces, but all of it")?;
//! let mut back = [0; 24];
//! theirs.read_exact(&mut back)?;
//! assert_eq!(&back, b"in pieces, but all of it");
//! assert!(saboteur.struck().total() > 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! Calls that set options, ask for addresses or shut down are never struck, and neither is what UDP
//! sends and receives, the wait of an event loop (`epoll_wait(2)`), or what the standard library opens.

mod plan;
pub(crate) mod rates;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

pub use plan::{Kind, Plan, Struck};
pub use rates::PlanError;

/// A system call that is about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// `recv(2)`; whether it waits.
    Receive(Waits),
    /// `send(2)`, `sendmsg(2)`; whether it waits.
    Send(Waits),
    /// `accept4(2)`; whether it waits.
    Accept(Waits),
    /// `connect(2)`.
    Connect,
    /// Of something that is no socket; or `poll(2)`.
    Other,
}

/// Whether a call waits until it can do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    Yes,
    No,
}

/// What accepting can meet.
const ACCEPTING: &[Errno] =
    &[Errno::CONNABORTED, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];

/// What ends a reading.
const READING: &[Errno] = &[Errno::CONNRESET, Errno::NOBUFS, Errno::NOMEM];

/// What ends a writing.
const WRITING: &[Errno] = &[Errno::CONNRESET, Errno::PIPE, Errno::NOBUFS, Errno::NOMEM];

/// What keeps a connection from being made.
const CONNECTING: &[Errno] = &[Errno::CONNREFUSED, Errno::NETUNREACH, Errno::ADDRNOTAVAIL];

/// What a close tells when it is over.
const CLOSING: &[Errno] = &[Errno::INTR, Errno::IO];

/// Makes system calls fail, at the rates of a [`Plan`].
pub struct Saboteur {
    plan: Plan,
    seed: u64,
    has_begun: AtomicBool,
    /// How many calls each kind could have struck so far.
    met: [AtomicU64; Kind::ALL.len()],
    struck: [AtomicU64; Kind::ALL.len()],
}

impl Saboteur {
    /// One that does nothing yet.
    #[must_use]
    pub fn new(plan: Plan, seed: u64) -> Saboteur {
        let zeros = || [const { AtomicU64::new(0) }; Kind::ALL.len()];
        Saboteur { plan, seed, has_begun: AtomicBool::new(false), met: zeros(), struck: zeros() }
    }

    /// Strikes from now on. A server begins when all it needs for itself is there.
    pub fn begin(&self) {
        // ord: Relaxed; a call that is made meanwhile may go either way.
        self.has_begun.store(true, Ordering::Relaxed);
    }

    /// How many calls were struck so far, by kind.
    #[must_use]
    pub fn struck(&self) -> Struck {
        // ord: Relaxed; a statistic, exact when the tasks that made the calls have ended.
        Struck::by(|kind| self.struck[kind as usize].load(Ordering::Relaxed))
    }

    /// What a call fails with, instead of being made.
    pub(crate) fn before(&self, call: Call) -> Result<(), Errno> {
        if self.strikes(Kind::Interrupt).is_some() {
            return Err(Errno::INTR);
        }
        let (waits, fatal) = match call {
            Call::Receive(waits) => (waits, Some((Kind::Read, READING))),
            Call::Send(waits) => (waits, Some((Kind::Write, WRITING))),
            Call::Accept(waits) => (waits, Some((Kind::Accept, ACCEPTING))),
            Call::Connect => (Waits::Yes, Some((Kind::Connect, CONNECTING))),
            Call::Other => (Waits::Yes, None),
        };
        if waits == Waits::No && self.strikes(Kind::Again).is_some() {
            return Err(Errno::AGAIN);
        }
        match fatal {
            Some((kind, errors)) => self.strikes_with(kind, errors).map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    /// How many bytes a call may move that could move `most`. Counted by [`moved`](Saboteur::moved):
    /// a call may have less to move anyway.
    pub(crate) fn shorten(&self, most: usize) -> usize {
        if most < 2 {
            // Nothing at all would mean the end of the stream.
            return most;
        }
        self.draw(Kind::Short).map_or(most, |mut random| random.usize(1..most))
    }

    /// What came of a call that was allowed `room` bytes of `most`: it was cut short if it was allowed
    /// less and used all of that.
    pub(crate) fn moved(&self, bytes: usize, room: usize, most: usize) {
        if room < most && bytes == room {
            self.count(Kind::Short);
        }
    }

    /// What the start of a thread fails with.
    pub(crate) fn before_thread(&self) -> Result<(), Errno> {
        self.strikes(Kind::Thread).map_or(Ok(()), |_| Err(Errno::AGAIN))
    }

    /// What a close answers that has closed.
    pub(crate) fn after_close(&self) -> Result<(), Errno> {
        self.strikes_with(Kind::Close, CLOSING).map_or(Ok(()), Err)
    }

    fn strikes_with(&self, kind: Kind, errors: &[Errno]) -> Option<Errno> {
        self.strikes(kind).map(|mut random| errors[random.usize(..errors.len())])
    }

    /// Whether this call is struck by this kind, counted. With the generator that drew it, for what is
    /// left to be drawn.
    fn strikes(&self, kind: Kind) -> Option<fastrand::Rng> {
        self.draw(kind).inspect(|_| self.count(kind))
    }

    fn count(&self, kind: Kind) {
        // ord: Relaxed; a statistic.
        self.struck[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The same, not counted yet.
    fn draw(&self, kind: Kind) -> Option<fastrand::Rng> {
        let rate = self.plan.rate(kind);
        // ord: Relaxed; see `begin`.
        if rate == 0.0 || !self.has_begun.load(Ordering::Relaxed) {
            return None;
        }
        // ord: Relaxed; every number is drawn once, which is the increment's own.
        let before = self.met[kind as usize].fetch_add(1, Ordering::Relaxed);
        let mut random = plan::random(self.seed, kind, before);
        (random.f64() < rate).then_some(random)
    }
}

impl fmt::Debug for Saboteur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Saboteur({} with seed {}, struck {})", self.plan, self.seed, self.struck())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVE: Call = Call::Receive(Waits::Yes);

    fn saboteur(plan: &str, seed: u64) -> Saboteur {
        let saboteur = Saboteur::new(plan.parse().expect("the plan is right"), seed);
        saboteur.begin();
        saboteur
    }

    fn answers(plan: &str, seed: u64, call: Call) -> Vec<Result<(), Errno>> {
        let saboteur = saboteur(plan, seed);
        (0..1000).map(|_| saboteur.before(call)).collect()
    }

    #[test]
    fn the_same_seed_strikes_the_same_calls_and_another_one_does_not() {
        let plan = "read=0.3,interrupt=0.3";
        assert_eq!(answers(plan, 7, RECEIVE), answers(plan, 7, RECEIVE));
        assert_ne!(answers(plan, 7, RECEIVE), answers(plan, 8, RECEIVE));
        assert_ne!(answers(plan, 7, RECEIVE)[1..], answers(plan, 8, RECEIVE)[..999]);
    }

    #[test]
    fn a_kind_strikes_only_what_it_is_for_and_as_often_as_its_rate_says() {
        let struck = |plan: &str, call: Call| {
            answers(plan, 1, call).iter().filter(|answer| answer.is_err()).count()
        };
        // 500 are expected; twelve standard deviations to either side.
        let half = 300..700;
        assert!(half.contains(&struck("read=0.5", RECEIVE)));
        assert!(half.contains(&struck("write=0.5", Call::Send(Waits::No))));
        assert!(half.contains(&struck("accept=0.5", Call::Accept(Waits::No))));
        assert!(half.contains(&struck("connect=0.5", Call::Connect)));
        assert!(half.contains(&struck("interrupt=0.5", Call::Other)));
        assert!(half.contains(&struck("again=0.5", Call::Send(Waits::No))));
        assert_eq!(struck("again=0.9", Call::Send(Waits::Yes)), 0, "who waits is never sent away");
        assert_eq!(struck("write=1,accept=1,connect=1,close=1,thread=1", RECEIVE), 0);
        assert_eq!(struck("read=1,write=1,accept=1,connect=1", Call::Other), 0);
    }

    #[test]
    fn every_error_of_a_kind_occurs_and_no_other() {
        let met = |plan: &str, call: Call| -> Vec<Errno> {
            let mut met: Vec<Errno> =
                answers(plan, 3, call).into_iter().filter_map(Result::err).collect();
            met.sort_by_key(|errno| errno.raw_os_error());
            met.dedup();
            met
        };
        let sorted = |errors: &[Errno]| {
            let mut errors = errors.to_vec();
            errors.sort_by_key(|errno| errno.raw_os_error());
            errors
        };
        assert_eq!(met("read=0.5", RECEIVE), sorted(READING));
        assert_eq!(met("write=0.5", Call::Send(Waits::Yes)), sorted(WRITING));
        assert_eq!(met("accept=0.5", Call::Accept(Waits::Yes)), sorted(ACCEPTING));
        assert_eq!(met("connect=0.5", Call::Connect), sorted(CONNECTING));
    }

    #[test]
    fn what_is_cut_short_moves_something_and_less_than_it_could() {
        let saboteur = saboteur("short=1", 1);
        for most in 2..1000 {
            assert!((1..most).contains(&saboteur.shorten(most)));
        }
        assert_eq!((saboteur.shorten(0), saboteur.shorten(1)), (0, 1));
        assert_eq!(saboteur.struck().short, 0, "nothing has moved yet");
        saboteur.moved(3, 5, 8);
        saboteur.moved(8, 8, 8);
        assert_eq!(saboteur.struck().short, 0, "there was no more, or all was allowed");
        saboteur.moved(5, 5, 8);
        assert_eq!(saboteur.struck().short, 1);
    }

    #[test]
    fn nothing_is_struck_before_the_beginning_and_what_is_struck_is_counted() {
        let saboteur = Saboteur::new("thread=1,close=1".parse().unwrap(), 1);
        assert_eq!(saboteur.before_thread(), Ok(()));
        assert_eq!(saboteur.struck().total(), 0);
        saboteur.begin();
        assert_eq!(saboteur.before_thread(), Err(Errno::AGAIN));
        assert!(saboteur.after_close().is_err());
        assert_eq!(saboteur.struck().to_string(), "1 thread, 1 close");
    }
}
