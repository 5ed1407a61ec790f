//! Parked connections: thousands wait without a thread, and clients that do not read delay no other.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, sendmsg,
    socket,
};
use rustix::process::Signal;

use super::server::{DEADLINE, Server, pattern, summary};
use crate::common::temp_path::TempPath;
use crate::common::wait_until;

/// A client whose kernel keeps little of what it does not read. Another one's drops what arrives once it is full,
/// and with it the acknowledgements that its own sends wait for.
pub fn connect_with_a_small_window(server: &Server) -> TcpStream {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_recv_buffer_size(&client, 64 * 1024).unwrap();
    rustix::net::connect(&client, &server.address()).unwrap();
    let client = TcpStream::from(client);
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// A client that sends and does not read, until the server does not read, either.
pub fn never_reads(server: &Server) -> TcpStream {
    let client = connect_with_a_small_window(server);
    fill(server, &client);
    client
}

/// How often nothing could be sent before it is the end of it.
const STILL: u32 = 20;

/// Sends without reading until the server's kernel and the client's are full, so that the server no longer reads
/// from this client. Returns what was sent.
pub fn fill(server: &Server, client: &TcpStream) -> Vec<u8> {
    let block = pattern(256 * 1024 + 1);
    let mut sent = Vec::new();
    client.set_nonblocking(true).unwrap();
    let mut still = 0;
    wait_until("the server does not read", || {
        match (&*client).write(&block) {
            Ok(bytes) => {
                sent.extend_from_slice(&block[..bytes]);
                still = 0;
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        still += 1;
        // The table of all sockets may be long.
        still % STILL == 0 && server.end_of(client).is_some_and(|end| end.unread > 0)
    });
    client.set_nonblocking(false).unwrap();
    sent
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
    let server = Server::start(&["--park", "--max-connections", "1100", "--write-timeout", "10m"]);
    // All threads of an idle server run once it has served.
    round_trip(&server.connect(), b"first");
    let before = server.threads();
    let stuck: Vec<TcpStream> = (0..STUCK).map(|_| never_reads(&server)).collect();
    let idle: Vec<TcpStream> = (0..IDLE).map(|_| server.connect()).collect();
    idle.iter().for_each(|client| round_trip(client, b"once"));
    assert_eq!(server.threads(), before, "a thread for an idle client");

    let active: Vec<TcpStream> = (0..ACTIVE).map(|_| server.connect()).collect();
    for round in 0..20_u32 {
        let messages = active.iter().map(|mut client| client.write_all(&round.to_le_bytes()));
        messages.for_each(Result::unwrap);
        for mut client in &active {
            let mut back = [0; 4];
            client.read_exact(&mut back).unwrap();
            assert_eq!(back, round.to_le_bytes());
        }
    }
    idle.iter().for_each(|client| round_trip(client, b"twice"));
    assert_eq!(server.threads(), before, "a thread for a client that does not read");
    drop((idle, active, stuck));
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(summary(&lines, "leaks"), 0);
}

#[test]
fn a_client_that_reads_at_last_gets_everything_and_is_parked_again() {
    let server = Server::start(&["--park", "--write-timeout", "10m"]);
    round_trip(&server.connect(), b"first");
    let before = server.threads();
    let client = connect_with_a_small_window(&server);
    let sent = fill(&server, &client);
    let mut got = Vec::new();
    let mut piece = vec![0; 256 * 1024];
    while got.len() < sent.len() {
        let bytes = (&client).read(&mut piece).unwrap();
        assert!(bytes > 0, "the echo is cut short after {} of {} bytes", got.len(), sent.len());
        got.extend_from_slice(&piece[..bytes]);
    }
    assert!(got == sent, "the bytes differ");
    round_trip(&client, b"afterwards");
    assert_eq!(server.threads(), before);
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
}

/// Sends the end and reads to the end: how many bytes came back.
fn read_all(mut client: &TcpStream) -> io::Result<usize> {
    // It fails if the server has closed the connection.
    let _ = client.shutdown(Shutdown::Write);
    let mut piece = vec![0; 256 * 1024];
    let mut all = 0;
    loop {
        match client.read(&mut piece)? {
            0 => return Ok(all),
            bytes => all += bytes,
        }
    }
}

#[test]
fn beyond_the_limit_the_client_that_waited_longest_is_reset_and_counted() {
    let mut server = Server::start(&["--park", "--park-blocked", "2", "--write-timeout", "10m"]);
    let clients: Vec<TcpStream> = (0..3).map(|_| connect_with_a_small_window(&server)).collect();
    let sent: Vec<usize> = clients.iter().map(|client| fill(&server, client).len()).collect();
    let ends: Vec<_> = clients.iter().map(read_all).collect();
    let reset = io::ErrorKind::ConnectionReset;
    assert!(matches!(&ends[0], Err(error) if error.kind() == reset), "{:?}", ends[0]);
    assert_eq!(ends[1].as_ref().ok(), Some(&sent[1]), "the second one is served as before");
    assert_eq!(ends[2].as_ref().ok(), Some(&sent[2]), "and the third");
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
