//! Cancellation wakes a task from every blocking call.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::time::Instant;

use echown::net::{Listener, Stream, UdpSocket, pipe_in};
use echown::ownership::{ErrorKind, Registry, TaskError};
use echown::test;
use echown::thread::spawn_in;

use super::{Place, clean, connected, full_listener, kind_of, let_block};
use crate::common::DEADLINE;
use crate::common::reserved::Reserved;

/// Runs `block` as a task with `give`, cancels it once it blocks, and asserts that it wakes with
/// `Cancelled`.
#[track_caller]
fn is_woken<T: Send + 'static>(
    registry: &Registry,
    give: impl IntoIterator<Item = echown::ownership::Resource>,
    block: impl FnOnce() -> io::Result<T> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel();
    let task = spawn_in(registry, "blocked", give, move || {
        sender.send(None).unwrap();
        let result = block().map(drop);
        sender.send(Some(result)).unwrap();
    })
    .unwrap();
    assert!(receiver.recv_timeout(DEADLINE).unwrap().is_none());
    let_block(registry, &task);
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
    clean(|registry| {
        let tcp = Listener::bind_in(registry, "127.0.0.1:0").unwrap();
        is_woken(registry, [tcp.resource()], move || tcp.accept());
        let unix = Listener::bind_unix_in(registry, &place.0).unwrap();
        is_woken(registry, [unix.resource()], move || unix.accept());
    });
}

#[test]
fn a_cancelled_accept_or_stop_wakes() {
    clean(|registry| {
        let listener = Listener::bind_in(registry, "127.0.0.1:0").unwrap();
        let (stopped, _stop) = pipe_in(registry).unwrap();
        let given = [listener.resource(), stopped.resource()];
        is_woken(registry, given, move || listener.accept_or_stop(&stopped));
    });
}

#[test]
fn a_cancelled_read_wakes_and_does_not_return_end_of_stream() {
    clean(|registry| {
        let listener = Listener::bind_in(registry, "127.0.0.1:0").unwrap();
        let (_client, mut server) = connected(registry, &listener);
        is_woken(registry, [server.resource()], move || server.read(&mut [0]));
        let (one, _other) = Stream::pair_in(registry).unwrap();
        is_woken(registry, [one.resource()], move || io::copy(&mut &one, &mut io::sink()));
        let (one, _other) = Stream::pair_in(registry).unwrap();
        let (mut reading, _writing) = one.split().unwrap();
        is_woken(registry, [reading.resource()], move || reading.read_to_end(&mut Vec::new()));
    });
}

#[test]
fn a_cancelled_write_wakes() {
    clean(|registry| {
        let listener = Listener::bind_in(registry, "127.0.0.1:0").unwrap();
        let (_client, mut server) = connected(registry, &listener);
        is_woken(registry, [server.resource()], move || server.write_all(&vec![0; 64 << 20]));
        let (one, _other) = Stream::pair_in(registry).unwrap();
        let (_reading, mut writing) = one.split().unwrap();
        is_woken(registry, [writing.resource()], move || writing.write_all(&vec![0; 64 << 20]));
    });
}

#[test]
fn a_cancelled_connect_wakes() {
    clean(|registry| {
        let (_listener, _clients, address) = full_listener();
        let home = registry.clone();
        is_woken(registry, [], move || Stream::connect_in(&home, address));
    });
}

#[test]
fn a_connect_wakes_at_whatever_moment_it_is_cancelled() {
    clean(|registry| {
        let (_listener, _clients, address) = full_listener();
        for _ in 0..200 {
            let home = registry.clone();
            let task = spawn_in(registry, "connecting", [], move || {
                Stream::connect_in(&home, address).map(drop)
            })
            .unwrap();
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
    clean(|registry| {
        let options = Listener::options().registry(registry).backlog(0);
        let _listener = options.bind_unix(&place.0).unwrap();
        // The kernel accepts one more than the backlog.
        let _first = Stream::connect_unix_in(registry, &place.0).unwrap();
        let (home, path) = (registry.clone(), place.0.clone());
        is_woken(registry, [], move || Stream::connect_unix_in(&home, path));
    });
}

#[test]
fn a_cancelled_receiver_of_datagrams_wakes() {
    clean(|registry| {
        let socket = UdpSocket::bind_in(registry, "127.0.0.1:0").unwrap();
        is_woken(registry, [socket.resource()], move || socket.recv_from(&mut [0; 8]));
        let socket = UdpSocket::bind_in(registry, "127.0.0.1:0").unwrap();
        is_woken(registry, [socket.resource()], move || socket.recv(&mut [0; 8]));
    });
}

#[test]
fn an_accept_that_is_cancelled_leaves_no_connection_open() {
    clean(|registry| {
        for _ in 0..200 {
            // Fails once the listener is closed; another test's listener would accept.
            let reserved = Reserved::new();
            let address = reserved.address();
            let listener = Listener::bind_in(registry, address).unwrap();
            let acceptor = spawn_in(registry, "acceptor", [listener.resource()], move || {
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
    clean(|registry| {
        let (sender, receiver) = mpsc::channel();
        let (one, other) = Stream::pair_in(registry).unwrap();
        let home = registry.clone();
        let task = spawn_in(registry, "cancelled", [one.resource()], move || {
            // Returns when the task is cancelled.
            let _ = (&one).read(&mut [0]);
            sender.send(Stream::pair_in(&home).map(drop)).unwrap();
            sender.send(pipe_in(&home).map(drop)).unwrap();
            sender.send(Listener::bind_in(&home, "127.0.0.1:0").map(drop)).unwrap();
            sender.send(UdpSocket::bind_in(&home, "127.0.0.1:0").map(drop)).unwrap();
        })
        .unwrap();
        let_block(registry, &task);
        assert!(matches!(task.cancel(), Err(TaskError::Cancelled)));
        let results: Vec<_> = receiver.iter().collect();
        // None at all if the task was cancelled before it started.
        for result in results {
            assert_eq!(kind_of(&result.unwrap_err()), ErrorKind::Cancelled);
        }
        drop(other);
    });
}
