//! The watchdog: fed while a connection would be served, and not otherwise.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::manager::Manager;
use crate::common::{stall, wait_for};
use crate::server::{Server, exchange, serve, summary};

/// The time after which a manager would end the server, in microseconds: 0.2 s.
const TIME: &str = "200000";

fn under_watchdog<'a>(manager: &Manager, command: &'a mut Command) -> &'a mut Command {
    manager.manages(command).env("WATCHDOG_USEC", TIME)
}

fn start(manager: &Manager, arguments: &[&str]) -> Server {
    let mut command = serve(&["127.0.0.1:0"], arguments);
    Server::run(under_watchdog(manager, &mut command), 1)
}

/// Waits until the watchdog was fed this often.
fn wait_for_food(manager: &mut Manager, times: usize) {
    for _ in 0..times {
        manager.wait_for("WATCHDOG=1");
    }
}

/// How often the watchdog was fed since the last look.
fn fed(manager: &mut Manager) -> usize {
    let before = manager.seen.len();
    manager.all()[before..].iter().filter(|message| *message == "WATCHDOG=1\n").count()
}

#[test]
fn each_style_feeds_the_watchdog_by_a_connection_that_no_count_contains() {
    for style in ["echo", "staged", "broadcast", "callback"] {
        let mut manager = Manager::new();
        let mut server = start(&manager, &["--style", style]);
        wait_for_food(&mut manager, 4);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{style}: {:#?}", server.seen);
        assert_eq!(summary(&server.seen, "connections"), 0, "{style}: {:#?}", server.seen);
        let log = server.seen.join("\n");
        assert!(!log.contains("watchdog") && !log.contains("ERROR"), "{style}: {log}");
        assert!(style != "broadcast" || log.contains("0 frames in, 0 frames out"), "{log}");
        let counted = manager.all().iter().filter(|message| message.starts_with("STATUS="));
        assert_eq!(counted.count(), 1, "{style}: {:#?}", manager.seen);
    }
}

#[test]
fn a_full_server_is_healthy() {
    for style in ["echo", "staged", "broadcast", "callback"] {
        let mut manager = Manager::new();
        let arguments = ["--style", style, "--max-connections", "1", "--max-per-ip", "1"];
        let server = start(&manager, &arguments);
        let mut inside = server.connect();
        if style == "broadcast" {
            server.wait_for("the client to have both of its tasks", |server| server.threads() >= 6);
        } else {
            inside.write_all(b"x\n").unwrap();
            inside.read_exact(&mut [0; 2]).unwrap();
        }
        let mut rejected = server.connect();
        assert_eq!(rejected.read(&mut [0]).unwrap(), 0, "{style}");
        fed(&mut manager);
        wait_for_food(&mut manager, 3);
        drop(inside);
    }
}

#[test]
fn no_client_gets_a_frame_of_the_watchdog() {
    let mut manager = Manager::new();
    let server = start(&manager, &["--style", "broadcast"]);
    let mut client = server.connect();
    let frame = |text: &[u8]| [&(text.len() as u64).to_be_bytes()[..], text].concat();
    client.write_all(&frame(b"first")).unwrap();
    let mut back = [0; 13];
    client.read_exact(&mut back).unwrap();
    fed(&mut manager);
    wait_for_food(&mut manager, 3);
    client.write_all(&frame(b"later")).unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(back[8..], *b"later");
}

#[test]
fn a_pool_that_starts_no_thread_does_not_feed_the_watchdog() {
    let mut manager = Manager::new();
    let mut server = start(&manager, &["--faults", "thread=1"]);
    server.wait_for_line("the watchdog is not fed: ");
    assert!(is_hungry(&mut manager), "{:#?}", manager.seen);
    assert!(!manager.seen.iter().any(|message| message == "WATCHDOG=1\n"), "{:#?}", manager.seen);
}

/// Whether the watchdog is not fed for several times its time.
fn is_hungry(manager: &mut Manager) -> bool {
    fed(manager);
    stall(3 * Duration::from_micros(TIME.parse().unwrap()));
    fed(manager) == 0
}

#[test]
fn a_server_whose_connections_all_fail_does_not_feed_the_watchdog() {
    let mut manager = Manager::new();
    let mut server = start(&manager, &["--faults", "read=1"]);
    let line = server.wait_for_line("the watchdog is not fed");
    assert!(!line.contains("again"), "{line}");
    assert!(is_hungry(&mut manager), "{:#?}", manager.seen);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn a_watchdog_of_another_process_or_without_a_socket_is_not_fed() {
    let mut manager = Manager::new();
    let mut command = serve(&["127.0.0.1:0"], &[]);
    let server = under_watchdog(&manager, &mut command).env("WATCHDOG_PID", "1");
    let server = Server::run(server, 1);
    manager.wait_for("READY=1");
    let threads = server.threads();
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    assert_eq!(fed(&mut manager), 0, "{:#?}", manager.seen);

    let mut command = serve(&["127.0.0.1:0"], &[]);
    let server = Server::run(command.env("WATCHDOG_USEC", TIME), 1);
    // It has no task for the manager either.
    let few = wait_for("the server's threads", || Some(server.threads()));
    assert!(few < threads, "{few} {threads}");
}

#[test]
fn the_watchdog_is_fed_until_the_drain_has_ended() {
    let mut manager = Manager::new();
    let mut server = start(&manager, &["--drain-timeout", "60s"]);
    // A client that does not receive keeps the drain waiting.
    let client = crate::server::never_reads(&server);
    server.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    wait_for_food(&mut manager, 3);
    drop(client);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
}

#[test]
fn an_uncounted_parked_connection_feeds_the_watchdog_to_the_end_of_the_drain() {
    let mut manager = Manager::new();
    let mut server = start(&manager, &["--park", "--drain-timeout", "60s"]);
    wait_for_food(&mut manager, 4);
    server.signal(Signal::USR1);
    server.wait_for_line("connections: 0 accepted, 0 open");
    assert!(!server.seen.iter().any(|line| line.contains("(1 parked")), "{:#?}", server.seen);
    // No client is: in the table of custody only the connection of the watchdog can be parked.
    let is_parked = |line: &String| line.contains(" parked");
    assert!(server.seen.iter().any(is_parked), "it goes through a lot: {:#?}", server.seen);
    let client = crate::parking::never_reads(&server);
    server.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    fed(&mut manager);
    wait_for_food(&mut manager, 3);
    drop(client);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let log = server.seen.join("\n");
    assert!(!log.contains("watchdog is not fed") && !log.contains("aborting"), "{log}");
    assert!(log.contains("1 connection, 0 refused"), "{log}");
    assert_eq!(summary(&server.seen, "leaks"), 0, "{log}");
}

#[test]
fn a_parking_server_ends_without_waiting_for_the_watchdog() {
    let mut manager = Manager::new();
    for signal in [Signal::TERM, Signal::QUIT] {
        // No timeout for clients ends it either.
        let timeouts = ["--drain-timeout", "60s", "--idle-timeout", "1ms"];
        let mut server = start(&manager, &[&["--park"][..], &timeouts].concat());
        wait_for_food(&mut manager, 3);
        server.signal(signal);
        server.wait();
        let log = server.seen.join("\n");
        assert!(!log.contains("aborting what is left"), "{log}");
        assert_eq!(summary(&server.seen, "leaks"), 0, "{log}");
    }
}
