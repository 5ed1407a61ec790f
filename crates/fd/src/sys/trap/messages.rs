//! The descriptors in messages.

use std::os::fd::RawFd;

/// The control message with a pidfd of the sender, for sockets with SO_PASSPIDFD.
const SCM_PIDFD: libc::c_int = 4;

/// Calls `f` with the numbers that a message contains.
///
/// # Safety
/// `message` is the address of a `msghdr` that `recvmsg` has filled in, or `sendmsg` has sent.
// SAFETY: the caller guarantees it; see above.
pub(super) unsafe fn numbers(message: u64, mut f: impl FnMut(RawFd)) {
    let message = message as *const libc::msghdr;
    // SAFETY: the caller guarantees that the control messages are consecutive within the length
    // that the kernel accepted or wrote, which limits these functions, and that the numbers of a
    // control message are within its own length.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let one = header.read_unaligned();
            let has_numbers = [libc::SCM_RIGHTS, SCM_PIDFD].contains(&one.cmsg_type);
            if one.cmsg_level == libc::SOL_SOCKET && has_numbers {
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                // musl's type is narrower than that of glibc.
                #[allow(clippy::unnecessary_cast, reason = "depends on the C library")]
                let length = one.cmsg_len as usize - (first as usize - header as usize);
                for index in 0..length / size_of::<RawFd>() {
                    f(first.add(index).read_unaligned());
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}

/// The same for the first messages of a list.
///
/// # Safety
/// `first` is the address of an array of `mmsghdr`, of which `recvmmsg` has filled in this many.
// SAFETY: the caller guarantees it; see above.
pub(super) unsafe fn numbers_of_many(first: u64, count: i64, mut f: impl FnMut(RawFd)) {
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller guarantees that the message exists and is filled in.
        unsafe {
            let message = (first as *const libc::mmsghdr).add(index);
            numbers(&raw const (*message).msg_hdr as u64, &mut f);
        }
    }
}
