//! Rule 11 for a descriptor that moves: after its number was closed or replaced outside the
//! registry it stays marked as replaced in every owner, and no operation on it reaches the new
//! file.
//!
//! `closing.rs` has the cases in which it stays with the task that acquired it.

use std::io::Read;
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::mpsc::channel;

use echown::net::Stream;
use echown::ownership::{ErrorKind, Event, Level, Report};
use echown::test;

use crate::common::{
    self, Fixture, assert_cancelled, assert_connected, fd_misuse, leaked, panic_message, refusal,
};
use crate::events;

/// Replaces the file behind a registered number by another one, atomically, so that no other test
/// gets the number in between. Returns the new owner of the number.
fn replace(number: RawFd, new_file: impl AsFd) -> OwnedFd {
    let mut taken = fd_misuse::second_owner(number);
    let flags = rustix::io::DupFlags::CLOEXEC;
    rustix::io::dup3(new_file, &mut taken, flags).expect("both are open");
    taken
}

fn number(stream: &Stream) -> RawFd {
    stream.describe().number.expect("it is a descriptor")
}

/// Puts a new connection under a number. Returns the end that now has the number, and the other
/// end.
fn replace_by_connection(number: RawFd) -> (TcpStream, TcpStream) {
    let (here, there) = common::connection();
    (TcpStream::from(replace(number, here)), there)
}

/// The same, and the registry detects it, because it owns the new end.
fn replace_by_owned(fixture: &Fixture, number: RawFd) -> (Stream, TcpStream) {
    let (here, there) = replace_by_connection(number);
    let here = Stream::own(here).expect("the number belongs to the new file");
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    (here, there)
}

/// A stream that was replaced without detection, the new file under its number, and that file's
/// peer.
fn replaced(fixture: &'static Fixture) -> (Stream, TcpStream, TcpStream) {
    let (stream, _peer) = fixture.connection();
    let (here, there) = replace_by_connection(number(&stream));
    (stream, here, there)
}

/// The same, detected by the registry, because the new file was owned for a moment.
fn known_as_replaced(fixture: &'static Fixture) -> (Stream, TcpStream, TcpStream) {
    let (stream, here, there) = replaced(fixture);
    let owned =
        fixture.registry.own_fd(OwnedFd::from(here)).expect("the number belongs to the new file");
    let here = owned.disown().expect("this task owns it");
    (stream, TcpStream::from(here), there)
}

/// Exits of a task that still has a resource.
const ENDS: [&str; 4] = ["drops it", "releases it", "forgets it", "panics"];

fn assert_ends_with(stream: Stream, end: &str) {
    match end {
        "drops it" => drop(stream),
        "releases it" => assert_eq!(refusal(stream.release()).kind(), ErrorKind::FdReplaced),
        "forgets it" => mem::forget(stream),
        _ => {
            mem::forget(stream);
            panic!("its own error");
        }
    }
}

#[test]
fn a_resource_replaced_after_give_is_reported_and_the_new_file_stays_open() {
    for level in [Level::On, Level::Full] {
        for end in ENDS {
            let fixture = Fixture::with(|settings| settings.level(level));
            fixture.root(|| {
                let (stream, _peer) = fixture.connection();
                let number = number(&stream);
                let (go, gone) = channel::<()>();
                let child = fixture.spawn("child", [stream.resource()], move || {
                    assert!(gone.recv().is_err());
                    assert_ends_with(stream, end);
                });
                let (mut here, mut there) = replace_by_connection(number);
                drop(go);
                match end {
                    "forgets it" => drop(leaked(child.join())),
                    "panics" => assert_eq!(panic_message(child.join()), "its own error"),
                    _ => child.join().expect("nothing is left"),
                }
                assert_connected(&mut here, &mut there);
                let owner = fixture.reports().iter().find_map(|report| match report {
                    Report::FdReplaced(replacement) => replacement.owner.clone(),
                    _ => None,
                });
                assert_eq!(owner.map(|owner| owner.name).as_deref(), Some("child"));
            });
            let expected: &[_] =
                if end == "forgets it" { &["fd-replaced", "leak"] } else { &["fd-replaced"] };
            assert_eq!(fixture.codes(), expected, "{level}, {end}");
            fixture.assert_all_closed();
        }
    }
}

