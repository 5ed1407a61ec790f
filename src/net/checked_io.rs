//! Ownership-checked reads and writes for all types with a handle, and macros for the newtypes over
//! a handle.

use std::io::{self, IoSlice, IoSliceMut};

use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendFlags};

use super::deadline::with_timeout;
use super::syscalls::{Syscalls, waits};
use crate::faults::Waits;
use crate::ownership::Managed;
use crate::ownership::handle::Handle;

/// The maximum number of buffers of one vectored call (`IOV_MAX`); further buffers wait for the
/// next call.
const BUFFERS_MAX: usize = 1024;

/// `recv(2)`.
#[inline]
#[track_caller]
pub(super) fn recv<C: Managed>(
    handle: &Handle<C>,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<usize> {
    let kernel = Syscalls::of(handle);
    let waits = waits(!flags.contains(RecvFlags::DONTWAIT));
    let bytes = with_timeout(handle, Timeout::Recv, waits, |fd, waits| {
        kernel.recv(fd, &mut *buffer, flags | receive_flags(waits))
    })?;
    if !flags.contains(RecvFlags::PEEK) {
        handle.record().count_received(bytes);
    }
    Ok(bytes)
}

/// `send(2)`, without SIGPIPE.
#[inline]
#[track_caller]
pub(super) fn send<C: Managed>(
    handle: &Handle<C>,
    bytes: &[u8],
    flags: SendFlags,
) -> io::Result<usize> {
    let kernel = Syscalls::of(handle);
    let flags = flags | SendFlags::NOSIGNAL;
    let waits = waits(!flags.contains(SendFlags::DONTWAIT));
    let sent = with_timeout(handle, Timeout::Send, waits, |fd, waits| {
        kernel.send(fd, bytes, flags | send_flags(waits))
    })?;
    handle.record().count_sent(sent);
    Ok(sent)
}

/// `sendmsg(2)`, without SIGPIPE.
#[track_caller]
pub(super) fn send_vectored<C: Managed>(
    handle: &Handle<C>,
    buffers: &[IoSlice<'_>],
) -> io::Result<usize> {
    send_vectored_as(handle, buffers, SendFlags::empty())
}

/// [`send_vectored`] with flags.
#[track_caller]
pub(super) fn send_vectored_as<C: Managed>(
    handle: &Handle<C>,
    buffers: &[IoSlice<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    let buffers = &buffers[..buffers.len().min(BUFFERS_MAX)];
    let kernel = Syscalls::of(handle);
    let flags = flags | SendFlags::NOSIGNAL;
    let waits = waits(!flags.contains(SendFlags::DONTWAIT));
    let sent = with_timeout(handle, Timeout::Send, waits, |fd, waits| {
        kernel.sendmsg(fd, buffers, flags | send_flags(waits))
    })?;
    handle.record().count_sent(sent);
    Ok(sent)
}

/// `read(2)`, for descriptors other than sockets.
#[inline]
#[track_caller]
pub(super) fn read<C: Managed>(handle: &Handle<C>, buffer: &mut [u8]) -> io::Result<usize> {
    let kernel = Syscalls::of(handle);
    let bytes = handle.call(|fd| kernel.read(fd, &mut *buffer))?;
    handle.record().count_received(bytes);
    Ok(bytes)
}

/// `recvmsg(2)`.
#[track_caller]
pub(super) fn recv_vectored<C: Managed>(
    handle: &Handle<C>,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let most = buffers.len().min(BUFFERS_MAX);
    let buffers = &mut buffers[..most];
    let kernel = Syscalls::of(handle);
    let bytes = with_timeout(handle, Timeout::Recv, Waits::Yes, |fd, waits| {
        kernel.recvmsg(fd, &mut *buffers, receive_flags(waits))
    })?;
    handle.record().count_received(bytes);
    Ok(bytes)
}

/// `readv(2)`, for descriptors other than sockets.
#[track_caller]
pub(super) fn read_vectored<C: Managed>(
    handle: &Handle<C>,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    let kernel = Syscalls::of(handle);
    let bytes = handle.call(|fd| kernel.readv(fd, &mut *buffers))?;
    handle.record().count_received(bytes);
    Ok(bytes)
}

/// `write(2)`, for descriptors other than sockets. If a program resets SIGPIPE to its default (Rust
/// ignores it), writing to a pipe without a reader ends the process.
#[inline]
#[track_caller]
pub(super) fn write<C: Managed>(handle: &Handle<C>, bytes: &[u8]) -> io::Result<usize> {
    let kernel = Syscalls::of(handle);
    let written = handle.call(|fd| kernel.write(fd, bytes))?;
    handle.record().count_sent(written);
    Ok(written)
}

/// `writev(2)`; see [`write`].
#[track_caller]
pub(super) fn write_vectored<C: Managed>(
    handle: &Handle<C>,
    buffers: &[IoSlice<'_>],
) -> io::Result<usize> {
    let kernel = Syscalls::of(handle);
    let written = handle.call(|fd| kernel.writev(fd, buffers))?;
    handle.record().count_sent(written);
    Ok(written)
}

pub(super) fn receive_flags(waits: Waits) -> RecvFlags {
    if waits == Waits::Yes { RecvFlags::empty() } else { RecvFlags::DONTWAIT }
}

pub(super) fn send_flags(waits: Waits) -> SendFlags {
    if waits == Waits::Yes { SendFlags::empty() } else { SendFlags::DONTWAIT }
}

/// Implements the handle, the methods that move ownership, `close`, `describe` and `Debug` for a
/// newtype.
macro_rules! checked {
    ($type:ident, $field:tt, $cell:ident) => {
        impl $type {
            #[inline]
            pub(crate) fn handle(
                &self,
            ) -> &$crate::ownership::handle::Handle<$crate::ownership::$cell<std::os::fd::OwnedFd>>
            {
                self.$field.handle()
            }

            /// Closes it. The same as `release`.
            ///
            /// # Errors
            /// See `release`; a second close is `DoubleRelease`, which contains the place of the
            /// first.
            #[track_caller]
            pub fn close(&self) -> Result<(), $crate::ownership::Error> {
                self.release()
            }

            /// Bytes received and bytes sent through it so far. Any task may call it.
            #[must_use]
            pub fn traffic(&self) -> (u64, u64) {
                self.handle().record().traffic()
            }

            /// Describes it: owner, state, addresses, bytes, custody. Any task may call it.
            #[must_use]
            pub fn describe(&self) -> $crate::ownership::ResourceData {
                self.resource().describe()
            }
        }

        /// Number, kind, state and owner.
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($type), "({:?})"), self.handle())
            }
        }

        $crate::ownership::handle::handle_methods!($type);
    };
}
pub(super) use checked;

