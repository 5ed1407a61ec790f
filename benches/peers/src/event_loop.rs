//! The mio peer: one thread and its event loop, edge-triggered.
//!
//! All connections share one buffer. Bytes that a client does not accept at once are kept with its
//! connection, which is not read from until all of them are sent.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net;
use std::thread;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::BUFFER_BYTES;

const LISTENER: Token = Token(0);
const EVENTS_MAX: usize = 1024;

/// The pause after running out of descriptors.
const PAUSE: Duration = Duration::from_millis(10);

struct Connection {
    stream: TcpStream,
    /// Bytes to send. While there are any, nothing is read.
    kept: Vec<u8>,
    /// The client has closed its sending side, or an error is pending: no other event follows.
    is_last: bool,
}

enum Now {
    Waits,
    Ended,
}

/// Serves indefinitely.
pub(crate) fn run(listener: net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut connections = HashMap::new();
    let mut next = LISTENER.0 + 1;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            answer => answer?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections, &mut next)?;
            } else if let Some(connection) = connections.get_mut(&event.token())
                && let Now::Ended = connection.go_on(event, &mut buffer)
            {
                connections.remove(&event.token());
            }
        }
    }
}

fn accept(
    poll: &Poll,
    listener: &TcpListener,
    connections: &mut HashMap<Token, Connection>,
    next: &mut usize,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let token = Token(*next);
                *next += 1;
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, token, both)?;
                let connection = Connection { stream, kept: Vec::new(), is_last: false };
                connections.insert(token, connection);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // Edge-triggered: there is no second event for it.
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

impl Connection {
    fn go_on(&mut self, event: &Event, buffer: &mut [u8]) -> Now {
        self.is_last |= event.is_read_closed() || event.is_error();
        match self.send_kept().and_then(|()| self.echo(buffer)) {
            Ok(now) => now,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Now::Waits,
            Err(_) => Now::Ended,
        }
    }

    fn send_kept(&mut self) -> io::Result<()> {
        while !self.kept.is_empty() {
            let sent = send(&mut self.stream, &self.kept)?;
            self.kept.drain(..sent);
        }
        Ok(())
    }

    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<Now> {
        loop {
            let received = match self.stream.read(buffer) {
                Ok(0) => return Ok(Now::Ended),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut sent = 0;
            while sent < received {
                match send(&mut self.stream, &buffer[sent..received]) {
                    Ok(more) => sent += more,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.kept.extend_from_slice(&buffer[sent..received]);
                        return Ok(Now::Waits);
                    }
                    Err(error) => return Err(error),
                }
            }
            // Less than requested means that all was read: the next byte causes a new event
            // (epoll(7)).
            if received < buffer.len() && !self.is_last {
                return Ok(Now::Waits);
            }
        }
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}
