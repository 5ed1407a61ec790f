//! Passing descriptors to another process over a Unix stream (`SCM_RIGHTS`), and who is at its other end.
//!
//! A passed descriptor is a second reference to one open file description, in another process. The
//! sender marks its resource as shared *before* the call: from then on no cancellation shuts it down.

// The program uses it, and the library does not.
#![cfg_attr(not(feature = "serve"), allow(dead_code))]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

#[cfg(feature = "serve")]
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::Stream;
use crate::net::syscalls::Syscalls;

/// The maximum number of descriptors that one call receives. The kernel closes further ones.
const RECEIVED_MAX: usize = 4;

/// The process at the other end of a Unix stream, as the kernel recorded it at the connect: for a client
/// the process that listened last, for a server the one that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Zero for a process of another PID namespace.
    pub(crate) process: u32,
    /// The effective user.
    pub(crate) user: u32,
}

impl Stream {
    /// Sends bytes and a descriptor with the first of them, without blocking (`sendmsg(2)`). Returns how
    /// many bytes were sent; the descriptor was sent with them.
    ///
    /// # Errors
    /// `WouldBlock`: nothing was sent. Other errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn try_send_with(
        &self,
        bytes: &[u8],
        descriptor: BorrowedFd<'_>,
    ) -> io::Result<usize> {
        let syscalls = Syscalls::of(self.handle());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = self.handle().call(|fd| syscalls.send_with(fd, bytes, descriptor, flags))?;
        self.handle().record().count_sent(sent);
        Ok(sent)
    }

    /// Receives the available bytes, and appends the descriptors that came with them, without blocking
    /// (`recvmsg(2)`). Zero bytes: the peer has finished. The descriptors are closed at `exec`.
    ///
    /// # Errors
    /// `WouldBlock`: nothing has arrived. `InvalidData`: more than [`RECEIVED_MAX`] descriptors came at
    /// once. Other errors of the system call and the registry.
    #[track_caller]
    pub(crate) fn try_read_with(
        &self,
        buffer: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        let syscalls = Syscalls::of(self.handle());
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let (bytes, is_complete) = self.handle().call(|fd| {
            syscalls.receive_with::<RECEIVED_MAX>(fd, &mut *buffer, descriptors, flags)
        })?;
        self.handle().record().count_received(bytes);
        if is_complete {
            return Ok(bytes);
        }
        let text = format!("more than {RECEIVED_MAX} descriptors came with one message");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }

    /// The process at the other end of a Unix stream (`SO_PEERCRED`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[cfg(feature = "serve")]
    #[track_caller]
    pub(crate) fn peer(&self) -> io::Result<Peer> {
        // Not rustix's function: its result cannot represent the process 0.
        let peer = self.handle().call(|fd| {
            let peer =
                nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::PeerCredentials);
            peer.map_err(|errno| Errno::from_raw_os_error(errno as i32))
        })?;
        Ok(Peer { process: u32::try_from(peer.pid()).unwrap_or_default(), user: peer.uid() })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_the_first_byte_of_its_message() {
        let (ours, theirs) = Stream::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (&ours).write_all(b"before ").unwrap();
        assert_eq!(ours.try_send_with(b"with", writer.as_fd()).unwrap(), 4);
        drop(writer);
        (&ours).write_all(b" after").unwrap();
        let (mut text, mut descriptors) = (Vec::new(), Vec::new());
        while text.len() < "before with after".len() {
            let mut buffer = [0; 64];
            let bytes = theirs.try_read_with(&mut buffer, &mut descriptors).unwrap();
            text.extend_from_slice(&buffer[..bytes]);
        }
        assert_eq!(text, b"before with after");
        let passed = descriptors.pop().unwrap();
        assert!(descriptors.is_empty());
        let flags = rustix::io::fcntl_getfd(&passed).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        std::fs::File::from(passed).write_all(b"x").unwrap();
        let mut written = String::new();
        std::fs::File::from(reader).read_to_string(&mut written).unwrap();
        assert_eq!(written, "x");
    }

    #[cfg(feature = "serve")]
    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (ours, _theirs) = Stream::pair().unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(ours.peer().unwrap(), Peer { process: std::process::id(), user });
    }
}
