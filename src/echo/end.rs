//! The reason why a connection ended.
//!
//! A handler returns an [`io::Error`] for a connection that ended early. Most errors identify themselves;
//! a socket timeout does not say which timeout it was, so a handler wraps an [`EndReason`] in the error.

use std::fmt;
use std::io;

use crate::frame::FrameError;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The client closed its sending side, and everything was echoed.
    Finished,
    /// It ended in a drain, and everything that had arrived was echoed.
    Drained,
    /// The client reset the connection, or closed it before it had read everything.
    Reset,
    /// Nothing arrived within the idle timeout.
    IdleTimeout,
    /// A request was not complete in time.
    RequestTimeout,
    /// The client read nothing within the write timeout.
    WriteTimeout,
    /// More was queued for the client than the limit allows.
    SlowReader,
    /// Too many clients did not read, and this one had waited longest.
    Displaced,
    /// The client's host does not respond: keep-alive probes or retransmissions failed.
    Unreachable,
    /// The client violated the protocol: a request or frame too long, or cut short.
    Protocol,
    /// There was no thread or memory for it.
    NoResources,
    /// Another system error, or a rejection by the registry.
    Error,
    /// It was aborted, at the drain deadline or by SIGQUIT.
    Aborted,
    /// Its task panicked.
    Panic,
    /// It was closed at once: over a limit, or without a thread or descriptor.
    Refused,
}

impl EndReason {
    /// All of them, in display order.
    pub const ALL: [EndReason; 15] = [
        EndReason::Finished,
        EndReason::Drained,
        EndReason::Reset,
        EndReason::IdleTimeout,
        EndReason::RequestTimeout,
        EndReason::WriteTimeout,
        EndReason::SlowReader,
        EndReason::Displaced,
        EndReason::Unreachable,
        EndReason::Protocol,
        EndReason::NoResources,
        EndReason::Error,
        EndReason::Aborted,
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
            EndReason::Displaced => "displaced",
            EndReason::Unreachable => "unreachable",
            EndReason::Protocol => "protocol",
            EndReason::NoResources => "no_resources",
            EndReason::Error => "error",
            EndReason::Aborted => "aborted",
            EndReason::Panic => "panic",
            EndReason::Refused => "refused",
        }
    }

    /// An error with this reason, for a connection that ends because of it.
    pub(crate) fn into_error(self) -> io::Error {
        let kind = match self {
            EndReason::Protocol => io::ErrorKind::InvalidData,
            EndReason::SlowReader | EndReason::Displaced => io::ErrorKind::ConnectionAborted,
            _ => io::ErrorKind::TimedOut,
        };
        io::Error::new(kind, EndReasonError(self))
    }

    /// The reason for a connection's error.
    #[must_use]
    pub fn from_error(error: &io::Error) -> EndReason {
        if let Some(inner) = error.get_ref() {
            if let Some(EndReasonError(reason)) = inner.downcast_ref() {
                return *reason;
            }
            match inner.downcast_ref() {
                Some(FrameError::TooLong { .. }) => return EndReason::Protocol,
                Some(FrameError::NoMemory { .. }) => return EndReason::NoResources,
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
            io::ErrorKind::OutOfMemory => EndReason::NoResources,
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
            EndReason::WriteTimeout => "write timeout: the client stopped reading",
            EndReason::SlowReader => "slow reader: the send queue of the client was full",
            EndReason::Displaced => {
                "displaced: too many clients did not read, and it had waited longest"
            }
            EndReason::Unreachable => "unreachable: the client's host does not answer",
            EndReason::Protocol => "protocol error: the request was too long or cut short",
            EndReason::NoResources => "no thread or memory for the connection",
            EndReason::Error => "error",
            EndReason::Aborted => "aborted",
            EndReason::Panic => "panic",
            EndReason::Refused => "refused",
        })
    }
}

/// A reason as the source of an error.
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
            assert_eq!(EndReason::from_error(&reason.into_error()), reason);
        }
        let raw = |errno: rustix::io::Errno| EndReason::from_error(&errno.into());
        use rustix::io::Errno;
        assert_eq!(raw(Errno::CONNRESET), EndReason::Reset);
        assert_eq!(raw(Errno::PIPE), EndReason::Reset);
        assert_eq!(raw(Errno::TIMEDOUT), EndReason::Unreachable);
        assert_eq!(raw(Errno::HOSTUNREACH), EndReason::Unreachable);
        assert_eq!(raw(Errno::NOMEM), EndReason::NoResources);
        assert_eq!(raw(Errno::IO), EndReason::Error);
        let frame = FrameError::TooLong { length: 2, payload_max: 1 };
        let frame = io::Error::new(io::ErrorKind::InvalidData, frame);
        assert_eq!(EndReason::from_error(&frame), EndReason::Protocol);
    }

    #[test]
    fn every_reason_has_a_key_of_its_own() {
        let keys: std::collections::HashSet<&str> =
            EndReason::ALL.into_iter().map(EndReason::key).collect();
        assert_eq!(keys.len(), EndReason::ALL.len());
    }
}
