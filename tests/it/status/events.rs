//! The stream of events: its form, its end, and viewers that misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket, sockopt};
use rustix::process::Signal;
use serde_json::Value;

use super::super::common::temp_path::TempPath;
use super::super::common::wait_until;
use super::super::server::{DEADLINE, Server, TcpEnd, exchange, serve};
use super::http::{self, request, status_of};
use super::start;

/// A viewer of a stream of events.
pub struct Viewer {
    lines: BufReader<TcpStream>,
    pub head: String,
    /// Whether the server has said that the lines are those of a file.
    pub is_of_recording: bool,
}

impl Viewer {
    pub fn connect(status: SocketAddr) -> Viewer {
        let mut stream = http::connect(status);
        stream.write_all(request("GET", "/events", "localhost").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(lines.read_line(&mut head).expect("a head"), 0, "{head}");
        }
        Viewer { lines, head, is_of_recording: false }
    }

    /// The next line of the schema; `None` at the end of the stream.
    pub fn next(&mut self) -> Option<Value> {
        // Signs of life arrive all the time.
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < deadline, "no line within {DEADLINE:?}");
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("the stream is complete") == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).expect("a line is JSON"));
            }
            if line == "event: recording\n" {
                line.clear();
                self.lines.read_line(&mut line).expect("the stream is complete");
                assert_eq!(line, "data: {}\n");
                self.is_of_recording = true;
                continue;
            }
            let is_known = ["\n", ":\n", "retry: 1000\n"].contains(&&*line);
            assert!(is_known, "{line:?}");
        }
    }

    /// Reads up to a line.
    pub fn wait_for(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        while let Some(line) = self.next() {
            if is_it(&line) {
                return line;
            }
        }
        panic!("the stream ended without {what}");
    }

    pub fn wait_for_event(&mut self, event: &str) -> Value {
        self.wait_for(event, |line| line["event"] == event)
    }
}

