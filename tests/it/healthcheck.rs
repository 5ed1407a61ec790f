//! `echown healthcheck`: what is healthy, what is not and why, and wrong arguments.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Output;

use rustix::process::Signal;

use super::common::temp_path::TempPath;
use super::server::{Server, echown, serve, summary};

fn check(arguments: &[&str]) -> Output {
    echown().arg("healthcheck").args(arguments).output().expect("the program starts")
}

#[track_caller]
fn assert_healthy(arguments: &[&str]) {
    let output = check(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
}

/// Asserts that the check fails with one line, and returns its reason.
#[track_caller]
fn why_not(arguments: &[&str]) -> String {
    let output = check(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    let reason = stderr.strip_prefix("echown: not healthy: ").and_then(|it| it.strip_suffix('\n'));
    let reason = reason.unwrap_or_else(|| panic!("{arguments:?}: {stderr}"));
    assert!(!reason.contains('\n') && output.stdout.is_empty(), "{arguments:?}: {stderr}");
    reason.to_owned()
}

#[test]
fn a_server_of_each_style_is_healthy_and_sees_a_client_that_finished() {
    for style in ["echo", "callback", "staged", "broadcast"] {
        let server = Server::start(&["--style", style]);
        let address = server.address().to_string();
        assert_healthy(&["--style", style, &address]);
        let by_name = format!("localhost:{}", server.address().port());
        assert_healthy(&["--style", style, &by_name]);
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{style}: {lines:#?}");
        let of = |noun| summary(&lines, noun);
        assert_eq!((of("connections"), of("errors")), (2, 0), "{style}: {lines:#?}");
    }
}

#[test]
fn a_server_on_a_unix_socket_is_checked_by_its_path() {
    let path = TempPath::new("healthcheck.socket");
    let address = format!("unix:{}", path.text());
    let mut server = Server::run(&mut serve(&[&address], &[]), 0);
    server.wait_for_line("listening on ");
    assert_healthy(&[&address]);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(why_not(&[&address]).starts_with(&format!("failed to connect to {address}: No such")));
}

#[test]
fn a_full_server_and_a_stopped_process_are_not_healthy() {
    let server = Server::start(&["--max-connections", "1"]);
    let address = server.address().to_string();
    let mut client = server.connect();
    std::io::Write::write_all(&mut client, b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let closed = " closed the connection without a reply: it is full or stopping";
    assert_eq!(why_not(&[&address]), format!("{address}{closed}"));
    drop(client);
    server.hold();
    let late = " was connected, but no echo of a line came within 2 s";
    assert_eq!(why_not(&[&address]), format!("{address}{late}"));
    server.signal(Signal::CONT);
    let (_, lines) = server.stop();
    assert!(summary(&lines, "refused") >= 1, "{lines:#?}");
}

#[test]
fn a_port_without_a_server_and_another_server_are_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut client, b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        // Until the client has left; it may reset the connection.
        let _ = client.read_to_end(&mut Vec::new());
    });
    assert_eq!(why_not(&[&address]), format!("{address} does not echo: it returned other bytes"));
    other.join().unwrap();
    let refused = why_not(&[&address]);
    let expected = format!("failed to connect to {address}: Connection refused");
    assert!(refused.starts_with(&expected), "{refused}");
    let unknown = why_not(&["no-such-host.invalid:3000"]);
    assert!(unknown.contains("no-such-host.invalid"), "{unknown}");
}

#[test]
fn a_unix_listener_that_never_accepts_ends_the_check_within_its_limit() {
    let path = TempPath::new("healthcheck-full.socket");
    let listener = UnixListener::bind(&*path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _queued = UnixStream::connect(&*path).unwrap();
    let address = format!("unix:{}", path.text());
    let reason = why_not(&["--style", "broadcast", &address]);
    assert_eq!(reason, format!("failed to connect to {address}: no answer within 2 s"));
}

#[test]
fn wrong_arguments_of_a_health_check_exit_with_2() {
    for (arguments, expected) in [
        (&["nowhere"][..], "expected ADDRESS:PORT"),
        (&["https://127.0.0.1:1/healthz"], "omit `https://`"),
        (&["http://127.0.0.1:1/metrics"], "is not the path of a health check"),
        (&["--style", "udp", "3000"], "possible values: echo, staged, broadcast, callback"),
        (&["--style", "echo", "http://127.0.0.1:1"], "--style is for an echo address"),
        (&["3000", "3001"], "unexpected argument"),
    ] {
        let output = check(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn without_an_address_the_variables_of_the_server_name_it() {
    let server = Server::start(&["--style", "staged"]);
    let with = |listen: &str, style: &str| {
        let variables = [("ECHOWN_SERVE_LISTEN", listen), ("ECHOWN_SERVE_STYLE", style)];
        echown().arg("healthcheck").envs(variables).output().expect("the program starts")
    };
    let first_of_two = format!("{},127.0.0.1:1", server.address());
    let output = with(&first_of_two, "staged");
    assert!(output.status.success(), "{output:?}");
    let output = with("127.0.0.1", "");
    assert_eq!(output.status.code(), Some(2));
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.starts_with("echown: invalid value of ECHOWN_SERVE_LISTEN: the port"), "{why}");
    assert_eq!(server.stop().0, Some(0));
}
