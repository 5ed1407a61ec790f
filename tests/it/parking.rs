//! Parked connections: thousands wait without a thread, and clients that do not read delay no other.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;

use super::server::{DEADLINE, Server, pattern, summary};
use crate::common::temp_path::TempPath;
use crate::common::wait_until;

/// Sends without reading until the server's kernel and the client's are full, so that a thread of the server
/// waits for this client.
pub fn fill(client: &TcpStream, is_waiting: impl Fn() -> bool) {
    client.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    let block = pattern(256 * 1024);
    wait_until("a writer waits for the client", || {
        // What it returns does not matter: the state of the server counts.
        let _ = (&*client).write(&block);
        is_waiting()
    });
}

/// How many threads wait in a write.
pub fn writers(server: &Server) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let is_writing = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("syscall"))
            .is_ok_and(|call| call.split(' ').next() == Some(super::server::SENDTO))
    };
    tasks.filter_map(Result::ok).filter(is_writing).count()
}

pub fn round_trip(mut client: &TcpStream, message: &[u8]) {
    client.write_all(message).unwrap();
    let mut back = vec![0; message.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == message, "another echo");
}

#[test]
fn idle_active_and_stuck_clients_are_served_at_once_with_few_threads() {
    const IDLE: usize = 1000;
    const ACTIVE: usize = 64;
    const STUCK: usize = 20;
    let server = Server::start(&["--park", "--max-connections", "1100"]);
    // All threads of an idle server run once it has served.
    round_trip(&server.connect(), b"first");
    let before = server.threads();
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| server.connect()).collect();
    idle.iter().for_each(|client| round_trip(client, b"once"));
    assert_eq!(server.threads(), before, "a thread for an idle client");

    let active: Vec<TcpStream> = (0..ACTIVE).map(|_| server.connect()).collect();
    let stuck: Vec<TcpStream> = (0..STUCK).map(|_| server.connect()).collect();
    for (number, client) in stuck.iter().enumerate() {
        fill(client, || writers(&server) > number);
    }
    for round in 0..20_u32 {
        let messages = active.iter().map(|mut client| client.write_all(&round.to_le_bytes()));
        messages.for_each(Result::unwrap);
        for mut client in &active {
            let mut back = [0; 4];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, round.to_le_bytes());
        }
    }
    assert_eq!(server.threads(), before + STUCK);
    idle.iter().for_each(|client| round_trip(client, b"twice"));
    assert_eq!(server.threads(), before + STUCK);
    drop((idle, active, stuck));
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(summary(&lines, "leaks"), 0);
}

#[test]
fn a_client_that_reads_at_last_gets_everything_and_is_parked_again() {
    let server = Server::start(&["--park"]);
    round_trip(&server.connect(), b"first");
    let before = server.threads();
    let client = server.connect();
    client.set_nonblocking(true).unwrap();
    let block = pattern(64 * 1024 + 1);
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    wait_until("a writer waits for the client", || {
        match (&client).write(&block) {
            Ok(bytes) => sent.extend_from_slice(&block[..bytes]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        writers(&server) > 0
    });
    client.set_nonblocking(false).unwrap();
    let mut piece = vec![0; 256 * 1024];
    while got.len() < sent.len() {
        let bytes = (&client).read(&mut piece).unwrap();
        assert!(bytes > 0, "the echo is cut short after {} of {} bytes", got.len(), sent.len());
        got.extend_from_slice(&piece[..bytes]);
    }
    assert!(got == sent, "the bytes differ");
    wait_until("the writer parks it", || writers(&server) == 0);
    round_trip(&client, b"afterwards");
    // The pool keeps the thread for the next writer.
    assert!(server.threads() <= before + 1);
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn beyond_the_writers_the_client_that_waited_longest_is_reset_and_counted() {
    let mut server = Server::start(&["--park", "--park-writers", "2"]);
    let clients: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for (number, client) in clients[..2].iter().enumerate() {
        fill(client, || writers(&server) > number);
    }
    let mut piece = vec![0; 64 * 1024];
    clients[2].set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    // The third one's writer takes the place of the first one's.
    server.wait_for("a client is displaced", |_| {
        let _ = (&clients[2]).write(&piece);
        clients[0].set_nonblocking(true).unwrap();
        match clients[0].peek(&mut [0]) {
            Ok(_) => rustix::net::sockopt::socket_error(&clients[0]).is_ok_and(|it| it.is_err()),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    });
    wait_until("the others have writers", || writers(&server) == 2);
    // The second one is served as before.
    clients[1].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert!((&clients[1]).read(&mut piece).unwrap() > 0);
    drop(clients);
    server.wait_for_line("displaced");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    let ended = lines.iter().find(|line| line.starts_with("connections ended: "));
    assert!(ended.is_some_and(|line| line.contains("1 displaced")), "{lines:#?}");
}

#[test]
fn input_after_bytes_with_a_descriptor_is_echoed_on_a_unix_socket() {
    let path = TempPath::new("parked.sock");
    let address = format!("unix:{}", path.text());
    let server = Server::start(&["--listen", &address, "--park"]);
    let mut client = UnixStream::connect(&*path).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.write_all(b"once").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    // All of it is there at the first read, which ends after the bytes that came with the descriptor.
    server.hold();
    client.write_all(b"12").unwrap();
    let one = [client.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&one)));
    sendmsg(&client, &[IoSlice::new(b"3")], &mut control, SendFlags::empty()).unwrap();
    client.write_all(b"45").unwrap();
    server.signal(Signal::CONT);
    let mut back = [0; 5];
    client.read_exact(&mut back).expect("all of it comes back");
    assert_eq!(&back, b"12345");
    // The other address serves, too.
    round_trip(&server.connect(), b"by TCP");
    drop(client);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert_eq!(summary(&lines, "leaks"), 0);
}
