//! Rates by name, as options write them: `panic=0.1,leak=0.05`.
//!
//! What is named, and how high its rate may be, is for whoever has a plan to say: the system calls' faults
//! here, the connections' faults of the echo.

use std::fmt;

/// Reads rates by name; what is not named has the rate 0, and `everything` names all, if there is such
/// a word.
///
/// `known` has each name with its highest rate.
///
/// # Errors
/// What is wrong, and what was expected.
pub(crate) fn parse<const N: usize>(
    text: &str,
    known: [(&str, f64); N],
    everything: Option<&str>,
) -> Result<[f64; N], PlanError> {
    let mut rates = [None; N];
    for part in text.split(',') {
        let Some((name, rate)) = part.split_once('=') else {
            return Err(PlanError(format!("`{part}` is not of the form KIND=RATE")));
        };
        let is_meant = |known: &str| known == name || everything == Some(name);
        let maxima =
            known.iter().filter(|(known, _)| is_meant(known)).map(|&(_, rate_max)| rate_max);
        let Some(rate_max) = maxima.reduce(f64::min) else {
            let names: Vec<&str> =
                known.iter().map(|&(known, _)| known).chain(everything).collect();
            return Err(PlanError(format!(
                "unknown fault `{name}`, expected one of: {}",
                names.join(", ")
            )));
        };
        // What is no number at all is out of bounds, too.
        let rate = rate.parse::<f64>().ok().filter(|rate| (0.0..=rate_max).contains(rate));
        let rate = rate.ok_or_else(|| {
            PlanError(format!("`{part}`: this rate is a number from 0 to {rate_max}"))
        })?;
        for (slot, (known, _)) in rates.iter_mut().zip(known) {
            if is_meant(known) && slot.replace(rate).is_some() {
                return Err(PlanError(format!("`{known}` has two rates")));
            }
        }
    }
    Ok(rates.map(Option::unwrap_or_default))
}

/// As it could have been written.
pub(crate) fn write_rates<'a>(
    f: &mut fmt::Formatter<'_>,
    rates: impl Iterator<Item = (&'a str, f64)>,
) -> fmt::Result {
    let mut separator = "";
    for (name, rate) in rates.filter(|&(_, rate)| rate > 0.0) {
        write!(f, "{separator}{name}={rate}")?;
        separator = ",";
    }
    Ok(())
}

/// What occurred: `3 panic, 1 leak`; `none` if nothing did.
pub(crate) fn write_counts<'a>(
    f: &mut fmt::Formatter<'_>,
    counts: impl Iterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let mut separator = "";
    for (name, count) in counts.filter(|&(_, count)| count > 0) {
        write!(f, "{separator}{count} {name}")?;
        separator = ", ";
    }
    if separator.is_empty() { f.write_str("none") } else { Ok(()) }
}

/// What is wrong with a plan as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError(String);

impl PlanError {
    pub(crate) fn new(text: String) -> PlanError {
        PlanError(text)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<[f64; 2], String> {
        parse(text, [("panic", 1.0), ("leak", 0.5)], Some("all")).map_err(|error| error.to_string())
    }

    #[test]
    fn rates_are_read_by_name_in_any_order() {
        assert_eq!(read("leak=0.25,panic=1"), Ok([1.0, 0.25]));
        assert_eq!(read("panic=0"), Ok([0.0, 0.0]));
        assert_eq!(read("all=0.5"), Ok([0.5, 0.5]));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_was_expected() {
        let refused = |text: &str| read(text).unwrap_err();
        assert_eq!(refused("leek=0.1"), "unknown fault `leek`, expected one of: panic, leak, all");
        for (text, part) in [("leak", "leak"), ("", ""), ("leak=0.1,", "")] {
            assert_eq!(refused(text), format!("`{part}` is not of the form KIND=RATE"));
        }
        for rate in ["often", "", "-0.1", "1.1", "NaN", "inf"] {
            let expected = format!("`panic={rate}`: this rate is a number from 0 to 1");
            assert_eq!(refused(&format!("panic={rate}")), expected);
        }
        for name in ["leak", "all"] {
            let expected = format!("`{name}=1`: this rate is a number from 0 to 0.5");
            assert_eq!(refused(&format!("{name}=1")), expected);
        }
        assert_eq!(refused("leak=0.1,leak=0.2"), "`leak` has two rates");
        assert_eq!(refused("all=0.1,leak=0.2"), "`leak` has two rates");
    }
}
