//! `serve --style staged`: the complete trace of every workflow, and each bug of edsm, the reference
//! server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::server::{DEADLINE, Server, serve};
use crate::common::{poll, stall, wait_until};

/// A server with its trace in a file.
struct Traced {
    server: Server,
    path: PathBuf,
    /// The number of lines compared so far.
    compared: usize,
}

impl Traced {
    /// With one machine of each type. Its startup lines are not compared again.
    fn start(arguments: &[&str]) -> Traced {
        let mut traced = Traced::start_with(1, arguments);
        traced.wait_for("Hello!");
        traced.compared = traced.lines().len();
        traced
    }

    fn start_with(machines: usize, arguments: &[&str]) -> Traced {
        let path = super::trace_path();
        let machines = machines.to_string();
        let trace = ["--trace-events", path.to_str().unwrap(), "--style", "staged"];
        let all = [&trace[..], &["--max-connections", &machines], arguments].concat();
        Traced { server: Server::start(&all), path, compared: 0 }
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.path).expect("it is there from the start");
        // The last line may be incomplete.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        whole.lines().map(str::to_owned).collect()
    }

    fn wait_for(&self, part: &str) {
        let is_there =
            || self.lines()[self.compared..].iter().any(|line| line.contains(part)).then_some(());
        let found = poll(DEADLINE, is_there);
        assert!(found.is_some(), "no {part:?} in {:#?}", self.lines());
    }

    /// Waits for the expected number of lines, and compares them all.
    #[track_caller]
    fn assert_next(&mut self, expected: &[&str]) {
        let wanted = self.compared + expected.len();
        let found = poll(DEADLINE, || (self.lines().len() >= wanted).then_some(()));
        assert!(found.is_some(), "only {:#?}", &self.lines()[self.compared..]);
        let lines = self.lines();
        assert_eq!(lines[self.compared..], *expected);
        self.compared = lines.len();
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn exchange(client: &mut TcpStream, line: &str) {
    client.write_all(line.as_bytes()).unwrap();
    let mut reply = vec![0; line.len()];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(String::from_utf8(reply).unwrap(), line);
}

fn assert_closed(mut client: TcpStream) {
    // With FIN, or with a reset if the server left something unread.
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

const CONNECTED: [&str; 5] = [
    "LISTENER-1 @ WORK got 'D0' from OS",
    "WORKER-1 @ IDLE got 'M1' from LISTENER-1",
    "WORKER-1 @ IDLE got 'M0' from SELF",
    "RX-1 @ IDLE got 'M1' from WORKER-1",
    "RX-1 @ IDLE got 'M0' from SELF",
];

/// What follows `D2` or `T0`.
const GAVE_UP: [&str; 4] = [
    "RX-1 @ WORK got 'M0' from SELF",
    "WORKER-1 @ RECV got 'M2' from RX-1",
    "WORKER-1 @ FAIL got 'M0' from SELF",
    "LISTENER-1 @ WORK got 'M0' from WORKER-1",
];

/// What follows the bytes of a request.
const ANSWERED: [&str; 11] = [
    "RX-1 @ WORK got 'M0' from SELF",
    "WORKER-1 @ RECV got 'M1' from RX-1",
    "WORKER-1 @ RECV got 'M0' from SELF",
    "TX-1 @ IDLE got 'M1' from WORKER-1",
    "TX-1 @ IDLE got 'M0' from SELF",
    "TX-1 @ WORK got 'D1' from OS",
    "TX-1 @ WORK got 'M0' from SELF",
    "WORKER-1 @ SEND got 'M1' from TX-1",
    "WORKER-1 @ SEND got 'M0' from SELF",
    "RX-1 @ IDLE got 'M1' from WORKER-1",
    "RX-1 @ IDLE got 'M0' from SELF",
];

#[test]
fn at_the_start_every_machine_goes_on_and_the_listener_says_hello() {
    let mut traced = Traced::start_with(2, &[]);
    let hello = format!("Hello! I am 'LISTENER-1' on port {}.", traced.server.address().port());
    traced.assert_next(&[
        "RX-1 @ INIT got 'M0' from SELF",
        "RX-2 @ INIT got 'M0' from SELF",
        "TX-1 @ INIT got 'M0' from SELF",
        "TX-2 @ INIT got 'M0' from SELF",
        "WORKER-1 @ INIT got 'M0' from SELF",
        "WORKER-2 @ INIT got 'M0' from SELF",
        "LISTENER-1 @ INIT got 'M0' from SELF",
        &hello,
    ]);
}

#[test]
fn a_client_is_connected_asks_is_answered_and_leaves() {
    let mut traced = Traced::start(&[]);
    let mut client = traced.server.connect();
    traced.assert_next(&CONNECTED);
    exchange(&mut client, "123\n");
    let asked = ["RX-1 @ WORK got 'D0' from OS", "<<< 4 bytes: { 49, 50, 51, 10 }"];
    traced.assert_next(&[&asked[..], &ANSWERED].concat());
    drop(client);
    traced.assert_next(&[&["RX-1 @ WORK got 'D2' from OS"][..], &GAVE_UP].concat());
}

#[test]
fn machines_are_taken_last_in_first_out() {
    let mut traced = Traced::start_with(4, &[]);
    traced.wait_for("Hello!");
    traced.compared = traced.lines().len();
    let first = traced.server.connect();
    let by_the_fourth =
        CONNECTED.map(|line| line.replace("WORKER-1", "WORKER-4").replace("RX-1", "RX-4"));
    traced.assert_next(&by_the_fourth.each_ref().map(String::as_str));
    let second = traced.server.connect();
    traced.wait_for("RX-3 @ IDLE got 'M0' from SELF");
    drop(first);
    traced.wait_for("LISTENER-1 @ WORK got 'M0' from WORKER-4");
    traced.compared = traced.lines().len();
    let _third = traced.server.connect();
    traced.wait_for("RX-4 @ IDLE got 'M0' from SELF");
    drop(second);
}

#[test]
fn a_request_that_does_not_come_in_time_is_a_timeout() {
    let mut traced = Traced::start(&["--request-timeout", "100ms"]);
    let client = traced.server.connect();
    traced.assert_next(&[&CONNECTED[..], &["RX-1 @ WORK got 'T0' from OS"], &GAVE_UP].concat());
    assert_closed(client);
}

#[test]
fn one_client_too_many_is_turned_away_and_a_later_one_is_served() {
    let mut traced = Traced::start(&[]);
    let mut inside = traced.server.connect();
    traced.assert_next(&CONNECTED);
    assert_closed(traced.server.connect());
    let refused = ["LISTENER-1 @ WORK got 'D0' from OS", "LISTENER-1 @ WORK got 'M0' from SELF"];
    traced.assert_next(&refused);
    exchange(&mut inside, "still here\n");
    drop(inside);
    traced.wait_for("LISTENER-1 @ WORK got 'M0' from WORKER-1");
    // The connection's permit is returned after its machines.
    wait_until("a place for a new client", || {
        let mut later = traced.server.connect();
        later.write_all(b"later\n").unwrap();
        let mut reply = [0; 6];
        let is_served = later.read_exact(&mut reply).is_ok();
        assert!(!is_served || &reply == b"later\n");
        is_served
    });
}

#[test]
fn a_signal_is_traced_with_its_sender_and_the_listener_says_goodbye() {
    for (signal, tag, number) in [(Signal::INT, "S0", 2), (Signal::TERM, "S1", 15)] {
        let mut traced = Traced::start(&[]);
        traced.server.signal(signal);
        assert_eq!(traced.server.wait().code(), Some(0));
        traced.assert_next(&[
            &format!("LISTENER-1 @ WORK got '{tag}' from OS"),
            &format!("got signal #{number} from PID {}", std::process::id()),
            "Bye! It was 'LISTENER-1'.",
        ]);
    }
}

#[test]
fn a_request_that_comes_together_with_the_end_is_answered() {
    let traced = Traced::start(&[]);
    let mut client = traced.server.connect();
    // The server is stopped until both have arrived.
    traced.server.hold();
    client.write_all(b"last words\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    traced.server.signal(Signal::CONT);
    let mut reply = String::new();
    client.read_to_string(&mut reply).expect("FIN, not a reset");
    assert_eq!(reply, "last words\n");
}

#[test]
fn requests_in_one_segment_are_each_answered_at_once() {
    let mut traced = Traced::start(&[]);
    let mut client = traced.server.connect();
    exchange(&mut client, "one\ntwo\n\nthree\n");
    traced.wait_for("<<< 6 bytes: { 116, 104, 114, 101, 101, 10 }");
    traced.assert_next(
        &[
            &CONNECTED[..],
            &["RX-1 @ WORK got 'D0' from OS", "<<< 4 bytes: { 111, 110, 101, 10 }"],
            &ANSWERED,
            &["RX-1 @ WORK got 'D0' from OS", "<<< 4 bytes: { 116, 119, 111, 10 }"],
            &ANSWERED,
            &["RX-1 @ WORK got 'D0' from OS", "<<< 1 bytes: { 10 }"],
            &ANSWERED,
            &["RX-1 @ WORK got 'D0' from OS", "<<< 6 bytes: { 116, 104, 114, 101, 101, 10 }"],
            &ANSWERED,
        ]
        .concat(),
    );
}

#[test]
fn bytes_without_a_newline_are_kept_and_take_no_processor_time() {
    let mut traced = Traced::start(&[]);
    let mut client = traced.server.connect();
    client.write_all(&[b'x'; 200]).unwrap();
    traced.wait_for(&format!("<<< 200 bytes: {{ {}... }}", "120, ".repeat(64)));
    let cpu = cpu_ticks(&traced.server);
    stall(Duration::from_millis(300));
    assert!(cpu_ticks(&traced.server) <= cpu + 5, "it is busy with nothing");
    assert_eq!(traced.lines().len() - traced.compared, CONNECTED.len() + 2);
    client.write_all(b"\n").unwrap();
    let mut reply = [0; 201];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply[198..], b"xx\n");
    traced.compared = 0;
}

/// The processor time of the server, in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_request_that_is_too_long_closes_its_connection_with_a_logged_reason() {
    for request in [&[b'x'; 65][..], &[&[b'x'; 64][..], b"\n"].concat()] {
        let mut traced = Traced::start(&["--max-request", "64"]);
        let mut client = traced.server.connect();
        exchange(&mut client, &format!("{}\n", "y".repeat(63)));
        client.write_all(request).unwrap();
        traced.server.wait_for_line("its request is longer than 64 bytes (--max-request)");
        assert_closed(client);
    }
}

#[test]
fn slow_bytes_do_not_extend_the_request_timeout() {
    let traced = Traced::start(&["--request-timeout", "500ms"]);
    let mut client = traced.server.connect();
    // Each request has a timeout of its own.
    exchange(&mut client, "a whole one\n");
    let since = Instant::now();
    wait_until("it to be cut", || {
        stall(Duration::from_millis(20));
        client.write_all(b"x").is_err()
    });
    assert!(since.elapsed() >= Duration::from_millis(450), "cut after {:?}", since.elapsed());
    traced.wait_for("RX-1 @ WORK got 'T0' from OS");
}

#[test]
fn the_custody_of_a_connection_is_the_way_through_the_machines() {
    let traced = Traced::start(&["--log-format", "json"]);
    let mut server = traced;
    let mut client = server.server.connect();
    exchange(&mut client, "123\n");
    server.wait_for("WORKER-1 @ SEND got 'M0' from SELF");
    server.wait_for("RX-1 @ IDLE got 'M0' from SELF");
    server.server.signal(Signal::USR1);
    let table = server.server.wait_for_line("\"declared\":");
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let streams: Vec<&serde_json::Value> = table["resources"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|resource| resource["kind"] == "tcp stream")
        .collect();
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0]["owner"]["name"], "RX-1");
    let steps = streams[0]["custody"].as_array().unwrap();
    // Acquired by the acceptor, which gave it to the connection's task.
    let moves: Vec<(&str, &str)> = steps[2..]
        .iter()
        .map(|step| (step["event"].as_str().unwrap(), step["to"]["name"].as_str().unwrap()))
        .collect();
    let expected = [
        ("given", "LISTENER-1"),
        ("given", "WORKER-1"),
        ("given", "RX-1"),
        ("transferred", "WORKER-1"),
        ("given", "TX-1"),
        ("transferred", "WORKER-1"),
        ("given", "RX-1"),
    ];
    assert_eq!(moves, expected);
}

