//! The sockets of the standard library that the registry can own.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use echown_fd::kind;

/// A socket of the standard library that can become a `T`: a TCP or Unix stream for
/// [`Stream::own`](super::Stream::own), a TCP or Unix listener for
/// [`Listener::own`](super::Listener::own).
pub trait StdSocket<T>: AsFd + Into<OwnedFd> + From<OwnedFd> + sealed::StdKind {}

pub(super) mod sealed {
    //! Limits the trait to known types.
    #![allow(missing_docs, unreachable_pub)]

    pub trait StdKind {
        const KIND: &'static str;
    }
}

macro_rules! known {
    ($($type:ty = $kind:expr;)*) => {$(
        impl sealed::StdKind for $type {
            const KIND: &'static str = $kind;
        }
    )*};
}

known! {
    TcpStream = kind::TCP_STREAM;
    UnixStream = kind::UNIX_STREAM;
    TcpListener = kind::TCP_LISTENER;
    UnixListener = kind::UNIX_LISTENER;
}
