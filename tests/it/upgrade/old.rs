//! A hand-written old process, which sends what it likes.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Value, json};

use super::{Folder, Server, accept, assert_serves, stop};
use crate::common::wait_until;

/// Offers an address, reads the claim, and goes on with `send`.
fn old_process(folder: &Folder, offer: Value, send: impl FnOnce(&UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(folder.socket()).unwrap();
    serve(listener, offer, send);
}

fn serve(listener: UnixListener, offer: Value, send: impl FnOnce(&UnixStream) + Send + 'static) {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        writeln!(stream, "{offer}").unwrap();
        // Every message comes alone, as an answer to one of these.
        let _ = receive(&stream);
        send(&stream);
        let mut rest = Vec::new();
        // Until the new process closes the connection.
        let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    });
}

fn offer(address: &str) -> Value {
    let address = json!({"purpose": "echo", "address": address, "sockets": 1});
    json!({"message": "offer", "version": 1, "process": 4711, "addresses": [address]})
}

/// [`offer`] with the upgrade socket at `path`.
fn whole_offer(address: &str, path: &str) -> Value {
    let mut offer = offer(address);
    let upgrade = json!({"purpose": "upgrade", "address": format!("unix:{path}"), "path": path,
                         "removes_path": true, "sockets": 1});
    offer["addresses"].as_array_mut().unwrap().push(upgrade);
    offer
}

/// Offers the upgrade socket, too, and passes both. Then it goes on with `send`.
fn old_process_with(
    folder: &Folder,
    echo: &TcpListener,
    send: impl FnOnce(&UnixStream) + Send + 'static,
) {
    let path = folder.socket();
    let listener = UnixListener::bind(&path).unwrap();
    let shared = listener.try_clone().unwrap();
    let echo = echo.try_clone().unwrap();
    let offer = whole_offer(&echo.local_addr().unwrap().to_string(), &path);
    serve(listener, offer, move |stream| {
        pass(stream, &[&echo]);
        pass_as(stream, 1, &[&shared]);
        assert_eq!(receive(stream), json!({"message": "ready"}));
        send(stream);
    });
}

fn pass(stream: &UnixStream, descriptors: &[&dyn AsFd]) {
    pass_as(stream, 0, descriptors);
}

fn pass_as(stream: &UnixStream, address: usize, descriptors: &[&dyn AsFd]) {
    let message = format!("{}\n", json!({"message": "socket", "address": address}));
    let descriptors: Vec<_> = descriptors.iter().map(|it| it.as_fd()).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let bytes = [std::io::IoSlice::new(message.as_bytes())];
    rustix::net::sendmsg(stream, &bytes, &mut control, SendFlags::empty()).unwrap();
}

#[test]
fn a_descriptor_that_is_not_the_offered_listener_is_refused() {
    type Send = Box<dyn FnOnce(&UnixStream) + std::marker::Send>;
    let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
    let cases: [(Send, &str); 5] = [
        (Box::new(|it| pass(it, &[&std::fs::File::open("/").unwrap()])), "it sent a directory as"),
        (Box::new(|it| pass(it, &[it])), "it sent a unix stream as the socket of 127.0.0.1:9"),
        (Box::new(move |it| pass(it, &[&listener()])), "it sent a socket at 127.0.0.1:"),
        (Box::new(|it| pass(it, &[it, it])), "it sent 2 descriptors as the socket of"),
        (
            Box::new(|it| pass(it, &[it as &dyn AsFd; 8])),
            "more than 4 descriptors came with one message",
        ),
    ];
    for (send, reason) in cases {
        let folder = Folder::new();
        old_process(&folder, offer("127.0.0.1:9"), send);
        let (code, stderr) = folder.fail(&["--listen", "127.0.0.1:9"]);
        assert!(code == Some(1) && stderr.contains(reason), "{reason}: {code:?} {stderr}");
        assert!(stderr.contains("failed to take over from process 4711: "), "{stderr}");
    }
}

#[test]
fn an_offer_of_another_version_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let other = json!({"message": "offer", "version": 2, "process": 4711, "addresses": []});
    old_process(&folder, other, |_| ());
    let (code, stderr) = folder.fail(&[]);
    let reason = "it has version 2 of the hand-over, and this program has version 1; stop it, and \
                  start this one then";
    assert!(code == Some(1) && stderr.contains(reason), "{code:?} {stderr}");
}