#[test]
fn a_resource_marked_as_replaced_cannot_be_given_offered_or_transferred() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || {
            let (stream, mut here, mut there) = known_as_replaced(fixture);
            let rejected = fixture.pool().spawn([stream.resource()], || ());
            assert_eq!(refusal(rejected).kind(), ErrorKind::FdReplaced);
            assert_eq!(refusal(stream.transfer()).kind(), ErrorKind::FdReplaced);
            let (error, stream) = stream.offer().expect_err("it is replaced").into_parts();
            assert_eq!(error.kind(), ErrorKind::FdReplaced);
            let stream = stream.expect("the handle is returned");
            assert_eq!(refusal(stream.check()).kind(), ErrorKind::FdReplaced);
            assert_eq!(refusal(stream.set_nodelay(true)).kind(), ErrorKind::FdReplaced);
            let (error, stream) = stream.split().expect_err("it is replaced").into_parts();
            assert_eq!(error.kind(), ErrorKind::FdReplaced);
            drop(stream);
            assert_connected(&mut here, &mut there);
        });
        child.join().expect("nothing is left");
    });
    assert_eq!(fixture.codes(), ["fd-replaced"], "one replacement is one report");
    fixture.assert_all_closed();
}

#[test]
fn a_given_resource_is_rejected_once_the_new_file_is_owned() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, _peer) = fixture.connection();
        let number = number(&stream);
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("child", [stream.resource()], move || {
            assert!(gone.recv().is_err());
            assert_eq!(refusal(stream.set_nodelay(true)).kind(), ErrorKind::FdReplaced);
            mem::forget(stream);
        });
        let (mut here, mut there) = replace_by_owned(fixture, number);
        drop(go);
        leaked(child.join());
        assert_connected(&mut here, &mut there);
    });
    assert_eq!(fixture.codes(), ["fd-replaced", "leak"]);
    fixture.assert_all_closed();
}

#[test]
fn dropping_a_replaced_offer_does_not_close_the_new_file() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, _peer) = fixture.connection();
        let number = number(&stream);
        let offer = stream.offer().expect("this task owns it");
        let (mut here, mut there) = replace_by_connection(number);
        drop(offer);
        assert_connected(&mut here, &mut there);
    });
    assert_eq!(fixture.codes(), ["unclaimed", "fd-replaced"]);
    fixture.assert_all_closed();
}

#[test]
fn a_replaced_offer_passes_to_the_parent_and_its_claimer_cannot_use_it() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, _peer) = fixture.connection();
        let (resource, number) = (stream.resource(), number(&stream));
        let (go, gone) = channel::<()>();
        let (to_test, from_child) = channel();
        let child = fixture.spawn("offerer", [stream.resource()], move || {
            to_test.send(stream.offer().expect("the task owns it")).expect("the test receives it");
            assert!(gone.recv().is_err());
        });
        let offer = from_child.recv().expect("it was sent");
        let (mut here, mut there) = replace_by_owned(fixture, number);
        drop(go);
        child.join().expect("an offer is not a leak");
        assert_eq!(resource.describe().owner, Some(fixture.registry.current_task()));
        let claimed = offer.claim().expect("it is still offered");
        assert_eq!(refusal(claimed.set_nodelay(true)).kind(), ErrorKind::FdReplaced);
        drop(claimed);
        assert_connected(&mut here, &mut there);
        let custody = events(&resource.describe());
        assert_eq!(custody.last(), Some(&Event::Dropped), "{custody:?}");
    });
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    fixture.assert_all_closed();
}

#[test]
fn level_off_rejects_a_replaced_resource_and_keeps_the_new_file_open() {
    let fixture = Fixture::with(|settings| settings.level(Level::Off));
    fixture.root(|| {
        let (stream, mut here, mut there) = replaced(fixture);
        drop(stream);
        assert_connected(&mut here, &mut there);
        let (stream, mut here, mut there) = known_as_replaced(fixture);
        assert_eq!(refusal(stream.set_nodelay(true)).kind(), ErrorKind::FdReplaced);
        assert_eq!(refusal((&stream).read(&mut [0])).kind(), ErrorKind::FdReplaced);
        drop(stream);
        assert_connected(&mut here, &mut there);
        let (stream, mut here, mut there) = replaced(fixture);
        let child = fixture.spawn("child", [stream.resource()], move || mem::forget(stream));
        child.join().expect("this level reports no leak");
        assert_connected(&mut here, &mut there);
    });
    assert!(fixture.codes().is_empty(), "this level reports nothing");
    fixture.assert_all_closed();
}