#[test]
fn the_trace_is_reopened_on_sighup() {
    let traced = Traced::start_with(1, &[]);
    traced.wait_for("Hello");
    let moved = traced.path.with_extension("old");
    std::fs::rename(&traced.path, &moved).unwrap();
    traced.server.signal(Signal::HUP);
    traced.server.wait_for("a new file", |_| traced.path.exists());
    let _client = traced.server.connect();
    traced.wait_for("RX-1");
    let old = std::fs::read_to_string(&moved).unwrap();
    std::fs::remove_file(&moved).unwrap();
    assert_eq!(old.lines().next(), Some("RX-1 @ INIT got 'M0' from SELF"));
    assert!(!old.contains("D0"), "what came later is in the new file: {old}");
}

#[test]
fn without_a_file_the_trace_is_on_standard_error() {
    let mut server = Server::start(&["--style", "staged", "--trace-events"]);
    let line = server.wait_for_line("Hello!");
    assert!(line.starts_with("Hello! I am 'LISTENER-1' on port "), "{line}");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|line| line == "Bye! It was 'LISTENER-1'."), "{lines:#?}");
}

#[test]
fn a_size_that_is_none_is_refused() {
    let wrong = ["--style", "staged", "--max-request", "many"];
    let output = serve(&["127.0.0.1:0"], &wrong).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("such as `65536`, `64KiB`"));
}

