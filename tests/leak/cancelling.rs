//! Rule 10: cancellation. A task gets `Cancelled` wherever it blocks and whenever it is cancelled:
//! never a false end of stream, never `Interrupted`.

mod in_place;

use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Barrier};
use std::thread;

use echown::net::{Listener, Stream, UdpSocket, pipe};
use echown::ownership::{ErrorKind, Promise, Resource, TaskError};
use echown::pool::{self, Orphans, Pool};
use echown::test;

use crate::common::{
    self, Fixture, assert_cancelled, assert_connected, refusal, wait_until_blocked,
};

/// Spawns a child whose `work` blocks in a system call, waits until it does, cancels it, and
/// returns the result of `work`.
#[track_caller]
fn cancelled_in(
    fixture: &'static Fixture,
    give: impl IntoIterator<Item = Resource>,
    work: impl FnOnce() -> ErrorKind + Send + 'static,
) -> ErrorKind {
    let work = move |begin: Begin| {
        begin.send(common::thread_id()).expect("the test receives it");
        work()
    };
    cancelled_once_begun(fixture, give, work, false)
}

/// The same for `work` that waits for other threads. The work signals when it has made everything
/// that it needs.
#[track_caller]
fn cancelled_waiting(
    fixture: &'static Fixture,
    work: impl FnOnce(Begin) -> ErrorKind + Send + 'static,
) -> ErrorKind {
    cancelled_once_begun(fixture, [], work, true)
}

type Begin = Sender<i32>;

#[track_caller]
fn cancelled_once_begun(
    fixture: &'static Fixture,
    give: impl IntoIterator<Item = Resource>,
    work: impl FnOnce(Begin) -> ErrorKind + Send + 'static,
    by_a_thread: bool,
) -> ErrorKind {
    let (begin, begun) = channel();
    let (to_test, from_child) = channel();
    let child = fixture.spawn("blocked", give, move || {
        let kind = work(begin);
        to_test.send(kind).expect("the test receives it");
    });
    wait_until_blocked(begun.recv().expect("the child runs"), by_a_thread);
    assert_cancelled(child.cancel());
    from_child.recv().expect("the child was woken")
}

/// The registry's error in an `io::Error`, which is never `Interrupted`.
fn kind<T>(outcome: io::Result<T>) -> ErrorKind {
    if let Err(error) = &outcome {
        assert_ne!(error.kind(), io::ErrorKind::Interrupted);
    }
    refusal(outcome).kind()
}

// Guarantees. Without a wake-up each of these would block until the fixture's watchdog ends it.

#[test]
fn cancel_wakes_a_task_blocked_in_accept_and_leaves_no_descriptor_open() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let listener = fixture.listener();
        let (to_test, from_child) = channel();
        let child = fixture.spawn("accepting", [listener.resource()], move || {
            to_test.send(common::thread_id()).expect("the test receives it");
            let error = refusal(listener.accept());
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            mem::forget(listener);
        });
        wait_until_blocked(from_child.recv().expect("the child runs"), false);
        assert_cancelled(child.cancel());
        fixture.assert_all_closed();
    });
    fixture.assert_clean();
}

#[test]
fn cancel_wakes_a_task_blocked_in_read_with_an_error_not_end_of_stream() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let (to_test, from_child) = channel();
        let child = fixture.spawn("reading", [stream.resource()], move || {
            to_test.send(common::thread_id()).expect("the test receives it");
            let error =
                (&stream).read(&mut [0]).expect_err("nothing was written and nothing was closed");
            assert_ne!(error.kind(), io::ErrorKind::Interrupted);
            assert_eq!(refusal::<(), _>(Err(error)).kind(), ErrorKind::Cancelled);
            mem::forget(stream);
        });
        wait_until_blocked(from_child.recv().expect("the child runs"), false);
        assert_cancelled(child.cancel());
        assert_eq!((&peer).read(&mut [0]).expect("the stream ends"), 0);
    });
    fixture.assert_clean();
}

#[test]
fn a_child_cancelled_before_it_starts_is_finalized_on_the_cancelling_thread() {
    let fixture = Fixture::new();
    let pool = Pool::builder().registry(&fixture.registry).limit(1).queue(1).build();
    fixture.root(|| {
        let (go, gone) = channel::<()>();
        let busy = pool.spawn([], move || gone.recv().is_err()).expect("there is a thread");
        let (captured, kept, socket) =
            (fixture.own("captured"), fixture.own("kept"), fixture.listener());
        let give = [captured.resource(), kept.resource(), socket.resource()];
        let waiting = pool.spawn(give, move || {
            fixture.log("the job ran");
            drop((captured, socket));
        });
        assert_cancelled(waiting.expect("there is a queue").cancel());
        assert_eq!(fixture.finalized(), ["captured", "kept"]);
        assert_eq!(fixture.finalized_on("kept"), thread::current().id());
        fixture.assert_all_closed();
        drop(go);
        assert!(busy.join().expect("the other child continues"));
    });
    fixture.assert_clean();
}