#[test]
fn a_replaced_write_half_shuts_nothing_down() {
    for level in [Level::Off, Level::On, Level::Full] {
        for is_forgotten in [false, true] {
            let fixture = Fixture::with(|settings| settings.level(level));
            fixture.root(|| {
                let (stream, _peer) = fixture.connection();
                let number = number(&stream);
                let (reading, writing) = stream.split().expect("this task owns it");
                let (mut here, mut there) = replace_by_connection(number);
                if is_forgotten {
                    let give = [writing.resource()];
                    let child = fixture.spawn("child", give, move || mem::forget(writing));
                    let _ = child.join();
                } else {
                    drop(writing);
                }
                assert_connected(&mut here, &mut there);
                drop(reading);
                assert_connected(&mut here, &mut there);
            });
            let replaced = fixture.codes().iter().filter(|code| **code == "fd-replaced").count();
            assert_eq!(replaced, usize::from(level != Level::Off), "{level}, {is_forgotten}");
            fixture.assert_all_closed();
        }
    }
}

/// A stream that is marked as replaced and whose number now means its old socket again, through a
/// duplicate without an owner: the identity is the registered one, but the task does not own the
/// number. Returns the result of `split` on the stream, that duplicate, and the peer.
fn replaced_by_its_own_duplicate<H>(
    fixture: &'static Fixture,
    split: impl FnOnce(Stream) -> H,
) -> (H, TcpStream, TcpStream) {
    let (socket, peer) = common::connection();
    let aside = socket.try_clone().expect("there are descriptors");
    let stream = Stream::own(socket).expect("it has no owner yet");
    let number = number(&stream);
    let handles = split(stream);
    let (here, _there) = common::connection();
    let new_file =
        fixture.registry.own_fd(replace(number, here)).expect("it belongs to the new file");
    mem::forget(new_file.disown().expect("this task owns it"));
    (handles, TcpStream::from(replace(number, aside)), peer)
}

#[test]
fn a_replaced_mark_stays_even_if_the_old_identity_returns() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut new_file, mut peer) =
            replaced_by_its_own_duplicate(fixture, |stream| stream);
        assert_eq!(refusal(stream.release()).kind(), ErrorKind::FdReplaced);
        assert_connected(&mut new_file, &mut peer);
        let (halves, mut new_file, mut peer) = replaced_by_its_own_duplicate(fixture, |stream| {
            stream.split().expect("this task owns it")
        });
        let (reading, writing) = halves;
        drop(writing);
        assert_connected(&mut new_file, &mut peer);
        drop(reading);
        assert_connected(&mut new_file, &mut peer);
    });
    assert_eq!(fixture.codes(), ["fd-replaced"; 2], "one replacement is one report");
}

#[test]
fn cancel_and_drain_do_not_shut_down_a_replaced_resource() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (go, gone) = channel::<()>();
        let (begin, begun) = channel();
        let owner = fixture.spawn("owner", [], move || {
            let (stream, new_file, peer) = replaced_by_its_own_duplicate(fixture, |stream| stream);
            begin.send((new_file, peer)).expect("the test receives it");
            assert!(gone.recv().is_err());
            mem::forget(stream);
        });
        let (mut new_file, mut peer) = begun.recv().expect("it starts");
        owner.drain().expect("this task owns it");
        assert_connected(&mut new_file, &mut peer);
        owner.request_cancel().expect("this task owns it");
        assert_connected(&mut new_file, &mut peer);
        drop(go);
        assert_cancelled(owner.join());
        assert_connected(&mut new_file, &mut peer);
    });
    assert_eq!(fixture.codes(), ["fd-replaced"], "one replacement is one report");
}
