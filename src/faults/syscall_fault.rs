//! The kinds of injected system call faults: their rates, their counts, and the random selection of calls.

use std::fmt;
use std::str::FromStr;

use echown_report::InputError;

use super::rates;

/// A kind of injected system call fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyscallFault {
    /// A call is interrupted before it has an effect.
    Interrupt,
    /// A read or write moves fewer bytes than it could.
    Short,
    /// A non-blocking call would have to block.
    Again,
    /// Accepting fails.
    Accept,
    /// A thread does not start.
    Thread,
    /// Reading from a socket fails.
    Read,
    /// Writing to a socket fails.
    Write,
    /// Connecting fails.
    Connect,
    /// A close returns an error after it has closed the descriptor.
    Close,
}

impl SyscallFault {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [SyscallFault; 9] = [
        SyscallFault::Interrupt,
        SyscallFault::Short,
        SyscallFault::Again,
        SyscallFault::Accept,
        SyscallFault::Thread,
        SyscallFault::Read,
        SyscallFault::Write,
        SyscallFault::Connect,
        SyscallFault::Close,
    ];

    /// The name of the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SyscallFault::Interrupt => "interrupt",
            SyscallFault::Short => "short",
            SyscallFault::Again => "again",
            SyscallFault::Accept => "accept",
            SyscallFault::Thread => "thread",
            SyscallFault::Read => "read",
            SyscallFault::Write => "write",
            SyscallFault::Connect => "connect",
            SyscallFault::Close => "close",
        }
    }

    /// The maximum rate. A call that is always interrupted, or never ready, does not end.
    fn rate_max(self) -> f64 {
        match self {
            SyscallFault::Interrupt | SyscallFault::Again => RETRIED_RATE_MAX,
            _ => 1.0,
        }
    }
}

/// The maximum rate of faults after which the call is repeated at once: ten attempts on average.
const RETRIED_RATE_MAX: f64 = 0.9;

/// The number of injected faults, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SyscallFaultCounts {
    /// [`SyscallFault::Interrupt`].
    pub interrupt: u64,
    /// [`SyscallFault::Short`].
    pub short: u64,
    /// [`SyscallFault::Again`].
    pub again: u64,
    /// [`SyscallFault::Accept`].
    pub accept: u64,
    /// [`SyscallFault::Thread`].
    pub thread: u64,
    /// [`SyscallFault::Read`].
    pub read: u64,
    /// [`SyscallFault::Write`].
    pub write: u64,
    /// [`SyscallFault::Connect`].
    pub connect: u64,
    /// [`SyscallFault::Close`].
    pub close: u64,
}

impl SyscallFaultCounts {
    /// The counts that `count` returns for each kind.
    pub(super) fn by(count: impl Fn(SyscallFault) -> u64) -> SyscallFaultCounts {
        SyscallFaultCounts {
            interrupt: count(SyscallFault::Interrupt),
            short: count(SyscallFault::Short),
            again: count(SyscallFault::Again),
            accept: count(SyscallFault::Accept),
            thread: count(SyscallFault::Thread),
            read: count(SyscallFault::Read),
            write: count(SyscallFault::Write),
            connect: count(SyscallFault::Connect),
            close: count(SyscallFault::Close),
        }
    }

    /// The number of injected faults of one kind.
    #[must_use]
    pub fn of(&self, kind: SyscallFault) -> u64 {
        match kind {
            SyscallFault::Interrupt => self.interrupt,
            SyscallFault::Short => self.short,
            SyscallFault::Again => self.again,
            SyscallFault::Accept => self.accept,
            SyscallFault::Thread => self.thread,
            SyscallFault::Read => self.read,
            SyscallFault::Write => self.write,
            SyscallFault::Connect => self.connect,
            SyscallFault::Close => self.close,
        }
    }

    /// The number of all injected faults.
    #[must_use]
    pub fn total(&self) -> u64 {
        SyscallFault::ALL.iter().map(|&kind| self.of(kind)).sum()
    }
}

/// The kinds that occurred: `3 read, 1 thread`; `none` without any.
impl fmt::Display for SyscallFaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        rates::write_counts(f, SyscallFault::ALL.iter().map(|&kind| (kind.name(), self.of(kind))))
    }
}

/// The name for all kinds at once.
const EVERYTHING: &str = "all";

/// The rate of each kind, from 0 to 1. Written as `read=0.01,short=0.2`; other kinds have the rate 0, and
/// `all=0.01` sets all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultRates {
    /// In the order of [`SyscallFault::ALL`].
    rates: [f64; SyscallFault::ALL.len()],
}

impl FaultRates {
    /// The share of candidate calls that get this kind of fault.
    #[must_use]
    pub fn rate(&self, kind: SyscallFault) -> f64 {
        self.rates[kind as usize]
    }
}

/// The random generator of one call, before which there were `before` other candidates of this kind.
pub(super) fn random(seed: u64, kind: SyscallFault, before: u64) -> fastrand::Rng {
    // Neighbouring seeds and kinds must not yield the same draws with an offset. So the seed and the kind
    // first draw the number from which the calls are counted.
    let mut first = fastrand::Rng::with_seed(seed);
    let mut start = 0;
    for _ in 0..=kind as usize {
        start = first.u64(..);
    }
    fastrand::Rng::with_seed(start.wrapping_add(before))
}

impl FromStr for FaultRates {
    type Err = InputError;

    fn from_str(text: &str) -> Result<FaultRates, InputError> {
        let known = SyscallFault::ALL.map(|kind| (kind.name(), kind.rate_max()));
        Ok(FaultRates { rates: rates::parse(text, known, Some(EVERYTHING))? })
    }
}

/// In the syntax of options, in the order of [`SyscallFault::ALL`].
impl fmt::Display for FaultRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        rates::write_rates(f, SyscallFault::ALL.iter().map(|&kind| (kind.name(), self.rate(kind))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_parsed_as_they_are_displayed_and_all_sets_every_kind() {
        let rates: FaultRates = "write=0.5,read=0.25".parse().unwrap();
        assert_eq!(rates.to_string(), "read=0.25,write=0.5");
        let rates: FaultRates = "all=0.01".parse().unwrap();
        assert!(SyscallFault::ALL.iter().all(|&kind| rates.rate(kind) == 0.01));
    }

    #[test]
    fn a_call_that_is_repeated_at_once_does_not_fail_every_time() {
        for kind in ["interrupt", "again", "all"] {
            let error = format!("{kind}=1").parse::<FaultRates>().unwrap_err().to_string();
            assert_eq!(error, format!("`{kind}=1`: this rate is a number from 0 to 0.9"));
        }
        assert!("short=1,read=1".parse::<FaultRates>().is_ok());
    }
}
