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
        let first = fixture.registry.own_fd(socket.clone()).expect("nobody's yet");
        first.release().expect("it is ours");
        let second = fixture.registry.own_fd(socket).expect("nobody's any more");
        assert_eq!(second.describe().number, first.describe().number);
        assert_ne!(second.id(), first.id());
        assert_eq!(refusal(first.check()).kind(), ErrorKind::UseAfterRelease);
        second.check().expect("it is ours");
    });
    fixture.assert_all_closed();
}

#[test]
fn a_disowned_number_can_be_owned_again() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.own_fd(listener()).disown().expect("it is ours");
        let again = fixture.registry.own_fd(socket).expect("nobody's any more");
        again.check().expect("it is ours");
    });
    fixture.assert_clean();
}

#[test]
fn files_with_equal_identity_are_treated_as_one_file() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor can be had");
        let eventfd = SharedFd::new(eventfd);
        let first = fixture.registry.own_fd(eventfd.clone()).expect("nobody's yet");
        assert_eq!(refusal(fixture.registry.own_fd(eventfd)).kind(), ErrorKind::AlreadyOwned);
        first.release().expect("it is ours");
    });
}

#[test]
fn owning_a_replaced_number_marks_the_old_record_as_replaced() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let victim = fixture.own_fd(OwnedFd::from(listener()));
        let newcomer = SharedFd::new(fixture.track(listener()));
        // dup2(2) puts the newcomer under the victim's number, whatever the registry thinks of it.
        let number = victim.with(|victim| {
            rustix::io::dup2(&newcomer, victim).expect("both are open");
            victim.as_raw_fd()
        });
        let number = number.expect("it is ours");
        // What a program does that was just handed this number by the kernel.
        let again = fd_misuse::second_owner(number);
        let owned = fixture.registry.own_fd(again).expect("the old record was robbed");
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        let [report] = &fixture.reports()[..] else { panic!("expected one report") };
        let Report::FdReplaced(theft) = report else { panic!("{report}") };
        let resource = theft.resource.as_ref().expect("it is about a resource");
        assert_eq!(resource.id, victim.id());
        assert_eq!(refusal(victim.check()).kind(), ErrorKind::FdReplaced);
        owned.check().expect("it is the new record's");
        // The end of the old record does not touch the new one's number.
        assert_eq!(refusal(victim.release()).kind(), ErrorKind::FdReplaced);
        assert!(target(number).is_some(), "the newcomer is still open");
        owned.release().expect("it is ours");
        assert_eq!(fixture.codes(), ["fd-replaced"], "one theft is reported once");
        drop(newcomer);
    });
    fixture.assert_all_closed();
}

#[test]
fn two_registries_do_not_see_each_others_resources() {
    let fixture = Fixture::new();
    let other = Registry::new();
    fixture.root(|| {
        let socket = SharedFd::new(fixture.track(listener()));
        let here = fixture.registry.own_fd(socket.clone()).expect("nobody's here");
        let there = other.own_fd(socket).expect("nobody's there");
        assert_eq!(fixture.registry.snapshot().resources.len(), 1);
        here.release().expect("it is ours here");
        there.check().expect("it is ours there");
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
        mem::forget(socket.expect("it comes back"));
    });
    assert_success(&output);
}

// Rule 2: non-owners are refused before the system call.

#[test]
fn a_read_by_another_task_consumes_nothing_and_the_owner_reads_every_byte() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        peer.write_all(b"for the owner").expect("it is connected");
        drop(peer);
        let owner = fixture.registry.current_task();
        let stream = thread::scope(|threads| {
            let stranger = threads.spawn(|| {
                let read = (&stream).read(&mut [0; 64]).expect_err("not its own");
                assert_eq!(read.kind(), io::ErrorKind::PermissionDenied);
                let refused = Error::in_io(&read).expect("the registry's own error is inside");
                assert_eq!(refused.kind(), ErrorKind::NotOwner);
                assert_eq!(refused.owner(), Some(&owner));
                assert_eq!(refused.site().file(), file!());
                let copy = io::copy(&mut &stream, &mut io::sink());
                assert_eq!(refusal(copy).kind(), ErrorKind::NotOwner);
                assert_eq!(refusal((&stream).write_all(b"forged")).kind(), ErrorKind::NotOwner);
                let shutdown = stream.shutdown(Shutdown::Both);
                assert_eq!(refusal(shutdown).kind(), ErrorKind::NotOwner);
            });
            stranger.join().expect("being refused is an ordinary error");
            &stream
        });
        let mut text = String::new();
        (&*stream).read_to_string(&mut text).expect("it is the owner's");
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
        let stranger = fixture.spawn("stranger", [], move || {
            refusal(its.with(|_| fixture.log("the closure ran"))).kind()
        });
        assert_eq!(stranger.join().expect("it owns nothing"), ErrorKind::NotOwner);
        assert!(fixture.finalized().is_empty());
        assert_eq!(mine.with(|value| *value).expect("it is ours"), "mine");
    });
}

#[test]
fn any_task_may_query_the_owner() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.listener();
        let (resource, owner) = (socket.resource(), fixture.registry.current_task());
        let stranger = fixture.spawn("stranger", [], move || resource.describe());
        let described = stranger.join().expect("it owns nothing");
        assert_eq!(described.owner, Some(owner));
        assert_eq!(described.state, "held");
        let local = socket.local_addr().expect("it is ours").to_string();
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
        let refused = Arc::new(Mutex::new(Vec::new()));
        let (go, gone) = channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        let strangers: Vec<_> = (0..8)
            .map(|_| {
                let (socket, refused) = (Arc::clone(&socket), Arc::clone(&refused));
                let gone = Arc::clone(&gone);
                fixture.spawn("stranger", [], move || {
                    let _ = lock(&gone).recv();
                    lock(&refused).push(refusal(socket.release()).kind());
                })
            })
            .collect();
        drop(go);
        socket.release().expect("the owner may, whoever else tries");
        for stranger in strangers {
            stranger.join().expect("it owns nothing");
        }
        let refused = lock(&refused);
        let honest = [ErrorKind::NotOwner, ErrorKind::DoubleRelease];
        assert!(refused.len() == 8 && refused.iter().all(|kind| honest.contains(kind)));
        Arc::clone(&socket)
    });
    drop(socket);
    assert_eq!(fixture.finalized(), ["shared"]);
}
