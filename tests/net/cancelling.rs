//! Cancellation wakes a task from every blocking call.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::time::Instant;

use echown::net::{Listener, Stream, UdpSocket, pipe};
use echown::ownership::{ErrorKind, TaskError};
use echown::test;
use echown::thread::spawn_named;

use super::{Place, clean, connected, full_listener, kind_of, let_block};
use crate::common::DEADLINE;
use crate::common::reserved::Reserved;

/// Runs `block` as a task with `give`, cancels it once it blocks, and asserts that it wakes with
/// `Cancelled`.
#[track_caller]
fn is_woken<T: Send + 'static>(
    give: impl IntoIterator<Item = echown::ownership::Resource>,
    block: impl FnOnce() -> io::Result<T> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel();
    let task = spawn_named("blocked", give, move || {
        sender.send(None).unwrap();
        let result = block().map(drop);
        sender.send(Some(result)).unwrap();
    })
    .unwrap();
    assert!(receiver.recv_timeout(DEADLINE).unwrap().is_none());
    let_block(&task);
    task.request_cancel().unwrap();
    let result = receiver.recv_timeout(DEADLINE).expect("a cancelled task wakes").unwrap();
    let error = result.expect_err("a cancelled task gets nothing");
    assert_eq!(kind_of(&error), ErrorKind::Cancelled, "{error}");
    assert_ne!(error.kind(), io::ErrorKind::Interrupted);
    assert!(matches!(task.join(), Err(TaskError::Cancelled)));
}

#[test]
fn a_cancelled_accept_wakes() {
    let place = Place::new("cancel-accept");
    clean(|| {
        let tcp = Listener::bind("127.0.0.1:0").unwrap();
        is_woken([tcp.resource()], move || tcp.accept());
        let unix = Listener::bind_unix(&place.0).unwrap();
        is_woken([unix.resource()], move || unix.accept());
    });
}

#[test]
fn a_cancelled_accept_or_stop_wakes() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (stopped, _stop) = pipe().unwrap();
        let given = [listener.resource(), stopped.resource()];
        is_woken(given, move || listener.accept_or_stop(&stopped));
    });
}

#[test]
fn a_cancelled_read_wakes_and_does_not_return_end_of_stream() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (_client, mut server) = connected(&listener);
        is_woken([server.resource()], move || server.read(&mut [0]));
        let (one, _other) = Stream::pair().unwrap();
        is_woken([one.resource()], move || io::copy(&mut &one, &mut io::sink()));
        let (one, _other) = Stream::pair().unwrap();
        let (mut reading, _writing) = one.split().unwrap();
        is_woken([reading.resource()], move || reading.read_to_end(&mut Vec::new()));
    });
}

#[test]
fn a_cancelled_write_wakes() {
    clean(|| {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let (_client, mut server) = connected(&listener);
        is_woken([server.resource()], move || server.write_all(&vec![0; 64 << 20]));
        let (one, _other) = Stream::pair().unwrap();
        let (_reading, mut writing) = one.split().unwrap();
        is_woken([writing.resource()], move || writing.write_all(&vec![0; 64 << 20]));
    });
}

#[test]
fn a_cancelled_connect_wakes() {
    clean(|| {
        let (_listener, _clients, address) = full_listener();
        is_woken([], move || Stream::connect(address));
    });
}

#[test]
fn a_connect_wakes_at_whatever_moment_it_is_cancelled() {
    clean(|| {
        let (_listener, _clients, address) = full_listener();
        for _ in 0..200 {
            let task =
                spawn_named("connecting", [], move || Stream::connect(address).map(drop)).unwrap();
            let begun = Instant::now();
            // Before it starts, before or after the system call, while it waits.
            assert!(matches!(task.cancel(), Err(TaskError::Cancelled)));
            assert!(begun.elapsed() < DEADLINE);
        }
    });
}

#[test]
fn a_cancelled_connect_to_a_path_wakes() {
    let place = Place::new("cancel-connect");
    clean(|| {
        let options = Listener::options().backlog(0);
        let _listener = options.bind_unix(&place.0).unwrap();
        // The kernel accepts one more than the backlog.
        let _first = Stream::connect_unix(&place.0).unwrap();
        let path = place.0.clone();
        is_woken([], move || Stream::connect_unix(path));
    });
}

#[test]
fn a_cancelled_receiver_of_datagrams_wakes() {
    clean(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        is_woken([socket.resource()], move || socket.recv_from(&mut [0; 8]));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        is_woken([socket.resource()], move || socket.recv(&mut [0; 8]));
    });
}

#[test]
fn an_accept_that_is_cancelled_leaves_no_connection_open() {
    clean(|| {
        for _ in 0..200 {
            // Fails once the listener is closed; another test's listener would accept.
            let reserved = Reserved::new();
            let address = reserved.address();
            let listener = Listener::bind(address).unwrap();
            let acceptor = spawn_named("acceptor", [listener.resource()], move || {
                while let Ok((stream, _)) = listener.accept() {
                    drop(stream);
                }
            })
            .unwrap();
            let clients = std::thread::spawn(move || {
                let mut ends = 0;
                while let Ok(mut client) = std::net::TcpStream::connect(address) {
                    client.set_read_timeout(Some(DEADLINE)).unwrap();
                    match client.read(&mut [0]) {
                        Ok(0) => ends += 1,
                        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => ends += 1,
                        other => panic!("a connection was left open: {other:?}"),
                    }
                }
                ends
            });
            assert!(matches!(acceptor.cancel(), Err(TaskError::Cancelled)));
            clients.join().unwrap();
        }
    });
}

#[test]
fn a_cancelled_task_makes_no_sockets() {
    clean(|| {
        let (sender, receiver) = mpsc::channel();
        let (one, other) = Stream::pair().unwrap();
        let task = spawn_named("cancelled", [one.resource()], move || {
            // Returns when the task is cancelled.
            let _ = (&one).read(&mut [0]);
            sender.send(Stream::pair().map(drop)).unwrap();
            sender.send(pipe().map(drop)).unwrap();
            sender.send(Listener::bind("127.0.0.1:0").map(drop)).unwrap();
            sender.send(UdpSocket::bind("127.0.0.1:0").map(drop)).unwrap();
        })
        .unwrap();
        let_block(&task);
        assert!(matches!(task.cancel(), Err(TaskError::Cancelled)));
        let results: Vec<_> = receiver.iter().collect();
        // None at all if the task was cancelled before it started.
        for result in results {
            assert_eq!(kind_of(&result.unwrap_err()), ErrorKind::Cancelled);
        }
        drop(other);
    });
}
