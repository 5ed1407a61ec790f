//! Clients that check every byte, and that fail when a reply does not come.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::net::{AddressFamily, SocketType, socket, sockopt};

use crate::common::{DEADLINE, stall};

/// The server ended the connection before the reply was complete.
#[derive(Debug)]
pub struct CutShort {
    /// By a reset, which no client takes for the end of a complete reply.
    pub is_reset: bool,
}

impl From<std::io::Error> for CutShort {
    fn from(error: std::io::Error) -> CutShort {
        let resets = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        CutShort { is_reset: resets.contains(&error.kind()) }
    }
}

/// A connection of a client.
pub struct Client {
    pub stream: TcpStream,
    /// What it has sent, and what it has got back.
    pub sent: u64,
    pub received: u64,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// The server does not listen any more.
    pub fn connect(address: SocketAddr) -> Result<Client, CutShort> {
        Client::of(TcpStream::connect(address)?)
    }

    /// Connects with a small window, so that the server's writes block early.
    ///
    /// # Errors
    /// The server does not listen any more.
    pub fn connect_with_a_small_window(address: SocketAddr) -> Result<Client, CutShort> {
        let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_recv_buffer_size(&client, 64 * 1024).unwrap();
        rustix::net::connect(&client, &address).map_err(std::io::Error::from)?;
        Client::of(TcpStream::from(client))
    }

    fn of(stream: TcpStream) -> Result<Client, CutShort> {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Ok(Client { stream, sent: 0, received: 0 })
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), CutShort> {
        match self.stream.write_all(bytes) {
            Ok(()) => {
                self.sent += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                panic!("the server does not read: {error}")
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Receives exactly this.
    ///
    /// # Errors
    /// The connection ends before; what came until then is the beginning.
    ///
    /// # Panics
    /// Other bytes come, or none.
    pub fn expect(&mut self, bytes: &[u8]) -> Result<(), CutShort> {
        let mut piece = [0; 16 * 1024];
        let mut got = 0;
        while got < bytes.len() {
            let most = piece.len().min(bytes.len() - got);
            match self.stream.read(&mut piece[..most]) {
                Ok(0) => return Err(CutShort { is_reset: false }),
                Ok(more) => {
                    assert!(piece[..more] == bytes[got..got + more], "other bytes at {got}");
                    got += more;
                    self.received += more as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    panic!("no reply after {got} of {} bytes", bytes.len())
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends this and receives it.
    ///
    /// # Errors
    /// The connection ends before.
    pub fn round_trip(&mut self, bytes: &[u8]) -> Result<(), CutShort> {
        self.send(bytes)?;
        self.expect(bytes)
    }

    /// Receives the end of the stream, and nothing before.
    ///
    /// # Errors
    /// The connection was reset instead.
    ///
    /// # Panics
    /// Anything else comes, or nothing.
    pub fn expect_end(&mut self) -> Result<(), CutShort> {
        match self.stream.read(&mut [0; 16]) {
            Ok(0) => Ok(()),
            Ok(more) => panic!("{more} bytes that were not sent"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no end of the stream"),
            Err(error) => Err(error.into()),
        }
    }

    /// Finishes, and receives the end of the stream.
    ///
    /// # Errors
    /// The connection was reset instead.
    pub fn finish(&mut self) -> Result<(), CutShort> {
        self.stream.shutdown(Shutdown::Write)?;
        self.expect_end()
    }

    /// Sends this and finishes, in one segment.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn send_and_finish_at_once(&mut self, bytes: &[u8]) -> Result<(), CutShort> {
        self.stream.set_nodelay(false).unwrap();
        sockopt::set_tcp_cork(&self.stream, true).map_err(std::io::Error::from)?;
        self.send(bytes)?;
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Ends with a reset.
    pub fn reset(self) {
        // An error means that the server was first.
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }

    /// Sends without reading, until nothing more fits for a while or until this many bytes. Returns what
    /// fitted.
    ///
    /// # Errors
    /// The server has closed the connection.
    pub fn send_until_full(&mut self, most: usize, random: &mut Rng) -> Result<Vec<u8>, CutShort> {
        const WHILE: Duration = Duration::from_millis(30);
        let mut bytes = vec![0; most];
        random.fill(&mut bytes);
        let (mut fitted, mut last) = (0, Instant::now());
        self.stream.set_nonblocking(true).unwrap();
        while fitted < most && last.elapsed() < WHILE {
            match self.stream.write(&bytes[fitted..]) {
                Ok(more) => {
                    fitted += more;
                    last = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stall(Duration::from_millis(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
        bytes.truncate(fitted);
        self.sent += fitted as u64;
        Ok(bytes)
    }
}

/// Random bytes, up to this many.
pub fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(1..=most)];
    random.fill(&mut bytes);
    bytes
}
