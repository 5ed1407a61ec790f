//! How often system calls are struck, and by what; which ones they are.

use std::fmt;
use std::str::FromStr;

use super::rates::{self, PlanError};

/// A kind of fault at the border to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A call is interrupted before it has done anything.
    Interrupt,
    /// A read or write moves fewer bytes than it could.
    Short,
    /// A call that was told not to wait finds that it would have to.
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
    /// A close tells an error when it is over.
    Close,
}

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Kind; 9] = [
        Kind::Interrupt,
        Kind::Short,
        Kind::Again,
        Kind::Accept,
        Kind::Thread,
        Kind::Read,
        Kind::Write,
        Kind::Connect,
        Kind::Close,
    ];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Interrupt => "interrupt",
            Kind::Short => "short",
            Kind::Again => "again",
            Kind::Accept => "accept",
            Kind::Thread => "thread",
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Connect => "connect",
            Kind::Close => "close",
        }
    }

    /// The highest rate. A call that is always interrupted, or told to wait, never ends.
    fn rate_max(self) -> f64 {
        match self {
            Kind::Interrupt | Kind::Again => RETRIED_RATE_MAX,
            _ => 1.0,
        }
    }
}

/// The highest rate of what is tried again at once: on average ten tries.
const RETRIED_RATE_MAX: f64 = 0.9;

/// How often calls were struck, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Struck {
    /// [`Kind::Interrupt`].
    pub interrupt: u64,
    /// [`Kind::Short`].
    pub short: u64,
    /// [`Kind::Again`].
    pub again: u64,
    /// [`Kind::Accept`].
    pub accept: u64,
    /// [`Kind::Thread`].
    pub thread: u64,
    /// [`Kind::Read`].
    pub read: u64,
    /// [`Kind::Write`].
    pub write: u64,
    /// [`Kind::Connect`].
    pub connect: u64,
    /// [`Kind::Close`].
    pub close: u64,
}

impl Struck {
    /// What `count` answers for each kind.
    pub(super) fn by(count: impl Fn(Kind) -> u64) -> Struck {
        Struck {
            interrupt: count(Kind::Interrupt),
            short: count(Kind::Short),
            again: count(Kind::Again),
            accept: count(Kind::Accept),
            thread: count(Kind::Thread),
            read: count(Kind::Read),
            write: count(Kind::Write),
            connect: count(Kind::Connect),
            close: count(Kind::Close),
        }
    }

    /// How often calls were struck by one kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Interrupt => self.interrupt,
            Kind::Short => self.short,
            Kind::Again => self.again,
            Kind::Accept => self.accept,
            Kind::Thread => self.thread,
            Kind::Read => self.read,
            Kind::Write => self.write,
            Kind::Connect => self.connect,
            Kind::Close => self.close,
        }
    }

    /// How often calls were struck at all.
    #[must_use]
    pub fn total(&self) -> u64 {
        Kind::ALL.iter().map(|&kind| self.of(kind)).sum()
    }
}

/// The kinds that occurred: `3 read, 1 thread`; `none` without any.
impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        rates::write_counts(f, Kind::ALL.iter().map(|&kind| (kind.name(), self.of(kind))))
    }
}

/// The word for every kind at once.
const EVERYTHING: &str = "all";

/// How likely each kind is. Written as `read=0.01,short=0.2`; what is not named does not happen, and
/// `all=0.01` names all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order of [`Kind::ALL`].
    rates: [f64; Kind::ALL.len()],
}

impl Plan {
    /// The share of calls that a kind strikes, of those that it can.
    #[must_use]
    pub fn rate(&self, kind: Kind) -> f64 {
        self.rates[kind as usize]
    }
}

/// What decides about one call: the one before which `before` others could be struck by this kind.
pub(super) fn random(seed: u64, kind: Kind, before: u64) -> fastrand::Rng {
    // Neighbouring seeds and kinds must not mean the same draws, shifted: what the two draw first is
    // the number that the calls are counted from.
    let mut first = fastrand::Rng::with_seed(seed);
    let mut start = 0;
    for _ in 0..=kind as usize {
        start = first.u64(..);
    }
    fastrand::Rng::with_seed(start.wrapping_add(before))
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Plan, PlanError> {
        let known = Kind::ALL.map(|kind| (kind.name(), kind.rate_max()));
        Ok(Plan { rates: rates::parse(text, known, Some(EVERYTHING))? })
    }
}

/// As it could have been written, in the order of [`Kind::ALL`].
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        rates::write_rates(f, Kind::ALL.iter().map(|&kind| (kind.name(), self.rate(kind))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_is_written_and_all_names_every_kind() {
        let plan: Plan = "write=0.5,read=0.25".parse().unwrap();
        assert_eq!(plan.to_string(), "read=0.25,write=0.5");
        let plan: Plan = "all=0.01".parse().unwrap();
        assert!(Kind::ALL.iter().all(|&kind| plan.rate(kind) == 0.01));
    }

    #[test]
    fn what_is_tried_again_at_once_is_not_struck_every_time() {
        for kind in ["interrupt", "again", "all"] {
            let refused = format!("{kind}=1").parse::<Plan>().unwrap_err().to_string();
            assert_eq!(refused, format!("`{kind}=1`: this rate is a number from 0 to 0.9"));
        }
        assert!("short=1,read=1".parse::<Plan>().is_ok());
    }
}
