//! Connecting, and transfer of bytes over connections.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

use echown::net::{Address, Listener, Stream};
use echown::ownership::{Error, Registry};
use echown::test;
use echown::thread::spawn_named;

use super::{Place, assert_carries_both_ways, bound_socket, clean, connected, rustix_address};
use crate::common::DEADLINE;

#[test]
fn a_tcp_connection_works_in_both_directions() {
    clean(|| {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_carries_both_ways(&listener, "tcp stream");
    });
}

#[test]
fn a_tcp_connection_over_ipv6_works_in_both_directions() {
    clean(|| match Listener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(listener) => assert_carries_both_ways(&listener, "tcp stream"),
        Err(error) => eprintln!("no IPv6 on this machine: {error}"),
    });
}

#[test]
fn a_unix_connection_works_in_both_directions() {
    let place = Place::new("path");
    clean(|| {
        let listener = Listener::bind_unix(&place.0).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.path(), Some(&*place.0));
        assert_eq!(address.to_string(), format!("unix:{}", place.0.display()));
        assert_carries_both_ways(&listener, "unix stream");
        listener.close().unwrap();
        assert!(place.0.exists(), "a listener does not remove its file");
    });
}

#[test]
fn a_host_name_is_connected_by_its_first_reachable_address() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap().inet().unwrap();
        let deaf = bound_socket();
        let addresses = [rustix_address(&deaf), good];
        let client = Stream::connect(&addresses[..]).unwrap();
        assert_eq!(client.peer_addr().unwrap(), Address::Inet(good));
        let client = Stream::connect(client.peer_addr().unwrap()).unwrap();
        assert_eq!(client.peer_addr().unwrap(), Address::Inet(good));
        let error = Stream::connect(Address::Unnamed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_rejected_connection_is_an_io_error_and_leaves_nothing_open() {
    clean(|| {
        let registry = &Registry::current();
        let deaf = bound_socket();
        let address = rustix_address(&deaf);
        for error in [
            Stream::connect(address).unwrap_err(),
            Stream::connect_timeout(&address, DEADLINE).unwrap_err(),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            assert!(Error::in_io(&error).is_none());
        }
        let nowhere = Place::new("nowhere");
        let error = Stream::connect_unix(&nowhere.0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(registry.snapshot().resources.is_empty());
    });
}

#[test]
fn an_address_in_use_is_an_io_error_and_leaves_nothing_open() {
    clean(|| {
        let registry = &Registry::current();
        let deaf = bound_socket();
        let error = Listener::bind(rustix_address(&deaf)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let no_names: &[SocketAddr] = &[];
        let error = Listener::bind(no_names).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(registry.snapshot().resources.is_empty());
    });
}

#[test]
fn a_half_closed_stream_still_reads() {
    clean(|| {
        let (mut one, mut other) = Stream::pair().unwrap();
        one.write_all(b"question").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        assert_eq!(one.write(b"more").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let mut question = String::new();
        other.read_to_string(&mut question).unwrap();
        other.write_all(b"reply").unwrap();
        other.close().unwrap();
        let mut reply = String::new();
        one.read_to_string(&mut reply).unwrap();
        assert_eq!((&*question, &*reply), ("question", "reply"));
    });
}

#[test]
fn vectored_reads_and_writes_use_one_call() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (mut client, mut server) = connected(&listener);
        let sent = client.write_vectored(&[IoSlice::new(b"one"), IoSlice::new(b"two")]).unwrap();
        assert_eq!(sent, 6);
        let mut peeked = [0; 8];
        assert_eq!(server.peek(&mut peeked).unwrap(), 6);
        let (mut a, mut b) = ([0; 2], [0; 8]);
        let mut buffers = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(server.read_vectored(&mut buffers).unwrap(), 6);
        assert_eq!((&a, &b[..4]), (b"on", &b"etwo"[..]));
        assert_eq!(server.describe().bytes_in, 6);
        // More buffers than the kernel takes at once.
        let many = vec![IoSlice::new(b"x"); 5000];
        assert_eq!(client.write_vectored(&many).unwrap(), 1024);
    });
}

#[test]
fn a_hundred_mebibytes_through_a_pair_arrive_unchanged() {
    const BYTES: u64 = 100 << 20;
    clean(|| {
        let (one, other) = Stream::pair().unwrap();
        let echo = spawn_named("echo", [other.resource()], move || {
            let copied = io::copy(&mut &other, &mut &other).unwrap();
            other.close().unwrap();
            copied
        })
        .unwrap();
        let (mut reading, mut writing) = one.split().unwrap();
        let given = [writing.resource()];
        let writer = spawn_named("writer", given, move || {
            io::copy(&mut Numbers(0).take(BYTES), &mut writing).unwrap();
        })
        .unwrap();
        let (mut buffer, mut expected) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let mut numbers = Numbers(0).take(BYTES);
        let mut received = 0;
        loop {
            let bytes = reading.read(&mut buffer).unwrap();
            if bytes == 0 {
                break;
            }
            numbers.read_exact(&mut expected[..bytes]).unwrap();
            assert!(buffer[..bytes] == expected[..bytes], "differs after {received} bytes");
            received += bytes as u64;
        }
        assert_eq!(received, BYTES);
        assert_eq!(echo.join().unwrap(), BYTES);
        writer.join().unwrap();
        assert_eq!(reading.describe().bytes_in, BYTES);
    });
}

/// An endless sequence of bytes that reveals lost or duplicated ones.
struct Numbers(u64);

impl Read for Numbers {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = (self.0 % 251) as u8;
            self.0 += 1;
        }
        Ok(buffer.len())
    }
}