#[test]
fn cancelling_an_exited_task_keeps_its_outcome() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel::<()>();
        let child = fixture.spawn("quick", [], move || {
            drop(to_test);
            "its value"
        });
        assert!(from_child.recv().is_err());
        while !child.has_ended() {
            thread::yield_now();
        }
        assert_eq!(child.cancel().expect("it succeeded"), "its value");
    });
    fixture.assert_clean();
}

#[test]
fn a_task_that_ignores_its_cancellation_gets_cancelled_from_every_operation() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let other = fixture.own("other");
        let give = [stream.resource(), other.resource()];
        let (to_test, from_child) = channel();
        let (tell_kinds, kinds) = channel();
        let child = fixture.spawn("stubborn", give, move || {
            to_test.send(()).expect("the test receives it");
            let mut rejected = vec![refusal((&stream).read(&mut [0])).kind()];
            rejected.push(refusal((&stream).read(&mut [0])).kind());
            rejected.push(refusal((&stream).write(b"x")).kind());
            rejected.push(refusal(stream.local_addr()).kind());
            rejected.push(refusal(stream.check()).kind());
            rejected.push(refusal(other.with(|_| ())).kind());
            rejected.push(refusal(other.transfer()).kind());
            rejected.push(refusal(fixture.pool().spawn([], || ())).kind());
            let late = fixture.registry.own_fd(fixture.track(common::listener()));
            rejected.push(refusal(late).kind());
            tell_kinds.send(rejected).expect("the test receives it");
            // `own` does not wait for the exit of the task: the socket is already closed.
            fixture.log("its last words");
            let late = fixture.registry.own_with("late", |name| {
                fixture.log(name);
                Ok(())
            });
            assert!(late.expect_err("it owns nothing any more").into_value().is_none());
            drop((stream, other));
        });
        from_child.recv().expect("the child runs");
        assert_cancelled(child.cancel());
        let rejected = kinds.recv().expect("they were sent");
        assert_eq!(rejected, [ErrorKind::Cancelled; 9]);
        assert_eq!(peer.read(&mut [0]).expect("the stream ends"), 0);
    });
    assert_eq!(fixture.finalized(), ["its last words", "late", "other"]);
    fixture.assert_clean();
}

#[test]
fn after_one_cancelled_error_every_owned_resource_returns_it() {
    let fixture = Fixture::new();
    fixture.root(|| {
        for _ in 0..100 {
            let owned: Vec<_> =
                (0..500).map(|_| fixture.registry.own(()).expect("it runs")).collect();
            let give: Vec<Resource> = owned.iter().map(|owned| owned.resource()).collect();
            let (begin, begun) = channel();
            let (to_test, from_child) = channel();
            let child = fixture.spawn("attentive", give, move || {
                begin.send(()).expect("the test receives it");
                while owned[0].check().is_ok() {}
                let late = owned.iter().rev().find_map(|owned| owned.check().ok());
                to_test.send(late).expect("the test receives it");
            });
            begun.recv().expect("the child starts");
            assert_cancelled(child.cancel());
            assert_eq!(from_child.recv(), Ok(None), "no resource could be used after it");
        }
    });
    fixture.assert_clean();
}

// Calls that it wakes.

#[test]
fn a_blocked_write_is_woken() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let woken = cancelled_in(fixture, [stream.resource()], move || {
            let block = [0; 65536];
            let woken = loop {
                if let Err(error) = (&stream).write_all(&block) {
                    break kind::<()>(Err(error));
                }
            };
            mem::forget(stream);
            woken
        });
        assert_eq!(woken, ErrorKind::Cancelled);
        drop(peer);
    });
    fixture.assert_clean();
}

