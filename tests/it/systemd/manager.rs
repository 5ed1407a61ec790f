//! A service manager's end of the notify socket.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use crate::common::temp_path::TempPath;
use crate::server::{DEADLINE, Server, serve};

/// A bound datagram socket, and what arrived there.
pub struct Manager {
    socket: UnixDatagram,
    path: TempPath,
    /// The received messages.
    pub seen: Vec<String>,
}

impl Manager {
    pub fn new() -> Manager {
        let path = TempPath::new("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager { socket, path, seen: Vec::new() }
    }

    /// A command that has this manager.
    pub fn manages<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", self.path.text())
    }

    /// Starts `echown serve --listen 127.0.0.1:0` with further arguments.
    pub fn start(&self, arguments: &[&str]) -> Server {
        Server::run(self.manages(&mut serve(&["127.0.0.1:0"], arguments)), 1)
    }

    /// Waits for a message that contains a line which begins with this text.
    #[track_caller]
    pub fn wait_for(&mut self, begin: &str) -> String {
        self.wait_until(begin, |line| line.starts_with(begin))
    }

    /// Waits for a message with a line that is `wanted`.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            match self.receive(DEADLINE) {
                Some(message) if message.lines().any(&wanted) => return message,
                Some(_) => {}
                None => panic!("no message {what:?} among {:#?}", self.seen),
            }
        }
    }

    /// The next message, unless none arrives in time.
    pub fn receive(&mut self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(bytes) => {
                let message = String::from_utf8(buffer[..bytes].to_vec()).unwrap();
                self.seen.push(message.clone());
                Some(message)
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
                None
            }
        }
    }

    /// Every message that has arrived.
    pub fn all(&mut self) -> &[String] {
        self.socket.set_nonblocking(true).unwrap();
        while self.receive(DEADLINE).is_some() {}
        self.socket.set_nonblocking(false).unwrap();
        &self.seen
    }

    /// Fills the queue of the socket, so that no message fits. Returns how many fill it.
    pub fn fill(&self) -> usize {
        let other = UnixDatagram::unbound().unwrap();
        other.connect(&self.path).unwrap();
        other.set_nonblocking(true).unwrap();
        (0..).take_while(|_| other.send(b"FILLED=1\n").is_ok()).count()
    }
}
