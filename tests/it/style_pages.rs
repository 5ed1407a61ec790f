//! `docs/styles/` and `docs/parking.md`: the pictures of how ownership flows, recorded with real clients.
//! `ci/pages` writes them.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use echown::events::reader::Reader;
use echown::events::svg::{self, Axis};
use echown::events::timeline::{Selection, Timeline};
use echown::events::{Kind, Line, mermaid};
use rustix::process::Signal;

use super::broadcast::{frame, try_hear};
use super::parking::fill;
use super::server::Server;
use crate::common::doc_pages::{assert_page_shows, without_lines};
use crate::common::temp_path::TempPath;
use crate::common::wait_until;

/// A server that is recorded.
struct Recorded {
    server: Server,
    file: TempPath,
    /// As in the pictures: the command, and the style's default port.
    command: &'static str,
    port: u16,
    /// The addresses of the clients, in their order.
    clients: Vec<String>,
}

impl Recorded {
    fn start(command: &'static str, port: u16) -> Recorded {
        let file = TempPath::new("style.jsonl");
        let mut arguments: Vec<_> = command.split(' ').skip(2).collect();
        arguments.extend(["--record", file.text()]);
        Recorded { server: Server::start(&arguments), file, command, port, clients: Vec::new() }
    }

    fn connect(&mut self) -> TcpStream {
        let client = self.server.connect();
        self.clients.push(client.local_addr().unwrap().to_string());
        client
    }

    /// Waits until the recording has a number of steps of its connections.
    fn wait_for_steps(&self, count: usize) {
        let is_step = |line: &&Line| line.event.is_step() && is_connection(line);
        self.wait(&format!("{count} steps"), |lines| lines.iter().filter(is_step).count() == count);
    }

    /// Waits until the task of the client with this index has ended.
    fn wait_for_end(&self, client: usize) {
        let address = &self.clients[client];
        self.wait(&format!("the end of {address}"), |lines| {
            lines.iter().any(|line| {
                let ended = line.task.as_ref().filter(|_| line.event == Kind::TaskEnded);
                ended.is_some_and(|task| {
                    task.name.ends_with(&**address) && !task.name.starts_with("writer")
                })
            })
        });
    }

    fn wait(&self, what: &str, condition: impl Fn(&[Line]) -> bool) {
        wait_until(what, || {
            let text = fs::read(&*self.file).unwrap_or_default();
            Reader::new(&*text).read_all().is_ok_and(|lines| condition(&lines))
        });
    }

    /// Waits until the totals of the server contain this line.
    fn wait_for_line(&mut self, wanted: &str) {
        let server = &mut self.server;
        wait_until(wanted, || {
            server.signal(Signal::USR1);
            server.wait_for_line("connections: ").contains(wanted)
        });
    }

    /// Waits until a connection that had no task of its own is closed.
    fn wait_for_end_of_a_connection(&self) {
        let is_end = |line: &Line| line.event.is_final() && is_connection(line);
        self.wait("the end of a connection", |lines| lines.iter().any(is_end));
    }

    /// [`finish_with`](Recorded::finish_with) of all lines.
    fn finish(self, kinds: &[&str]) -> Timeline {
        self.finish_with(kinds, |_| {})
    }

    /// Stops the server. Returns the timeline of some kinds of resources, with addresses and numbers
    /// that are the same in every run, after a change of the lines.
    fn finish_with(mut self, kinds: &[&str], change: impl FnOnce(&mut Vec<Line>)) -> Timeline {
        self.server.signal(Signal::TERM);
        self.server.wait();
        let mut text = fs::read_to_string(&*self.file).unwrap();
        let here = format!("127.0.0.1:{}", self.port);
        text = text.replace(&self.server.address().to_string(), &here);
        for (client, port) in self.clients.iter().zip(50_000..) {
            text = text.replace(client, &format!("127.0.0.1:{port}"));
        }
        let mut lines = Reader::new(text.as_bytes()).read_all().unwrap();
        change(&mut lines);
        lines[0].program = Some(self.command.to_owned());
        let mut numbers = HashMap::new();
        let mut resources = Vec::new();
        for line in &mut lines {
            let is_wanted = line.kind.as_ref().is_some_and(|kind| kinds.contains(&&**kind));
            if let (true, Some(resource), Some(number)) = (is_wanted, line.resource, line.number) {
                let next = 3 + i32::try_from(numbers.len()).unwrap();
                line.number = Some(*numbers.entry(number).or_insert(next));
                resources.push(resource);
            }
        }
        Timeline::of(&lines).select(&Selection { resources, ..Selection::default() })
    }
}

fn is_connection(line: &Line) -> bool {
    line.kind.as_deref() == Some("tcp stream")
}

/// Compares a picture with the timeline, or, with `UPDATE_DOCS=1`, writes it.
#[track_caller]
fn assert_picture_shows(name: &str, timeline: &Timeline) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name);
    let options = svg::Options { axis: Axis::Order, width: 880, ..svg::Options::default() };
    let picture = svg::render(timeline, &options);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, picture).unwrap();
        return;
    }
    let known = without_lines(&fs::read_to_string(path).unwrap());
    let now = without_lines(&picture);
    let differing: Vec<_> =
        known.lines().zip(now.lines()).filter(|(known, now)| known != now).take(5).collect();
    assert!(
        known == now,
        "docs/pictures/{name} is out of date; with UPDATE_DOCS=1 this test writes it: {differing:#?}"
    );
}

