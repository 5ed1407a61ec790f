//! A style as a client sees it, and the state to which a server must return.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::super::broadcast::{frame, never_reads as never_hears, try_hear};
use super::super::server::{DEADLINE, Server, never_reads, pattern};

/// A style, as a client sees it.
pub struct Dialect {
    /// A name for files of the test: two tests may run at once.
    pub name: &'static str,
    /// Arguments of `serve` that choose it.
    pub arguments: &'static [&'static str],
    /// The request number `n`, of about `size` bytes.
    pub request: fn(n: usize, bytes: usize) -> Vec<u8>,
    /// The reply of the server to a request.
    pub reply: fn(request: &[u8]) -> Vec<u8>,
    /// Whether a client also receives bytes that it did not request.
    pub hears_others: bool,
    /// Reads until the reply, and skips what the style may send before it.
    pub hear: fn(client: &mut dyn Read, reply: &[u8]) -> io::Result<()>,
    /// A client that sends and does not read, until the server's writes to it block.
    pub never_reads: fn(&Server) -> TcpStream,
    /// The log line for a connection that cannot get its threads.
    pub out_of_threads: &'static str,
    /// The maximum number of bytes without a reply when a request is cut short.
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
        assert!(heard == reply, "an unexpected reply");
        Ok(())
    },
    never_reads,
    out_of_threads: "accept paused",
    request_bytes_max: 0,
};

/// The plain echo with connections that are parked while they wait.
pub const PARKED: Dialect = Dialect {
    name: "parked",
    arguments: &["--park"],
    never_reads: super::super::parking::never_reads,
    ..PLAIN
};

/// Lines, passed through machines. A longer request is several lines.
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

/// Every client receives all frames, its own included. Here a frame carries its number and a
/// pattern.
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
            assert!(heard[8..] == pattern(heard.len() - 8), "a frame that no client sent");
            if heard == reply[8..] {
                return Ok(());
            }
        }
    },
    never_reads: never_hears,
    // At that point a connection has the thread of its reader, and not the one of its writer.
    out_of_threads: "failed to start its writer",
    request_bytes_max: 0,
};

/// The same by callbacks.
pub const CALLBACK: Dialect = Dialect { arguments: &["--style", "callback"], ..PLAIN };

/// The maximum of idle threads that a pool keeps while a task runs, as an acceptor always does.
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

    /// Waits until the server has returned to its baseline: descriptors, custody table, threads,
    /// and that it serves a new client.
    pub fn assert_restored(&self, dialect: &Dialect, server: &mut Server) {
        let numbers: Vec<i32> = self.descriptors.iter().map(|(number, _)| *number).collect();
        let deadline = Instant::now() + DEADLINE;
        // Both must agree: after many clients have left, the last of them are still accepted and
        // found closed.
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
