//! Cancellable connects.
//!
//! A shutdown wakes a blocked `connect(2)` only if the call has already started: a shutdown between the
//! check and the call is recorded in the socket but ignored by the call, which then waits for minutes. So
//! TCP connects without blocking and waits in `poll(2)`, which notices the shutdown. On a Unix socket
//! `connect(2)` waits for room in the listener's backlog, which neither a shutdown nor `poll(2)` covers;
//! there it waits in slices.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use echown_fd::kind;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use super::Stream;
use crate::net::deadline::Deadline;
use crate::net::socket::{family, socket};
use crate::net::syscalls::Syscalls;
use crate::sys::platform::Mode;

/// How long a `connect(2)` on a Unix socket waits for the listener's backlog before it checks whether its
/// task was cancelled.
const UNIX_SLICE: Duration = Duration::from_millis(50);

/// Connects by TCP: `socket(2)`, own, `connect(2)`, `poll(2)`.
#[track_caller]
pub(super) fn inet(address: &SocketAddr, timeout: Option<Duration>) -> io::Result<Stream> {
    let (family, mode) = (family(address), Mode::NonBlocking);
    let socket = socket(family, SocketType::STREAM, mode, kind::TCP_STREAM)?;
    let stream = Stream::new(socket);
    establish(&stream, address, timeout)?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Connects a non-blocking socket.
#[track_caller]
fn establish(stream: &Stream, address: &SocketAddr, timeout: Option<Duration>) -> io::Result<()> {
    let syscalls = Syscalls::of(stream.handle());
    let is_connected = stream.handle().call(|fd| match syscalls.connect(fd, address) {
        Ok(()) => Ok(true),
        Err(Errno::INPROGRESS) => Ok(false),
        Err(error) => Err(error),
    })?;
    if is_connected { Ok(()) } else { await_connection(stream, timeout) }
}

/// Waits until the connection is established, fails, or times out.
#[track_caller]
fn await_connection(stream: &Stream, timeout: Option<Duration>) -> io::Result<()> {
    let mut deadline = Deadline::after(timeout);
    let syscalls = Syscalls::of(stream.handle());
    let events = stream.handle().call(|fd| {
        let mut polled = [PollFd::new(&fd, PollFlags::OUT)];
        syscalls.poll(&mut polled, deadline.left().as_ref()).map(|_| polled[0].revents())
    })?;
    if events.is_empty() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "connect timed out"));
    }
    stream.handle().call(|fd| sockopt::socket_error(fd))??;
    if events.contains(PollFlags::HUP) {
        // Shut down before it was established, without a pending error.
        return Err(Errno::NOTCONN.into());
    }
    Ok(())
}

/// Connects to a Unix socket: `socket(2)`, own, `connect(2)`.
#[track_caller]
pub(super) fn unix(address: &SocketAddrUnix, timeout: Option<Duration>) -> io::Result<Stream> {
    let mode = Mode::Blocking;
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, mode, kind::UNIX_STREAM)?;
    let stream = Stream::new(socket);
    stream.set_write_timeout(Some(UNIX_SLICE))?;
    let mut deadline = Deadline::after(timeout);
    let is_over = |left: Option<Timespec>| left.is_some_and(|left| left == Timespec::default());
    let syscalls = Syscalls::of(stream.handle());
    stream.handle().call(|fd| match syscalls.connect_unix(fd, address) {
        Err(Errno::AGAIN) if is_over(deadline.left()) => Err(Errno::TIMEDOUT),
        // The slice has passed. `call` checks whether the task was cancelled, and repeats an
        // interrupted call.
        Err(Errno::AGAIN) => Err(Errno::INTR),
        result => result,
    })?;
    stream.set_write_timeout(None)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;
    use crate::ownership::Registry;

    /// The effect of a cancellation between the check and the system call. The listener's backlog is full,
    /// so that only the shutdown can end the wait.
    #[test]
    fn a_shutdown_that_came_before_the_connect_ends_it() {
        let registry = Registry::new();
        let _entered = registry.enter();
        let (family, mode) = (AddressFamily::INET, Mode::NonBlocking);
        let new = |kind| socket(family, SocketType::STREAM, mode, kind).unwrap();
        let listener = new(kind::TCP_LISTENER);
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.handle().call(|fd| rustix::net::bind(fd, &anywhere)).unwrap();
        listener.handle().call(|fd| rustix::net::listen(fd, 0)).unwrap();
        let address = listener.handle().call(|fd| rustix::net::getsockname(fd)).unwrap();
        let address = SocketAddr::try_from(address).unwrap();
        let timeout = Duration::from_millis(300);
        let fill = || TcpStream::connect_timeout(&address, timeout).ok();
        let _clients: Vec<TcpStream> = std::iter::from_fn(fill).take(100).collect();

        let stream = Stream::new(new(kind::TCP_STREAM));
        let both = rustix::net::Shutdown::Both;
        let shut = stream.handle().call(|fd| rustix::net::shutdown(fd, both)).unwrap_err();
        assert_eq!(shut.kind(), io::ErrorKind::NotConnected, "and remembered all the same");
        let error = establish(&stream, &address, Some(Duration::from_secs(20))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    }
}
