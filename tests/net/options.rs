//! Timeouts, non-blocking calls, waiting for either direction, and other socket options.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use echown::net::{Listener, Stream};
use echown::ownership::TaskError;
use echown::test;
use echown::thread::spawn_named;

use super::{Place, clean, connected, full_listener};
use crate::common::DEADLINE;

#[test]
fn a_read_and_a_write_time_out() {
    clean(|| {
        let (mut one, _other) = Stream::pair().unwrap();
        one.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        one.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(one.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let error = one.write_all(&vec![0; 16 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let error = one.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn try_calls_never_block_and_waiting_is_a_separate_call() {
    clean(|| {
        let (ours, theirs) = Stream::pair().unwrap();
        let would_wait = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        let mut buffer = [0; 8];
        assert!(would_wait(ours.try_read(&mut buffer).unwrap_err()));
        assert!(would_wait(ours.try_peek(&mut buffer).unwrap_err()));
        assert!(!ours.wait_readable(Some(Duration::from_millis(1))).unwrap());
        assert!(theirs.wait_writable(Some(Duration::ZERO)).unwrap());
        assert_eq!(theirs.try_write(b"there").unwrap(), 5);
        assert!(ours.wait_readable(None).unwrap());
        assert_eq!(ours.try_peek(&mut buffer).unwrap(), 5);
        assert_eq!(ours.unread().unwrap(), 5);
        assert_eq!(ours.try_read(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"there");
        // Until the buffers are full; then a wait times out, too.
        while theirs.try_write(&[0; 4096]).is_ok() {}
        assert!(would_wait(theirs.try_write(b"more").unwrap_err()));
        let pieces = [std::io::IoSlice::new(b"one"), std::io::IoSlice::new(b"two")];
        assert!(would_wait(theirs.try_write_vectored(&pieces).unwrap_err()));
        assert!(!theirs.wait_writable(Some(Duration::from_millis(1))).unwrap());
        let (reading, writing) = ours.split().unwrap();
        while reading.try_read(&mut [0; 65536]).is_ok() {}
        assert!(theirs.wait_writable(None).unwrap());
        assert_eq!(writing.try_write(b"half").unwrap(), 4);
        assert_eq!(theirs.try_read(&mut buffer).unwrap(), 4);
        assert_eq!(writing.try_write_vectored(&pieces).unwrap(), 6);
        drop(writing);
        assert_eq!(theirs.try_read(&mut buffer).unwrap(), 6);
        assert_eq!(&buffer[..6], b"onetwo");
        assert_eq!(theirs.try_read(&mut buffer).unwrap(), 0, "end of stream");
    });
}

#[test]
fn a_write_half_that_shuts_down_both_ways_ends_reads_of_the_read_half() {
    clean(|| {
        let listener = Listener::options().bind("127.0.0.1:0").unwrap();
        let peer = Stream::connect_to(&listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let (mut reading, writing) = stream.split().unwrap();
        let give = [reading.resource()];
        let reader = echown::thread::spawn_named("reader", give, move || {
            let read = reading.read(&mut [0]);
            (read, reading.check())
        })
        .unwrap();
        writing.shutdown_both().unwrap();
        let (read, owned) = reader.join().unwrap();
        assert_eq!(read.unwrap(), 0, "it wakes, and returns end of stream");
        owned.expect("its owner still owns the read half");
        assert_eq!((&peer).read(&mut [0]).unwrap(), 0, "the peer also gets end of stream");
        writing.release().unwrap();
    });
}

#[test]
fn listeners_that_share_a_port_have_separate_queues_and_others_fail() {
    clean(|| {
        let options = Listener::options().reuse_port(true);
        let first = options.bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let second = options.bind(&address).unwrap();
        let rejected = Listener::bind(&address).unwrap_err();
        assert_eq!(rejected.kind(), io::ErrorKind::AddrInUse);
        let mut accepted = [0, 0];
        let _clients: Vec<Stream> = (0..200)
            .map(|_| {
                let client = Stream::connect_to(&address).unwrap();
                let index =
                    [&first, &second].iter().position(|one| one.try_accept().unwrap().is_some());
                accepted[index.expect("one of them has it")] += 1;
                client
            })
            .collect();
        assert!(accepted.iter().all(|&count| count > 0), "{accepted:?}");
    });
}

#[test]
fn waiting_for_both_directions_returns_which_is_ready() {
    clean(|| {
        let (ours, mut theirs) = Stream::pair().unwrap();
        assert_eq!(ours.wait_either(None).unwrap(), (false, true), "there is space");
        theirs.write_all(b"x").unwrap();
        assert_eq!(ours.wait_either(None).unwrap(), (true, true));
        let block = vec![0; 1024 * 1024];
        while ours.try_write(&block).is_ok() {}
        assert_eq!(ours.wait_either(None).unwrap(), (true, false), "there is no timeout");
        (&ours).read_exact(&mut [0]).unwrap();
        let timeout = Some(Duration::from_millis(1));
        assert_eq!(ours.wait_either(timeout).unwrap(), (false, false), "it timed out");
        theirs.close().unwrap();
        assert_eq!(ours.wait_either(None).unwrap(), (true, true), "the peer is gone");
    });
}

#[test]
fn a_read_half_reports_an_unread_reset() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let peer = Stream::connect_to(&listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let (reading, writing) = ours.split().unwrap();
        assert!(reading.take_error().unwrap().is_none());
        peer.set_linger(Some(Duration::ZERO)).unwrap();
        peer.close().unwrap();
        assert!(reading.wait_readable(Some(DEADLINE)).unwrap());
        let error = reading.take_error().unwrap().expect("it was reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        drop((reading, writing));
    });
}

#[test]
fn cancel_wakes_a_task_that_waits_for_readiness() {
    for wanted in ["read", "write"] {
        clean(|| {
            let (ours, theirs) = Stream::pair().unwrap();
            while ours.try_write(&[0; 65536]).is_ok() {}
            let waiter = spawn_named("waiter", [ours.resource()], move || match wanted {
                "read" => ours.wait_readable(None),
                _ => ours.wait_writable(None),
            });
            let ended = waiter.unwrap().cancel();
            assert!(matches!(ended, Err(TaskError::Cancelled)), "{ended:?}");
            drop(theirs);
        });
    }
}

#[test]
fn a_timeout_that_was_set_can_be_queried() {
    clean(|| {
        let (ours, _theirs) = Stream::pair().unwrap();
        assert_eq!(ours.read_timeout().unwrap(), None);
        ours.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        ours.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        assert_eq!(ours.read_timeout().unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(ours.write_timeout().unwrap(), Some(Duration::from_secs(2)));
    });
}

#[test]
fn a_read_of_a_half_times_out() {
    clean(|| {
        let (one, _other) = Stream::pair().unwrap();
        let (mut reading, mut writing) = one.split().unwrap();
        reading.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        writing.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        assert_eq!(reading.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let error = writing.write_all(&vec![0; 16 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn a_connect_times_out() {
    clean(|| {
        let (_listener, _clients, address) = full_listener();
        let timeout = Duration::from_millis(50);
        let begun = Instant::now();
        let error = Stream::connect_timeout(&address, timeout).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= timeout);
        let error = Stream::connect_timeout(&address, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn an_accepted_stream_has_the_options_of_its_listener() {
    let timeout = Some(Duration::from_secs(7));
    let with_options = || Listener::options().nodelay(true).write_timeout(timeout);
    clean(|| {
        let plain = Listener::bind("127.0.0.1:0").unwrap();
        let (_client, accepted) = connected(&plain);
        assert_eq!((accepted.nodelay().unwrap(), accepted.write_timeout().unwrap()), (false, None));

        let listener = with_options().bind("127.0.0.1:0").unwrap();
        let (_client, accepted) = connected(&listener);
        assert_eq!(
            (accepted.nodelay().unwrap(), accepted.write_timeout().unwrap()),
            (true, timeout)
        );
        // With two listeners the kernel chooses one: close the first.
        let sibling = listener.reuse_port_clone(16).unwrap();
        listener.close().unwrap();
        let (_client, accepted) = connected(&sibling);
        assert_eq!(
            (accepted.nodelay().unwrap(), accepted.write_timeout().unwrap()),
            (true, timeout)
        );
    });
    let place = Place::new("options");
    clean(|| {
        let never = Listener::options().write_timeout(Some(Duration::ZERO));
        for rejected in [never.bind("127.0.0.1:0"), never.bind_unix(&place.0)] {
            assert_eq!(rejected.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert!(!place.0.exists());
        let listener = with_options().bind_unix(&place.0).unwrap();
        let (_client, accepted) = connected(&listener);
        assert_eq!(accepted.write_timeout().unwrap(), timeout);
        let sibling = listener.reuse_port_clone(16).unwrap();
        let (_client, accepted) = connected(&sibling);
        assert_eq!(accepted.write_timeout().unwrap(), timeout);
    });
}

#[test]
fn a_connected_stream_is_blocking_and_has_its_options() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        listener.set_nonblocking(false).unwrap();
        let (client, server) = connected(&listener);
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            let begun = Instant::now();
            let error = (&mut &*stream).read(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            assert!(begun.elapsed() >= Duration::from_millis(10), "it did not wait");
        }
        client.set_linger(Some(Duration::ZERO)).unwrap();
        client.close().unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        let error = (&mut &server).read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!(server.peer_addr().is_err());
    });
}
