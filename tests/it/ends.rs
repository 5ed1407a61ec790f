//! How connections end, and events that must not be lost with them: urgent bytes, dead hosts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::SendFlags;
use rustix::process::Signal;

use super::broadcast::frame;
use super::server::{DEADLINE, Server, TcpEnd};
use crate::common::{wait_for, wait_until};

/// Every style, with a request that is echoed unchanged.
const STYLES: &[(&str, &[u8])] =
    &[("echo", b"12345678"), ("staged", b"1234567\n"), ("callback", b"12345678")];

#[test]
fn urgent_bytes_are_echoed_in_order_in_every_style() {
    let exchange = |style: &str, message: &[u8]| {
        let mut server = Server::start(&["--style", style]);
        let mut client = server.connect();
        // One urgent byte in the middle, and the last one.
        let (first, second) = message.split_at(message.len() / 2);
        for part in [first, second] {
            let (usual, urgent) = part.split_at(part.len() - 1);
            client.write_all(usual).unwrap();
            rustix::net::send(&client, urgent, SendFlags::OOB).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back, message, "{style}");
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
    };
    for (style, message) in STYLES {
        exchange(style, message);
    }
    exchange("broadcast", &frame(b"12345678"));
}

/// The kernel's entry for the server's end of a silent connection.
fn silent_end(server: &Server, client: &TcpStream) -> TcpEnd {
    server.wait_for("the sent bytes to be acknowledged", |server| {
        server.end_of(client).is_some_and(|end| end.is_established && end.unsent == 0)
    });
    server.end_of(client).expect("it is connected")
}

#[test]
fn a_silent_client_is_probed_after_a_minute_in_every_style() {
    let styles = ["echo", "staged", "broadcast", "callback"].map(|style| vec!["--style", style]);
    for style in styles.into_iter().chain([vec!["--park"]]) {
        let server = Server::start(&style);
        let client = server.connect();
        let probed_in = silent_end(&server, &client).probed_in;
        let probed_in = probed_in.unwrap_or_else(|| panic!("{style:?}: no keep-alive"));
        assert!(probed_in <= Duration::from_secs(60), "{style:?}: {probed_in:?}");
        assert!(probed_in + DEADLINE > Duration::from_secs(60), "{style:?}: {probed_in:?}");
    }
    let server = Server::start(&["--no-keepalive"]);
    let client = server.connect();
    assert_eq!(silent_end(&server, &client).probed_in, None);
}

/// A message that a style echoes unchanged.
fn message(style: &str) -> Vec<u8> {
    match style {
        "broadcast" => frame(b"12345678"),
        _ => b"1234567\n".to_vec(),
    }
}

fn exchange(server: &Server, style: &str) -> TcpStream {
    let mut client = server.connect();
    let message = message(style);
    client.write_all(&message).unwrap();
    client.read_exact(&mut vec![0; message.len()]).unwrap();
    client
}

/// Writes until the server closes.
fn flood(mut client: TcpStream, style: &str) {
    let block = match style {
        "broadcast" => frame(&[7; 50_000]),
        // Long lines: each is a request, and many small ones take minutes.
        "staged" => [&[b'x'; 50_000][..], b"\n"].concat(),
        _ => message(style).repeat(10_000),
    };
    while client.write_all(&block).is_ok() {}
}

/// Reads until the server closes, with or without a reset.
fn until_closed(mut client: TcpStream) {
    let _ = client.read_to_end(&mut Vec::new());
}

