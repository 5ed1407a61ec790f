//! The options of parking: which values and styles are rejected and why, and what system limits lower.

use std::process::Command;

use super::server::{Server, echown, exchange, serve};

/// An address for documentation only (RFC 5737): a server whose options are accepted fails here, and does
/// not wait for clients.
const UNAVAILABLE: &str = "192.0.2.1:0";

/// The error of a server that must not start.
fn rejected(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

#[test]
fn styles_that_wait_within_an_exchange_reject_parking_with_the_reason() {
    for style in ["staged", "broadcast", "callback"] {
        let stderr = rejected(&mut serve(&[UNAVAILABLE], &["--style", style, "--park"]));
        let expected = format!(
            "echown: --park is for --style echo, not --style {style}: its connections wait in the \
             middle of an exchange, with their state on the stack of their thread\n"
        );
        assert_eq!(stderr, expected);
    }
}

#[test]
fn more_workers_than_free_cores_are_rejected_with_the_reason() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let stderr = rejected(&mut serve(
        &[UNAVAILABLE],
        &["--park", "--park-workers", &(cores + 1).to_string()],
    ));
    let reason = "more workers than free cores only preempt each other";
    assert!(stderr.contains(&format!("at most {}", (cores - 1).max(1))), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
    for option in ["--park-workers", "--park-blocked"] {
        let stderr = rejected(&mut serve(&[UNAVAILABLE], &["--park", option, "0"]));
        assert!(stderr.contains("expected a whole number, 1 or more"), "{stderr}");
    }
}

#[test]
fn options_of_parking_without_parking_are_errors() {
    for option in ["--park-workers", "--park-blocked"] {
        let stderr = rejected(&mut serve(&[UNAVAILABLE], &[option, "1"]));
        assert_eq!(stderr, format!("echown: {option} needs --park\n"));
    }
    // A variable can turn the option off again.
    let mut command = echown();
    command.args(["serve", "--listen", UNAVAILABLE, "--park-blocked", "3"]);
    command.env("ECHOWN_SERVE_PARK", "false");
    let stderr = rejected(&mut command);
    assert!(stderr.starts_with("echown: --park-blocked needs --park\n"), "{stderr}");
}

#[test]
fn variables_turn_parking_on() {
    let variables = [
        ("ECHOWN_SERVE_LISTEN", "127.0.0.1:0"),
        ("ECHOWN_SERVE_PARK", "true"),
        ("ECHOWN_SERVE_PARK_BLOCKED", "8"),
    ];
    let mut command = echown();
    command.arg("serve").envs(variables);
    let server = Server::run(&mut command, 1);
    let names = "ECHOWN_SERVE_PARK, ECHOWN_SERVE_PARK_BLOCKED";
    assert!(server.seen.iter().any(|line| line.contains(names)), "{:#?}", server.seen);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    assert_eq!(server.stop().0, Some(0));
}

/// The lines at the start of a server with this limit of descriptors.
fn start_with(descriptors: u64, arguments: &[&str]) -> String {
    let program = serve(&["127.0.0.1:0"], arguments);
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={descriptors}"));
    command.arg(program.get_program()).args(program.get_args());
    let server = Server::run(&mut command, 1);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    lines.join("\n")
}

#[test]
fn parking_allows_18_000_connections_where_20_000_descriptors_are() {
    let log = start_with(20_000, &["--park", "--max-connections", "18000"]);
    assert!(!log.contains("lowered"), "{log}");
}
