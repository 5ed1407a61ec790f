//! UDP sockets, pipes and files.

use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use echown::net::{File, Listener, PipeReader, Stream, UdpSocket, pipe};
use echown::ownership::Registry;
use echown::test;
use echown::thread::spawn_named;

use super::{Place, clean, run};

#[test]
fn datagrams_are_sent_and_received() {
    clean(|| {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.connect(there.local_addr().unwrap()).unwrap();
        assert_eq!(here.peer_addr().unwrap(), there.local_addr().unwrap());
        assert_eq!(there.peer_addr().unwrap_err().kind(), io::ErrorKind::NotConnected);
        here.send(b"ping").unwrap();
        let mut buffer = [0; 16];
        let (bytes, from) = there.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..bytes], from), (&b"ping"[..], here.local_addr().unwrap()));
        there.send_to(b"longer than the buffer", from).unwrap();
        assert_eq!(here.recv(&mut buffer).unwrap(), 16);
        assert_eq!((here.describe().bytes_in, here.describe().bytes_out), (16, 4));
        here.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(here.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let out = here.disown().unwrap();
        let back = UdpSocket::own(std::net::UdpSocket::from(out)).unwrap();
        assert_eq!(back.describe().kind, "udp socket");
    });
}

#[test]
fn releasing_the_writer_of_a_pipe_ends_it() {
    clean(|| {
        let (reader, mut writer) = pipe().unwrap();
        let child = spawn_named("reader", [reader.resource()], move || {
            let mut reader: PipeReader = reader;
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        })
        .unwrap();
        writer.write_all(b"through").unwrap();
        let rest = [IoSlice::new(b" the"), IoSlice::new(b" pipe")];
        assert_eq!(writer.write_vectored(&rest).unwrap(), 9);
        writer.release().unwrap();
        assert_eq!(child.join().unwrap(), "through the pipe");
        let (reader, mut writer) = pipe().unwrap();
        reader.release().unwrap();
        assert_eq!(writer.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_wait_for_an_unowned_pipe_can_be_stopped() {
    clean(|| {
        let (theirs, mut from) = std::io::pipe().unwrap();
        let input = std::fs::File::from(std::os::fd::OwnedFd::from(theirs));
        let input = File::own(input).unwrap();
        let (stop, stop_writer) = pipe().unwrap();
        from.write_all(b"x").unwrap();
        assert!(input.wait_readable_or_stop(&stop).unwrap());
        assert_eq!((&input).read(&mut [0; 8]).unwrap(), 1);
        let give = [stop_writer.resource()];
        let stopper = echown::thread::spawn_named("stopper", give, move || drop(stop_writer));
        assert!(!input.wait_readable_or_stop(&stop).unwrap());
        stopper.unwrap().join().unwrap();
        drop(from);
        assert!(!input.wait_readable_or_stop(&stop).unwrap(), "the stop takes precedence");
    });
}

#[test]
fn a_file_can_be_written_sought_and_read() {
    let place = Place::new("file");
    clean(|| {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let mut file = File::open_with(&place.0, &options).unwrap();
        file.write_all(b"0123456789").unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 7);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "789");
        file.set_len(4).unwrap();
        file.seek(SeekFrom::Start(2)).unwrap();
        assert_eq!((&file).read(&mut [0; 8]).unwrap(), 2);
        let described = file.describe();
        assert_eq!((described.kind, described.bytes_in, described.bytes_out), ("file", 5, 10));
        assert_eq!(described.path.as_deref(), place.0.to_str());
        let error = File::open_with(&place.0, &options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let out = std::fs::File::from(file.disown().unwrap());
        assert_eq!(out.metadata().unwrap().len(), 4);
    });
}

#[test]
fn the_global_registry_is_the_default() {
    let place = Place::new("global");
    let registry = Registry::global();
    run(registry, || {
        let mut file = File::create(&place.0).unwrap();
        file.write_all(b"x").unwrap();
        file.close().unwrap();
        let mut file = File::own(std::fs::File::open(&place.0).unwrap()).unwrap();
        assert_eq!(file.read(&mut [0; 8]).unwrap(), 1);
        let listener = Listener::bind("localhost:0").unwrap();
        let client = Stream::connect(listener.local_addr().unwrap().inet().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop((client, server));
        let (one, other) = Stream::pair().unwrap();
        drop((one, other));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(registry.snapshot().resources.iter().any(|data| data.id == socket.id()));
    });
}
