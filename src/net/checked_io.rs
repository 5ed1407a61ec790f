//! Ownership-checked reads and writes for all types with a handle.

use std::io::{self, IoSlice, IoSliceMut};

use rustix::net::sockopt::Timeout;
use rustix::net::{RecvFlags, SendFlags};

use super::deadline::with_timeout;
use super::syscalls::{Syscalls, waits};
use crate::faults::Waits;
use crate::ownership::Managed;
use crate::ownership::handle::Handle;
use crate::sys::platform;

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
    let flags = flags | platform::NO_SIGNAL;
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
    let flags = flags | platform::NO_SIGNAL;
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