/// A client that sends lines and does not read. Returns when the server is blocked in writing.
pub fn never_reads(server: &Server) -> TcpStream {
    let mut greedy = server.connect();
    greedy.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let line = [&[b'x'; 9_999][..], b"\n"].concat();
    // Several times in a row: the kernels move bytes with a delay.
    let mut stuck = 0;
    let mut written = 0;
    wait_until("the server to block in writing", || {
        // Continue where the last write stopped: parts without a newline would become a line that is
        // too long.
        let is_stalled = match greedy.write(&line[written..]) {
            Ok(more) => {
                written = (written + more) % line.len();
                false
            }
            Err(_) => true,
        };
        stuck = if is_stalled && both_queues_wait(server, &greedy) { stuck + 1 } else { 0 };
        stuck == 3
    });
    greedy
}

/// Whether the server's socket has both unread bytes and unsent bytes.
fn both_queues_wait(server: &Server, client: &TcpStream) -> bool {
    server.end_of(client).is_some_and(|end| end.unsent > 0 && end.unread > 0)
}

#[test]
fn every_request_has_its_own_time() {
    let traced = Traced::start(&["--request-timeout", "3s"]);
    let mut client = traced.server.connect();
    // Each of the three requests is within the timeout, all of them together are not.
    for number in 0..3 {
        exchange(&mut client, &format!("request {number}\n"));
        stall(Duration::from_millis(1100));
    }
    exchange(&mut client, "still served\n");
}

