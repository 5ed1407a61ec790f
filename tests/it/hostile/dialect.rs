//! A way of echoing as a client sees it, and the state of a server to which it must return.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::super::broadcast::{frame, never_reads as never_hears, try_hear};
use super::super::server::{DEADLINE, Server, never_reads, pattern};

/// A way of echoing, as a client sees it.
pub struct Dialect {
    /// For what tests leave outside: two may run at once.
    pub name: &'static str,
    /// Arguments of `serve` that choose it.
    pub arguments: &'static [&'static str],
    /// The request number `n` of about so many bytes.
    pub request: fn(n: usize, bytes: usize) -> Vec<u8>,
    /// What the server answers to a request.
    pub reply: fn(request: &[u8]) -> Vec<u8>,
    /// Whether a client also gets what it has not asked for.
    pub hears_others: bool,
    /// Reads until the reply has come, past whatever else the style may say before.
    pub hear: fn(client: &mut dyn Read, reply: &[u8]) -> io::Result<()>,
    /// A client that sends and does not read, so that the server cannot write to it any more.
    pub never_reads: fn(&Server) -> TcpStream,
    /// What the log says when a connection cannot have its threads.
    pub out_of_threads: &'static str,
    /// The most bytes that are taken and not answered when a request is cut short.
    pub request_bytes_max: u64,
}

/// The plain echo of RFC 862.
pub const PLAIN: Dialect = Dialect {
    name: "plain",
    arguments: &[],
    request: |_, bytes| pattern(bytes),
    reply: <[u8]>::to_vec,
    hears_others: false,
    hear: |client, reply| {
        let mut heard = vec![0; reply.len()];
        client.read_exact(&mut heard)?;
        assert!(heard == reply, "another answer than expected");
        Ok(())
    },
    never_reads,
    out_of_threads: "accept paused",
    request_bytes_max: 0,
};

/// Lines, by way of machines. A longer request is several lines.
pub const STAGED: Dialect = Dialect {
    name: "staged",
    arguments: &["--style", "staged", "--max-connections", "1024"],
    request: |_, bytes| {
        let letter = |byte: u8| if byte == b'\n' { b'.' } else { byte };
        let mut lines: Vec<u8> = pattern(bytes).into_iter().map(letter).collect();
        lines.iter_mut().skip(LINE_BYTES - 1).step_by(LINE_BYTES).for_each(|byte| *byte = b'\n');
        lines.push(b'\n');
        lines
    },
    reply: <[u8]>::to_vec,
    hears_others: false,
    hear: PLAIN.hear,
    never_reads: super::super::staged::never_reads,
    out_of_threads: "accept paused",
    request_bytes_max: LINE_BYTES as u64,
};

const LINE_BYTES: usize = 8000;

/// Everybody hears everybody, and so oneself. Here a frame carries its number and a pattern.
pub const BROADCAST: Dialect = Dialect {
    name: "broadcast",
    arguments: &["--style", "broadcast", "--max-send-queue", "64MiB"],
    request: |n, bytes| {
        let mut payload = n.to_be_bytes().to_vec();
        payload.extend(pattern(bytes));
        frame(&payload)
    },
    reply: <[u8]>::to_vec,
    hears_others: true,
    hear: |client, reply| {
        loop {
            let heard = try_hear(client)?;
            assert!(heard[8..] == pattern(heard.len() - 8), "a frame that nobody has sent");
            if heard == reply[8..] {
                return Ok(());
            }
        }
    },
    never_reads: never_hears,
    // A connection has its reading task's thread by then, and not its writer's.
    out_of_threads: "failed to start its writer",
    request_bytes_max: 0,
};

/// The same by callbacks.
pub const CALLBACK: Dialect = Dialect { arguments: &["--style", "callback"], ..PLAIN };

/// Idle threads that a pool keeps at the most while a task runs, as an acceptor always does.
const THREADS_KEPT: usize = 32;

impl Dialect {
    pub fn start(&self, arguments: &[&str]) -> Server {
        Server::start(&[self.arguments, arguments].concat())
    }

    pub fn exchange(&self, client: &mut TcpStream, n: usize) {
        self.try_exchange(client, n).expect("the server replies");
    }

    pub fn try_exchange(&self, client: &mut TcpStream, n: usize) -> io::Result<()> {
        let request = (self.request)(n, 100);
        client.write_all(&request)?;
        (self.hear)(client, &(self.reply)(&request)).map(drop)
    }
}

/// Descriptors and threads of a server before a scenario.
pub struct Calm {
    pub descriptors: Vec<(i32, String)>,
    pub threads: usize,
}

impl Calm {
    pub fn of(server: &Server) -> Calm {
        // Acceptors may not have their threads yet.
        const ACCEPTORS_MAX: usize = 4;
        Calm { descriptors: server.open_descriptors(), threads: server.threads() + ACCEPTORS_MAX }
    }

    /// Waits until the server is calm again: descriptors, custody table, threads, and a new client.
    pub fn assert_restored(&self, dialect: &Dialect, server: &mut Server) {
        let numbers: Vec<i32> = self.descriptors.iter().map(|(number, _)| *number).collect();
        let deadline = Instant::now() + DEADLINE;
        // Both must agree: after many clients have left, the last of them are still accepted and found
        // closed.
        loop {
            server.wait_for_descriptors(|open| open == self.descriptors);
            let custody = server.custody();
            if custody == numbers {
                break;
            }
            assert!(Instant::now() < deadline, "custody {custody:?}, descriptors {numbers:?}");
        }
        server.wait_for("surplus threads to leave", |server| {
            server.threads() <= self.threads + THREADS_KEPT
        });
        // A client behind the last of many in the queue may still be rejected.
        server.wait_for("a client to be served", |server| {
            dialect.try_exchange(&mut server.connect(), 0).is_ok()
        });
    }
}
