//! Greets a display over a connected socket, and keeps the connection.

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// A connection, known by its number. Dropping it closes the connection.
struct Display {
    number: RawFd,
}

impl Display {
    fn connect(mut socket: UnixStream) -> io::Result<Display> {
        socket.write_all(b"hello")?;
        Ok(Display { number: socket.into_raw_fd() })
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = nix::unistd::close(self.number);
    }
}

pub fn run() -> Result<(), Box<dyn Error>> {
    let (socket, _server) = UnixStream::pair()?;
    let display = Display::connect(socket)?;
    drop(display);
    Ok(())
}