#[test]
fn a_path_that_ends_like_a_port_is_said_as_a_path() {
    let path = super::trace_path().with_extension("sock:80");
    let address = format!("unix:{}", path.display());
    let mut command = serve(&[&address], &["--style", "staged", "--trace-events"]);
    let mut server = Server::run(&mut command, 0);
    server.wait_for_line(&format!("Hello! I am 'LISTENER-1' on {address}."));
}

#[test]
fn a_trace_without_a_reader_does_not_keep_the_server_from_stopping() {
    for again in [false, true] {
        let path = super::trace_path();
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        // Opened for reading and writing, so that the server's open does not block. Nothing reads it.
        let _open = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let timeout = if again { "1h" } else { "300ms" };
        let mut server = Server::start(&[
            "--style",
            "staged",
            "--drain-timeout",
            timeout,
            "--trace-events",
            path.to_str().unwrap(),
        ]);
        let mut client = server.connect();
        // The trace is larger than the pipe, but the machines go on.
        for _ in 0..500 {
            client.write_all(b"x\n").unwrap();
            client.read_exact(&mut [0; 2]).unwrap();
        }
        server.signal(Signal::TERM);
        if again {
            server.wait_for_line("draining");
            let status = server.signal_until_it_ends(Signal::TERM);
            assert_eq!(status.code(), Some(143), "the second one stops at once");
        } else {
            assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
        }
        std::fs::remove_file(&path).unwrap();
    }
}

