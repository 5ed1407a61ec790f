//! Sockets of the standard library that become owned ones.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use echown_fd::kind;

/// A stream of the standard library, for [`Stream::own`](super::Stream::own).
pub trait StdStream: AsFd + Into<OwnedFd> + From<OwnedFd> + sealed::Kind {}

/// A listener of the standard library, for [`Listener::own`](super::Listener::own).
pub trait StdListener: AsFd + Into<OwnedFd> + From<OwnedFd> + sealed::Kind {}

pub(super) mod sealed {
    //! Keeps the two traits to types whose kind is known.
    #![allow(missing_docs, unreachable_pub)]

    pub trait Kind {
        const KIND: &'static str;
    }
}

macro_rules! known {
    ($($type:ty: $role:ident = $kind:expr;)*) => {$(
        impl $role for $type {}
        impl sealed::Kind for $type {
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
