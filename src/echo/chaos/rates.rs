//! Fault rates of chaos, and the draw of the fault for each connection.

use std::fmt;
use std::str::FromStr;

use echown_report::InputError;

use crate::faults::rates as fault_rates;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub(crate) enum Fault {
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

impl Fault {
    /// All kinds, in the order in which they are listed.
    pub(crate) const ALL: [Fault; 7] = [
        Fault::Panic,
        Fault::Leak,
        Fault::ForeignWrite,
        Fault::Cycle,
        Fault::DoubleRelease,
        Fault::FdReplaced,
        Fault::FinalizerPanic,
    ];

    /// The word for it.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Panic => "panic",
            Fault::Leak => "leak",
            Fault::ForeignWrite => "foreign-write",
            Fault::Cycle => "cycle",
            Fault::DoubleRelease => "double-release",
            Fault::FdReplaced => "fd-replaced",
            Fault::FinalizerPanic => "finalizer-panic",
        }
    }
}

/// Number of faults, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FaultCounts {
    /// Panics in the middle of an exchange.
    pub panic: u64,
    /// Forgotten handles.
    pub leak: u64,
    /// Writes by a task that does not own the descriptor.
    pub foreign_write: u64,
    /// Cycles of references that keep the handle.
    pub cycle: u64,
    /// Second releases.
    pub double_release: u64,
    /// Descriptors that were replaced outside the registry.
    pub fd_replaced: u64,
    /// Finalizers that panic.
    pub finalizer_panic: u64,
}

impl FaultCounts {
    /// Calls `count` for each kind.
    #[must_use]
    pub(crate) fn from_fn(count: impl Fn(Fault) -> u64) -> FaultCounts {
        FaultCounts {
            panic: count(Fault::Panic),
            leak: count(Fault::Leak),
            foreign_write: count(Fault::ForeignWrite),
            cycle: count(Fault::Cycle),
            double_release: count(Fault::DoubleRelease),
            fd_replaced: count(Fault::FdReplaced),
            finalizer_panic: count(Fault::FinalizerPanic),
        }
    }

    /// Number of faults of one kind.
    #[must_use]
    pub(crate) fn get(&self, fault: Fault) -> u64 {
        match fault {
            Fault::Panic => self.panic,
            Fault::Leak => self.leak,
            Fault::ForeignWrite => self.foreign_write,
            Fault::Cycle => self.cycle,
            Fault::DoubleRelease => self.double_release,
            Fault::FdReplaced => self.fd_replaced,
            Fault::FinalizerPanic => self.finalizer_panic,
        }
    }

    /// Number of faults of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        Fault::ALL.iter().map(|&fault| self.get(fault)).sum()
    }
}

/// The kinds that occurred: `3 panic, 1 leak`; `none` without any.
impl fmt::Display for FaultCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fault_rates::write_counts(
            f,
            Fault::ALL.iter().map(|&fault| (fault.name(), self.get(fault))),
        )
    }
}

/// The rate of each kind. Written as `panic=0.1,leak=0.05`; a kind that is not named has rate 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ChaosRates {
    /// In the order of [`Fault::ALL`]. Each is in 0..=1, and so is their sum.
    rates: [f64; Fault::ALL.len()],
}

/// Tolerance for the sum of rates, as ten times 0.1 is not exactly 1.
const ROUNDING: f64 = 1e-9;

impl ChaosRates {
    /// The fault of the connection before which `before` others were served: at most one.
    #[must_use]
    pub(crate) fn draw(&self, seed: u64, before: u64) -> Option<Fault> {
        // Neighbouring seeds must not give the same draws shifted by one connection: the first number
        // drawn from the seed is the one that connections are counted from.
        let start = fastrand::Rng::with_seed(seed).u64(..);
        let mut left = fastrand::Rng::with_seed(start.wrapping_add(before)).f64();
        for (fault, rate) in Fault::ALL.into_iter().zip(self.rates) {
            if left < rate {
                return Some(fault);
            }
            left -= rate;
        }
        None
    }
}

