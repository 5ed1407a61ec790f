//! The kinds of injected faults: names, limits, rates as options write them, and counts.

use std::fmt;

use echown_report::InputError;
use rustix::io::Errno;

/// A kind of injected fault. The first ones strike system calls, the ones from [`Fault::Panic`] on
/// strike connections (`--chaos`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
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
    /// A panic in the middle of an exchange.
    Panic,
    /// A forgotten handle.
    Leak,
    /// A write by a task that does not own the descriptor.
    ForeignWrite,
    /// A cycle of references that keeps the handle.
    Cycle,
    /// A second release.
    DoubleRelease,
    /// Another file replaces the descriptor outside the registry (`dup3`).
    FdReplaced,
    /// A finalizer that panics.
    FinalizerPanic,
}

/// Each kind with its name and the errors that struck calls return, in the order of [`Fault`].
const TABLE: [(Fault, &str, &[Errno]); 16] = [
    (Fault::Interrupt, "interrupt", &[Errno::INTR]),
    (Fault::Short, "short", &[]),
    (Fault::Again, "again", &[Errno::AGAIN]),
    (
        Fault::Accept,
        "accept",
        &[Errno::CONNABORTED, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM],
    ),
    (Fault::Thread, "thread", &[Errno::AGAIN]),
    (Fault::Read, "read", &[Errno::CONNRESET, Errno::NOBUFS, Errno::NOMEM]),
    (Fault::Write, "write", &[Errno::CONNRESET, Errno::PIPE, Errno::NOBUFS, Errno::NOMEM]),
    (Fault::Connect, "connect", &[Errno::CONNREFUSED, Errno::NETUNREACH, Errno::ADDRNOTAVAIL]),
    (Fault::Close, "close", &[Errno::INTR, Errno::IO]),
    (Fault::Panic, "panic", &[]),
    (Fault::Leak, "leak", &[]),
    (Fault::ForeignWrite, "foreign-write", &[]),
    (Fault::Cycle, "cycle", &[]),
    (Fault::DoubleRelease, "double-release", &[]),
    (Fault::FdReplaced, "fd-replaced", &[]),
    (Fault::FinalizerPanic, "finalizer-panic", &[]),
];

pub(super) const KINDS: usize = TABLE.len();

/// The maximum rate of faults after which a call is repeated at once: ten attempts on average. A call
/// that is always interrupted, or never ready, does not end.
const RETRIED_RATE_MAX: f64 = 0.9;

/// The name for all kinds of system call faults at once.
const EVERYTHING: &str = "all";

/// Tolerance for the sum of rates, as ten times 0.1 is not exactly 1.
const ROUNDING: f64 = 1e-9;

/// What faults strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Syscalls,
    Connections,
}

impl Target {
    fn of(fault: Fault) -> Target {
        if fault as usize >= Fault::Panic as usize { Target::Connections } else { Target::Syscalls }
    }

    /// Its kinds of faults, in the order in which they are listed.
    pub(crate) fn faults(self) -> impl Iterator<Item = Fault> {
        TABLE.iter().map(|&(fault, ..)| fault).filter(move |&fault| Target::of(fault) == self)
    }
}

impl Fault {
    /// The name of the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The errors that the kernel could return; a call gets one of them.
    pub(super) fn errors(self) -> &'static [Errno] {
        TABLE[self as usize].2
    }

    fn rate_max(self) -> f64 {
        if matches!(self, Fault::Interrupt | Fault::Again) { RETRIED_RATE_MAX } else { 1.0 }
    }
}

/// The rate of each kind, from 0 to 1. Written as `read=0.01,short=0.2`; kinds that are not named have
/// the rate 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FaultRates([f64; KINDS]);

impl FaultRates {
    /// Parses rates of system call faults; `all=0.01` sets all of them.
    ///
    /// # Errors
    /// The text is invalid. The message contains what is expected.
    pub(crate) fn of_syscalls(text: &str) -> Result<FaultRates, InputError> {
        FaultRates::parse(text, Target::Syscalls, Some(EVERYTHING))
    }

    /// Parses rates of connection faults. A connection has at most one, so the sum is at most 1.
    ///
    /// # Errors
    /// The text is invalid. The message contains what is expected.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn of_connections(text: &str) -> Result<FaultRates, InputError> {
        let rates = FaultRates::parse(text, Target::Connections, None)?;
        let sum: f64 = rates.0.iter().sum();
        if sum > 1.0 + ROUNDING {
            return Err(InputError::new(format!(
                "the rates add up to {sum}, expected at most 1: a connection has at most one fault"
            )));
        }
        Ok(rates)
    }

    fn parse(
        text: &str,
        target: Target,
        everything: Option<&'static str>,
    ) -> Result<FaultRates, InputError> {
        let mut rates = [None; KINDS];
        for part in text.split(',') {
            let Some((name, rate)) = part.split_once('=') else {
                return Err(InputError::new(format!("`{part}` is not of the form KIND=RATE")));
            };
            let is_named = |fault: &Fault| fault.name() == name || everything == Some(name);
            let named = || target.faults().filter(is_named);
            let Some(rate_max) = named().map(Fault::rate_max).reduce(f64::min) else {
                let names: Vec<&str> = target.faults().map(Fault::name).chain(everything).collect();
                return Err(InputError::new(format!(
                    "unknown fault `{name}`, expected one of: {}",
                    names.join(", ")
                )));
            };
            // NaN is out of bounds, too.
            let rate = rate.parse::<f64>().ok().filter(|rate| (0.0..=rate_max).contains(rate));
            let rate = rate.ok_or_else(|| {
                InputError::new(format!("`{part}`: this rate is a number from 0 to {rate_max}"))
            })?;
            for fault in named() {
                if rates[fault as usize].replace(rate).is_some() {
                    return Err(InputError::new(format!("`{}` has two rates", fault.name())));
                }
            }
        }
        Ok(FaultRates(rates.map(Option::unwrap_or_default)))
    }

    /// The share of candidates that get this kind of fault.
    pub(super) fn rate(&self, fault: Fault) -> f64 {
        self.0[fault as usize]
    }
}

