//! Names of the errors that a run counts.

use std::io;

/// The reply differs from the message.
pub(crate) const WRONG_BYTES: &str = "wrong bytes";
/// No reply arrived before the deadline.
pub(crate) const UNANSWERED: &str = "unanswered";
/// A message was scheduled within the measured time, and not sent before the deadline.
pub(crate) const NEVER_SENT: &str = "scheduled but never sent";
/// The server closed a connection before all replies had arrived, or before the end of the run.
pub(crate) const CLOSED: &str = "closed by the server";
/// A message was scheduled on a connection that had failed.
pub(crate) const NO_CONNECTION: &str = "scheduled without a connection";
/// No server listens at the address.
pub(crate) const REFUSED: &str = "refused";
/// There is no Unix socket at the path.
pub(crate) const NO_SOCKET: &str = "no such socket";
/// A connection was not established in time.
pub(crate) const TIMED_OUT: &str = "timed out";
/// An idle connection did not reply at the end.
pub(crate) const IDLE_LOST: &str = "idle connection lost";

/// The name of an I/O error.
pub(crate) fn of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => REFUSED,
        io::ErrorKind::NotFound => NO_SOCKET,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
        io::ErrorKind::TimedOut => TIMED_OUT,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::AddrNotAvailable => "no port left to connect from",
        io::ErrorKind::NotConnected => "not connected",
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "no descriptor left here"
        }
        _ => "other errors",
    }
}
