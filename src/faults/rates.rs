//! Rates by name, as options write them: `panic=0.1,leak=0.05`.
//!
//! The caller defines the names and their maximum rates: system call faults here, and connection faults in
//! the chaos of the echo.

use std::fmt;

use echown_report::InputError;

/// Parses rates by name. Other names have the rate 0; the name `everything`, if there is one, sets all
/// rates.
///
/// `known` contains each name with its maximum rate.
///
/// # Errors
/// The text is invalid. The message contains what is expected.
pub(crate) fn parse<const N: usize>(
    text: &str,
    known: [(&str, f64); N],
    everything: Option<&str>,
) -> Result<[f64; N], InputError> {
    let mut rates = [None; N];
    for part in text.split(',') {
        let Some((name, rate)) = part.split_once('=') else {
            return Err(InputError::new(format!("`{part}` is not of the form KIND=RATE")));
        };
        let is_named = |known: &str| known == name || everything == Some(name);
        let maxima =
            known.iter().filter(|(known, _)| is_named(known)).map(|&(_, rate_max)| rate_max);
        let Some(rate_max) = maxima.reduce(f64::min) else {
            let names: Vec<&str> =
                known.iter().map(|&(known, _)| known).chain(everything).collect();
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
        for (slot, (known, _)) in rates.iter_mut().zip(known) {
            if is_named(known) && slot.replace(rate).is_some() {
                return Err(InputError::new(format!("`{known}` has two rates")));
            }
        }
    }
    Ok(rates.map(Option::unwrap_or_default))
}

/// Writes rates in the syntax of options.
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

/// Writes the counts above zero: `3 panic, 1 leak`; `none` if there is none.
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
    fn invalid_rates_are_rejected_with_what_is_expected() {
        let error = |text: &str| read(text).unwrap_err();
        assert_eq!(error("leek=0.1"), "unknown fault `leek`, expected one of: panic, leak, all");
        for (text, part) in [("leak", "leak"), ("", ""), ("leak=0.1,", "")] {
            assert_eq!(error(text), format!("`{part}` is not of the form KIND=RATE"));
        }
        for rate in ["often", "", "-0.1", "1.1", "NaN", "inf"] {
            let expected = format!("`panic={rate}`: this rate is a number from 0 to 1");
            assert_eq!(error(&format!("panic={rate}")), expected);
        }
        for name in ["leak", "all"] {
            let expected = format!("`{name}=1`: this rate is a number from 0 to 0.5");
            assert_eq!(error(&format!("{name}=1")), expected);
        }
        assert_eq!(error("leak=0.1,leak=0.2"), "`leak` has two rates");
        assert_eq!(error("all=0.1,leak=0.2"), "`leak` has two rates");
    }
}
