//! Why a connection ended.
//!
//! A style answers an [`io::Error`] for a connection that ended before its time. Most of them say
//! themselves what they are; what a socket's timeout answers does not say which timeout it was, so a
//! style says that by an error with an [`EndReason`] inside.

use std::fmt;
use std::io;

use crate::frame::FrameError;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The client closed its sending side, and everything was answered.
    Finished,
    /// It ended in a drain, with everything answered that had arrived.
    Drained,
    /// The client reset the connection, or closed it before it had read everything.
    Reset,
    /// Nothing arrived for the idle timeout.
    IdleTimeout,
    /// A request was not complete in its time.
    RequestTimeout,
    /// The client took nothing for the write timeout.
    WriteTimeout,
    /// More waited for the client than may wait for it.
    SlowReader,
    /// The client's host does not answer: keep-alive or retransmissions were given up.
    Unreachable,
    /// What the client sent is not what the style takes: a request or frame too long, or cut short.
    Protocol,
    /// There was no thread or memory for it.
    NoRoom,
    /// Another error of the system's, or a refusal of the registry's.
    Error,
    /// It was cut: at the drain's deadline, or by the order to cut.
    Cut,
    /// Its task panicked.
    Panic,
    /// It was closed at once: over a limit, or without a thread or descriptor.
    Refused,
}

impl EndReason {
    /// All of them, in the order in which they are shown.
    pub const ALL: [EndReason; 14] = [
        EndReason::Finished,
        EndReason::Drained,
        EndReason::Reset,
        EndReason::IdleTimeout,
        EndReason::RequestTimeout,
        EndReason::WriteTimeout,
        EndReason::SlowReader,
        EndReason::Unreachable,
        EndReason::Protocol,
        EndReason::NoRoom,
        EndReason::Error,
        EndReason::Cut,
        EndReason::Panic,
        EndReason::Refused,
    ];

    /// Its key in JSON, such as `idle_timeout`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            EndReason::Finished => "finished",
            EndReason::Drained => "drained",
            EndReason::Reset => "reset",
            EndReason::IdleTimeout => "idle_timeout",
            EndReason::RequestTimeout => "request_timeout",
            EndReason::WriteTimeout => "write_timeout",
            EndReason::SlowReader => "slow_reader",
            EndReason::Unreachable => "unreachable",
            EndReason::Protocol => "protocol",
            EndReason::NoRoom => "no_room",
            EndReason::Error => "error",
            EndReason::Cut => "cut",
            EndReason::Panic => "panic",
            EndReason::Refused => "refused",
        }
    }

    /// As the error of a connection that ends by it.
    pub(crate) fn into_error(self) -> io::Error {
        let kind = match self {
            EndReason::Protocol => io::ErrorKind::InvalidData,
            EndReason::SlowReader => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, EndReasonError(self))
    }

    /// What an error that ended a connection says.
    #[must_use]
    pub fn of(error: &io::Error) -> EndReason {
        if let Some(inner) = error.get_ref() {
            if let Some(EndReasonError(reason)) = inner.downcast_ref() {
                return *reason;
            }
            match inner.downcast_ref() {
                Some(FrameError::TooLong { .. }) => return EndReason::Protocol,
                Some(FrameError::NoMemory { .. }) => return EndReason::NoRoom,
                None => {}
            }
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => EndReason::Reset,
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => EndReason::Unreachable,
            io::ErrorKind::OutOfMemory => EndReason::NoRoom,
            _ => EndReason::Error,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EndReason::Finished => "the client finished",
            EndReason::Drained => "drained",
            EndReason::Reset => "reset by the client",
            EndReason::IdleTimeout => "idle timeout: the client sent nothing",
            EndReason::RequestTimeout => "request timeout: the request was not complete in time",
            EndReason::WriteTimeout => "write timeout: the client took nothing",
            EndReason::SlowReader => "slow reader: too much waited for the client",
            EndReason::Unreachable => "unreachable: the client's host does not answer",
            EndReason::Protocol => "protocol error: the request was too long or cut short",
            EndReason::NoRoom => "no thread or memory for it",
            EndReason::Error => "error",
            EndReason::Cut => "cut",
            EndReason::Panic => "panic",
            EndReason::Refused => "refused",
        })
    }
}

/// A reason as the inside of an error.
#[derive(Debug)]
struct EndReasonError(EndReason);

impl fmt::Display for EndReasonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for EndReasonError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_with_a_reason_inside_keeps_it_and_others_say_what_they_are() {
        for reason in EndReason::ALL {
            assert_eq!(EndReason::of(&reason.into_error()), reason);
        }
        let raw = |errno: rustix::io::Errno| EndReason::of(&errno.into());
        use rustix::io::Errno;
        assert_eq!(raw(Errno::CONNRESET), EndReason::Reset);
        assert_eq!(raw(Errno::PIPE), EndReason::Reset);
        assert_eq!(raw(Errno::TIMEDOUT), EndReason::Unreachable);
        assert_eq!(raw(Errno::HOSTUNREACH), EndReason::Unreachable);
        assert_eq!(raw(Errno::NOMEM), EndReason::NoRoom);
        assert_eq!(raw(Errno::IO), EndReason::Error);
        let frame = FrameError::TooLong { length: 2, payload_max: 1 };
        let frame = io::Error::new(io::ErrorKind::InvalidData, frame);
        assert_eq!(EndReason::of(&frame), EndReason::Protocol);
    }

    #[test]
    fn every_reason_has_a_key_of_its_own() {
        let keys: std::collections::HashSet<&str> =
            EndReason::ALL.into_iter().map(EndReason::key).collect();
        assert_eq!(keys.len(), EndReason::ALL.len());
    }
}
