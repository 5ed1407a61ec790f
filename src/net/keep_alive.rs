//! TCP keep-alive, which detects a peer whose host is gone although nothing is sent to it.
//!
//! The failure story: a client's power fails. No FIN and no reset arrive, and a task that waits in a read
//! waits until the process ends. With keep-alive the kernel sends probes on a silent connection, and if
//! none of them is answered, the read fails (`ETIMEDOUT`).
//!
//! # Limits
//!
//! There are no probes while sent bytes are unacknowledged: then the kernel's retransmissions end the
//! connection (`net.ipv4.tcp_retries2`, about 15 minutes). Unix sockets do not need it: both ends are on
//! one machine.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::net::sockopt;

/// When a silent TCP connection is probed, and when it fails.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use echown::net::{KeepAlive, Listener};
///
/// let patient = KeepAlive { idle: Duration::from_secs(600), ..KeepAlive::DEFAULT };
/// let listener = Listener::options().keep_alive(Some(patient)).bind("127.0.0.1:0")?;
/// let _client = std::net::TcpStream::connect(listener.local_addr()?.inet().unwrap())?;
/// assert_eq!(listener.accept()?.0.keep_alive()?, Some(patient));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe (`TCP_KEEPIDLE`), in whole seconds.
    pub idle: Duration,
    /// Time between two probes (`TCP_KEEPINTVL`), in whole seconds.
    pub interval: Duration,
    /// Unanswered probes after which the connection fails (`TCP_KEEPCNT`).
    pub probes: u32,
}

impl KeepAlive {
    /// The first probe after 60 s of silence, six probes 10 s apart: a dead host is detected after two
    /// minutes, and an idle connection costs its client one small segment a minute. The kernel's defaults
    /// are 2 hours, 75 s and 9.
    pub const DEFAULT: KeepAlive =
        KeepAlive { idle: Duration::from_secs(60), interval: Duration::from_secs(10), probes: 6 };

    /// Sets it on a TCP socket; accepted sockets inherit it from their listener.
    pub(super) fn apply_to(self, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
        sockopt::set_tcp_keepidle(fd, self.idle)?;
        sockopt::set_tcp_keepintvl(fd, self.interval)?;
        sockopt::set_tcp_keepcnt(fd, self.probes)?;
        sockopt::set_socket_keepalive(fd, true)
    }

    /// Reads it from a TCP socket; `None` where keep-alive is off.
    pub(super) fn read_from(fd: BorrowedFd<'_>) -> rustix::io::Result<Option<KeepAlive>> {
        if !sockopt::socket_keepalive(fd)? {
            return Ok(None);
        }
        Ok(Some(KeepAlive {
            idle: sockopt::tcp_keepidle(fd)?,
            interval: sockopt::tcp_keepintvl(fd)?,
            probes: sockopt::tcp_keepcnt(fd)?,
        }))
    }
}
