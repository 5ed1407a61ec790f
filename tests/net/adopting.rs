//! Owning sockets of the standard library, and disowning them.

use std::io::{Read, Write};

use echown::net::{Listener, Stream, pipe};
use echown::ownership::ErrorKind;
use echown::test;

use super::{Place, clean, quiet, run};

#[test]
fn sockets_convert_from_and_to_the_standard_library() {
    let place = Place::new("adopt");
    clean(|| {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = std::os::unix::net::UnixListener::bind(&place.0).unwrap();
        let client = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let local = client.local_addr().unwrap();
        let listener = Listener::own(tcp).unwrap();
        let unix = Listener::own(unix).unwrap();
        assert_eq!(unix.describe().kind, "unix listener");
        let (server, _) = listener.accept().unwrap();
        let client = Stream::own(client).unwrap();
        (&client).write_all(b"x").unwrap();
        (&server).read_exact(&mut [0]).unwrap();
        let client = std::net::TcpStream::from(client.disown().unwrap());
        assert_eq!(client.local_addr().unwrap(), local);
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let one = Stream::own(one).unwrap();
        assert_eq!(one.describe().kind, "unix stream");
        drop(other);
        assert_eq!((&one).read(&mut [0]).unwrap(), 0);
        assert!(listener.disown().is_ok());
    });
}

#[test]
fn a_polled_listener_is_returned_with_its_original_options() {
    clean(|| {
        let (stopped, stop) = pipe().unwrap();
        stop.close().unwrap();
        for nonblocking in [false, true] {
            let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            tcp.set_nonblocking(nonblocking).unwrap();
            let listener = Listener::own(tcp).unwrap();
            assert!(listener.accept_or_stop(&stopped).unwrap().is_none());
            let descriptor = listener.disown().unwrap();
            let flags = rustix::fs::fcntl_getfl(&descriptor).unwrap();
            assert_eq!(flags.contains(rustix::fs::OFlags::NONBLOCK), nonblocking);
        }
    });
}

#[test]
fn an_owned_descriptor_cannot_be_owned_twice_and_is_returned_open() {
    use std::os::fd::{FromRawFd, IntoRawFd};
    let registry = quiet();
    run(&registry, || {
        let (one, mut other) = Stream::pair().unwrap();
        let number = one.describe().number.unwrap();
        #[allow(unsafe_code)]
        // SAFETY: not sound: this is the misuse that the registry must detect. The second owner never
        // closes it.
        let second = unsafe { std::os::unix::net::UnixStream::from_raw_fd(number) };
        let (error, second) = Stream::own(second).unwrap_err().into_parts();
        assert_eq!(error.kind(), ErrorKind::AlreadyOwned);
        assert_eq!(second.unwrap().into_raw_fd(), number);
        (&one).write_all(b"x").unwrap();
        other.read_exact(&mut [0]).unwrap();
    });
    assert_eq!(registry.summary().violations, 1);
}
