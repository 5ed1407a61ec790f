//! A registry whose entries are never removed.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

static SESSIONS: Mutex<Vec<UnixStream>> = Mutex::new(Vec::new());

/// The fault: a session that logs out is not removed.
pub fn log_in() -> io::Result<()> {
    let (ours, _theirs) = UnixStream::pair()?;
    SESSIONS.lock().unwrap().push(ours);
    Ok(())
}
