//! Drains and signals while clients are connected, and the summary at the end.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::process::Signal;

use super::super::server::{DEADLINE, summary};
use super::dialect::Dialect;

pub fn exchanges_of_a_mebibyte_in_progress_at_sigterm_are_completed(dialect: &Dialect) {
    let server = dialect.start(&["--drain-timeout", "20s"]);
    const CLIENTS: usize = 8;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let request = (dialect.request)(n, 1024 * 1024);
            let expected = (dialect.reply)(&request);
            let mut client = server.connect();
            let mut writer = client.try_clone().unwrap();
            let (begun, has_begun) = std::sync::mpsc::channel();
            let sending = std::thread::spawn(move || {
                // Requests received before the drain get a reply; later ones get end of stream.
                let _ = writer.write_all(&request);
                let _ = writer.shutdown(Shutdown::Write);
            });
            let reading = std::thread::spawn(move || {
                let mut reply = vec![0; 1];
                client.read_exact(&mut reply).unwrap();
                begun.send(()).unwrap();
                let ended = client.read_to_end(&mut reply);
                (reply, ended.is_ok(), expected)
            });
            (sending, reading, has_begun)
        })
        .collect();
    for (_, _, has_begun) in &clients {
        has_begun.recv_timeout(DEADLINE).expect("the server replies");
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let (mut received, sent) = (0, summary(&lines, "bytes out"));
    for (sending, reading, _) in clients {
        sending.join().unwrap();
        let (reply, _, expected) = reading.join().unwrap();
        assert!(expected.starts_with(&reply), "a reply is a prefix of the request");
        received += reply.len() as u64;
    }
    assert_eq!(received, sent, "everything the server sent arrived");
    let unanswered = summary(&lines, "bytes in") - sent;
    let may_be_cut = CLIENTS as u64 * dialect.request_bytes_max;
    assert!(unanswered <= may_be_cut, "{unanswered} bytes were received without a reply");
}

pub fn idle_connections_are_closed_long_before_the_drain_timeout(dialect: &Dialect) {
    let mut server = dialect.start(&["--drain-timeout", "1h"]);
    let mut idle: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for (n, client) in idle.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    server.signal(Signal::TERM);
    for client in &mut idle {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("FIN, not a reset");
        assert!(rest.is_empty() || dialect.hears_others, "{rest:?}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

pub fn sigquit_prints_the_table_aborts_connections_and_exits_with_0(dialect: &Dialect) {
    let mut server = dialect.start(&["--drain-timeout", "1h"]);
    let mut client = server.connect();
    dialect.exchange(&mut client, 1);
    server.signal(Signal::QUIT);
    server.wait_for_line("custody: ");
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "aborted"), 1);
}

pub fn sigquit_ends_a_drain_that_takes_too_long(dialect: &Dialect) {
    let mut server = dialect.start(&["--drain-timeout", "1h", "--write-timeout", "1h"]);
    let _greedy = (dialect.never_reads)(&server);
    server.signal(Signal::TERM);
    server.wait_for_line("draining");
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "aborted"), 1);
}

pub fn a_signal_for_information_disturbs_no_client(dialect: &Dialect) {
    let mut server = dialect.start(&[]);
    let mut client = server.connect();
    for n in 0..20 {
        server.signal(if n % 2 == 0 { Signal::USR1 } else { Signal::HUP });
        dialect.exchange(&mut client, n);
    }
    // In either order: pending signals are seen together.
    for expected in ["custody: ", "reopening files"] {
        if !server.lines().iter().any(|line| line.contains(expected)) {
            server.wait_for_line(expected);
        }
    }
}

pub fn the_summary_is_written_as_json(dialect: &Dialect) {
    let file = format!("echown-summary-{}-{}", std::process::id(), dialect.name);
    let path = std::env::temp_dir().join(file);
    let path_text = path.to_str().unwrap();
    let server = dialect.start(&["--summary", path_text]);
    dialect.exchange(&mut server.connect(), 1);
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
    let json = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    for field in [
        "connections",
        "refused",
        "bytes_in",
        "bytes_out",
        "leaks",
        "violations",
        "panics",
        "replaced",
        "open_resources",
        "drain_ms",
    ] {
        assert!(summary[field].is_u64(), "{field} in {json}");
    }
    assert_eq!(summary["connections"], 1);
    assert_eq!(summary["open_resources"], 0);
}
