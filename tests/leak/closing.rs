//! Rule 11: the checker closes by identity, not by number.
//!
//! The tests replace a descriptor by `dup2(2)` onto a number that its owner lends, or, in a
//! separate process, by a stray `close(2)`.

use std::io::{Read, Write};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use echown::net::Stream;
use echown::ownership::{ErrorKind, Event, Identity, Level, Owned, Report};
use echown::test;

use crate::common::{
    self, Fixture, assert_cancelled, assert_connected, assert_success, fd_misuse, in_own_process,
    leaked, lock, panic_message, refusal, target,
};
use crate::{events, test_name};

/// Puts `newcomer` under the number of `victim`, outside the registry. Returns the number.
fn replace_fd(victim: &Owned<OwnedFd>, new_file: impl AsFd) -> RawFd {
    let number = victim.with(|victim| {
        rustix::io::dup2(&new_file, victim).expect("both are open");
        victim.as_raw_fd()
    });
    number.expect("the current task owns it")
}

#[test]
fn an_fd_reused_outside_the_registry_is_reported_and_the_new_file_stays_open() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        let new_file = Mutex::new(None);
        let outcome = fixture.registry.run("failing", || -> () {
            let victim = fixture.listener();
            let number = victim.describe().number.expect("it is a descriptor");
            fd_misuse::close_number(number);
            let innocent = common::listener();
            assert_eq!(innocent.as_raw_fd(), number, "the kernel hands out the lowest number");
            *lock(&new_file) = Some(innocent);
            mem::forget(victim);
            panic!("its own error");
        });
        assert_eq!(panic_message(outcome), "its own error");
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        let new_file =
            new_file.into_inner().expect("no thread panicked with the lock").expect("it was kept");
        let mut client = TcpStream::connect(new_file.local_addr().expect("it is open"))
            .expect("the new listener listens");
        let (mut server, _) = new_file.accept().expect("the new listener accepts");
        common::assert_connected(&mut client, &mut server);
        fixture.assert_all_closed();
    });
    assert_success(&output);
}

#[test]
fn a_replaced_fd_is_reported_with_both_identities_and_the_new_file_stays_open() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let victim = fixture.own_fd(OwnedFd::from(common::listener()));
        let acquired = victim.describe().acquired;
        let Some(Identity::Socket { cookie: old }) = victim.describe().identity else {
            panic!("a socket has a cookie");
        };
        let (mut here, mut there) = common::connection();
        let new = rustix::net::sockopt::socket_cookie(&here).expect("it is a socket");
        let number = replace_fd(&victim, &here);
        let error = refusal(victim.release());
        assert_eq!(error.kind(), ErrorKind::FdReplaced);
        assert_eq!(
            error.to_string(),
            format!(
                "fd {number} (tcp listener) was closed or replaced outside the registry \
                 (owned at {acquired}): registered as socket cookie {old}, now socket cookie {new}"
            )
        );
        assert_eq!(fixture.the_message("fd-replaced"), error.to_string());
        assert_eq!(fixture.registry.summary().replaced, 1);
        let mut new_file = TcpStream::from(fd_misuse::second_owner(number));
        assert_eq!(target(number), target(here.as_raw_fd()), "the newcomer is still open");
        assert_connected(&mut new_file, &mut there);
        assert_connected(&mut here, &mut there);
        fixture.track(new_file);
    });
    fixture.assert_all_closed();
}

#[test]
fn no_finalizer_runs_on_the_new_file_of_a_replaced_fd() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("owner", [], || {
            let socket = OwnedFd::from(fixture.track(common::listener()));
            let victim = fixture.registry.own_fd_with(socket, |_| {
                fixture.log("finalized");
                Ok(())
            });
            let victim = victim.expect("it has no owner yet");
            let number = replace_fd(&victim, common::listener());
            mem::forget(victim);
            number
        });
        let (number, _) = leaked(child.join());
        assert!(fixture.finalized().is_empty());
        fixture.track(TcpListener::from(fd_misuse::second_owner(number)));
    });
    assert_eq!(fixture.codes(), ["fd-replaced", "leak"]);
    fixture.assert_all_closed();
}

#[test]
fn two_pipes_and_two_unix_sockets_are_distinguished_by_identity() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (reader, _writer) = rustix::pipe::pipe().expect("there is space");
        let (other, _others_writer) = rustix::pipe::pipe().expect("there is space");
        let victim = fixture.own_fd(reader);
        let number = replace_fd(&victim, &other);
        assert_eq!(refusal(victim.release()).kind(), ErrorKind::FdReplaced);
        fixture.track(fd_misuse::second_owner(number));
        let (socket, _peer) = UnixStream::pair().expect("there is space");
        let (other, _others_peer) = UnixStream::pair().expect("there is space");
        let victim = fixture.own_fd(OwnedFd::from(socket));
        let number = replace_fd(&victim, &other);
        assert_eq!(refusal(victim.disown()).kind(), ErrorKind::FdReplaced);
        fixture.track(fd_misuse::second_owner(number));
    });
    assert_eq!(fixture.codes(), ["fd-replaced"; 2]);
    fixture.assert_all_closed();
}

