//! Go's own table of functions and lines, which programs keep when their debug information is stripped.
//!
//! The section `.gopclntab`, as Go 1.18 and later write it: a header, then names, files and lines, each
//! found by offsets. Functions that were inlined have no frames of their own: the line is theirs. All
//! offsets are checked, and no list is longer than the section.

use super::protocol::Function;

/// The first four bytes: of Go 1.18, and of Go 1.20 and later.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];

/// The maximum number of steps through a list of lines.
const STEPS_MAX: usize = 1 << 20;

/// The maximum length of a name or path.
const TEXT_MAX: usize = 4096;

/// A table.
pub(super) struct GoTable {
    data: Vec<u8>,
    /// The address of the first function.
    text: u64,
    functions: usize,
    names: usize,
    units: usize,
    files: usize,
    lines: usize,
    /// The list of functions, to which their offsets are relative.
    list: usize,
}

impl GoTable {
    /// A table in the bytes of a section. `text` is the address of `.text`, for programs that are
    /// relocated when they start.
    pub(super) fn new(data: Vec<u8>, text: u64) -> Option<GoTable> {
        let is_known = MAGICS.contains(&number(&data, 0)?) && data.get(7) == Some(&8);
        if !is_known {
            return None;
        }
        let word = |index: usize| {
            let bytes = data.get(8 + index * 8..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let offset = |index| usize::try_from(word(index)?).ok();
        let (functions, start) = (offset(0)?, word(2)?);
        let (names, units, files) = (offset(3)?, offset(4)?, offset(5)?);
        let (lines, list) = (offset(6)?, offset(7)?);
        let text = if start == 0 { text } else { start };
        Some(GoTable { data, text, functions, names, units, files, lines, list })
    }

    /// The function at an address that the file states.
    pub(super) fn find(&self, address: u64) -> Option<Function> {
        let distance = u32::try_from(address.checked_sub(self.text)?).ok()?;
        let start =
            |index: usize| number(&self.data, self.list.checked_add(index.checked_mul(8)?)?);
        // The last function that starts at or before the address; an entry after the last one ends it.
        let (mut low, mut high) = (0, self.functions.min(self.data.len() / 8));
        while low < high {
            let middle = low + (high - low) / 2;
            if start(middle)? <= distance { low = middle + 1 } else { high = middle }
        }
        let index = low.checked_sub(1)?;
        if distance >= start(index + 1)? {
            return None;
        }
        let entry = number(&self.data, self.list + index * 8 + 4)? as usize;
        let function = self.list.checked_add(entry)?;
        let field = |index: usize| number(&self.data, function.checked_add(index * 4)?);
        let first = field(0)?;
        let name = self.text_at(self.names, field(1)?)?;
        let value = |list: u32| self.value(list, distance.checked_sub(first)?);
        let line = value(field(6)?).and_then(|line| u32::try_from(line).ok());
        let file = value(field(5)?).and_then(|file| {
            let unit = u32::try_from(file).ok()?.checked_add(field(8)?)? as usize;
            let offset = number(&self.data, self.units.checked_add(unit.checked_mul(4)?)?)?;
            self.text_at(self.files, offset)
        });
        Some(Function { name, file, line: line.unwrap_or(0), column: 0 })
    }

    /// The value for a distance from the start of the function: pairs of changes of value and address.
    fn value(&self, list: u32, distance: u32) -> Option<i64> {
        let mut rest = self.data.get(self.lines.checked_add(list as usize)?..)?;
        let (mut value, mut end) = (-1_i64, 0_u64);
        for step in 0..STEPS_MAX {
            let change = variable(&mut rest)?;
            if change == 0 && step > 0 {
                return None;
            }
            let change = (change >> 1) as i64 ^ -((change & 1) as i64);
            value = value.checked_add(change)?;
            end = end.checked_add(variable(&mut rest)?)?;
            if u64::from(distance) < end {
                return Some(value);
            }
        }
        None
    }

    fn text_at(&self, list: usize, offset: u32) -> Option<String> {
        let bytes = self.data.get(list.checked_add(offset as usize)?..)?;
        let end = bytes.iter().take(TEXT_MAX).position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

fn number(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*data.get(at..)?.first_chunk()?))
}

/// A number of seven bits in each byte, the lowest first.
fn variable(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table with the functions `main.a` at 0x1000 and `main.b` at 0x1020, up to 0x1040.
    fn table() -> Vec<u8> {
        let mut data = MAGICS[1].to_le_bytes().to_vec();
        data.extend_from_slice(&[0, 0, 1, 8]);
        let (names, units, files, lines, list) = (72, 88, 96, 112, 128);
        for word in [2, 1, 0x1000, names, units, files, lines, list] {
            data.extend_from_slice(&u64::to_le_bytes(word));
        }
        let mut put = |at: u64, bytes: &[u8]| {
            data.resize(data.len().max(at as usize), 0);
            data.extend_from_slice(bytes);
        };
        put(names, b"main.a\0main.b\0");
        put(units, &0u32.to_le_bytes());
        put(files, b"/src/main.go\0");
        // File 0 of the unit for 32 bytes; line 7 for 16 bytes, then line 9.
        put(lines, &[2, 32, 0, 16, 16, 4, 16, 0]);
        for word in [0u32, 24, 0x20, 60, 0x40, 0] {
            put(list, &word.to_le_bytes());
        }
        for (start, name) in [(0, 0), (0x20, 7)] {
            for word in [start, name, 0, 0, 0, 0, 3, 0, 0u32] {
                put(list, &word.to_le_bytes());
            }
        }
        data
    }

    #[test]
    fn a_function_has_its_file_and_the_line_of_the_address() {
        let table = GoTable::new(table(), 0).unwrap();
        let found = |address| table.find(address).map(|it| (it.name, it.file, it.line));
        let expected = |name: &str, line| Some((name.into(), Some("/src/main.go".into()), line));
        assert_eq!(found(0x1000), expected("main.a", 7));
        assert_eq!(found(0x101f), expected("main.a", 9));
        assert_eq!(found(0x1030), expected("main.b", 9));
        assert_eq!(found(0x1040), None);
        assert_eq!(found(0xfff), None);
    }

    #[test]
    fn damaged_tables_name_nothing_wrong_and_do_not_panic() {
        let whole = table();
        (0..whole.len()).for_each(|length| {
            if let Some(table) = GoTable::new(whole[..length].to_vec(), 0) {
                table.find(0x1030);
            }
        });
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..2000 {
            let mut bytes = whole.clone();
            let at = random.usize(8..bytes.len());
            bytes[at] = random.u8(..);
            if let Some(table) = GoTable::new(bytes, 0) {
                table.find(0x1000 + random.u64(..0x40));
            }
        }
    }
}
