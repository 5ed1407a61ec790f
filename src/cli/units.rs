//! Parsers of argument values: numbers, durations, sizes.
//!
//! The error for an invalid value names what is expected, in this program's words: the errors of the
//! parsing libraries name their own types.
//!
//! One rule for zero durations: where the program itself waits (a pause, a drain, a warm-up), 0 means not
//! to wait. A limit on a peer ([`timeout`]) is more than 0, because 0 would end every connection.

use std::fmt::Display;
use std::net::IpAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use echown_fd::escape;

/// The message of a parser's error, which may repeat the user's text; that text is escaped.
pub(super) fn escaped(error: impl Display) -> String {
    escape::text(&error.to_string()).into_owned()
}

/// One of several words.
pub(super) fn one_of<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}

/// A non-negative integer.
pub(super) fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| match is_whole(text) {
        true => "the number is too large".into(),
        false => "expected a whole number, 0 or more".into(),
    })
}

/// A positive count.
pub(super) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    let number: u64 = positive(text)?.get();
    let number = usize::try_from(number).ok().and_then(NonZeroUsize::new);
    number.ok_or_else(|| "the number is too large".into())
}

/// A positive integer.
pub(super) fn positive(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| match is_whole(text) && text.bytes().any(|byte| byte != b'0') {
        true => "the number is too large".into(),
        false => "expected a whole number, 1 or more".into(),
    })
}

fn is_whole(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A process ID.
pub(super) fn process(text: &str) -> Result<i32, String> {
    text.parse::<i32>()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "expected a process ID, such as `4711`".into())
}

/// A processor number.
pub(super) fn processor(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected CPU numbers, such as `0` or `0,2`".into())
}

/// A local IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address without a port, such as `127.0.0.2`".into())
}

/// A duration with its unit, as in `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|_| DURATION_EXPECTED)?;
    if duration > DURATION_MAX {
        return Err("expected at most 365d".into());
    }
    Ok(duration)
}

const DURATION_EXPECTED: &str = "expected a duration with a unit, such as `500ms`, `5s` or `1h30m`";

/// Longer than any useful wait, and within the range of clocks.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A size in bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<usize, String> {
    const EXPECTED: &str = "expected a size such as `65536`, `64KiB` or `16MiB`";
    let size: ByteSize = text.parse().map_err(|_| EXPECTED)?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err(format!("size must be at least 1 byte; {EXPECTED}")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(format!("size exceeds the address space; {EXPECTED}")),
    }
}

/// A timeout for a peer.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    more_than_zero(text, "timeout must be greater than 0")
}

/// The duration of a measurement.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    more_than_zero(text, "duration must be greater than 0")
}

fn more_than_zero(text: &str, why: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err(why.into()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_value_is_rejected_with_what_is_expected() {
        let whole = "expected a whole number, 1 or more";
        for text in ["", "x", "-1", "1e3", "1k", "0", "00", " 1"] {
            assert_eq!(at_least_one(text).unwrap_err(), whole, "{text}");
        }
        assert_eq!(at_least_one(&"9".repeat(30)).unwrap_err(), "the number is too large");
        assert_eq!(at_least_one("17").unwrap().get(), 17);
        for text in ["", "x", "-1"] {
            let error = number::<u64>(text).unwrap_err();
            assert_eq!(error, "expected a whole number, 0 or more", "{text}");
        }
        assert_eq!(number::<u64>(&"9".repeat(30)).unwrap_err(), "the number is too large");
        for text in ["", "x", "5", "-1s"] {
            assert_eq!(duration(text).unwrap_err(), DURATION_EXPECTED, "{text}");
        }
        for text in ["", "x", "1.5", "-5", "5zb", "99999999999999999999"] {
            let error = size(text).unwrap_err();
            assert!(error.ends_with("expected a size such as `65536`, `64KiB` or `16MiB`"));
            assert!(!error.contains("parse"), "{error}");
        }
    }

    #[test]
    fn a_duration_of_0_means_no_waiting_and_is_no_limit_for_a_peer() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for text in ["0", "0s", "0ms"] {
            let error = timeout(text).unwrap_err();
            assert_eq!(error, "timeout must be greater than 0");
        }
        assert_eq!(timeout("1ms"), Ok(Duration::from_millis(1)));
    }
}
