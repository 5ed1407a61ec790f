//! The file of a Unix socket: it is created with its mode and group, replaced if it is stale, and removed
//! at exit.
//!
//! Everything happens at the path itself, under a lock of its folder. The kernel rejects clients until
//! `listen(2)`, so mode and group are set between `bind(2)` and `listen(2)`, and no client can use the
//! socket before. The mode comes from the file mode creation mask, not from a `chmod(2)`: a user who can
//! write in the folder could replace the file by a link in between.
//!
//! The failure story: two servers start at once where a killed one has left its file. Both find that the
//! kernel rejects a connection, the second removes the file that the first has just bound, and the first
//! serves a socket that no client can reach. The lock makes the second wait, and then it finds a server.
//!
//! # Limits
//!
//! - The lock is advisory (`flock(2)`): other programs that bind there do not take it. It needs the right
//!   to read the folder. A server waits [`LOCK_TIMEOUT`] for it, and then binds without it.
//! - The mask belongs to the process, so a mode can only be set before other threads create files.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, RawMode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
use rustix::process::umask;

use crate::net::{Listener, ListenerOptions};
use crate::ownership::{self, Owned};
use crate::sys::platform;

/// How long another process may hold the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the lock is tried meanwhile.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Who may connect to a Unix socket: those who may write to its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketAccess {
    /// The permission bits; `None`: all, without those of the file mode creation mask.
    pub(crate) mode: Option<u32>,
    /// The group's number; `None`: as for every new file in the folder.
    pub(crate) group: Option<u32>,
}

/// A Unix socket's file, which outlives the socket unless it is removed.
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Option<Identity>,
    keeper: FileKeeper,
}

/// Who removes a socket's file at exit: this process, or another one that has the socket, too.
#[derive(Clone, Default)]
pub(crate) struct FileKeeper {
    is_other: Arc<AtomicBool>,
}

// The program uses it, and the library does not.
#[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(dead_code))]
impl FileKeeper {
    /// Leaves the file to another process.
    pub(crate) fn leave(&self) {
        // ord: Release, to the Acquire in the drop of the file: what came before the hand-over happened before the drop.
        self.is_other.store(true, Ordering::Release);
    }

    /// Takes the file over from another process.
    pub(crate) fn take(&self) {
        // ord: Release, as above.
        self.is_other.store(false, Ordering::Release);
    }
}

/// What identifies a file: another program may have created one at its path meanwhile. Device, inode, and
/// the time of its creation, because the next file may get the same inode. (Nothing writes to a socket's
/// file, so it keeps its time of modification.)
type Identity = (u64, u64, i64, i64);

impl SocketFile {
    /// The file at a path.
    pub(super) fn at(path: &Path) -> SocketFile {
        SocketFile { path: path.into(), identity: identity(path), keeper: FileKeeper::default() }
    }

    /// Decides who removes it.
    pub(crate) fn keeper(&self) -> FileKeeper {
        self.keeper.clone()
    }

    /// Where it is.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this file is at a path.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.identity.is_some() && identity(path) == self.identity
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // ord: Acquire, to the Release of the process that decided.
        if self.keeper.is_other.load(Ordering::Acquire) {
            return;
        }
        if self.is_at(&self.path) {
            // It may already be gone.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
}

/// Listens at a path.
///
/// # Errors
/// `AddrInUse`: something exists there that is not a stale socket. Errors of the system calls and the
/// registry, which leave no file behind.
#[track_caller]
pub(super) fn listen(
    path: &Path,
    options: &ListenerOptions,
    access: SocketAccess,
) -> io::Result<(Listener, SocketFile)> {
    let _lock = lock(path)?;
    match bind(path, options, access) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path)?;
            bind(path, options, access)
        }
        result => result,
    }
}

#[track_caller]
fn bind(
    path: &Path,
    options: &ListenerOptions,
    access: SocketAccess,
) -> io::Result<(Listener, SocketFile)> {
    let mask = access.mode.map(Mask::of_mode);
    let mut file = None;
    let listener = options.bind_unix_then(path, || {
        drop(mask);
        // If one of the next steps fails, it is dropped and removed.
        file = Some(SocketFile::at(path));
        access.apply(path)
    })?;
    let file = file.expect("the closure has run before the listener listens");
    Ok((listener, file))
}

/// A file mode creation mask, until it is dropped.
struct Mask {
    before: Mode,
}

impl Mask {
    /// The mask for new files with this mode.
    fn of_mode(mode: u32) -> Mask {
        Mask { before: umask(Mode::from_raw_mode((!mode & 0o777) as RawMode)) }
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        umask(self.before);
    }
}

impl SocketAccess {
    /// Sets the group of a new socket's file, and checks its mode.
    fn apply(self, path: &Path) -> io::Result<()> {
        if let Some(group) = self.group {
            set_group(path, group).map_err(|error| {
                let text = format!(
                    "the group of its file cannot be set to {group}: {error}; the server's user must \
                     be a member of the group"
                );
                io::Error::new(error.kind(), text)
            })?;
        }
        let Some(mode) = self.mode else { return Ok(()) };
        let is = fs::symlink_metadata(path)?.mode() & 0o777;
        if is == mode {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the mode of its file is {is:04o} and not {mode:04o}: the folder has a default access control list, see \
             `getfacl`"
        )))
    }
}

/// Sets the group of the socket at a path, and of nothing that has replaced it.
#[cfg(target_os = "linux")]
fn set_group(path: &Path, group: u32) -> io::Result<()> {
    use rustix::fs::{AtFlags, FileType, Gid, chownat, fstat, open};

    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Not owned, because nothing can be asked of such a descriptor; it is closed on return.
    let file = open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(Errno::NOTSOCK.into());
    }
    Ok(chownat(&file, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?)
}

#[cfg(not(target_os = "linux"))]
fn set_group(path: &Path, group: u32) -> io::Result<()> {
    std::os::unix::fs::lchown(path, None, Some(group))
}

/// Locks the folder of a path against other servers that bind there. `None`: it cannot be locked.
fn lock(path: &Path) -> io::Result<Option<Owned<OwnedFd>>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // `bind` says what is wrong with the folder.
    let Ok(folder) = rustix::fs::open(folder, flags, Mode::empty()) else { return Ok(None) };
    let folder = ownership::own_fd(folder)?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        let locked = folder
            .with(|folder| rustix::fs::flock(&*folder, FlockOperation::NonBlockingLockExclusive))?;
        match locked {
            Ok(()) => return Ok(Some(folder)),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Whether a path is a socket without a listener, left behind by a server that was killed.
fn is_stale(path: &Path) -> bool {
    is_socket(path) && is_rejected(path).unwrap_or(false)
}

/// Whether the kernel rejects a connection. Does not block: a running server whose queue is full
/// causes `EAGAIN`.
fn is_rejected(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let nonblocking = platform::Mode::NonBlocking;
    let probe = platform::socket(AddressFamily::UNIX, SocketType::STREAM, nonblocking)?;
    let probe = ownership::own_fd(probe)?;
    Ok(probe.with(|probe| rustix::net::connect(probe, &address) == Err(Errno::CONNREFUSED))?)
}

pub(super) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}