#[test]
fn the_page_of_the_style_echo_shows_its_hand_overs() {
    let mut recorded = Recorded::start("echown serve --style echo", 3000);
    for client in 0..2 {
        let mut stream = recorded.connect();
        stream.write_all(b"Hello\n").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        recorded.wait_for_steps(3 * client + 2);
        drop(stream);
        recorded.wait_for_end(client);
    }
    let timeline = recorded.finish(&["tcp listener", "tcp stream"]);
    assert_picture_shows("echo.svg", &timeline);
    let diagram = mermaid::render(&timeline);
    assert_page_shows("docs/styles/echo.md", "the hand-overs", "mermaid", &diagram);
}

#[test]
fn the_page_of_the_style_callback_shows_one_owner_and_a_cycle() {
    let mut recorded = Recorded::start("echown serve --style callback", 10101);
    let mut stream = recorded.connect();
    stream.write_all(b"Hello\n").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    recorded.wait_for_steps(2);
    drop(stream);
    recorded.wait_for_end(0);
    let timeline = recorded.finish(&["tcp stream"]);
    assert!(timeline.findings.is_empty());
    assert_picture_shows("callback.svg", &timeline);
    let diagram = mermaid::render(&timeline);
    assert_page_shows("docs/styles/callback.md", "the hand-overs", "mermaid", &diagram);

    let mut recorded = Recorded::start("echown serve --style callback --chaos cycle=1", 10101);
    let mut stream = recorded.connect();
    stream.write_all(b"Hello\n").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    recorded.wait_for_steps(2);
    drop(stream);
    recorded.wait_for_end(0);
    let timeline = recorded.finish(&["tcp stream"]);
    assert_eq!(timeline.findings.len(), 1);
    assert_picture_shows("callback-cycle.svg", &timeline);
}

#[test]
fn the_page_of_the_style_broadcast_shows_halves_with_two_owners() {
    let mut recorded = Recorded::start("echown serve --style broadcast", 8000);
    let mut one = recorded.connect();
    recorded.wait_for_steps(6);
    let mut other = recorded.connect();
    recorded.wait_for_steps(12);
    one.write_all(&frame(b"Hello")).unwrap();
    for stream in [&mut one, &mut other] {
        assert_eq!(try_hear(stream).unwrap(), b"Hello");
    }
    drop(one);
    recorded.wait_for_end(0);
    drop(other);
    recorded.wait_for_end(1);
    let timeline = recorded.finish(&["tcp stream"]);
    assert_picture_shows("broadcast.svg", &timeline);
    let diagram = mermaid::render(&timeline);
    assert_page_shows("docs/styles/broadcast.md", "the hand-overs", "mermaid", &diagram);
}

#[test]
fn the_page_of_the_style_staged_shows_the_way_through_the_machines() {
    let command = "echown serve --style staged --max-connections 1";
    let mut recorded = Recorded::start(command, 3333);
    let mut stream = recorded.connect();
    stream.write_all(b"Hello\n").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    recorded.wait_for_steps(9);
    drop(stream);
    recorded.wait_for_end(0);
    let timeline = recorded.finish(&["tcp stream"]);
    assert_picture_shows("staged.svg", &timeline);
    let diagram = mermaid::render(&timeline);
    assert_page_shows("docs/styles/staged.md", "the hand-overs", "mermaid", &diagram);
}

/// A connection of a server with one worker, which is the acceptor: parked between two turns, and while its
/// client does not read.
fn parked_connection() -> Timeline {
    let mut recorded = Recorded::start("echown serve --park", 3000);
    let mut stream = recorded.connect();
    stream.write_all(b"Hello\n").unwrap();
    stream.read_exact(&mut [0; 6]).unwrap();
    recorded.wait_for_steps(4);
    let sent = fill(&recorded.server, &stream);
    recorded.wait_for_line("connections: 1 accepted, 1 open (1 parked, 1 blocked)");
    stream.read_exact(&mut vec![0; sent.len()]).unwrap();
    recorded.wait_for_line("connections: 1 accepted, 1 open (1 parked, 0 blocked)");
    drop(stream);
    recorded.wait_for_end_of_a_connection();
    recorded.finish_with(&["tcp listener", "tcp stream"], without_repeated_parks)
}

/// Of a connection that is parked at least four times, leaves the first three times and the last. How often the
/// worker looks in between, at new input and at new room, depends on the kernel.
fn without_repeated_parks(lines: &mut Vec<Line>) {
    let is_change = |line: &Line| matches!(line.event, Kind::Parked | Kind::Unparked);
    let count = lines.iter().filter(|line| is_change(line)).count();
    assert!(count >= 8 && count % 2 == 0, "{count} changes");
    let mut change = 0;
    lines.retain(|line| {
        change += usize::from(is_change(line));
        !is_change(line) || change <= 6 || change > count - 2
    });
}

#[test]
fn the_page_of_parking_shows_a_connection_that_changes_hands() {
    let timeline = parked_connection();
    assert_picture_shows("parking.svg", &timeline);
    let diagram = mermaid::render(&timeline);
    assert_page_shows("docs/parking.md", "the hand-overs", "mermaid", &diagram);
}