#[test]
fn a_blocked_datagram_receive_is_woken() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
        fixture.track_resource(&socket.resource());
        let woken = cancelled_in(fixture, [socket.resource()], move || {
            let woken = kind(socket.recv_from(&mut [0]));
            mem::forget(socket);
            woken
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

#[test]
fn a_blocked_connect_is_woken_and_leaves_no_descriptor_open() {
    let fixture = Fixture::new();
    fixture.root(|| {
        // A backlog of 0 accepts one connection; the kernel drops further requests.
        let full = Listener::options().backlog(0).bind("127.0.0.1:0");
        let full = full.expect("there is a port");
        let address =
            full.local_addr().expect("this task owns it").inet().expect("it is a TCP address");
        let _first = TcpStream::connect(address).expect("there is a place for one");
        let woken = cancelled_in(fixture, [], move || {
            let woken = kind(Stream::connect(address));
            // Its socket is already closed, before this task exits.
            assert!(fixture.registry.snapshot().resources.iter().all(|it| it.kind != "tcp stream"));
            woken
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

#[test]
fn accept_or_stop_is_woken_although_it_also_waits_for_a_pipe() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let listener = fixture.listener();
        let (reader, writer) = pipe().expect("a pipe can be made");
        fixture.track_resource(&reader.resource());
        let give = [listener.resource(), reader.resource()];
        let woken = cancelled_in(fixture, give, move || {
            let woken = kind(listener.accept_or_stop(&reader));
            mem::forget((listener, reader));
            woken
        });
        assert_eq!(woken, ErrorKind::Cancelled);
        drop(writer);
    });
    fixture.assert_clean();
}

#[test]
fn a_std_socket_used_inside_with_is_woken() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let listener = fixture.own_fd(common::listener());
        let woken = cancelled_in(fixture, [listener.resource()], move || {
            let result = listener.with(|listener| listener.accept().map(|_| ()));
            assert!(result.expect("the task owned it when it began").is_err());
            let woken = refusal(listener.check()).kind();
            mem::forget(listener);
            woken
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

/// A child that blocks until its parent's exit cancels it.
fn sleeper(fixture: &'static Fixture) -> Promise<()> {
    let listener = fixture.listener();
    fixture.spawn("sleeper", [listener.resource()], move || {
        assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
        mem::forget(listener);
    })
}

#[test]
fn a_task_blocked_in_join_is_woken_and_then_its_child_is() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let woken = cancelled_waiting(fixture, |begin| {
            let child = sleeper(fixture);
            begin.send(common::thread_id()).expect("the test receives it");
            match child.join() {
                Err(TaskError::Refused(child, error)) => {
                    assert!(!child.has_ended(), "it is as it was");
                    error.kind()
                }
                other => panic!("expected an error, got {other:?}"),
            }
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

#[test]
fn a_task_blocked_on_an_orphan_is_woken() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let woken = cancelled_waiting(fixture, |begin| {
            let orphans = Orphans::new(&fixture.registry);
            orphans.adopt(sleeper(fixture)).expect("the task owns it");
            begin.send(common::thread_id()).expect("the test receives it");
            refusal(orphans.get()).kind()
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

#[test]
fn a_task_blocked_in_a_scope_is_woken_and_its_children_are_cancelled() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let woken = cancelled_waiting(fixture, |begin| {
            let scope = fixture.pool().scope(|scope| {
                let listener = fixture.listener();
                let child = scope.spawn([listener.resource()], move || {
                    assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
                    mem::forget(listener);
                });
                child.expect("there is a thread");
                begin.send(common::thread_id()).expect("the test receives it");
            });
            assert!(scope.expect_err("it was cancelled").is_cancelled());
            ErrorKind::Cancelled
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

#[test]
fn a_task_blocked_in_first_is_woken() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let woken = cancelled_waiting(fixture, |begin| {
            let children = [sleeper(fixture), sleeper(fixture)];
            begin.send(common::thread_id()).expect("the test receives it");
            refusal(pool::first(children)).kind()
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

#[test]
fn a_task_blocked_in_parallel_is_woken_and_all_outcomes_are_cancelled() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let woken = cancelled_waiting(fixture, move |begin| {
            let (me, all) = (common::thread_id(), Arc::new(Barrier::new(2)));
            let outcomes = fixture.pool().parallel(2, move |_| {
                let listener = fixture.listener();
                if all.wait().is_leader() {
                    begin.send(me).expect("the test receives it");
                }
                let rejected = refusal(listener.accept()).kind();
                mem::forget(listener);
                rejected
            });
            outcomes.expect("there are threads").into_iter().for_each(assert_cancelled);
            ErrorKind::Cancelled
        });
        assert_eq!(woken, ErrorKind::Cancelled);
    });
    fixture.assert_clean();
}

// The moment of the cancellation.

#[test]
fn a_call_after_the_cancellation_returns_cancelled() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        let listener = fixture.listener();
        peer.write_all(b"there is something to read").expect("it is connected");
        let give = [stream.resource(), listener.resource()];
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let (to_test, from_child) = channel();
        let child = fixture.spawn("late", give, move || {
            begin.send(()).expect("the test receives it");
            assert!(gone.recv().is_err());
            let kinds = [kind((&stream).read(&mut [0])), kind(listener.accept())];
            mem::forget((stream, listener));
            to_test.send(kinds).expect("the test receives it");
        });
        begun.recv().expect("the child starts");
        child.request_cancel().expect("this task owns it");
        drop(go);
        assert_eq!(from_child.recv().expect("it was sent"), [ErrorKind::Cancelled; 2]);
        assert_cancelled(child.join());
    });
    fixture.assert_clean();
}

#[test]
fn a_pipe_read_is_not_woken_but_returns_cancelled_once_it_wakes() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (mut reader, mut writer) = pipe().expect("a pipe can be made");
        fixture.track_resource(&reader.resource());
        let (begin, begun) = channel();
        let (to_test, from_child) = channel();
        let child = fixture.spawn("reading", [reader.resource()], move || {
            begin.send(common::thread_id()).expect("the test receives it");
            to_test.send(kind(reader.read(&mut [0]))).expect("the test receives it");
            mem::forget(reader);
        });
        wait_until_blocked(begun.recv().expect("the child starts"), false);
        child.request_cancel().expect("this task owns it");
        assert!(from_child.try_recv().is_err(), "it still blocks");
        writer.write_all(b"x").expect("this task owns it");
        assert_eq!(from_child.recv().expect("it was woken"), ErrorKind::Cancelled);
        assert_cancelled(child.join());
        writer.close().expect("this task owns it");
    });
    fixture.assert_clean();
}

#[test]
fn resources_a_child_no_longer_owns_are_not_shut_down_with_it() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (transferred, mut first_peer) = fixture.connection();
        let (offered, mut second_peer) = fixture.connection();
        let (disowned, mut third_peer) = fixture.connection();
        let give = [transferred.resource(), offered.resource(), disowned.resource()];
        let (to_test, from_child) = channel();
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("generous", give, move || {
            transferred.transfer().expect("the parent is running");
            let offered = offered.offer().expect("the task owns it");
            let disowned = disowned.disown().expect("the task owns it");
            to_test.send((transferred, offered, disowned)).expect("the test receives it");
            assert!(gone.recv().is_err());
        });
        let (mut transferred, offered, disowned) = from_child.recv().expect("they were sent");
        let mut offered = offered.claim().expect("it was offered");
        child.request_cancel().expect("this task owns it");
        assert_connected(&mut transferred, &mut first_peer);
        assert_connected(&mut offered, &mut second_peer);
        assert_connected(&mut TcpStream::from(disowned), &mut third_peer);
        drop(go);
        assert_cancelled(child.join());
    });
    fixture.assert_clean();
}

#[test]
fn concurrent_cancel_and_release_never_touch_a_reused_number() {
    const ROUNDS: usize = 300;
    let fixture = Fixture::new();
    fixture.root(|| {
        // Reuses every number as soon as it is free.
        let (stop, stopped): (_, Receiver<()>) = channel();
        let other_task = thread::spawn(move || {
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                let (mut a, mut b) =
                    std::os::unix::net::UnixStream::pair().expect("there is space");
                assert_connected(&mut a, &mut b);
                assert_connected(&mut b, &mut a);
            }
        });
        for _ in 0..ROUNDS {
            let (stream, peer) = Stream::pair().expect("there is space");
            let (begin, begun) = channel();
            let child = fixture.spawn("short-lived", [stream.resource()], move || {
                begin.send(()).expect("the test receives it");
                stream.release().expect("a cancelled task may release its resources");
            });
            begun.recv().expect("the child starts");
            let _either = child.cancel();
            peer.close().expect("this task owns it");
        }
        drop(stop);
        other_task.join().expect("its connections still work");
    });
    fixture.assert_clean();
}

// Draining.

#[test]
fn drain_lets_a_child_read_received_bytes_and_then_end_of_stream() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        peer.write_all(b"arrived").expect("it is connected");
        let mut waiting = [0; 7];
        assert_eq!(stream.peek(&mut waiting).expect("this task owns it"), 7);
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("echo", [stream.resource()], move || {
            begin.send(()).expect("the test receives it");
            assert!(gone.recv().is_err());
            let mut text = String::new();
            (&stream).read_to_string(&mut text).expect("end of stream is not an error");
            (&stream).write_all(text.as_bytes()).expect("writing still works");
            stream.shutdown(Shutdown::Write).expect("the task owns it");
        });
        begun.recv().expect("the child starts");
        child.drain().expect("this task owns it");
        drop(go);
        child.join().expect("it succeeds");
        let mut echo = String::new();
        peer.read_to_string(&mut echo).expect("it was echoed");
        assert_eq!(echo, "arrived");
    });
    fixture.assert_clean();
}
