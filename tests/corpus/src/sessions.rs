//! A registry that is entered and never left.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

static SESSIONS: Mutex<Vec<UnixStream>> = Mutex::new(Vec::new());

/// The fault: who logs out is not taken out.
pub fn log_in() -> io::Result<()> {
    let (ours, _theirs) = UnixStream::pair()?;
    SESSIONS.lock().unwrap().push(ours);
    Ok(())
}
