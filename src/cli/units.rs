//! Values of arguments: numbers, durations, sizes.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;

/// A number of things, at least one.
pub(super) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    NonZeroUsize::new(number).ok_or_else(|| "expected 1 or more".into())
}

/// A time with its unit, as in `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a duration carries a unit, as in `500ms` or `5s`"))?;
    if duration > DURATION_MAX {
        return Err("expected at most 365d".into());
    }
    Ok(duration)
}

/// Longer than any server waits for anything, and no clock overflows by it.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A size in bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = |why: &str| format!("{why}; expected a size such as `65536`, `64KiB` or `16MiB`");
    let size: ByteSize = text.parse().map_err(|error: String| wrong(&error))?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err(wrong("nothing fits into no bytes")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(wrong("no memory is that large")),
    }
}

/// A time that is not over before it begins.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(Duration::ZERO) => Err("expected more than no time at all".into()),
        other => other,
    }
}
