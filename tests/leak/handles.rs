//! Rules 12 and 13: a drop by a non-owner is a violation and still releases; and the registry is
//! sound for any value, wherever its handle is moved.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::mpsc::{TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use echown::net::{File, Listener, PipeReader, PipeWriter, ReadHalf, Stream, WriteHalf};
use echown::ownership::{Error, ErrorKind, Half, Offer, Owned, Report, Resource};
use echown::test;

use crate::common::{
    self, Fixture, assert_cancelled, assert_connected, assert_success, in_own_process, leaked,
    lock, refusal, wait_until_blocked,
};
use crate::test_name;

// Rule 12: a drop by a non-owner.

#[test]
fn a_handle_dropped_by_another_task_is_released_there_and_reported() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (string, socket) = (fixture.own("dropped"), fixture.listener());
        let (named, me) = (string.resource(), fixture.registry.current_task());
        let other_task = fixture.spawn("other", [], move || {
            drop((string, socket));
            (fixture.registry.current_task(), thread::current().id())
        });
        let (other_task, thread) = other_task.join().expect("a violation does not fail the task");
        assert_eq!(fixture.finalized_on("dropped"), thread);
        fixture.assert_all_closed();
        let Some(Report::Violation(report)) = fixture.reports().into_iter().next() else {
            panic!("expected a violation");
        };
        assert_eq!((report.actor, report.owner), (other_task.clone(), Some(me.clone())));
        assert_eq!(
            report.message,
            format!(
                "resource {} (&str) dropped by {other_task}, expected owner {me} (owned at {})",
                named.id(),
                named.describe().acquired
            )
        );
    });
    assert_eq!(fixture.codes(), ["dropped-by-non-owner"; 2]);
}

#[test]
fn a_handle_captured_by_a_child_without_give_is_dropped_by_a_non_owner() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mine = fixture.own("captured");
        let child = fixture.spawn("child", [], move || refusal(mine.check()).kind());
        assert_eq!(child.join().expect("it owned nothing"), ErrorKind::NotOwner);
    });
    assert_eq!(fixture.finalized(), ["captured"]);
    assert_eq!(fixture.codes(), ["not-owner", "dropped-by-non-owner"]);
}

// Rule 13: sound for any `T`.

#[test]
fn no_safe_accessor_bypasses_the_check() {
    /// Two blanket implementations apply to a type that has the trait, and then inference is
    /// ambiguous: this only compiles if none of the types has any of the traits.
    macro_rules! has_none_of {
        ($traits:tt: $($type:ty),+) => {$( has_none_of!(@ $traits $type); )+};
        (@ ($($trait:path),+) $type:ty) => {$({
            trait Ambiguous<A> { fn exists() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct HasIt;
            impl<T: ?Sized + $trait> Ambiguous<HasIt> for T {}
            <$type as Ambiguous<_>>::exists();
        })+};
    }
    has_none_of!(
        (Deref, DerefMut, AsFd, AsRawFd, IntoRawFd, Into<OwnedFd>, Clone):
        Owned<std::net::TcpStream>, Owned<OwnedFd>, Half<OwnedFd>, Offer<Stream>,
        Stream, Listener, ReadHalf, WriteHalf, File, PipeReader, PipeWriter
    );
    has_none_of!((Deref, AsFd, AsRawFd, IntoRawFd, Into<OwnedFd>): Resource);
}

#[test]
fn handles_are_send_sync_and_unwind_safe() {
    fn send_and_sync<T: Send + Sync>() {}
    fn unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    /// Is `Send` and neither `Sync` nor unwind-safe.
    type Any = Box<dyn FnMut() + Send>;
    send_and_sync::<Owned<Cell<u8>>>();
    send_and_sync::<Owned<Any>>();
    send_and_sync::<Offer<Owned<Cell<u8>>>>();
    send_and_sync::<Resource>();
    send_and_sync::<(Stream, Listener, ReadHalf, WriteHalf, File, PipeReader, PipeWriter)>();
    unwind_safe::<Owned<Cell<u8>>>();
    unwind_safe::<Owned<Any>>();
    unwind_safe::<Half<OwnedFd>>();
    unwind_safe::<(Stream, Listener, ReadHalf, WriteHalf, File, PipeReader, PipeWriter)>();
}

#[test]
fn a_string_or_a_closure_can_be_owned_like_a_socket() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let text = fixture.registry.own(String::from("ours")).expect("the task is running");
        text.with(|text| text.push_str(" alone")).expect("this task owns it");
        let (to_test, from_child) = channel();
        let mut calls = 0;
        let counter: Box<dyn FnMut() + Send> = Box::new(move || {
            calls += 1;
            to_test.send(calls).expect("the test receives it");
        });
        let counter = fixture.registry.own(counter).expect("the task is running");
        counter.with(|count| count()).expect("this task owns it");
        let child = fixture.spawn("child", [counter.resource()], move || {
            counter.with(|count| count())?;
            counter.release()
        });
        child.join().expect("it owns nothing").expect("it was given");
        assert_eq!(from_child.iter().collect::<Vec<_>>(), [1, 2], "and then the closure is gone");
        assert_eq!(text.disown().expect("this task owns it"), "ours alone");
    });
    fixture.assert_clean();
}

