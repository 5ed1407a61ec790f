//! A signal restarts no timeout: every timed wait ends at its deadline, although signals interrupt
//! its system calls more often.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use echown::faults::{Fault, FaultInjector};
use echown::net::{Listener, Stream, UdpSocket, pipe};
use echown::ownership::{ErrorKind, Registry, TaskError};
use echown::test;
use echown::thread::spawn_named;

use super::signals::interrupted;
use super::{Place, clean, connected, full_listener, kind_of};
use crate::common::{DEADLINE, stall};

const TIMEOUT: Duration = Duration::from_millis(50);

/// Asserts that a call ends by the timeout of its socket, and not before.
#[track_caller]
fn assert_times_out<T>(what: &str, call: impl FnOnce() -> io::Result<T>) {
    let begun = Instant::now();
    match interrupted(what, call) {
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{what}: {error}"),
        Ok(_) => panic!("{what}: no bytes arrived"),
    }
    assert!(begun.elapsed() >= TIMEOUT, "{what} ended after {:?}", begun.elapsed());
}

/// Asserts that a wait returns this value once its time has passed, and not before.
#[track_caller]
fn assert_waits<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    wait: impl FnOnce() -> io::Result<T>,
) {
    let begun = Instant::now();
    assert_eq!(&interrupted(what, wait).expect(what), expected, "{what}");
    assert!(begun.elapsed() >= TIMEOUT, "{what} ended after {:?}", begun.elapsed());
}

/// Writes until the buffers are full.
fn fill(stream: &Stream) {
    let block = vec![0; 1 << 20];
    while stream.try_write(&block).is_ok() {}
}

#[test]
fn an_interrupted_read_ends_at_its_timeout() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (_client, tcp) = connected(&listener);
        let (unix, _other) = Stream::pair().unwrap();
        for mut stream in [&tcp, &unix] {
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            assert_times_out("read", || stream.read(&mut [0]));
            assert_times_out("peek", || stream.peek(&mut [0]));
            let (mut one, mut two) = ([0], [0]);
            let mut buffers = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
            assert_times_out("read_vectored", || stream.read_vectored(&mut buffers));
        }
        let (mut reading, _writing) = tcp.split().unwrap();
        assert_times_out("read of a half", || reading.read(&mut [0]));
        let (there, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        there.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut adopted = Stream::own(there).unwrap();
        assert_times_out("read of an adopted stream", || adopted.read(&mut [0]));
    });
}

#[test]
fn an_interrupted_write_ends_at_its_timeout() {
    clean(|| {
        let place = Place::new("interrupted-write");
        let options = Listener::options().write_timeout(Some(TIMEOUT));
        let tcp = options.bind("127.0.0.1:0").unwrap();
        let unix = options.bind_unix(&place.0).unwrap();
        for listener in [tcp, unix] {
            let (_client, accepted) = connected(&listener);
            fill(&accepted);
            let bytes = vec![0; 8 << 20];
            assert_times_out("write_all", || (&accepted).write_all(&bytes));
            let buffers = [IoSlice::new(&bytes), IoSlice::new(&bytes)];
            fill(&accepted);
            assert_times_out("write_vectored", || (&accepted).write_vectored(&buffers));
            let (_reading, mut writing) = accepted.split().unwrap();
            assert_times_out("write of a half", || writing.write_all(&bytes));
        }
    });
}

#[test]
fn an_interrupted_datagram_receive_ends_at_its_timeout() {
    clean(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        assert_times_out("recv_from", || socket.recv_from(&mut [0]));
        socket.connect(socket.local_addr().unwrap()).unwrap();
        assert_times_out("recv", || socket.recv(&mut [0]));
    });
}