#[test]
fn two_opens_of_one_file_are_not_distinguished() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let open = || std::fs::File::open(file_of_this_test()).expect("this source is a file");
        let victim = fixture.registry.own_fd(OwnedFd::from(open())).expect("it has no owner yet");
        replace_fd(&victim, open());
        victim.release().expect("the limit of this rule");
    });
    assert!(fixture.codes().is_empty());
}

fn file_of_this_test() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/leak/closing.rs")
}

#[test]
fn a_number_that_was_closed_and_not_reused_is_reported() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        fixture.root(|| {
            let victim = fixture.listener();
            let number = victim.describe().number.expect("it is a descriptor");
            fd_misuse::close_number(number);
            let error = refusal(victim.release());
            assert_eq!(error.kind(), ErrorKind::FdReplaced);
            let text = error.to_string();
            assert!(text.ends_with(", now Bad file descriptor (os error 9)"), "{text}");
        });
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        fixture.assert_all_closed();
    });
    assert_success(&output);
}

/// A stream of the current task whose number was closed and reused, and the two ends of the
/// connection that reuses it.
fn replaced_stream(fixture: &'static Fixture) -> (Stream, TcpStream, TcpStream) {
    let (stream, peer) = fixture.connection();
    let number = stream.describe().number.expect("it is a descriptor");
    let listener = common::listener();
    let address = listener.local_addr().expect("it is bound");
    let there = TcpStream::connect(address).expect("it listens");
    fd_misuse::close_number(number);
    let (here, _) = listener.accept().expect("a client connects");
    assert_eq!(here.as_raw_fd(), number, "the kernel hands out the lowest number");
    drop(peer);
    (stream, here, there)
}

#[test]
fn level_full_finds_a_replacement_before_the_operation_reads_any_bytes() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::with(|settings| settings.level(Level::Full));
        fixture.root(|| {
            let (stream, mut here, mut there) = replaced_stream(fixture);
            there.write_all(b"for the newcomer").expect("it is connected");
            assert_eq!(refusal((&stream).read(&mut [0; 64])).kind(), ErrorKind::FdReplaced);
            assert_eq!(refusal((&stream).write(b"forged")).kind(), ErrorKind::FdReplaced);
            assert_eq!(refusal(stream.check()).kind(), ErrorKind::FdReplaced);
            let mut text = [0; 16];
            here.read_exact(&mut text).expect("no other task took it");
            assert_eq!(&text, b"for the newcomer");
            drop(stream);
            assert_connected(&mut here, &mut there);
        });
        assert_eq!(fixture.codes(), ["fd-replaced"], "one replacement is reported once");
        fixture.assert_all_closed();
    });
    assert_success(&output);
}

#[test]
fn level_on_finds_a_replacement_at_close_and_uses_the_new_file_before() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        fixture.root(|| {
            let (stream, mut here, mut there) = replaced_stream(fixture);
            (&stream).write_all(b"x").expect("the limit of this rule");
            there.read_exact(&mut [0]).expect("the limit of this rule");
            assert_eq!(refusal(stream.close()).kind(), ErrorKind::FdReplaced);
            assert_connected(&mut here, &mut there);
        });
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        fixture.assert_all_closed();
    });
    assert_success(&output);
}

#[test]
fn cancelling_the_owner_of_a_replaced_number_does_not_shut_down_the_new_file() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        fixture.root(|| {
            let (stream, mut here, mut there) = replaced_stream(fixture);
            let (begin, begun) = channel();
            let (go, gone) = channel::<()>();
            let child = fixture.spawn("owner", [stream.resource()], move || {
                begin.send(()).expect("the test receives it");
                assert!(gone.recv().is_err());
                mem::forget(stream);
            });
            begun.recv().expect("the child starts");
            child.request_cancel().expect("this task owns it");
            assert_connected(&mut here, &mut there);
            drop(go);
            assert_cancelled(child.join());
            assert_connected(&mut here, &mut there);
        });
        assert_eq!(fixture.codes(), ["fd-replaced"]);
        fixture.assert_all_closed();
    });
    assert_success(&output);
}

#[test]
fn dropping_the_handle_of_a_replaced_number_closes_nothing() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        fixture.root(|| {
            let (stream, mut here, mut there) = replaced_stream(fixture);
            let resource = stream.resource();
            drop(stream);
            assert_connected(&mut here, &mut there);
            assert_eq!(
                events(&resource.describe()),
                [Event::Acquired, Event::Dropped, Event::Replaced]
            );
        });
        let [Report::FdReplaced(replacement)] = &fixture.reports()[..] else {
            panic!("expected one replacement")
        };
        assert_eq!(replacement.code.as_str(), "fd-replaced");
        fixture.assert_all_closed();
    });
    assert_success(&output);
}
