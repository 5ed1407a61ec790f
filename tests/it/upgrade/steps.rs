//! A hand-over that ends at any of its steps.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Folder, accept, assert_ends_well, assert_serves, stop};
use crate::server::exchange;

#[test]
fn a_new_process_that_dies_at_any_step_leaves_the_old_one_serving() {
    let folder = Folder::new();
    let path = folder.path("echo");
    let arguments = ["--listen", &format!("unix:{path}")];
    let mut old = folder.serve(&arguments);
    let dies: [fn(super::Client); 4] = [
        drop,
        |mut client| drop(client.receive()),
        |mut client| {
            client.receive();
            client.send(&json!({"message": "claim", "version": 1, "addresses": [0]}));
        },
        |mut client| drop(client.claim_all()),
    ];
    for die in dies {
        die(folder.connect());
        old.wait_for_line("failed, still serving: the connection was closed");
        assert_serves(&old);
    }
    assert!(UnixStream::connect(&path).is_ok());
    let new = folder.take_over(&arguments);
    assert_ends_well(old);
    assert_serves(&new);
    stop(new);
    assert!(!std::fs::exists(path).unwrap(), "the last server removes the path");
}

#[test]
fn what_is_no_message_of_a_hand_over_is_refused_and_logged() {
    let folder = Folder::new();
    let mut old = folder.serve(&[]);
    let claim =
        |addresses: Value| json!({"message": "claim", "version": 1, "addresses": addresses});
    for (bytes, reason) in [
        ("GET / HTTP/1.1".to_owned(), "no message of a hand-over: "),
        (json!({"message": "ready"}).to_string(), "unexpected message: Ready"),
        (
            claim(json!([7])).to_string(),
            "a claim of an address twice, or of one that was not offered",
        ),
        (
            claim(json!([0, 0])).to_string(),
            "a claim of an address twice, or of one that was not offered",
        ),
        ("x".repeat(70_000), "a message has more than 65536 bytes"),
    ] {
        let mut client = folder.connect();
        client.receive();
        // The server may close the connection before it has read everything.
        let _ = client.stream.get_mut().write_all(format!("{bytes}\n").as_bytes());
        let refusal = client.refusal();
        assert!(refusal.starts_with(reason), "{refusal}");
        old.wait_for_line(reason);
    }
    assert_serves(&old);
    stop(old);
}

#[test]
fn a_new_process_that_says_nothing_is_not_waited_for_longer_than_2_s() {
    let folder = Folder::new();
    let mut old = folder.serve(&[]);
    let mut client = folder.connect();
    client.receive();
    assert_eq!(client.refusal(), "no answer within 2s");
    old.wait_for_line("failed, still serving: no answer within 2s");
    stop(old);
}

#[test]
fn of_two_upgrades_at_once_the_second_is_refused() {
    let folder = Folder::new();
    let mut old = folder.serve(&[]);
    let mut first = folder.connect();
    let _sockets = first.claim_all();
    let (code, stderr) = folder.fail(&["--listen", "127.0.0.1:0"]);
    let process = std::process::id();
    let reason =
        format!("another upgrade is in progress, by process {process}; it goes on serving");
    assert!(code == Some(1) && stderr.contains(&reason), "{code:?} {stderr}");
    old.wait_for_line("an upgrade was refused: another upgrade is in progress");
    first.send(&json!({"message": "ready"}));
    assert_eq!(first.receive()["message"], "done");
    assert_ends_well(old);
}

#[test]
fn a_new_process_that_fails_to_start_leaves_the_old_one_serving() {
    let folder = Folder::new();
    let mut old = folder.serve(&[]);
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    let (code, stderr) = folder.fail(&["--listen", "127.0.0.1:0", "--listen", &busy]);
    assert!(code == Some(1) && stderr.contains("failed to listen on"), "{code:?} {stderr}");
    old.wait_for_line("failed, still serving: the connection was closed");
    assert_serves(&old);
    assert!(std::fs::exists(folder.socket()).unwrap());
    stop(old);
    assert!(!std::fs::exists(folder.socket()).unwrap());
}

#[test]
fn sigterm_ends_an_upgrade_in_progress() {
    let folder = Folder::new();
    let path = folder.path("echo");
    let old = folder.serve(&["--listen", &format!("unix:{path}")]);
    let mut client = folder.connect();
    let sockets = client.claim_all();
    old.signal(Signal::TERM);
    let ending = json!({"message": "refused", "reason": "the old process is shutting down",
                        "is_ending": true});
    assert_eq!(client.receive(), ending);
    assert_ends_well(old);
    assert!(UnixStream::connect(&path).is_ok(), "the path is left to the owner of the socket");
    drop(sockets);
}

#[test]
fn after_the_hand_over_sigterm_ends_idle_connections_at_once() {
    let folder = Folder::new();
    let arguments = ["--drain-timeout", "1h"];
    let mut old = folder.serve(&arguments);
    let idle = old.connect();
    let new = folder.take_over(&arguments);
    old.wait_for_line("handed over to process ");
    assert_eq!(exchange(idle, b"still served"), b"still served");
    let idle = old.connect();
    let before = new.connect();
    drop((idle, before));
    old.signal(Signal::TERM);
    assert_ends_well(old);
    stop(new);
}

#[test]
fn an_old_process_that_is_aborted_or_killed_does_not_harm_the_new_one() {
    for signal in [Signal::QUIT, Signal::KILL] {
        let folder = Folder::new();
        let path = folder.path("echo");
        let arguments = ["--listen", &format!("unix:{path}"), "--drain-timeout", "1h"];
        let mut old = folder.serve(&arguments);
        // Its task is blocked when the signal comes.
        let _idle = old.connect();
        let new = folder.take_over(&arguments);
        old.signal(signal);
        old.wait();
        assert_serves(&new);
        assert!(UnixStream::connect(&path).is_ok(), "the path is the new one's");
        stop(new);
        assert!(!std::fs::exists(path).unwrap());
    }
}

#[test]
fn what_an_old_process_has_sent_is_never_shut_down() {
    for signal in [Signal::QUIT, Signal::TERM] {
        let folder = Folder::new();
        let mut old = folder.serve(&["--drain-timeout", "0s"]);
        let mut busy = old.connect();
        // Accepted, and no longer in the queue that the other process gets.
        busy.write_all(b"served").unwrap();
        busy.read_exact(&mut [0; 6]).unwrap();
        let mut client = folder.connect();
        let sockets = client.claim_all();
        old.signal(signal);
        old.wait();
        drop(busy);
        let listener = TcpListener::from(sockets.into_iter().next().expect("the first is of TCP"));
        let waiting = TcpStream::connect(old.address()).expect("it listens");
        assert_eq!(accept(&listener), waiting.local_addr().unwrap());
    }
}

#[test]
fn an_old_process_that_stands_still_hands_over_when_it_runs_again() {
    let folder = Folder::new();
    let mut old = folder.serve(&[]);
    let mut client = folder.connect();
    let _sockets = client.claim_all();
    old.hold();
    client.send(&json!({"message": "ready"}));
    drop(client);
    old.signal(Signal::CONT);
    old.wait_for_line("handed over to process ");
    assert_ends_well(old);
}
