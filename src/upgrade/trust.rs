//! Who may take part in an upgrade: the folder of the socket, and the user of the other process.
//!
//! The failure story: who can connect to the upgrade socket can take the server's addresses, and who can
//! put a socket at its path can give the next server any socket. So the socket belongs to one user, in a
//! folder in which no other user can replace it, and each process checks the user of the other. Root is no
//! exception: a server that runs as root takes no sockets from a process of another user, and one of
//! another user gives none to root. To replace it, start the new one as the same user.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use echown_fd::escape;

use crate::net::Peer;

/// Others can write: group, everyone.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Only the owner of a file can remove or rename it.
const STICKY: u32 = 0o1000;

/// Checks that no other user can replace a file in the folder of `path`.
///
/// # Errors
/// What is wrong with the folder, and what to do.
pub(super) fn check_folder(path: &Path) -> Result<(), String> {
    let folder = folder(path);
    let shown = escape::path(&folder);
    let is = fs::metadata(&folder).map_err(|error| format!("the folder {shown}: {error}"))?;
    let me = rustix::process::geteuid().as_raw();
    if is.uid() != me && is.uid() != 0 {
        return Err(format!(
            "the folder {shown} belongs to user {}, who could replace the socket; use a folder of user \
             {me} or root",
            is.uid()
        ));
    }
    if is.mode() & WRITABLE_BY_OTHERS != 0 && is.mode() & STICKY == 0 {
        return Err(format!(
            "others can write to the folder {shown} (mode {:03o}) and could replace the socket; \
             `chmod go-w {shown}`, or use another folder",
            is.mode() & 0o777
        ));
    }
    Ok(())
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => PathBuf::from("."),
    }
}

/// Checks that the process at the other end runs as this one's user.
///
/// # Errors
/// The two users.
pub(super) fn check_user(peer: Peer) -> Result<(), String> {
    let me = rustix::process::geteuid().as_raw();
    if peer.user == me {
        return Ok(());
    }
    Err(format!("it runs as user {}, and this process as user {me}", peer.user))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_is_refused_if_others_can_write_to_it_unless_it_is_sticky() {
        let folder = std::env::temp_dir().join(format!("echown-folder-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let check = |mode| {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            check_folder(&folder.join("upgrade"))
        };
        let (fine, sticky) = (check(0o755), check(0o1777));
        let (group, world) = (check(0o775), check(0o777));
        fs::remove_dir(&folder).unwrap();
        assert_eq!((fine, sticky), (Ok(()), Ok(())));
        assert!(
            world.unwrap_err().contains("(mode 777) and could replace the socket; `chmod go-w ")
        );
        assert!(group.is_err());
        assert!(check_folder(&folder.join("upgrade")).unwrap_err().contains("No such file"));
        assert_eq!(check_folder(Path::new("upgrade")), check_folder(Path::new("./upgrade")));
    }

    #[test]
    fn only_the_same_user_may_take_part_and_root_is_no_exception() {
        let me = rustix::process::geteuid().as_raw();
        let check = |user| check_user(Peer { process: 1, user });
        assert_eq!(check(me), Ok(()));
        let other = if me == 0 { 1 } else { 0 };
        let expected = format!("it runs as user {other}, and this process as user {me}");
        assert_eq!(check(other), Err(expected));
    }
}
