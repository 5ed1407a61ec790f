//! Memory of another process.

/// Copies memory of a process, and returns how many bytes could be read from the start of the range:
/// fewer if a part of it is not mapped.
pub fn read(process: i32, address: u64, to: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: to.len() };
    // SAFETY: the local vector is the slice, which is borrowed for the call; the kernel checks the remote
    // addresses, and writes at most the length of the local vector.
    let read = unsafe { libc::process_vm_readv(process, &local, 1, &remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}

/// Reads a number of eight bytes.
pub fn word(process: i32, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    (read(process, address, &mut bytes) == 8).then(|| u64::from_ne_bytes(bytes))
}
