//! Traits of standard library sockets that the registry can own.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use echown_fd::kind;

/// A stream of the standard library, for [`Stream::own`](super::Stream::own).
pub trait StdStream: AsFd + Into<OwnedFd> + From<OwnedFd> + sealed::StdKind {}

/// A listener of the standard library, for [`Listener::own`](super::Listener::own).
pub trait StdListener: AsFd + Into<OwnedFd> + From<OwnedFd> + sealed::StdKind {}

pub(super) mod sealed {
    //! Limits the two traits to known types.
    #![allow(missing_docs, unreachable_pub)]

    pub trait StdKind {
        const KIND: &'static str;
    }
}

macro_rules! known {
    ($($type:ty: $role:ident = $kind:expr;)*) => {$(
        impl $role for $type {}
        impl sealed::StdKind for $type {
            const KIND: &'static str = $kind;
        }
    )*};
}

known! {
    TcpStream: StdStream = kind::TCP_STREAM;
    UnixStream: StdStream = kind::UNIX_STREAM;
    TcpListener: StdListener = kind::TCP_LISTENER;
    UnixListener: StdListener = kind::UNIX_LISTENER;
}