#[test]
fn a_resource_inside_with_cannot_be_released_given_transferred_or_used_again() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || {
            let mine = fixture.own("lent");
            let inside = mine.with(|_| {
                let spawned = fixture.pool().spawn([mine.resource()], || ());
                let kinds = [
                    refusal(mine.with(|_| unreachable!("it is lent already"))).kind(),
                    refusal(mine.release()).kind(),
                    refusal(mine.transfer()).kind(),
                    refusal(mine.check()).kind(),
                    refusal(spawned).kind(),
                ];
                assert_eq!(mine.describe().state, "busy");
                (kinds, refusal(mine.release()).to_string())
            });
            let me = fixture.registry.current_task();
            let (kinds, text) = inside.expect("the task owns it");
            assert_eq!(kinds, [ErrorKind::InUse; 5]);
            let id = mine.id();
            assert_eq!(text, format!("resource {id} (&str) is in use by {me} inside `with`"));
            mine.release().expect("it succeeds afterwards");
        });
        child.join().expect("it owns nothing");
    });
    assert_eq!(fixture.finalized(), ["lent"]);
}

#[test]
fn another_task_gets_not_owner_while_the_owner_is_inside_with() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mine = fixture.own("lent");
        let rejected = mine.with(|_| {
            thread::scope(|threads| {
                let other_task = threads.spawn(|| {
                    let with =
                        refusal(mine.with(|_| unreachable!("the task does not own it"))).kind();
                    [with, refusal(mine.release()).kind()]
                });
                other_task.join().expect("a rejected call is an ordinary error")
            })
        });
        assert_eq!(rejected.expect("this task owns it"), [ErrorKind::NotOwner; 2]);
    });
    assert_eq!(fixture.finalized(), ["lent"]);
}

#[test]
fn a_panic_inside_with_returns_the_value() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let numbers = fixture.registry.own(vec![1]).expect("the task is running");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            numbers.with(|numbers| {
                numbers.push(2);
                panic!("inside");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(numbers.disown().expect("this task owns it"), [1, 2]);
    });
    fixture.assert_clean();
}

#[test]
fn a_cancellation_inside_with_takes_effect_after_it() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mine = fixture.own("lent");
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let (to_test, from_child) = channel();
        let child = fixture.spawn("child", [mine.resource()], move || {
            let inside = mine.with(|value| {
                begin.send(()).expect("the test receives it");
                assert!(gone.recv().is_err());
                *value
            });
            to_test
                .send((inside.ok(), refusal(mine.check()).kind()))
                .expect("the test receives it");
            mem::forget(mine);
        });
        begun.recv().expect("the child is inside");
        child.request_cancel().expect("this task owns it");
        drop(go);
        assert_eq!(from_child.recv().expect("it was sent"), (Some("lent"), ErrorKind::Cancelled));
        assert_cancelled(child.join());
    });
    assert_eq!(fixture.finalized(), ["lent"]);
}

