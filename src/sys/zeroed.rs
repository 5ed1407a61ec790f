//! Zeroed buffers whose allocation can fail.

/// A buffer of zeros, or `None` if the allocation fails. As with `vec![0; bytes]`, pages that are never
/// used are never touched.
pub(crate) fn zeroed(bytes: usize) -> Option<Vec<u8>> {
    let layout = std::alloc::Layout::array::<u8>(bytes).ok().filter(|layout| layout.size() > 0)?;
    // SAFETY: the layout has a size other than zero: filtered above.
    let buffer = unsafe { std::alloc::alloc_zeroed(layout) };
    if buffer.is_null() {
        return None;
    }
    // SAFETY: allocated above by the global allocator with this layout; all bytes are zero, and no other
    // value owns the allocation.
    Some(unsafe { Vec::from_raw_parts(buffer, bytes, bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_no_address_space_holds_is_none() {
        assert_eq!(zeroed(1 << 47), None);
        assert_eq!(zeroed(usize::MAX), None);
        assert_eq!(zeroed(0), None);
        assert_eq!(zeroed(100), Some(vec![0; 100]));
    }
}