/// One way for a connection to end: the reason, the server's arguments, and the client's actions.
type Way = (&'static str, &'static [&'static str], fn(&Server, &str));

const WAYS: &[Way] = &[
    ("finished", &[], |server, style| {
        let client = exchange(server, style);
        client.shutdown(Shutdown::Write).unwrap();
        until_closed(client);
    }),
    ("reset", &[], |server, style| {
        let client = exchange(server, style);
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    }),
    ("idle_timeout", &["--idle-timeout", "50ms"], |server, style| {
        until_closed(exchange(server, style));
    }),
    ("drained", &[], |server, style| {
        let client = exchange(server, style);
        server.signal(Signal::TERM);
        until_closed(client);
    }),
    ("aborted", &[], |server, style| {
        let client = exchange(server, style);
        server.signal(Signal::QUIT);
        until_closed(client);
    }),
    ("panic", &["--chaos", "panic=1"], |server, style| {
        let mut client = server.connect();
        client.write_all(&message(style)).unwrap();
        until_closed(client);
    }),
    ("refused", &["--max-connections", "1"], |server, style| {
        let _inside = exchange(server, style);
        until_closed(server.connect());
        server.signal(Signal::TERM);
    }),
];

/// Ends that not every style has.
const OTHER_WAYS: &[(&str, Way)] = &[
    (
        "echo",
        ("write_timeout", &["--write-timeout", "50ms"], |server, style| {
            flood(server.connect(), style);
        }),
    ),
    (
        "staged",
        ("write_timeout", &["--write-timeout", "50ms"], |server, style| {
            flood(server.connect(), style);
        }),
    ),
    (
        "callback",
        ("write_timeout", &["--write-timeout", "50ms"], |server, style| {
            flood(server.connect(), style);
        }),
    ),
    (
        "broadcast",
        (
            "write_timeout",
            &["--write-timeout", "50ms", "--max-send-queue", "1GiB"],
            |server, style| flood(server.connect(), style),
        ),
    ),
    (
        "broadcast",
        ("slow_reader", &["--max-send-queue", "1KiB"], |server, style| {
            flood(server.connect(), style);
        }),
    ),
    (
        "broadcast",
        ("protocol", &[], |server, _| {
            let mut client = server.connect();
            client.write_all(&frame(b"12345678")[..10]).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            until_closed(client);
        }),
    ),
    (
        "broadcast",
        ("protocol", &["--max-frame", "10"], |server, _| {
            let mut client = server.connect();
            client.write_all(&11_u64.to_be_bytes()).unwrap();
            until_closed(client);
        }),
    ),
    (
        "staged",
        ("protocol", &["--max-request", "4"], |server, style| {
            let mut client = server.connect();
            client.write_all(&message(style)).unwrap();
            until_closed(client);
        }),
    ),
    (
        "staged",
        ("request_timeout", &["--request-timeout", "50ms"], |server, _| {
            let mut client = server.connect();
            client.write_all(b"half a line").unwrap();
            until_closed(client);
        }),
    ),
];

/// The counts that a running server shows, once no connection is open.
fn counts(server: &mut Server) -> serde_json::Value {
    wait_for("all connections to end", || {
        server.signal(Signal::USR1);
        let line = server.wait_for_line("\"ends\":");
        let counts: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        (counts["open"] == 0 && counts["connections"] != 0).then_some(counts)
    })
}

fn assert_ends_by(style: &str, (reason, arguments, act): &Way) {
    let place = super::trace_path().with_extension(format!("{style}-{reason}.json"));
    let path = place.to_str().unwrap();
    let usual = ["--style", style, "--log-format", "json", "--summary", path];
    let mut server = Server::start(&[&usual, *arguments].concat());
    act(&server, style);
    let is_drain = ["drained", "aborted", "refused"].contains(reason);
    if !is_drain {
        let counts = counts(&mut server);
        assert_eq!(counts["ends"][reason], 1, "{style}, {reason}: {counts}");
        server.signal(Signal::TERM);
    }
    assert_eq!(server.wait().code(), Some(0), "{style}, {reason}: {:#?}", server.seen);
    let summary = std::fs::read_to_string(&place).unwrap();
    std::fs::remove_file(&place).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["ends"][reason], 1, "{style}, {reason}: {summary}");
    let ended: u64 =
        summary["ends"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let both = ["connections", "refused"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(ended, both.iter().sum::<u64>(), "each connection has one reason: {summary}");
    let log_text = server.seen.join("\n");
    assert!(log_text.contains("connections ended: "), "{log_text}");
    assert!(log_text.contains(&format!("1 {reason}")), "{log_text}");
    let is_logged =
        log_text.lines().any(|line| line.contains("\"INFO\"") && line.contains("\"ended: "));
    let is_logged_elsewhere = ["aborted", "panic", "refused"].contains(reason);
    assert!(is_logged != is_logged_elsewhere || *reason == "refused", "{reason}: {log_text}");
}

#[test]
fn the_end_reason_of_a_connection_is_counted_and_logged_in_every_style() {
    for style in ["echo", "staged", "broadcast", "callback"] {
        for way in WAYS {
            assert_ends_by(style, way);
        }
    }
}

#[test]
fn timeouts_and_errors_of_a_style_are_distinguished() {
    for (style, way) in OTHER_WAYS {
        assert_ends_by(style, way);
    }
}

#[test]
fn the_text_custody_output_states_how_connections_ended() {
    let mut server = Server::start(&[]);
    let mut open = exchange(&server, "echo");
    until_closed({
        let client = exchange(&server, "echo");
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    let line = "connections: 2 accepted, 1 open; ended: 1 finished";
    wait_until(line, || {
        server.signal(Signal::USR1);
        server.wait_for_line("connections: 2 accepted");
        server.lines().iter().any(|seen| seen == line)
    });
    open.write_all(b"x").unwrap();
}

#[test]
fn many_ends_for_one_reason_are_one_line_per_second() {
    const CLIENTS: usize = 200;
    let mut server = Server::start(&[]);
    let begun = Instant::now();
    for _ in 0..CLIENTS {
        let client = exchange(&server, "echo");
        client.shutdown(Shutdown::Write).unwrap();
        until_closed(client);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let lines = server.seen.iter().filter(|line| line.contains("ended: the client finished"));
    // Independent of the machine's speed: one for each elapsed second.
    let count = lines.count();
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!((1..=seconds + 2).contains(&count), "{count} lines: {:#?}", server.seen);
}
