//! Rules 1, 2 and 3: one owner at any moment; non-owners are rejected before the system call; a
//! second release names the first.

use std::io::{self, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use echown::net::Stream;
use echown::ownership::{Error, ErrorKind, Registry, Report};
use echown::test;
use rustix::event::{EventfdFlags, eventfd};

use crate::common::{
    Fixture, SharedFd, assert_success, fd_misuse, in_own_process, leaked, listener, lock, refusal,
    target,
};
use crate::test_name;

// Rule 1: one owner at any moment.

#[test]
fn a_released_number_can_be_owned_again_under_a_new_id() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = SharedFd::new(fixture.track(listener()));
        let first = fixture.registry.own_fd(socket.clone()).expect("it has no owner yet");
        first.release().expect("this task owns it");
        let second = fixture.registry.own_fd(socket).expect("it has no owner any more");
        assert_eq!(second.describe().number, first.describe().number);
        assert_ne!(second.id(), first.id());
        assert_eq!(refusal(first.check()).kind(), ErrorKind::UseAfterRelease);
        second.check().expect("this task owns it");
    });
    fixture.assert_all_closed();
}

#[test]
fn a_disowned_number_can_be_owned_again() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.own_fd(listener()).disown().expect("this task owns it");
        let again = fixture.registry.own_fd(socket).expect("it has no owner any more");
        again.check().expect("this task owns it");
    });
    fixture.assert_clean();
}

#[test]
fn files_with_equal_identity_are_treated_as_one_file() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor is free");
        let eventfd = SharedFd::new(eventfd);
        let first = fixture.registry.own_fd(eventfd.clone()).expect("it has no owner yet");
        assert_eq!(refusal(fixture.registry.own_fd(eventfd)).kind(), ErrorKind::AlreadyOwned);
        first.release().expect("this task owns it");
    });
}

#[test]
fn owning_a_replaced_number_marks_the_old_record_as_replaced() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let victim = fixture.own_fd(OwnedFd::from(listener()));
        let new_file = SharedFd::new(fixture.track(listener()));
        // dup2(2) puts the new file under the owned number, outside the registry.
        let number = victim.with(|victim| {
            rustix::io::dup2(&new_file, victim).expect("both are open");
            victim.as_raw_fd()
        });
        let number = number.expect("this task owns it");
        // As a program that just received this number from the kernel.
        let again = fd_misuse::second_owner(number);
        let owned = fixture.registry.own_fd(again).expect("the old record is marked as replaced");
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        let [report] = &fixture.reports()[..] else { panic!("expected one report") };
        let Report::FdReplaced(replacement) = report else { panic!("{report}") };
        let resource = replacement.resource.as_ref().expect("it is about a resource");
        assert_eq!(resource.id, victim.id());
        assert_eq!(refusal(victim.check()).kind(), ErrorKind::FdReplaced);
        owned.check().expect("the new record owns it");
        // Closing the old record does not touch the number of the new one.
        assert_eq!(refusal(victim.release()).kind(), ErrorKind::FdReplaced);
        assert!(target(number).is_some(), "the new file is still open");
        owned.release().expect("this task owns it");
        assert_eq!(fixture.codes(), ["fd-replaced"], "one replacement is reported once");
        drop(new_file);
    });
    fixture.assert_all_closed();
}

#[test]
fn two_registries_do_not_see_each_others_resources() {
    let fixture = Fixture::new();
    let other = Registry::new();
    fixture.root(|| {
        let socket = SharedFd::new(fixture.track(listener()));
        let here =
            fixture.registry.own_fd(socket.clone()).expect("it has no owner in this registry");
        let there = other.own_fd(socket).expect("it has no owner in that registry");
        assert_eq!(fixture.registry.snapshot().resources.len(), 1);
        here.release().expect("this registry owns it");
        there.check().expect("the other registry owns it");
    });
    assert!(other.summary().is_clean());
    fixture.assert_clean();
}

#[test]
fn a_closed_descriptor_cannot_be_owned_and_is_returned() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        let socket = listener();
        fd_misuse::close_number(socket.as_raw_fd());
        let (error, socket) = fixture.registry.own_fd(socket).expect_err("closed").into_parts();
        assert_eq!(error.kind(), ErrorKind::NotOpen);
        mem::forget(socket.expect("it is returned"));
    });
    assert_success(&output);
}

// Rule 2: non-owners are rejected before the system call.