/// Implements `disown` for a newtype over a whole descriptor.
macro_rules! disowned {
    ($type:ident) => {
        impl $type {
            /// Gives up the ownership without closing it. The returned descriptor converts into
            /// types of the standard library.
            ///
            /// # Errors
            /// `NotOwner` and related errors, which return the value; `FdReplaced` if the number no
            /// longer refers to the registered file.
            #[track_caller]
            pub fn disown(self) -> Result<std::os::fd::OwnedFd, $crate::ownership::Refused<$type>> {
                self.0.disown().map_err(|refused| refused.map($type))
            }
        }
    };
}
pub(super) use disowned;

/// Implements `Read` for a type and for references to it, with two of the functions above.
macro_rules! reads {
    ($type:ty, |$handle:ident, $buffer:ident| $read:expr, $read_vectored:path) => {
        impl std::io::Read for &$type {
            #[inline]
            #[track_caller]
            fn read(&mut self, $buffer: &mut [u8]) -> std::io::Result<usize> {
                let $handle = self.handle();
                $read
            }

            #[track_caller]
            fn read_vectored(
                &mut self,
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                $read_vectored(self.handle(), buffers)
            }
        }

        impl std::io::Read for $type {
            #[inline]
            #[track_caller]
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buffer)
            }

            #[track_caller]
            fn read_vectored(
                &mut self,
                buffers: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                (&*self).read_vectored(buffers)
            }
        }
    };
}
pub(super) use reads;

/// Implements `Write` for a type and for references to it, with two of the functions above.
macro_rules! writes {
    ($type:ty, |$handle:ident, $bytes:ident| $write:expr, $write_vectored:path) => {
        impl std::io::Write for &$type {
            #[inline]
            #[track_caller]
            fn write(&mut self, $bytes: &[u8]) -> std::io::Result<usize> {
                let $handle = self.handle();
                $write
            }

            #[track_caller]
            fn write_vectored(
                &mut self,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                $write_vectored(self.handle(), buffers)
            }

            /// Does nothing: nothing is buffered.
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        impl std::io::Write for $type {
            #[inline]
            #[track_caller]
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                (&*self).write(bytes)
            }

            #[track_caller]
            fn write_vectored(
                &mut self,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                (&*self).write_vectored(buffers)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}
pub(super) use writes;
