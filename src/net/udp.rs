//! Owned UDP sockets.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use echown_fd::kind;
use rustix::io::Errno;
use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::address::{may_try_next, no_address};
use super::checked::{self, Checked, marker};
use super::checked_io;
use super::deadline::{self, with_timeout};
use super::socket::{self, family};
use super::syscalls::Syscalls;
use crate::faults::Waits;
use crate::ownership::Refused;
use crate::sys::platform::{self, Mode};

/// A UDP socket with one owner.
///
/// # Examples
/// ```
/// use echown::net::UdpSocket;
///
/// let here = UdpSocket::bind("127.0.0.1:0")?;
/// let there = UdpSocket::bind("127.0.0.1:0")?;
/// here.send_to(b"datagram", there.local_addr()?)?;
///
/// let mut buffer = [0; 16];
/// let (bytes, from) = there.recv_from(&mut buffer)?;
/// assert_eq!((&buffer[..bytes], from), (&b"datagram"[..], here.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// ```
pub type UdpSocket = Checked<marker::UdpSocket>;

impl UdpSocket {
    /// Binds to the first of the name's addresses that is free (`bind(2)`).
    ///
    /// # Errors
    /// The error of the last address, the resolver or the registry.
    #[track_caller]
    pub fn bind(addresses: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        let mut last = no_address();
        for address in addresses.to_socket_addrs()? {
            match UdpSocket::bind_one(&address) {
                Err(error) if may_try_next(&error) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    #[track_caller]
    fn bind_one(address: &SocketAddr) -> io::Result<UdpSocket> {
        let (family, mode) = (family(address), Mode::Blocking);
        let socket = socket::socket(family, SocketType::DGRAM, mode, kind::UDP_SOCKET)?;
        let socket: UdpSocket = Checked(socket);
        socket.handle().call(|fd| rustix::net::bind(fd, address))?;
        Ok(socket)
    }

    /// Becomes the owner of a UDP socket of the standard library.
    ///
    /// # Errors
    /// `AlreadyOwned`: the number is already registered, and the socket is returned open. `Cancelled`,
    /// `TaskExiting`: it was closed at once.
    #[track_caller]
    pub fn own(socket: std::net::UdpSocket) -> Result<UdpSocket, Refused<std::net::UdpSocket>> {
        checked::own_as(socket, kind::UDP_SOCKET, Checked)
    }

    /// Sets the only address to send to and to receive from (`connect(2)`).
    ///
    /// # Errors
    /// The error of the last address, the resolver or the registry.
    #[track_caller]
    pub fn connect(&self, addresses: impl ToSocketAddrs) -> io::Result<()> {
        let mut last = no_address();
        for address in addresses.to_socket_addrs()? {
            match self.handle().call(|fd| Syscalls::of(self.handle()).connect(fd, &address)) {
                Err(error) if may_try_next(&error) => last = error,
                result => return result,
            }
        }
        Err(last)
    }

    /// Sends one datagram to the first of the name's addresses (`sendto(2)`).
    ///
    /// # Errors
    /// Errors of the system call, the resolver and the registry.
    #[track_caller]
    pub fn send_to(&self, bytes: &[u8], to: impl ToSocketAddrs) -> io::Result<usize> {
        let Some(to) = to.to_socket_addrs()?.next() else {
            return Err(no_address());
        };
        let flags = platform::NO_SIGNAL;
        let sent = with_timeout(self.handle(), Timeout::Send, Waits::Yes, |fd, waits| {
            rustix::net::sendto(fd, bytes, flags | checked_io::send_flags(waits), &to)
        })?;
        self.handle().record().count_sent(sent);
        Ok(sent)
    }

    /// Receives one datagram and its sender (`recvfrom(2)`). Bytes that exceed the buffer are lost.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (bytes, _, from) =
            with_timeout(self.handle(), Timeout::Recv, Waits::Yes, |fd, waits| {
                rustix::net::recvfrom(fd, &mut *buffer, checked_io::receive_flags(waits))
            })?;
        // A datagram has a sender; without one the socket was shut down outside the registry.
        let from = from.ok_or(Errno::NOTCONN)?.try_into()?;
        self.handle().record().count_received(bytes);
        Ok((bytes, from))
    }

    /// Sends one datagram to the connected address (`send(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        checked_io::send(self.handle(), bytes, SendFlags::empty())
    }

    /// Receives one datagram from the connected address (`recv(2)`). Bytes that exceed the buffer
    /// are lost.
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        checked_io::recv(self.handle(), buffer, RecvFlags::empty())
    }

    /// The address at this end (`getsockname(2)`).
    ///
    /// # Errors
    /// Errors of the system call and the registry.
    #[track_caller]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.handle().call(|fd| rustix::net::getsockname(fd))?.try_into()?)
    }

    /// The connected address (`getpeername(2)`).
    ///
    /// # Errors
    /// `NotConnected`; errors of the registry.
    #[track_caller]
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let peer = self.handle().call(|fd| rustix::net::getpeername(fd))?;
        Ok(peer.ok_or(Errno::NOTCONN)?.try_into()?)
    }

    /// Sets how long a receive waits before it returns `WouldBlock`, signals or not; `None`: indefinitely
    /// (`SO_RCVTIMEO`).
    ///
    /// # Errors
    /// `InvalidInput` for a zero timeout; errors of the registry.
    #[track_caller]
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        deadline::set_timeout(self.handle(), Timeout::Recv, timeout)
    }
}