#[test]
fn a_read_by_another_task_consumes_nothing_and_the_owner_reads_every_byte() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        peer.write_all(b"for the owner").expect("it is connected");
        drop(peer);
        let owner = fixture.registry.current_task();
        let stream = thread::scope(|threads| {
            let other_task = threads.spawn(|| {
                let read = (&stream).read(&mut [0; 64]).expect_err("the task does not own it");
                assert_eq!(read.kind(), io::ErrorKind::PermissionDenied);
                let rejected = Error::in_io(&read).expect("the registry's own error is inside");
                assert_eq!(rejected.kind(), ErrorKind::NotOwner);
                assert_eq!(rejected.owner(), Some(&owner));
                assert_eq!(rejected.site().file(), file!());
                let copy = io::copy(&mut &stream, &mut io::sink());
                assert_eq!(refusal(copy).kind(), ErrorKind::NotOwner);
                assert_eq!(refusal((&stream).write_all(b"forged")).kind(), ErrorKind::NotOwner);
                let shutdown = stream.shutdown(Shutdown::Both);
                assert_eq!(refusal(shutdown).kind(), ErrorKind::NotOwner);
            });
            other_task.join().expect("a rejected call is an ordinary error");
            &stream
        });
        let mut text = String::new();
        (&*stream).read_to_string(&mut text).expect("the owner calls it");
        assert_eq!(text, "for the owner");
    });
    assert_eq!(fixture.codes(), ["not-owner"; 4]);
    fixture.assert_all_closed();
}

#[test]
fn with_rejects_another_task_before_the_closure_runs() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mine = Arc::new(fixture.own("mine"));
        let its = Arc::clone(&mine);
        let other_task = fixture.spawn("other", [], move || {
            refusal(its.with(|_| fixture.log("the closure ran"))).kind()
        });
        assert_eq!(other_task.join().expect("it owns nothing"), ErrorKind::NotOwner);
        assert!(fixture.finalized().is_empty());
        assert_eq!(mine.with(|value| *value).expect("this task owns it"), "mine");
    });
}

#[test]
fn any_task_may_query_the_owner() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.listener();
        let (resource, owner) = (socket.resource(), fixture.registry.current_task());
        let other_task = fixture.spawn("other", [], move || resource.describe());
        let described = other_task.join().expect("it owns nothing");
        assert_eq!(described.owner, Some(owner));
        assert_eq!(described.state, "held");
        let local = socket.local_addr().expect("this task owns it").to_string();
        assert_eq!(described.local, Some(local));
    });
    fixture.assert_clean();
}

// Rule 3: a second release is `DoubleRelease`, naming the first one's place.

#[test]
fn a_resource_released_by_task_exit_names_that_exit() {
    let fixture = Fixture::new();
    let stream: Stream = fixture.root(|| {
        let child = fixture.spawn("forgetful", [], || fixture.connection().0);
        let label = child.task();
        let (stream, report) = leaked(child.join());
        let error = refusal(stream.release());
        assert_eq!(error.kind(), ErrorKind::DoubleRelease);
        assert_eq!(error.owner(), Some(&label));
        assert_eq!(error.earlier_site(), report.spawned, "where that task was spawned");
        stream
    });
    let error = refusal(stream.disown());
    assert_eq!(error.kind(), ErrorKind::UseAfterRelease);
    fixture.assert_all_closed();
}

#[test]
fn of_many_concurrent_releases_only_the_owners_succeeds() {
    let fixture = Fixture::new();
    let socket = fixture.root(|| {
        let socket = Arc::new(fixture.own("shared"));
        let rejected = Arc::new(Mutex::new(Vec::new()));
        let (go, gone) = channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        let others: Vec<_> = (0..8)
            .map(|_| {
                let (socket, rejected) = (Arc::clone(&socket), Arc::clone(&rejected));
                let gone = Arc::clone(&gone);
                fixture.spawn("other", [], move || {
                    let _ = lock(&gone).recv();
                    lock(&rejected).push(refusal(socket.release()).kind());
                })
            })
            .collect();
        drop(go);
        socket.release().expect("the owner may release it");
        for other_task in others {
            other_task.join().expect("it owns nothing");
        }
        let rejected = lock(&rejected);
        let honest = [ErrorKind::NotOwner, ErrorKind::DoubleRelease];
        assert!(rejected.len() == 8 && rejected.iter().all(|kind| honest.contains(kind)));
        Arc::clone(&socket)
    });
    drop(socket);
    assert_eq!(fixture.finalized(), ["shared"]);
}
