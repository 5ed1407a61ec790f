//! The socket to the service manager: owned, connected once, and never waited for.
//!
//! It is connected at the start, because a sandbox may forbid that later. The manager's end stays the same
//! while the service runs, also when systemd executes itself again.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType};

use crate::ownership::{Give, Owned, Registry, Resource};
use crate::sys::platform::{self, Mode};

/// A connected datagram socket to a service manager.
pub(crate) struct NotifySocket(Owned<OwnedFd>);

impl NotifySocket {
    /// Connects to the address in `NOTIFY_SOCKET`: an absolute path, or `@` and an abstract name.
    ///
    /// # Errors
    /// The address has another form, or errors of the system calls and the registry.
    #[track_caller]
    pub(crate) fn connect(registry: &Registry, address: &OsStr) -> io::Result<NotifySocket> {
        let address = match address.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(address)?,
            [b'@', name @ ..] => platform::abstract_name(name)?,
            _ => {
                let text = "NOTIFY_SOCKET is neither an absolute path nor `@` and a name";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = platform::socket(AddressFamily::UNIX, SocketType::DGRAM, Mode::NonBlocking)?;
        let socket = registry.own_fd(socket)?;
        socket.with(|socket| rustix::net::connect(socket, &address))??;
        Ok(NotifySocket(socket))
    }

    /// Sends one message without waiting.
    ///
    /// # Errors
    /// Errors of the system call (`WouldBlock`: the manager's queue is full) and the registry.
    pub(crate) fn send(&self, message: &str) -> io::Result<()> {
        let flags = platform::NO_SIGNAL | SendFlags::DONTWAIT;
        self.0.with(|socket| rustix::net::send(socket, message.as_bytes(), flags))??;
        Ok(())
    }

    /// Waits until the manager's queue has room, and returns whether it has.
    pub(super) fn wait_for_room(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).ok();
        let ready = self.0.with(|socket| {
            rustix::event::poll(&mut [PollFd::new(socket, PollFlags::OUT)], timeout.as_ref())
        });
        matches!(ready, Ok(Ok(1..)))
    }
}

impl Give for NotifySocket {
    fn list(&self, resources: &mut Vec<Resource>) {
        self.0.list(resources);
    }
}
