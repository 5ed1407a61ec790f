//! Binding a Unix socket in two steps, with time for its file in between.

use std::io;
use std::path::Path;

use echown_fd::kind;
use rustix::net::AddressFamily;

use super::{Listener, ListenerOptions};
use crate::net::socket::unix_path;

impl ListenerOptions {
    /// [`bind_unix`](ListenerOptions::bind_unix), and runs `before_listen` when the file exists and the
    /// kernel still rejects clients.
    ///
    /// # Errors
    /// See [`bind_unix`](ListenerOptions::bind_unix); the error of `before_listen`.
    #[track_caller]
    pub(crate) fn bind_unix_then(
        &self,
        path: &Path,
        before_listen: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Listener> {
        let address = unix_path(path)?;
        let listener = self.socket(AddressFamily::UNIX, kind::UNIX_LISTENER)?;
        self.set_mode(&listener)?;
        listener.handle().call(|fd| rustix::net::bind(fd, &address))?;
        before_listen()?;
        self.listen(listener)
    }
}
