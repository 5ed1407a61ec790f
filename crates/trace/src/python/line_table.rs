//! The line table of a code object (`co_linetable`) of CPython 3.11 and later.
//!
//! The format is described in CPython's `Objects/locations.md` (3.11 to 3.13) and
//! `InternalDocs/code_objects.md`: entries of one byte `1CCCCLLL` and a payload. `LLL` is the number of
//! code units (2 bytes) minus one, `CCCC` says what the payload is. Columns are skipped.

/// A run of instructions of one line: it lasts to the start of the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The first code unit.
    pub start: u32,
    /// The line, counted from 1; 0 when the instructions belong to no line.
    pub line: u32,
}

/// Decodes a table. What follows a defect is left out: the table comes from another process.
pub(super) fn decode(table: &[u8], first_line: u32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut bytes = table.iter().copied();
    let mut line = i64::from(first_line);
    let mut unit = 0u32;
    while let Some(first) = bytes.next() {
        let Some(shown) = entry(first, &mut bytes, &mut line) else { break };
        if runs.last().is_none_or(|run| run.line != shown) {
            runs.push(Run { start: unit, line: shown });
        }
        unit = unit.saturating_add(u32::from(first & 7) + 1);
    }
    // The end: what lies behind it belongs to no line.
    runs.push(Run { start: unit, line: 0 });
    runs
}

/// The line of a code unit; 0 when not known.
pub(super) fn line_of(runs: &[Run], unit: u32) -> u32 {
    let after = runs.partition_point(|run| run.start <= unit);
    after.checked_sub(1).map_or(0, |index| runs[index].line)
}

/// Reads the payload of an entry, moves `line`, and returns the line that the entry shows.
fn entry(first: u8, bytes: &mut impl Iterator<Item = u8>, line: &mut i64) -> Option<u32> {
    if first & 0x80 == 0 {
        return None;
    }
    match (first >> 3) & 15 {
        // Short forms: the same line and a byte of columns.
        0..=9 => {
            bytes.next()?;
        }
        // One line: the difference is part of the code, two bytes are columns.
        code @ 10..=12 => {
            *line += i64::from(code - 10);
            bytes.next()?;
            bytes.next()?;
        }
        // No columns.
        13 => *line += signed(bytes)?,
        // The long form: a difference, the last line, the columns.
        14 => {
            *line += signed(bytes)?;
            for _ in 0..3 {
                unsigned(bytes)?;
            }
        }
        // No line at all.
        _ => return Some(0),
    }
    Some(u32::try_from(*line).unwrap_or(0))
}

/// Six bits in each byte, the lowest first; bit 6 says that another byte follows.
fn unsigned(bytes: &mut impl Iterator<Item = u8>) -> Option<u32> {
    let mut value = 0u32;
    // Six bytes hold 32 bits.
    for shift in (0..36).step_by(6) {
        let byte = bytes.next()?;
        value |= u32::from(byte & 63).checked_shl(shift).unwrap_or(0);
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

/// The sign is the lowest bit.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = unsigned(bytes)?;
    let size = i64::from(value >> 1);
    Some(if value & 1 == 0 { size } else { -size })
}

#[cfg(test)]
mod tests;