#[test]
fn an_interrupted_wait_ends_at_its_deadline() {
    clean(|| {
        let (stream, _other) = Stream::pair().unwrap();
        assert_waits("wait_readable", &false, || stream.wait_readable(Some(TIMEOUT)));
        fill(&stream);
        assert_waits("wait_writable", &false, || stream.wait_writable(Some(TIMEOUT)));
        assert_waits("wait_either", &(false, false), || stream.wait_either(Some(TIMEOUT)));
        let (reading, writing) = stream.split().unwrap();
        assert_waits("wait_readable of a half", &false, || reading.wait_readable(Some(TIMEOUT)));
        assert_waits("wait_writable of a half", &false, || writing.wait_writable(Some(TIMEOUT)));
        let (reader, _writer) = pipe().unwrap();
        assert_waits("wait_readable of a pipe", &false, || reader.wait_readable(TIMEOUT));
    });
}

#[test]
fn an_interrupted_wait_for_unacknowledged_bytes_ends_at_its_deadline() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (client, _server) = connected(&listener);
        fill(&client);
        assert_waits("wait_sent", &false, || client.wait_sent(TIMEOUT));
    });
}

#[test]
fn an_interrupted_connect_ends_at_its_deadline() {
    clean(|| {
        let (_listener, _clients, address) = full_listener();
        let connect = || Stream::connect_timeout(&address, TIMEOUT);
        let error = interrupted("connect_timeout", connect).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn an_interrupted_wait_for_a_child_ends_at_the_deadline() {
    clean(|| {
        let (go, gone) = channel::<()>();
        let child = spawn_named("child", [], move || gone.recv().is_err()).unwrap();
        let wait = || child.wait_until(Instant::now() + TIMEOUT).map_err(io::Error::other);
        assert_waits("Promise::wait_until", &false, wait);
        drop(go);
        assert!(child.join().unwrap());
    });
}

#[test]
fn interrupted_calls_still_receive_bytes_and_use_free_buffer_space() {
    clean(|| {
        let (one, other) = Stream::pair().unwrap();
        one.set_read_timeout(Some(DEADLINE)).unwrap();
        one.set_write_timeout(Some(DEADLINE)).unwrap();
        fill(&one);
        let mut peer = std::os::unix::net::UnixStream::from(other.disown().unwrap());
        let late = std::thread::spawn(move || {
            // Later than the first signals.
            stall(TIMEOUT);
            peer.write_all(b"late").unwrap();
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all
        });
        let mut text = [0; 4];
        interrupted("read_exact", || (&one).read_exact(&mut text)).unwrap();
        assert_eq!(&text, b"late");
        interrupted("write_all", || (&one).write_all(b"the end")).unwrap();
        drop(one);
        assert!(late.join().unwrap().ends_with(b"the end"));
    });
}

#[test]
fn a_cancelled_task_wakes_in_the_rest_of_an_interrupted_timeout() {
    clean(|| {
        let (one, _other) = Stream::pair().unwrap();
        one.set_read_timeout(Some(DEADLINE)).unwrap();
        let (begin, begun) = channel();
        let task = spawn_named("reader", [one.resource()], move || {
            interrupted("read", || {
                begin.send(()).unwrap();
                let error = (&one).read(&mut [0]).unwrap_err();
                assert_eq!(kind_of(&error), ErrorKind::Cancelled);
            });
        });
        let task = task.unwrap();
        begun.recv().unwrap();
        // Some signals have arrived by then.
        stall(TIMEOUT);
        assert!(matches!(task.cancel(), Err(TaskError::Cancelled)));
    });
}

#[test]
fn an_interrupted_nonblocking_call_does_not_wait() {
    let injector = Arc::new(FaultInjector::new("interrupt=0.5", 1).unwrap());
    let registry = Registry::builder().inject_faults(&injector).sink(|_| {}).build();
    let _entered = registry.enter();
    let (stream, _other) = Stream::pair().unwrap();
    fill(&stream);
    for timeout in [None, Some(Duration::from_secs(3600))] {
        stream.set_read_timeout(timeout).unwrap();
        stream.set_write_timeout(timeout).unwrap();
        stream.set_nonblocking(true).unwrap();
        injector.begin();
        for _ in 0..20 {
            let errors =
                [(&stream).read(&mut [0]), (&stream).write(&[0]), stream.try_read(&mut [0])];
            for error in errors.map(Result::unwrap_err) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            }
        }
    }
    assert!(injector.injected(Fault::Interrupt) > 20);
}
