//! `--record`: what a recording contains, its limit and its mode, and that it disturbs nothing.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use echown::events::reader::Reader;
use echown::events::{Kind, Line};
use rustix::process::Signal;

use super::reports::{Folder, stderr};
use super::server::{Server, echown, exchange, pattern};
use crate::common::doc_pages::assert_page_shows;

fn read(path: &str) -> Vec<Line> {
    let file = fs::File::open(path).expect("the recording exists");
    Reader::new(BufReader::new(file)).read_all().expect("it is a recording")
}

/// Whether a task's name begins with this.
fn is_of(line: &Line, name: &str) -> bool {
    line.to.as_ref().is_some_and(|task| task.name.starts_with(name))
}

#[test]
fn a_recording_shows_each_socket_from_accept_to_close() {
    let folder = Folder::new("recorded");
    let path = folder.file("recording.jsonl");
    let server = Server::start(&["--record", &path]);
    let (address, pid) = (server.address(), server.pid());
    for _ in 0..3 {
        assert_eq!(exchange(server.connect(), &pattern(1000)), pattern(1000));
    }
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = read(&path);
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert_eq!((first.event, first.process), (Kind::Recording, Some(pid)));
    assert!(first.program.as_deref().unwrap().starts_with("echown serve --listen "));
    assert_eq!(
        (last.event, last.reason.as_deref(), last.lost),
        (Kind::End, Some("finished"), Some(0))
    );
    let given: Vec<&Line> =
        lines.iter().filter(|line| line.event == Kind::Given && is_of(line, "echo ")).collect();
    assert_eq!(given.len(), 3);
    for given in given {
        let of: Vec<&Line> = lines.iter().filter(|it| it.resource == given.resource).collect();
        let steps: Vec<Kind> = of.iter().map(|line| line.event).collect();
        assert_eq!(steps, [Kind::Acquired, Kind::Given, Kind::Dropped]);
        assert_eq!(of[0].to, given.from, "the acceptor accepted it");
        assert!(given.from.as_ref().unwrap().name.ends_with(&address.to_string()));
    }
    let open = lines.iter().filter(|line| line.event == Kind::Acquired).count();
    let closed = lines.iter().filter(|line| line.event.is_final()).count();
    assert_eq!(
        open, closed,
        "everything that was opened was closed, the recording's file included"
    );
}

#[test]
fn a_leak_is_in_the_recording_with_its_annotated_report() {
    let folder = Folder::new("recorded-leak");
    let path = folder.file("recording.jsonl");
    let server = Server::start(&["--record", &path, "--chaos", "leak=1"]);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = client.read_to_end(&mut Vec::new());
    server.stop();
    let lines = read(&path);
    let leaked = lines.iter().find(|line| line.event == Kind::Leaked).expect("it leaked");
    let id = leaked.resources.as_ref().unwrap()[0];
    assert!(lines.iter().any(|it| it.event == Kind::Finalized && it.resource == Some(id)));
    assert!(leaked.text.as_deref().unwrap().starts_with("error[leak]"), "{:?}", leaked.text);
}

#[test]
fn the_limit_ends_the_recording_and_not_the_server() {
    let folder = Folder::new("recorded-limit");
    let path = folder.file("recording.jsonl");
    let options = ["--record", &path, "--record-limit", "8KiB"];
    let mut server = Server::start(&options);
    for _ in 0..30 {
        assert_eq!(exchange(server.connect(), b"x"), b"x");
    }
    server.wait_for_line("has reached --record-limit 8.0 KiB and has ended");
    assert_eq!(exchange(server.connect(), b"x"), b"x");
    assert_eq!(server.stop().0, Some(0));
    assert!(fs::metadata(&path).unwrap().len() <= 8192);
    let lines = read(&path);
    let last = &lines[lines.len() - 1];
    assert_eq!((last.event, last.reason.as_deref()), (Kind::End, Some("limit")));
}

#[test]
fn a_killed_server_leaves_a_readable_recording() {
    let folder = Folder::new("recorded-killed");
    let path = folder.file("recording.jsonl");
    let mut server = Server::start(&["--record", &path]);
    assert_eq!(exchange(server.connect(), b"x"), b"x");
    server.wait_for("its last event", |_| read(&path).iter().any(|it| it.event == Kind::TaskEnded));
    server.signal(Signal::KILL);
    server.wait();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 10]).unwrap();
    let lines = read(&path);
    assert_ne!(lines[lines.len() - 1].event, Kind::End);
}

#[test]
fn a_start_that_fails_keeps_the_old_recording() {
    let folder = Folder::new("recorded-kept");
    let path = folder.file("recording.jsonl");
    fs::write(&path, "the old one").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = busy.local_addr().unwrap().to_string();
    let arguments = ["serve", "--listen", &listen, "--record", &path];
    let output = echown().args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&path).unwrap(), "the old one");
    let server = Server::start(&["--record", &path]);
    server.stop();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read(&path)[0].event, Kind::Recording);
}