#[track_caller]
fn assert_said(ended: &Server, part: &str) {
    assert!(ended.seen.iter().any(|line| line.contains(part)), "{:#?}", ended.seen);
}

/// Lines that follow a lost client, in this order. Other threads may write lines in between.
const AFTER_A_LOST_CLIENT: [&str; 3] = [
    "RX-1 @ WORK got 'M0' from SELF",
    "WORKER-1 @ RECV got 'M2' from RX-1",
    "LISTENER-1 @ WORK got 'M0' from WORKER-1",
];

#[test]
fn a_drain_wakes_the_machine_that_waits_for_a_request() {
    for part_of_a_line in ["", "abc"] {
        let mut traced = Traced::start(&["--drain-timeout", "1h", "--request-timeout", "1h"]);
        let mut client = traced.server.connect();
        traced.assert_next(&CONNECTED);
        client.write_all(part_of_a_line.as_bytes()).unwrap();
        if !part_of_a_line.is_empty() {
            traced.wait_for("<<< 3 bytes: { 97, 98, 99 }");
        }
        traced.server.signal(Signal::TERM);
        assert_eq!(traced.server.wait().code(), Some(0), "{:#?}", traced.server.seen);
        let lines = traced.lines();
        let mut woken = lines.iter().skip_while(|line| *line != "RX-1 @ WORK got 'D2' from OS");
        for expected in AFTER_A_LOST_CLIENT {
            assert!(woken.any(|line| line == expected), "no {expected:?} in {lines:#?}");
        }
        assert_said(&traced.server, " 0 errors, 0 aborted, 0 panics, 0 leaks, 0 violations");
        assert_closed(client);
    }
}

#[test]
fn a_cancel_wakes_the_machine_that_waits_for_room() {
    let mut traced = Traced::start(&["--drain-timeout", "100ms", "--write-timeout", "1h"]);
    let _greedy = never_reads(&traced.server);
    traced.server.signal(Signal::TERM);
    assert_eq!(traced.server.wait().code(), Some(0), "{:#?}", traced.server.seen);
    let lines = traced.lines();
    // The last wait: for what was sent before, there was space.
    let woken = lines.iter().rposition(|line| line == "TX-1 @ WORK got 'D2' from OS");
    let woken = woken.unwrap_or_else(|| panic!("TX is not woken in {lines:#?}"));
    let expected = [
        "TX-1 @ WORK got 'M0' from SELF",
        "WORKER-1 @ SEND got 'M2' from TX-1",
        "WORKER-1 @ FAIL got 'M0' from SELF",
        "LISTENER-1 @ WORK got 'M0' from WORKER-1",
        "Bye! It was 'LISTENER-1'.",
    ];
    assert_eq!(lines[woken + 1..], expected);
    assert_said(&traced.server, " 0 errors, 1 aborted, 0 panics, 0 leaks, 0 violations");
}

#[test]
fn a_drain_does_not_wait_for_a_client_that_has_reset_its_connection() {
    use rustix::net::sockopt;
    let mut server =
        Server::start(&["--style", "staged", "--drain-timeout", "1h", "--write-timeout", "1h"]);
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    // A small receive buffer: what the server sends stays in its send buffer.
    sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    rustix::net::connect(&listener, &server.address()).unwrap();
    let mut client = TcpStream::from(listener);
    let line = [&[b'x'; 59_999][..], b"\n"].concat();
    for _ in 0..4 {
        client.write_all(&line).unwrap();
    }
    server.wait_for("answers that do not arrive", |server| is_unsent(server, &client));
    server.signal(Signal::TERM);
    server.wait_for_line("draining");
    sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

/// Whether the server has read everything, and has unsent replies.
fn is_unsent(server: &Server, client: &TcpStream) -> bool {
    server.end_of(client).is_some_and(|end| end.unsent > 0 && end.unread == 0)
}
