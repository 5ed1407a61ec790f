//! Descriptors that are passed through a socket (SCM_RIGHTS).

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

/// Space for one control message with one number, aligned as its header.
#[repr(align(8))]
struct Room([u8; 64]);

fn with_message<R>(f: impl FnOnce(&mut libc::msghdr) -> R) -> R {
    let (mut byte, mut room) = (1_u8, Room([0; 64]));
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = room.0.as_mut_ptr().cast();
    message.msg_controllen = room.0.len() as _;
    f(&mut message)
}

pub fn send(through: &impl AsRawFd, number: RawFd) -> io::Result<()> {
    with_message(|message| unsafe {
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(number);
        match libc::sendmsg(through.as_raw_fd(), message, 0) {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
}

/// The fault, if it is called for the byte only: the descriptor that came with it stays open.
pub fn receive(through: &UnixStream) -> io::Result<RawFd> {
    with_message(|message| unsafe {
        if libc::recvmsg(through.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) != 1 {
            return Err(io::Error::last_os_error());
        }
        Ok(libc::CMSG_DATA(libc::CMSG_FIRSTHDR(message)).cast::<RawFd>().read_unaligned())
    })
}

/// The same fault with two messages in one call.
pub fn receive_two(through: &UnixDatagram) -> io::Result<()> {
    let mut messages: [libc::mmsghdr; 2] = unsafe { zeroed() };
    let mut rooms = [Room([0; 64]), Room([0; 64])];
    for (message, room) in messages.iter_mut().zip(&mut rooms) {
        message.msg_hdr.msg_control = room.0.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = room.0.len() as _;
    }
    let (number, flags) = (through.as_raw_fd(), libc::MSG_CMSG_CLOEXEC);
    let received = unsafe {
        libc::recvmmsg(number, messages.as_mut_ptr(), 2, flags, std::ptr::null_mut())
    };
    if received == 2 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
