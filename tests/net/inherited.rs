//! Options that every stream has by default: urgent data in line, and TCP keep-alive.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use echown::net::{KeepAlive, Listener, Stream};
use echown::test;
use rustix::net::SendFlags;

use super::{Place, clean, connected};
use crate::common::DEADLINE;

/// Sends `abcXdefYg` with `X` and `Y` as urgent data. Two of them, because a socket that has urgent
/// data out of line loses only the last.
fn send_urgently(peer: impl AsFd) {
    let urgent = SendFlags::OOB;
    let usual = SendFlags::empty();
    for (bytes, flags) in
        [("abc", usual), ("X", urgent), ("def", usual), ("Y", urgent), ("g", usual)]
    {
        let sent = rustix::net::send(&peer, bytes.as_bytes(), flags).unwrap();
        assert_eq!(sent, bytes.len());
    }
}

#[track_caller]
fn assert_receives_all(mut stream: &Stream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(String::from_utf8_lossy(&received), "abcXdefYg");
}

#[test]
fn urgent_data_arrives_in_line_on_accepted_and_on_connected_streams() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().inet().unwrap();
        let peer = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        send_urgently(&peer);
        drop(peer);
        assert_receives_all(&accepted);
        // With two listeners the kernel chooses one: close the first.
        let sibling = listener.reuse_port_clone(16).unwrap();
        listener.close().unwrap();
        let peer = TcpStream::connect(address).unwrap();
        let (accepted, _) = sibling.accept().unwrap();
        send_urgently(&peer);
        drop(peer);
        assert_receives_all(&accepted);

        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let connected = Stream::connect(address).unwrap();
        let (peer, _) = server.accept().unwrap();
        send_urgently(&peer);
        drop(peer);
        assert_receives_all(&connected);
    });
}

/// Linux supports urgent data on Unix sockets since 5.15, if it is compiled in.
#[test]
fn urgent_data_arrives_in_line_on_unix_streams() {
    let (one, _other) = UnixStream::pair().unwrap();
    if rustix::net::send(&one, b"X", SendFlags::OOB).is_err() {
        eprintln!("skipped: this kernel has no urgent data on Unix sockets");
        return;
    }
    let place = Place::new("urgent");
    clean(|| {
        let listener = Listener::bind_unix(&place.0).unwrap();
        let peer = UnixStream::connect(&place.0).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        send_urgently(&peer);
        drop(peer);
        assert_receives_all(&accepted);
        let (one, other) = Stream::pair().unwrap();
        let other = other.disown().unwrap();
        send_urgently(&other);
        drop(other);
        assert_receives_all(&one);
    });
}

#[test]
fn accepted_streams_inherit_keep_alive_from_their_listener() {
    const OURS: KeepAlive =
        KeepAlive { idle: Duration::from_secs(7), interval: Duration::from_secs(3), probes: 4 };
    clean(|| {
        let plain = Listener::bind("127.0.0.1:0").unwrap();
        let (_client, accepted) = connected(&plain);
        assert_eq!(accepted.keep_alive().unwrap(), None);

        let options = Listener::options().keep_alive(Some(OURS));
        let listener = options.bind("127.0.0.1:0").unwrap();
        let (_client, accepted) = connected(&listener);
        assert_eq!(accepted.keep_alive().unwrap(), Some(OURS));
        let sibling = listener.reuse_port_clone(16).unwrap();
        listener.close().unwrap();
        let (client, accepted) = connected(&sibling);
        assert_eq!(accepted.keep_alive().unwrap(), Some(OURS));

        accepted.set_keep_alive(None).unwrap();
        assert_eq!(accepted.keep_alive().unwrap(), None);
        client.set_keep_alive(Some(KeepAlive::DEFAULT)).unwrap();
        assert_eq!(client.keep_alive().unwrap(), Some(KeepAlive::DEFAULT));
    });
}

#[test]
fn a_client_detects_that_the_host_of_its_server_is_gone() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let endpoint = listener.local_addr().unwrap().to_string().parse().unwrap();
        let client = Stream::connect_to_endpoint(&endpoint).unwrap();
        assert_eq!(client.keep_alive().unwrap(), Some(KeepAlive::DEFAULT));
    });
}

#[test]
fn a_unix_listener_accepts_the_keep_alive_option() {
    let place = Place::new("alive");
    clean(|| {
        let options = Listener::options().keep_alive(Some(KeepAlive::DEFAULT));
        let listener = options.bind_unix(&place.0).unwrap();
        let (_client, _accepted) = connected(&listener);
    });
}