#[test]
fn a_released_handle_in_a_cycle_never_touches_the_reused_number() {
    struct Node {
        stream: Stream,
        next: Mutex<Option<Arc<Node>>>,
    }
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        fixture.root(|| {
            let listener = common::listener();
            let address = listener.local_addr().expect("it is bound");
            let child = fixture.spawn("cyclic", [], || {
                let (stream, _) = fixture.connection();
                let node = Arc::new(Node { stream, next: Mutex::new(None) });
                *lock(&node.next) = Some(Arc::clone(&node));
                node
            });
            let (node, report) = leaked(child.join());
            let mut there = TcpStream::connect(address).expect("it listens");
            let (mut here, _) = listener.accept().expect("a client connects");
            let number = report.resources[0].number.expect("it was a descriptor");
            let recycled = [&here, &there].map(AsRawFd::as_raw_fd).contains(&number);
            assert!(recycled, "the kernel hands out the lowest number");
            let stream = &node.stream;
            let forged = (&*stream).write(b"forged");
            assert_eq!(refusal(forged).kind(), ErrorKind::UseAfterRelease);
            assert_eq!(refusal((&*stream).read(&mut [0])).kind(), ErrorKind::UseAfterRelease);
            assert_eq!(refusal(stream.close()).kind(), ErrorKind::DoubleRelease);
            assert_connected(&mut here, &mut there);
            // The cycle is cut: the handle is dropped, and nothing happens.
            lock(&node.next).take();
            assert_eq!(Arc::strong_count(&node), 1);
            drop(node);
            assert_connected(&mut here, &mut there);
        });
        fixture.assert_all_closed();
    });
    assert_success(&output);
}

#[test]
fn describing_a_resource_never_prevents_its_owner_from_closing_it() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let listener = Arc::new(fixture.listener());
        let (begin, begun) = channel();
        let (stop, stopped) = channel::<()>();
        let watcher = {
            let resource = listener.resource();
            thread::spawn(move || {
                begin.send(()).expect("the test receives it");
                while stopped.try_recv() == Err(TryRecvError::Empty) {
                    let _ = resource.describe();
                    let _ = fixture.registry.snapshot();
                }
                resource.describe().state
            })
        };
        begun.recv().expect("the watcher looks");
        listener.release().expect("this task owns it");
        fixture.assert_all_closed();
        drop(stop);
        assert_eq!(watcher.join().expect("a description is always available"), "released");
    });
}

#[test]
fn one_owner_reads_and_writes_through_shared_references() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let (begin, begun) = channel();
        let child = fixture.spawn("copying", [stream.resource()], move || {
            begin.send(common::thread_id()).expect("the test receives it");
            io::copy(&mut &stream, &mut &stream)
        });
        wait_until_blocked(begun.recv().expect("the child runs"), false);
        (&peer).write_all(b"echo").expect("it is connected");
        peer.shutdown(Shutdown::Write).expect("it is connected");
        let mut echo = String::new();
        (&peer).read_to_string(&mut echo).expect("it is echoed");
        assert_eq!(echo, "echo");
        assert_eq!(child.join().expect("it owns nothing").expect("no error"), 4);
    });
    fixture.assert_clean();
}

#[test]
fn a_rejected_write_all_or_read_exact_names_the_line_of_its_caller() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (mut stream, mut peer) = fixture.connection();
        let other = fixture.spawn("other", [], move || {
            let first = line!() + 1;
            let write = stream.write_all(b"mine").expect_err("another task owns it");
            let read = stream.read_exact(&mut [0; 4]).expect_err("another task owns it");
            for (error, line) in [(write, first), (read, first + 1)] {
                let error = Error::in_io(&error).expect("the registry rejected it");
                assert_eq!(error.kind(), ErrorKind::NotOwner);
                assert_eq!((error.site().file(), error.site().line()), (file!(), line));
            }
            stream
        });
        drop(other.join().expect("a rejected call does not fail the task"));
        assert_eq!(peer.read(&mut [0]).expect("it is connected"), 0);
        let short = peer.read_exact(&mut [0; 4]).expect_err("the stream has ended");
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    });
    assert_eq!(fixture.codes(), ["not-owner"; 2]);
    fixture.assert_all_closed();
}