#[test]
fn a_server_that_dies_before_it_has_sent_its_sockets_makes_an_ordinary_start() {
    let folder = Folder::new();
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let dies = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        writeln!(stream, "{}", offer("127.0.0.1:9")).unwrap();
    });
    let mut new = folder.serve(&[]);
    dies.join().unwrap();
    wait_until("the warning", || {
        new.lines().iter().any(|line| line.contains("ended; starting without its sockets"))
    });
    assert_serves(&new);
    stop(new);
}

/// The next message of the new process. Not further: what it sends comes one by one.
fn receive(stream: &UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

#[test]
fn a_new_process_that_was_refused_after_ready_leaves_the_queue_to_the_old_one() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    old_process_with(&folder, &listener, |mut stream| {
        writeln!(stream, "{}", json!({"message": "refused", "reason": "too late"})).unwrap();
    });
    let waiting = TcpStream::connect(address).unwrap();
    let (code, stderr) = folder.fail(&["--listen", &address.to_string()]);
    let reason = "echown: process 4711 did not hand over: too late";
    assert!(code == Some(1) && stderr.contains(reason), "{code:?} {stderr}");
    assert_eq!(accept(&listener), waiting.local_addr().unwrap());
    assert!(std::fs::exists(folder.socket()).unwrap(), "the path is the old process's");
}

#[test]
fn a_ready_that_the_old_process_no_longer_receives_does_not_count() {
    let folder = Folder::new();
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let (shared, address) = (echo.try_clone().unwrap(), echo.local_addr().unwrap().to_string());
    let listener = UnixListener::bind(folder.socket()).unwrap();
    let upgrade = listener.try_clone().unwrap();
    serve(listener, whole_offer(&address, &folder.socket()), move |stream| {
        pass(stream, &[&shared]);
        // It has given up, and stands still before it says so.
        stream.shutdown(Shutdown::Read).unwrap();
        std::mem::forget(stream.try_clone().unwrap());
        pass_as(stream, 1, &[&upgrade]);
    });
    let (code, stderr) = folder.fail(&["--listen", &address]);
    let reason = "echown: process 4711 did not hand over: no answer within 2s";
    assert!(code == Some(1) && stderr.contains(reason), "{code:?} {stderr}");
    assert!(std::fs::exists(folder.socket()).unwrap(), "the path is the old process's");
}

/// What an old process says that is shutting down.
fn ending() -> Value {
    json!({"message": "refused", "reason": "it ends", "is_ending": true})
}

#[test]
fn an_old_process_that_shuts_down_before_it_has_sent_its_sockets_is_not_waited_for() {
    let folder = Folder::new();
    let path = folder.socket();
    let listener = UnixListener::bind(&path).unwrap();
    let ends = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        writeln!(stream, "{}", ending()).unwrap();
    });
    let mut new = folder.serve(&[]);
    ends.join().unwrap();
    wait_until("the warning", || {
        let warning = "is shutting down; starting without its sockets";
        new.lines().iter().any(|line| line.contains(warning))
    });
    assert_serves(&new);
    stop(new);
}

#[test]
fn an_old_process_that_shuts_down_after_ready_is_replaced() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    old_process_with(&folder, &listener, |mut stream| {
        writeln!(stream, "{}", ending()).unwrap();
    });
    let mut new = Server::run(&mut folder.command(&["--listen", &address]), 1);
    new.wait_for_line("took over from process 4711, which is shutting down");
    assert_serves(&new);
    stop(new);
    assert!(!std::fs::exists(folder.socket()).unwrap());
}

#[test]
fn an_offer_of_countless_sockets_is_refused() {
    let folder = Folder::new();
    let mut offer = whole_offer("127.0.0.1:3000", &folder.socket());
    for address in offer["addresses"].as_array_mut().unwrap() {
        address["sockets"] = json!(usize::MAX);
    }
    let listener = UnixListener::bind(folder.socket()).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        writeln!(stream, "{offer}").unwrap();
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    let (code, stderr) = folder.fail(&["--listen", "127.0.0.1:3000"]);
    assert!(code == Some(1) && stderr.contains("and 1024 are the maximum"), "{stderr}");
}

#[test]
fn an_old_process_that_dies_after_ready_is_replaced() {
    let folder = Folder::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    old_process_with(&folder, &listener, |stream| {
        stream.shutdown(Shutdown::Both).unwrap();
    });
    let mut new = Server::run(&mut folder.command(&["--listen", &address]), 1);
    new.wait_for_line("took over from process 4711 without its answer: the connection was closed");
    assert_serves(&new);
    stop(new);
    assert!(!std::fs::exists(folder.socket()).unwrap());
}