#[test]
fn a_stream_has_the_state_and_then_each_hand_over_of_a_new_connection() {
    let (server, status) = start(&[]);
    // The acceptor has started.
    assert_eq!(exchange(server.connect(), b"first"), b"first");
    let mut viewer = Viewer::connect(status);
    assert!(viewer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", viewer.head);
    for field in ["Content-Type: text/event-stream", "Cache-Control: no-store", "Connection: close"]
    {
        assert!(viewer.head.contains(&format!("\r\n{field}\r\n")), "{}", viewer.head);
    }
    let header = viewer.next().unwrap();
    assert!(!viewer.is_of_recording);
    assert_eq!((&header["event"], &header["schema_version"]), (&"recording".into(), &1.into()));
    let program = header["program"].as_str().unwrap();
    assert!(program.starts_with("echown serve --listen 127.0.0.1:0 --status"), "{program}");
    let mut tasks = Vec::new();
    loop {
        let line = viewer.next().unwrap();
        if line["event"] == "live" {
            break;
        }
        assert_eq!(line["replayed"], true, "{line}");
        tasks.extend(line["task"]["name"].as_str().map(str::to_owned));
    }
    assert!(tasks.contains(&format!("accept {}", server.address())), "{tasks:?}");
    assert!(tasks.contains(&"status acceptor".to_owned()), "{tasks:?}");

    // It stays until its addresses have been read.
    let client = server.connect();
    let peer = client.local_addr().unwrap().to_string();
    let acquired = viewer.wait_for("its acquisition", |line| line["peer"] == *peer);
    assert_eq!(acquired["event"], "acquired");
    assert_eq!(acquired["to"]["name"], format!("accept {}", server.address()));
    let resource = &acquired["resource"];
    let given = viewer.wait_for("its hand-over", |line| line["resource"] == *resource);
    assert_eq!((&given["event"], &given["from"]), (&"given".into(), &acquired["to"]));
    assert_eq!(given["to"]["name"], format!("echo {peer}"));
    assert_eq!(exchange(client, b"hello"), b"hello");
    let closed = viewer.wait_for("its end", |line| line["resource"] == *resource);
    assert_eq!((&closed["event"], &closed["from"]), (&"dropped".into(), &given["to"]));
}

#[test]
fn a_stream_lasts_through_the_drain_and_ends_with_a_line_of_its_own() {
    let (mut server, status) = start(&[]);
    let mut viewers = [Viewer::connect(status), Viewer::connect(status)];
    viewers.iter_mut().for_each(|viewer| drop(viewer.wait_for_event("live")));
    server.signal(Signal::TERM);
    for viewer in &mut viewers {
        viewer.wait_for("the end of the acceptor", |line| {
            let name = line["task"]["name"].as_str().unwrap_or_default();
            line["event"] == "task_ended" && name.starts_with("accept ")
        });
        let end = viewer.wait_for_event("end");
        assert_eq!((&end["reason"], &end["lost"]), (&"finished".into(), &0.into()));
        assert_eq!(viewer.next(), None);
    }
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
}

#[test]
fn a_viewer_that_leaves_an_idle_server_frees_its_place_at_once() {
    let (server, status) = start(&[]);
    let before = server.open_descriptors().len();
    // In all, because a sign of life every 15 s would show one that has left, too.
    let deadline = Instant::now() + DEADLINE;
    for _ in 0..30 {
        Viewer::connect(status).wait_for_event("live");
        // Nothing happens that would be sent to it.
        server.wait_for_descriptors(|open| open.len() <= before);
        assert!(Instant::now() < deadline, "viewers that have left occupy their places");
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn the_ninth_viewer_is_rejected_until_another_one_leaves() {
    let (server, status) = start(&[]);
    let mut viewers: Vec<Viewer> = (0..8).map(|_| Viewer::connect(status)).collect();
    viewers.iter_mut().for_each(|viewer| drop(viewer.wait_for_event("live")));
    let ninth = http::get(status, "/events");
    assert_eq!((ninth.code, ninth.field("retry-after")), (503, Some("5")));
    assert!(ninth.body.contains("8 clients are connected"), "{}", ninth.body);
    let client = server.connect();
    let name = format!("echo {}", client.local_addr().unwrap());
    assert_eq!(exchange(client, b"x"), b"x");
    for viewer in &mut viewers {
        viewer.wait_for("the client", |line| line["to"]["name"] == *name);
    }
    drop(viewers.pop());
    let mut snapshot = String::new();
    wait_until("a place", || {
        let reply = http::get(status, "/snapshot.json");
        snapshot = reply.body;
        reply.code == 200
    });
    let clients = snapshot.matches(r#""name":"status client 127.0.0.1"#).count();
    assert!(clients >= 8, "seven viewers and the client that asks: {snapshot}");
}

#[test]
fn a_name_that_a_peer_chose_stays_inside_its_line() {
    let folder = TempPath::folder("hostile");
    let place = folder.join("echo");
    let listen = format!("unix:{}", place.display());
    let mut server = Server::run(&mut serve(&[&listen], &["--status", "127.0.0.1:0"]), 0);
    let status = status_of(&mut server);
    let own = std::process::id();
    let name = format!("{own}\n\ndata: {{\"event\":\"end\"}}\n</script>");
    let name = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
    let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&client, &name).unwrap();
    connect(&client, &SocketAddrUnix::new(&*place).unwrap()).unwrap();
    // The viewer asserts that each line has one of the known forms.
    let mut viewer = Viewer::connect(status);
    let is_it = |line: &Value| line["kind"] == "unix stream" && !line["peer"].is_null();
    let line = viewer.wait_for("the peer", is_it);
    let peer = line["peer"].as_str().unwrap();
    assert!(peer.ends_with(r#"\n\ndata: {"event":"end"}\n</script>"#), "{peer}");
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(viewer.wait_for_event("end")["reason"], "finished");
    assert_eq!(server.wait().code(), Some(0));
    drop(std::fs::remove_dir_all(&*folder));
}

/// A viewer with a small window, which never reads.
fn never_reads(status: SocketAddr) -> TcpStream {
    let viewer = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&viewer, 4096).unwrap();
    connect(&viewer, &status).unwrap();
    let mut viewer = TcpStream::from(viewer);
    viewer.write_all(request("GET", "/events", "localhost").as_bytes()).unwrap();
    viewer
}

/// Lets a client come and go, which is news for viewers.
fn churn(server: &Server) {
    assert_eq!(exchange(server.connect(), b"churn"), b"churn");
}

#[test]
fn a_viewer_that_never_reads_is_cut_off_while_clients_are_served() {
    let (mut server, status) = start(&[]);
    let stalled = never_reads(status);
    let mut other = Viewer::connect(status);
    let other = std::thread::spawn(move || other.wait_for_event("end"));
    let name = format!("`status client {}`", stalled.local_addr().unwrap());
    wait_until("it to be cut off", || {
        churn(&server);
        let mut lines = server.lines().iter();
        lines.any(|line| line.contains(&name) && line.contains("was disconnected: it did not read"))
    });
    // The other one has missed nothing.
    server.signal(Signal::TERM);
    let end = other.join().expect("it gets the end");
    assert_eq!(end["lost"], 0);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_viewer_that_never_reads_does_not_hold_up_the_exit() {
    // On a busy machine a viewer can be cut off before the server gets the signal; then once more.
    let held_up: Vec<_> = (0..5).map_while(|_| lines_of_an_exit_that_was_held_up()).collect();
    assert!(held_up.len() < 5, "it never ended before the 5 s of a viewer: {held_up:#?}");
}

/// Stops a server while the socket of a viewer is full. Returns its lines if it ended only after the
/// viewer had been cut off.
fn lines_of_an_exit_that_was_held_up() -> Option<Vec<String>> {
    let (mut server, status) = start(&[]);
    let stalled = never_reads(status);
    // Its socket is full when more events do not make the queue longer.
    let (mut before, mut same) = (0, 0);
    wait_until("a full socket", || {
        churn(&server);
        let Some(end) = TcpEnd::find(status, stalled.local_addr().unwrap()) else { return true };
        same = if end.unsent == before && before > 32 * 1024 { same + 1 } else { 0 };
        before = end.unsent;
        same >= 30
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let is_cut = server.seen.iter().any(|line| line.contains("it did not read"));
    is_cut.then(|| std::mem::take(&mut server.seen))
}
