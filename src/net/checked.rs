//! The one type of all checked descriptors.
//!
//! It hides the owned descriptor: [`Owned::with`] would lend it mutably, and two nested calls could swap
//! the descriptors of two handles under their stored numbers.
#![allow(private_bounds, reason = "the traits list kinds of this crate")]

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, SendFlags};

use super::checked_io;
use crate::ownership::handle::{Handle, handle_methods};
use crate::ownership::{
    Error, Half, HalfCell, Managed, Owned, Refused, Registry, ResourceCell, ResourceData, Site,
};

/// A descriptor with one owner, or one direction of it, whose every use is checked for ownership first.
///
/// The kind selects its methods: [`File`](super::File), [`Stream`](super::Stream),
/// [`Listener`](super::Listener) and the others are aliases. Reading and writing also work through a
/// reference.
#[must_use = "a checked descriptor is released when its handle is dropped"]
pub struct Checked<K: Kind>(pub(super) K::Held);

/// A kind of checked descriptor.
pub(crate) trait Kind {
    /// The name of the alias.
    const NAME: &'static str;
    /// Whether it is read and written with the calls of sockets.
    const IS_SOCKET: bool;
    type Held: Held;
}

/// What a checked descriptor contains.
pub(crate) trait Held {
    type Cell: Managed + 'static;

    fn handle(&self) -> &Handle<Self::Cell>;
}

impl Held for Owned<OwnedFd> {
    type Cell = ResourceCell<OwnedFd>;

    #[inline]
    fn handle(&self) -> &Handle<ResourceCell<OwnedFd>> {
        self.handle()
    }
}

impl Held for Half<OwnedFd> {
    type Cell = HalfCell<OwnedFd>;

    #[inline]
    fn handle(&self) -> &Handle<HalfCell<OwnedFd>> {
        self.handle()
    }
}

/// It implements [`Read`].
pub(crate) trait Readable: Kind {}

/// It implements [`Write`].
pub(crate) trait Writable: Kind {}

/// A stream or its read half.
pub(crate) trait StreamReader: Readable {}

/// A stream or its write half.
pub(crate) trait StreamWriter: Writable {}

macro_rules! kinds {
    ($($name:ident($held:ty), is_socket: $is_socket:literal, $($role:ident)*;)*) => {
        pub(super) mod marker {
            //! The names of the kinds in types; there are no values.
            #![allow(missing_docs, unreachable_pub)]

            $(pub enum $name {})*
            pub enum Listener {}
        }

        $(
            impl Kind for marker::$name {
                const NAME: &'static str = stringify!($name);
                const IS_SOCKET: bool = $is_socket;
                type Held = $held;
            }

            $(impl $role for marker::$name {})*
        )*
    };
}

kinds! {
    File(Owned<OwnedFd>), is_socket: false, Readable Writable;
    PipeReader(Owned<OwnedFd>), is_socket: false, Readable;
    PipeWriter(Owned<OwnedFd>), is_socket: false, Writable;
    Poller(Owned<OwnedFd>), is_socket: false,;
    UdpSocket(Owned<OwnedFd>), is_socket: true,;
    Stream(Owned<OwnedFd>), is_socket: true, Readable Writable StreamReader StreamWriter;
    ReadHalf(Half<OwnedFd>), is_socket: true, Readable StreamReader;
    WriteHalf(Half<OwnedFd>), is_socket: true, Writable StreamWriter;
}

/// Becomes the owner of a descriptor of the standard library.
#[track_caller]
pub(super) fn own_as<S, K: Kind>(
    descriptor: S,
    kind: &'static str,
    checked: impl FnOnce(Owned<OwnedFd>) -> Checked<K>,
) -> Result<Checked<K>, Refused<S>>
where
    S: Into<OwnedFd> + From<OwnedFd>,
{
    Registry::current()
        .own_fd_as(descriptor.into(), kind, None, Site::here())
        .map(checked)
        .map_err(|refused| refused.map(S::from))
}

impl<K: Kind> Checked<K> {
    #[inline]
    pub(crate) fn handle(&self) -> &Handle<<K::Held as Held>::Cell> {
        self.0.handle()
    }

    /// Closes it. The same as `release`.
    ///
    /// # Errors
    /// See `release`; a second close is `DoubleRelease`, which contains the place of the first.
    #[track_caller]
    pub fn close(&self) -> Result<(), Error> {
        self.release()
    }

    /// Closes it where no caller can handle an error of the close: that is reported, as in a drop.
    ///
    /// # Errors
    /// The current task is not the owner.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub(crate) fn close_reporting(&self) -> Result<(), Error> {
        self.handle().release_reporting(Site::here())
    }

    /// Bytes received and bytes sent through it so far. Any task may call it.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        self.handle().record().traffic()
    }

    /// Describes it: owner, state, addresses, bytes, custody. Any task may call it.
    #[must_use]
    pub fn describe(&self) -> ResourceData {
        self.resource().describe()
    }
}

handle_methods!({K: Kind} Checked<K>);

/// Number, kind, state and owner.
impl<K: Kind> fmt::Debug for Checked<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:?})", K::NAME, self.handle())
    }
}

impl<K: Kind<Held = Owned<OwnedFd>>> Checked<K> {
    /// Gives up the ownership without closing it. The returned descriptor converts into types of the
    /// standard library.
    ///
    /// # Errors
    /// `NotOwner` and related errors, which return the value; `FdReplaced` if the number no longer
    /// refers to the registered file.
    #[track_caller]
    pub fn disown(self) -> Result<OwnedFd, Refused<Checked<K>>> {
        self.0.disown().map_err(|refused| refused.map(Checked))
    }
}

impl<K: Readable> Read for &Checked<K> {
    #[inline]
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if K::IS_SOCKET {
            checked_io::recv(self.handle(), buffer, RecvFlags::empty())
        } else {
            checked_io::read(self.handle(), buffer)
        }
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if K::IS_SOCKET {
            checked_io::recv_vectored(self.handle(), buffers)
        } else {
            checked_io::read_vectored(self.handle(), buffers)
        }
    }

    /// As the trait's own, which would name a line of the standard library as the place of a rejected
    /// read.
    #[track_caller]
    fn read_exact(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<K: Readable> Read for Checked<K> {
    #[inline]
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    #[track_caller]
    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }

    #[track_caller]
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        (&*self).read_exact(buffer)
    }
}

impl<K: Writable> Write for &Checked<K> {
    #[inline]
    #[track_caller]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if K::IS_SOCKET {
            checked_io::send(self.handle(), bytes, SendFlags::empty())
        } else {
            checked_io::write(self.handle(), bytes)
        }
    }

    #[track_caller]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        if K::IS_SOCKET {
            checked_io::send_vectored(self.handle(), buffers)
        } else {
            checked_io::write_vectored(self.handle(), buffers)
        }
    }

    /// As the trait's own, which would name a line of the standard library as the place of a rejected
    /// write.
    #[track_caller]
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does nothing: nothing is buffered.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<K: Writable> Write for Checked<K> {
    #[inline]
    #[track_caller]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    #[track_caller]
    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    #[track_caller]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self).write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
