//! The memory of a stack: few large reads instead of one for each word.

/// The first read: most stacks of C programs fit in it.
const FIRST: usize = 2 << 10;

/// The maximum size of the part next to the stack pointer that is kept in one piece.
const NEAR_MAX: usize = 64 << 10;

/// The size of a separate part: of a stack with large arrays, or of another stack.
const PART: usize = 1 << 10;

/// The maximum number of separate parts of one stack.
const PARTS_MAX: usize = 64;

/// A copy of a process's memory. It is reused for the next stack.
pub(super) struct Memory {
    start: u64,
    length: usize,
    /// Nothing more can be read after `length`.
    is_at_end: bool,
    near: Vec<u8>,
    parts: Vec<(u64, usize, Box<[u8; PART]>)>,
    used_parts: usize,
}

/// Copies memory of the process to the slice and returns how many bytes it could read.
pub(super) type Read<'a> = dyn FnMut(u64, &mut [u8]) -> usize + 'a;

impl Memory {
    pub(super) fn new() -> Memory {
        Memory {
            start: 0,
            length: 0,
            is_at_end: false,
            near: vec![0; NEAR_MAX],
            parts: Vec::new(),
            used_parts: 0,
        }
    }

    /// Begins another stack.
    pub(super) fn begin(&mut self, stack_pointer: u64) {
        (self.start, self.length, self.is_at_end) = (stack_pointer, 0, false);
        self.used_parts = 0;
    }

    /// The word at an address.
    pub(super) fn word(&mut self, address: u64, read: &mut Read<'_>) -> Option<u64> {
        address.checked_add(8)?;
        let distance = address.checked_sub(self.start).filter(|it| *it <= NEAR_MAX as u64 - 8);
        let Some(distance) = distance else { return self.far_word(address, read) };
        let distance = distance as usize;
        while self.length < distance + 8 {
            if self.is_at_end {
                return None;
            }
            self.extend(distance + 8, read);
        }
        Some(word(&self.near[distance..]))
    }

    /// `length` bytes from the stack pointer on; fewer if they cannot be read.
    pub(super) fn near(&mut self, length: usize, read: &mut Read<'_>) -> &[u8] {
        let length = length.min(NEAR_MAX);
        if self.length < length && !self.is_at_end {
            self.read_to(length, read);
        }
        &self.near[..self.length.min(length)]
    }

    fn extend(&mut self, needed: usize, read: &mut Read<'_>) {
        let wanted = if self.length == 0 { FIRST } else { self.length * 4 };
        let wanted = wanted.max(needed).min(NEAR_MAX);
        // To the end of a page: the next one costs more than the rest of this one.
        let end = (self.start + wanted as u64).next_multiple_of(4096) - self.start;
        self.read_to((end as usize).min(NEAR_MAX), read);
    }

    fn read_to(&mut self, length: usize, read: &mut Read<'_>) {
        let slice = &mut self.near[self.length..length];
        let count = read(self.start + self.length as u64, slice).min(slice.len());
        self.is_at_end = count < slice.len();
        self.length += count;
    }

    fn far_word(&mut self, address: u64, read: &mut Read<'_>) -> Option<u64> {
        let known = self.parts[..self.used_parts].iter().find_map(|(start, length, bytes)| {
            let distance = usize::try_from(address.checked_sub(*start)?).ok()?;
            (distance + 8 <= *length).then(|| word(&bytes[distance..]))
        });
        if known.is_some() || self.used_parts == PARTS_MAX {
            return known;
        }
        if self.parts.len() == self.used_parts {
            self.parts.push((0, 0, Box::new([0; PART])));
        }
        let (start, length, bytes) = &mut self.parts[self.used_parts];
        *start = address;
        *length = read(address, &mut bytes[..]).min(PART);
        self.used_parts += 1;
        (*length >= 8).then(|| word(&bytes[..]))
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes were asked for"))
}
