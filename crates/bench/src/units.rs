//! Figures with their units, as text.

/// A count with its noun, whose plural ends in s: `1 error`, `2 errors`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A time in microseconds, in a suitable unit.
pub(crate) fn time(micros: f64) -> String {
    match micros {
        micros if micros < 1000.0 => format!("{micros:.1} us"),
        micros if micros < 1_000_000.0 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

/// A number with few digits: `184.2 thousand`.
pub(crate) fn number(number: f64) -> String {
    match number {
        number if number < 10_000.0 => format!("{number:.0}"),
        number if number < 10_000_000.0 => format!("{:.1} thousand", number / 1e3),
        number => format!("{:.1} million", number / 1e6),
    }
}

/// A size of memory.
pub(crate) fn memory(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 * 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        bytes => format!("{:.1} MiB", bytes / 1024.0 / 1024.0),
    }
}