#[test]
fn two_processes_do_not_record_to_one_file() {
    let folder = Folder::new("recorded-twice");
    let path = folder.file("recording.jsonl");
    let server = Server::start(&["--record", &path]);
    let second = echown()
        .args(["serve", "--listen", "127.0.0.1:0", "--record", &path])
        .output()
        .expect("it starts");
    assert_eq!(second.status.code(), Some(1));
    let why = "another process records to it; choose another file";
    assert!(stderr(&second).contains(why), "{}", stderr(&second));
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(read(&path).last().map(|line| line.event), Some(Kind::End));
}

#[test]
fn a_recording_to_a_device_is_rejected_with_the_reason() {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--record", "/dev/null"];
    let output = echown().args(arguments).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = "echown: failed to record to /dev/null: a recording needs a regular file\n";
    assert_eq!(stderr(&output), expected);
}

#[test]
fn a_client_records_too() {
    let folder = Folder::new("recorded-client");
    let path = folder.file("recording.jsonl");
    let server = Server::start(&["--style", "staged"]);
    let address = server.address().to_string();
    let arguments = ["client", &address, "--count", "1", "--workers", "2", "--record"];
    let output = echown().args(arguments).arg(&path).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines = read(&path);
    let sockets = lines
        .iter()
        .filter(|line| line.event == Kind::Acquired && line.kind.as_deref() == Some("tcp stream"));
    assert_eq!(sockets.count(), 2);
    assert_eq!(lines[lines.len() - 1].event, Kind::End);
}

/// The lines of one connection as in `docs/events.md`: without what differs between runs.
fn shown(lines: &[Line], address: &str) -> String {
    let given = lines
        .iter()
        .find(|line| line.event == Kind::Given && is_of(line, "echo "))
        .expect("a connection was given to its task");
    let (acceptor, task) = (given.from.clone().unwrap(), given.to.clone().unwrap());
    let peer = task.name.strip_prefix("echo ").unwrap();
    let steady = |line: &Line| {
        let mut line = line.clone();
        (line.process, line.thread, line.table, line.time_ns) = (None, None, None, 0);
        // Only there if the recorder was quicker than the connection.
        (line.local, line.peer) = (None, None);
        line.resource = line.resource.map(|_| 8);
        line.number = line.number.map(|_| 9);
        let names = [&mut line.from, &mut line.to, &mut line.task, &mut line.parent];
        for name in names.into_iter().flatten() {
            name.id = if name.id == task.id { 6 } else { 5 };
        }
        let json = line.to_json().replace("\"time_ns\":0,", "") + "\n";
        json.replace(address, "127.0.0.1:3000").replace(peer, super::pages::CLIENT)
    };
    let is_shown = |line: &&Line| {
        line.resource == given.resource || line.task.as_ref().is_some_and(|it| it.id == task.id)
    };
    assert_ne!(acceptor, task);
    lines.iter().filter(is_shown).map(steady).collect()
}

#[test]
fn the_page_of_events_shows_a_real_connection_and_has_a_schema() {
    let folder = Folder::new("recorded-page");
    let path = folder.file("recording.jsonl");
    let options = ["--record", &path, "--chaos", "leak=0.5", "--chaos-seed", "3"];
    for options in [&options[..2], &options[..]] {
        let server = Server::start(options);
        let address = server.address().to_string();
        for _ in 0..options.len() {
            exchange(server.connect(), b"x");
        }
        server.stop();
        let text = fs::read_to_string(&path).unwrap();
        let schema = include_str!("../../docs/events.schema.json");
        let schema = serde_json::from_str(schema).expect("the schema is JSON");
        let schema = jsonschema::validator_for(&schema).expect("the schema is valid");
        for line in text.lines() {
            let line = serde_json::from_str(line).expect("the line is JSON");
            schema.validate(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        if options.len() == 2 {
            let lines = shown(&read(&path), &address);
            assert_page_shows("docs/events.md", "a connection", "json", &lines);
        } else {
            assert!(text.contains("\"event\":\"leaked\""), "{text}");
        }
    }
}

#[test]
fn a_recording_contains_the_messages_of_the_staged_style() {
    let folder = Folder::new("recorded-messages");
    let (path, trace) = (folder.file("recording.jsonl"), folder.file("trace"));
    let options = ["--style", "staged", "--record", &path, "--trace-events", &trace];
    let server = Server::start(&options);
    let mut client = server.connect();
    client.write_all(b"hello\n").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    drop(client);
    server.stop();
    let lines = read(&path);
    let live = lines.iter().position(|line| line.event == Kind::Live).unwrap();
    let messages = lines[live..].iter().filter(|line| line.event == Kind::Message);
    let messages: Vec<&str> = messages.filter_map(|line| line.text.as_deref()).collect();
    assert!(messages.len() > 10, "{messages:#?}");
    let trace = fs::read_to_string(&trace).unwrap();
    let traced: Vec<&str> = trace.lines().collect();
    assert!(traced.ends_with(&messages), "{traced:#?} {messages:#?}");
}

#[test]
fn the_end_is_not_written_to_another_file_of_the_same_name() {
    let folder = Folder::new("recorded-moved");
    let path = folder.file("recording.jsonl");
    let mut server = Server::start(&["--record", &path]);
    server.wait_for("the header", |_| fs::metadata(&path).unwrap().len() > 0);
    fs::rename(&path, folder.file("moved")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &*path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(read(&folder.file("moved"))[0].event, Kind::Recording);
}