/// In the syntax of options, in the order of [`Fault`].
impl fmt::Display for FaultRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for ((_, name, _), rate) in TABLE.iter().zip(self.0).filter(|&(_, rate)| rate > 0.0) {
            write!(f, "{separator}{name}={rate}")?;
            separator = ",";
        }
        Ok(())
    }
}

/// The number of faults, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultCounts {
    target: Target,
    counts: [u64; KINDS],
}

impl FaultCounts {
    /// The counts that `count` returns for each kind of the target.
    pub(crate) fn by(target: Target, count: impl Fn(Fault) -> u64) -> FaultCounts {
        let mut counts = [0; KINDS];
        target.faults().for_each(|fault| counts[fault as usize] = count(fault));
        FaultCounts { target, counts }
    }

    /// The number of faults of all kinds.
    #[must_use]
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The kinds that occurred: `3 read, 1 thread`; `none` without any.
impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for ((_, name, _), count) in TABLE.iter().zip(self.counts).filter(|&(_, count)| count > 0) {
            write!(f, "{separator}{count} {name}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// An object with a key for every kind.
#[cfg(feature = "json")]
impl serde::Serialize for FaultCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = |fault: Fault| fault.name().replace('-', "_");
        serializer.collect_map(
            self.target.faults().map(|fault| (key(fault), self.counts[fault as usize])),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTIONS: &str = "panic=0.1,leak=0.1,foreign-write=0.1,cycle=0.1,double-release=0.1,fd-replaced=0.1,finalizer-panic=0.1";

    fn connections(text: &str) -> Result<String, String> {
        let rates = FaultRates::of_connections(text).map_err(|error| error.to_string())?;
        Ok(rates.to_string())
    }

    fn syscalls(text: &str) -> Result<String, String> {
        let rates = FaultRates::of_syscalls(text).map_err(|error| error.to_string())?;
        Ok(rates.to_string())
    }

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (index, (fault, ..)) in TABLE.iter().enumerate() {
            assert_eq!(*fault as usize, index);
        }
        assert_eq!(Target::Syscalls.faults().last(), Some(Fault::Close));
        assert_eq!(Target::Connections.faults().next(), Some(Fault::Panic));
    }

    #[test]
    fn rates_are_read_by_name_in_any_order_and_displayed_alike() {
        assert_eq!(connections(CONNECTIONS).unwrap(), CONNECTIONS);
        assert_eq!(connections("leak=0.25,panic=0.75,cycle=0").unwrap(), "panic=0.75,leak=0.25");
        assert_eq!(syscalls("write=1,read=0.25").unwrap(), "read=0.25,write=1");
        let all = FaultRates::of_syscalls("all=0.01").unwrap();
        assert!(Target::Syscalls.faults().all(|fault| all.rate(fault) == 0.01));
        assert_eq!(all.rate(Fault::Panic), 0.0);
    }

    #[test]
    fn invalid_rates_are_rejected_with_what_is_expected() {
        let error = |text: &str| connections(text).unwrap_err();
        let kinds =
            "panic, leak, foreign-write, cycle, double-release, fd-replaced, finalizer-panic";
        for name in ["leek", "all", "read"] {
            let expected = format!("unknown fault `{name}`, expected one of: {kinds}");
            assert_eq!(error(&format!("{name}=0.1")), expected);
        }
        for (text, part) in [("leak", "leak"), ("", ""), ("leak=0.1,", "")] {
            assert_eq!(error(text), format!("`{part}` is not of the form KIND=RATE"));
        }
        for rate in ["often", "", "-0.1", "1.1", "NaN", "inf"] {
            let expected = format!("`panic={rate}`: this rate is a number from 0 to 1");
            assert_eq!(error(&format!("panic={rate}")), expected);
        }
        assert_eq!(error("leak=0.1,leak=0.2"), "`leak` has two rates");
        assert_eq!(
            error("leak=0.75,panic=0.5"),
            "the rates add up to 1.25, expected at most 1: a connection has at most one fault"
        );
        assert_eq!(syscalls("all=0.1,short=0.2").unwrap_err(), "`short` has two rates");
        assert!(syscalls("panic=1").unwrap_err().ends_with("connect, close, all"));
    }

    #[test]
    fn a_call_that_is_repeated_at_once_does_not_fail_every_time() {
        for kind in ["interrupt", "again", "all"] {
            let expected = format!("`{kind}=1`: this rate is a number from 0 to 0.9");
            assert_eq!(syscalls(&format!("{kind}=1")).unwrap_err(), expected);
        }
    }

    #[test]
    fn display_lists_the_faults_that_occurred() {
        let count = |fault| match fault {
            Fault::Panic => 3,
            Fault::FdReplaced => 1,
            _ => 0,
        };
        let counts = FaultCounts::by(Target::Connections, count);
        assert_eq!((counts.to_string(), counts.total()), ("3 panic, 1 fd-replaced".into(), 4));
        assert_eq!(FaultCounts::by(Target::Syscalls, count).to_string(), "none");
    }
}
