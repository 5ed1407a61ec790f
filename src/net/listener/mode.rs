//! The mode of a Unix socket's file.

use std::io;

use rustix::fs::{Mode, RawMode};

use super::{Listener, ListenerOptions};

impl ListenerOptions {
    /// Who may connect to a Unix socket: the mode of its file, less the umask.
    #[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(dead_code))]
    pub(crate) fn mode(mut self, mode: u32) -> ListenerOptions {
        self.mode = Some(mode);
        self
    }

    /// Sets the mode before the bind, which creates the file with the mode of the socket. So there is no
    /// moment at which others can connect.
    #[track_caller]
    pub(super) fn set_mode(&self, listener: &Listener) -> io::Result<()> {
        let Some(mode) = self.mode else { return Ok(()) };
        let mode = Mode::from_raw_mode(mode as RawMode);
        listener.handle().call(|fd| rustix::fs::fchmod(fd, mode))
    }
}
