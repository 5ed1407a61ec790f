//! Tests of each peer: the bytes of a transfer, a half-close, many connections at once, and the
//! end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use wait::{DEADLINE, stall, wait_for};

#[path = "../../../tests/common/wait.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod wait;

/// More than the sockets and buffers hold, so that the server has to wait for a client that does
/// not read.
const TRANSFER_BYTES: usize = 16 * 1024 * 1024;

struct Peer {
    child: Child,
    address: SocketAddr,
}

impl Peer {
    fn start(name: &str) -> Peer {
        // A background job of a script may have SIGINT ignored, and children inherit that.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_echown-peers"), name, "0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").expect("says where");
        Peer { child, address: address.parse().unwrap() }
    }

    /// Waits for the end, and returns the signal that caused it.
    fn wait(&mut self) -> Option<i32> {
        wait_for("the server to end", || self.child.try_wait().unwrap()).signal()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Kills only this child, by its own handle; an error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn names() -> Vec<String> {
    let command = Command::new(env!("CARGO_BIN_EXE_echown-peers")).arg("--list").output().unwrap();
    let list = String::from_utf8(command.stdout).unwrap();
    list.lines().map(|line| line.split_once(' ').expect("a sentence").0.to_owned()).collect()
}

fn for_each(check: impl Fn(&Peer)) {
    for name in names() {
        println!("peer {name}");
        check(&Peer::start(&name));
    }
}

/// Bytes that differ from place to place, so that a lost, repeated or moved byte is detected.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn the_list_names_each_with_a_sentence() {
    assert_eq!(names(), ["threads", "threadpool", "tokio", "tokio-single", "mio", "c", "c-epoll"]);
}

#[test]
fn all_of_a_long_transfer_comes_back_to_a_client_that_reads_late() {
    let bytes = pattern(TRANSFER_BYTES);
    for_each(|peer| {
        let mut client = peer.connect();
        let mut writer = client.try_clone().unwrap();
        let mut back = Vec::with_capacity(bytes.len());
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&bytes).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            // Long enough for the queues of the server to fill up.
            stall(Duration::from_millis(50));
            client.read_to_end(&mut back).unwrap();
        });
        assert!(back == bytes, "{} of {} bytes", back.len(), bytes.len());
    });
}

#[test]
fn after_a_half_close_the_rest_comes_back_and_then_the_end() {
    for_each(|peer| {
        for length in [0, 1, 16 * 1024, 16 * 1024 + 1] {
            let bytes = pattern(length);
            let mut client = peer.connect();
            client.write_all(&bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{} of {length} bytes", back.len());
        }
    });
}

#[test]
fn many_are_served_at_once_each_with_its_own() {
    for_each(|peer| {
        let mut clients: Vec<TcpStream> = (0..100).map(|_| peer.connect()).collect();
        for (index, client) in clients.iter_mut().enumerate().rev() {
            client.write_all(format!("{index:8}").as_bytes()).unwrap();
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let mut back = [0; 8];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, format!("{index:8}").as_bytes());
        }
    });
}

#[test]
fn a_reset_client_does_not_affect_others() {
    for_each(|peer| {
        for _ in 0..20 {
            let mut rude = peer.connect();
            rude.write_all(&pattern(64 * 1024)).unwrap();
            // Closed with unread bytes, which resets the connection.
            drop(rude);
        }
        let mut client = peer.connect();
        client.write_all(b"still there").unwrap();
        let mut back = [0; 11];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"still there");
    });
}

#[test]
fn sigterm_and_sigint_end_it() {
    for (signal, number) in [("-TERM", 15), ("-INT", 2)] {
        for name in names() {
            let mut peer = Peer::start(&name);
            let _client = peer.connect();
            let kill = Command::new("kill").args([signal, &peer.child.id().to_string()]).status();
            assert!(kill.unwrap().success());
            assert_eq!(peer.wait(), Some(number), "{name}");
        }
    }
}
