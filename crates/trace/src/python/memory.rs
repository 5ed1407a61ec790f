//! Bounded reads of another process's memory.

/// The memory of a traced process.
///
/// A closure that copies memory to a slice and returns how many bytes it could read is a `Memory`.
pub trait Memory {
    /// Copies the memory at `address` to the buffer. Returns how many bytes from its start are filled.
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize;

    /// Copies `size` bytes from each address to the buffer, one part after the other. Returns how many
    /// bytes from the buffer's start are filled; the first part that cannot be read ends it.
    ///
    /// One system call with many parts takes a third of the time of one call for each part.
    fn read_parts(&mut self, addresses: &[u64], size: usize, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        for (address, part) in addresses.iter().zip(buffer.chunks_exact_mut(size.max(1))) {
            let count = self.read(*address, part);
            filled += count.min(size);
            if count < size {
                break;
            }
        }
        filled
    }
}

impl<F: FnMut(u64, &mut [u8]) -> usize> Memory for F {
    fn read(&mut self, address: u64, buffer: &mut [u8]) -> usize {
        self(address, buffer)
    }
}

/// Fills the whole buffer, or returns `None`.
pub(super) fn fill(memory: &mut dyn Memory, address: u64, buffer: &mut [u8]) -> Option<()> {
    (address != 0 && memory.read(address, buffer) == buffer.len()).then_some(())
}

/// Reads a 64-bit number.
pub(super) fn word(memory: &mut dyn Memory, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    fill(memory, address, &mut bytes)?;
    Some(u64::from_le_bytes(bytes))
}

/// The 64-bit number at an offset of bytes that were read.
pub(super) fn word_at(bytes: &[u8], offset: usize) -> Option<u64> {
    let end = offset.checked_add(8)?;
    Some(u64::from_le_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// The 32-bit number at an offset of bytes that were read.
pub(super) fn half_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(offset..end)?.try_into().ok()?))
}