impl FromStr for ChaosRates {
    type Err = InputError;

    fn from_str(text: &str) -> Result<ChaosRates, InputError> {
        let known = Fault::ALL.map(|fault| (fault.name(), 1.0));
        let rates = fault_rates::parse(text, known, None)?;
        let sum: f64 = rates.iter().sum();
        if sum > 1.0 + ROUNDING {
            let text = format!(
                "the rates add up to {sum}, expected at most 1: a connection has at most one fault"
            );
            return Err(InputError::new(text));
        }
        Ok(ChaosRates { rates })
    }
}

/// As parsed, in the order of [`Fault::ALL`].
impl fmt::Display for ChaosRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Fault::ALL.iter().map(|fault| fault.name());
        fault_rates::write_rates(f, names.zip(self.rates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_KINDS: &str = "panic=0.1,leak=0.1,foreign-write=0.1,cycle=0.1,double-release=0.1,fd-replaced=0.1,finalizer-panic=0.1";

    fn error(text: &str) -> String {
        text.parse::<ChaosRates>().unwrap_err().to_string()
    }

    #[test]
    fn rates_are_parsed_and_displayed_alike() {
        let rates: ChaosRates = ALL_KINDS.parse().unwrap();
        assert_eq!(rates.to_string(), ALL_KINDS);
        assert_eq!("leak=1".parse::<ChaosRates>().unwrap().to_string(), "leak=1");
        assert!("panic=0.9,leak=0.1,foreign-write=0".parse::<ChaosRates>().is_ok());
    }

    #[test]
    fn invalid_rates_are_rejected_with_what_is_expected() {
        let kinds =
            "panic, leak, foreign-write, cycle, double-release, fd-replaced, finalizer-panic";
        assert_eq!(error("leek=0.1"), format!("unknown fault `leek`, expected one of: {kinds}"));
        assert_eq!(error("leak=1.1"), "`leak=1.1`: this rate is a number from 0 to 1");
        assert_eq!(
            error("leak=0.75,panic=0.5"),
            "the rates add up to 1.25, expected at most 1: a connection has at most one fault"
        );
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_one_does_not() {
        let rates: ChaosRates = ALL_KINDS.parse().unwrap();
        let drawn = |seed| (0..1000).map(|before| rates.draw(seed, before)).collect::<Vec<_>>();
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert_ne!(drawn(7)[1..], drawn(8)[..999], "not the same, shifted by one");
    }

    #[test]
    fn each_kind_is_drawn_at_its_rate() {
        let rates: ChaosRates = "panic=0.2,leak=0.3".parse().unwrap();
        let drawn: Vec<Option<Fault>> = (0..10_000).map(|before| rates.draw(1, before)).collect();
        let count = |wanted| drawn.iter().filter(|&&drawn| drawn == wanted).count();
        // Ten standard deviations to either side.
        assert!((1600..2400).contains(&count(Some(Fault::Panic))), "{}", count(Some(Fault::Panic)));
        assert!((2500..3500).contains(&count(Some(Fault::Leak))), "{}", count(Some(Fault::Leak)));
        assert!((4500..5500).contains(&count(None)), "{}", count(None));
    }

    #[test]
    fn a_rate_of_one_selects_every_connection_and_no_rate_selects_none() {
        for fault in Fault::ALL {
            let rates: ChaosRates = format!("{}=1", fault.name()).parse().unwrap();
            assert!((0..1000).all(|before| rates.draw(3, before) == Some(fault)));
        }
        assert!((0..1000).all(|before| ChaosRates::default().draw(3, before).is_none()));
    }

    #[test]
    fn display_lists_the_faults_that_occurred() {
        let faults = FaultCounts { panic: 3, fd_replaced: 1, ..FaultCounts::default() };
        assert_eq!(faults.to_string(), "3 panic, 1 fd-replaced");
        assert_eq!(faults.total(), 4);
        assert_eq!(FaultCounts::default().to_string(), "none");
    }
}
