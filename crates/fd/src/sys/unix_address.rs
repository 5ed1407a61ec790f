//! Names of Unix sockets, decoded from the kernel's `sockaddr_un`.
//!
//! This module decodes the bytes, because rustix 1.1 panics on the 111 bytes that Linux returns for
//! a path of 108 (the structure has no room for the NUL after it), and includes the NUL in a path
//! of 107. Any client can bind either.

use std::ffi::{OsStr, c_char};
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::net::SocketAddrAny;

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixName {
    /// A path in the file system.
    Path(PathBuf),
    /// A name in Linux' abstract namespace, of arbitrary bytes.
    Abstract(Box<[u8]>),
    /// No name.
    Unnamed,
}

impl UnixName {
    /// The name in an address of the family `AF_UNIX`.
    pub fn of(any: &SocketAddrAny) -> UnixName {
        // SAFETY: the pointer refers to the storage inside `any`, which is borrowed for the whole
        // time, and whose first `addr_len` bytes are initialized.
        let bytes = unsafe {
            std::slice::from_raw_parts(any.as_ptr().cast::<u8>(), any.addr_len() as usize)
        };
        UnixName::in_path(bytes.get(offset_of!(libc::sockaddr_un, sun_path)..).unwrap_or_default())
    }

    /// The name in the bytes from `sun_path` on, as many as the kernel returned.
    fn in_path(bytes: &[u8]) -> UnixName {
        match bytes {
            [] => UnixName::Unnamed,
            [0, name @ ..] if cfg!(target_os = "linux") => UnixName::Abstract(name.into()),
            [0, ..] => UnixName::Unnamed,
            // Linux ends every path with a NUL; other systems do so if there is room.
            path => {
                let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                UnixName::Path(OsStr::from_bytes(&path[..end]).into())
            }
        }
    }
}

/// Compiles only if `c_char` is one byte.
const _: () = assert!(size_of::<c_char>() == 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_its_nul_or_at_the_end_of_the_bytes() {
        let path = |bytes: &[u8]| UnixName::Path(OsStr::from_bytes(bytes).into());
        let long = [b'x'; 108];
        assert_eq!(UnixName::in_path(b"/run/echo\0"), path(b"/run/echo"));
        assert_eq!(UnixName::in_path(&long), path(&long));
        assert_eq!(UnixName::in_path(b""), UnixName::Unnamed);
        assert_eq!(UnixName::in_path(b"\0a\0b"), UnixName::Abstract(b"a\0b"[..].into()));
    }
}
