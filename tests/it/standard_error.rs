//! Standard error in the forms that programs read: every line a JSON object, or every line with its
//! priority for the journal.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::hostile::peers::reset;
use super::reports::{Folder, meet};
use super::server::{Server, echown, exchange, serve};
use crate::common::doc_pages::assert_page_shows;
use crate::common::wait_until;

/// The page that lists the kinds of events.
const PAGE: &str = include_str!("../../docs/logs.md");

/// The events of every line, each of which must be JSON with the common keys. Lines of the log have none.
#[track_caller]
fn events(lines: &[String]) -> Vec<String> {
    let event = |line: &String| {
        let object: Value =
            serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        let text = |key: &str| object[key].as_str().unwrap_or_else(|| panic!("no {key}: {line}"));
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&text("level")), "{line}");
        assert!(!text("message").is_empty() && !text("message").starts_with("echown: "), "{line}");
        let time = text("timestamp");
        assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{line}");
        let default = if object["target"].is_string() { "log" } else { "" };
        let event = object["event"].as_str().unwrap_or(default);
        let is_listed = ["log", ""].contains(&event) || PAGE.contains(&format!("`{event}`"));
        assert!(is_listed, "docs/logs.md has no {event}");
        event.to_owned()
    };
    lines.iter().map(event).collect()
}

/// The only line of this kind.
#[track_caller]
fn only(lines: &[String], event: &str) -> Value {
    let objects = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<Value> = objects.filter(|object| object["event"] == event).collect();
    assert_eq!(found.len(), 1, "{event}: {lines:#?}");
    found[0].clone()
}

/// Serves until chaos has caused a leak and a panic, asks for everything, and stops.
fn eventful(mut server: Server) -> Vec<String> {
    assert_eq!(exchange(server.connect(), b"hello\n").last(), Some(&b'\n'));
    server.signal(Signal::HUP);
    server.wait_for_line("reopening files");
    let mut open = server.connect();
    open.write_all(b"x\n").unwrap();
    open.read_exact(&mut [0]).unwrap();
    server.signal(Signal::USR1);
    server.wait_for_line("connections: ");
    drop(open);
    wait_until("a leak and a panic to be reported", || {
        meet(&server);
        let seen = server.lines().join("\n");
        seen.contains("still owned") && seen.contains("in the middle of an exchange")
    });
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    lines
}

const CHAOS: &[&str] = &["--chaos", "panic=0.4,leak=0.4", "--chaos-seed", "1"];

#[test]
fn every_line_of_a_server_is_json_from_its_start_to_its_summary() {
    let arguments = ["--log-format", "json", "--log-level", "trace", "--faults", "short=0.1"];
    let mut server = serve(&["127.0.0.1:0"], &[&arguments, CHAOS].concat());
    server.args(["--status", "127.0.0.1:0"]).env("RUST_BACKTRACE", "1");
    let lines = eventful(Server::run(&mut server, 1));
    let seen = events(&lines);
    for event in ["faults", "chaos", "listening", "status", "log", "finding", "panic", "custody"] {
        assert!(seen.iter().any(|it| it == event), "no {event}: {lines:#?}");
    }
    assert_eq!(seen.last().map(|it| &**it), Some("summary"), "{lines:#?}");
    let listening = only(&lines, "listening");
    let address = listening["address"].as_str().unwrap();
    assert_eq!(listening["message"], format!("listening on {address}"));
    assert!(only(&lines, "status")["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(only(&lines, "chaos")["seed"], 1);
    // The task of an earlier connection may still be ending.
    assert!(only(&lines, "connections")["open"].as_u64() >= Some(1));
    assert!(only(&lines, "custody")["declared"].is_array());
    let summary = only(&lines, "summary");
    assert!(summary["connections"].as_u64() > Some(2), "{summary}");
    assert!(summary["message"].as_str().unwrap().contains("; connections ended: "), "{summary}");
    let find = |event: &str| {
        let at = seen.iter().position(|it| it == event).unwrap();
        serde_json::from_str::<Value>(&lines[at]).unwrap()
    };
    let panic = find("panic");
    assert_eq!((&panic["thread"], &panic["level"]), (&"echown".into(), &"ERROR".into()));
    assert!(panic["place"].as_str().unwrap().starts_with("src/"), "{panic}");
    assert!(panic["backtrace"].as_str().unwrap().contains("echown::"), "{panic}");
    let leak = lines.iter().find(|line| line.contains("still owned")).unwrap();
    let leak: Value = serde_json::from_str(leak).unwrap();
    assert_eq!((&leak["event"], &leak["verdict"]), (&"finding".into(), &"leak".into()));
    assert!(leak["resources"][0]["acquired"].is_string(), "{leak}");
}

#[test]
fn traces_and_graphs_on_standard_error_are_json_too() {
    for (style, option, event) in
        [("staged", "--trace-events", "trace"), ("callback", "--graph", "graph")]
    {
        let server = Server::start(&["--style", style, option, "--log-format", "json"]);
        assert_eq!(exchange(server.connect(), b"hello\n"), b"hello\n");
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{lines:#?}");
        assert!(events(&lines).iter().any(|it| it == event), "{lines:#?}");
    }
}

#[test]
fn a_violation_and_a_report_as_text_are_single_lines_of_json() {
    let json = ["--log-format", "json", "--chaos", "foreign-write=1"];
    for (arguments, has_fields) in
        [(&json[..], true), (&[&json[..], &["--report", "text"]].concat(), false)]
    {
        let mut server = Server::start(arguments);
        meet(&server);
        let line = server.wait_for_line("\"finding\"");
        let finding: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(finding["code"] == "not-owner", has_fields, "{finding}");
        assert_eq!(finding["message"].as_str().unwrap().contains("--> src/"), !has_fields);
        assert_eq!(line.matches("\"message\":").count(), 1, "{line}");
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{lines:#?}");
        events(&lines);
    }
}

#[test]
fn a_panic_without_memory_for_a_backtrace_is_one_line_of_json() {
    let program = serve(&["127.0.0.1:0"], &["--log-format", "json", "--chaos", "panic=1"]);
    let mut command = Command::new("prlimit");
    command.arg("--as=100000000").arg(program.get_program()).args(program.get_args());
    let mut server = Server::run(command.env("RUST_BACKTRACE", "1"), 1);
    meet(&server);
    let line = server.wait_for_line("\"panic\"");
    let panic: Value = serde_json::from_str(&line).unwrap();
    assert!(panic["note"].as_str().unwrap().contains("no room for a backtrace"), "{panic}");
    assert!(panic["place"].as_str().unwrap().starts_with("src/"), "{panic}");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    events(&lines);
}

fn lines_of(output: &Output) -> Vec<String> {
    String::from_utf8(output.stderr.clone()).unwrap().lines().map(ToOwned::to_owned).collect()
}

#[test]
fn an_error_after_the_arguments_are_parsed_is_json_with_its_exit_code() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], i32, &str); 4] = [
        (&["serve", "--listen", &address], 1, &address),
        (&["serve", "--report", "github"], 2, "--report github is lines of text"),
        (&["serve", "--suppressions", "/nonexistent"], 2, "/nonexistent"),
        (&["client", "--name", "x"], 2, "--style broadcast"),
    ];
    for (arguments, code, message) in cases {
        let output = echown().args(arguments).args(["--log-format", "json"]).output().unwrap();
        let lines = lines_of(&output);
        assert_eq!(output.status.code(), Some(code), "{lines:#?}");
        assert_eq!(events(&lines).len(), 1, "{lines:#?}");
        let error: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(error["level"], "ERROR");
        assert!(error["message"].as_str().unwrap().contains(message), "{error}");
    }
}

#[test]
fn every_line_of_the_clients_is_json() {
    let server = Server::start(&[]);
    let address = server.address().to_string();
    let staged = ["client", &address, "--count", "2", "--pause", "0s", "--trace-events"];
    let output = echown().args(staged).args(["--log-format", "json"]).output().unwrap();
    let lines = lines_of(&output);
    assert_eq!(output.status.code(), Some(0), "{lines:#?}");
    assert!(events(&lines).iter().any(|event| event == "trace"), "{lines:#?}");
    assert_eq!(only(&lines, "summary")["replies"], 8);
    drop(server);
    let chat = ["client", "--style", "broadcast", &address, "--log-format", "json"];
    let output = echown().args(chat).stdin(Stdio::null()).output().unwrap();
    let lines = lines_of(&output);
    assert_eq!(output.status.code(), Some(1), "{lines:#?}");
    assert_eq!(events(&lines).len(), 1, "{lines:#?}");
}

/// A server whose standard error is the stream that `JOURNAL_STREAM` names, with an offset of the inode.
fn journaled(arguments: &[&str], offset: u64) -> Server {
    let (reader, writer) = std::io::pipe().unwrap();
    let stat = rustix::fs::fstat(&writer).unwrap();
    let mut command = serve(&["127.0.0.1:0"], arguments);
    command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino + offset));
    command.env("CLICOLOR_FORCE", "1");
    Server::run_with(command.stderr(writer), reader, 1)
}

#[test]
fn in_the_journal_every_line_has_the_priority_of_its_level() {
    let arguments = [&["--log-level", "debug", "--style", "callback", "--graph"], CHAOS].concat();
    let lines = eventful(journaled(&arguments, 0));
    for line in &lines {
        let text = line.strip_prefix('<').and_then(|line| line.split_once('>'));
        let (priority, text) = text.unwrap_or_else(|| panic!("no priority: {line}"));
        assert!(["3", "4", "6", "7"].contains(&priority), "{line}");
        assert!(!text.is_empty() && !text.contains('\u{1b}') && !text.starts_with("20"), "{line}");
    }
    for part in [
        "<6>listening on ",
        "<6>custody: ",
        "<6>    acquired at ",
        "<6>connections ended: ",
        "<6>```mermaid",
        "<6> INFO ",
        "<7>DEBUG ",
        "<3>ERROR ",
        "<3>thread 'echown' panicked at ",
        "<3>error[leak]: ",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(part)), "no {part}: {lines:#?}");
    }
    let help = lines.iter().find(|line| line.contains(" = help: ")).unwrap();
    assert!(help.starts_with("<3> "), "{help}");
}

#[test]
fn json_in_the_journal_has_priorities_and_the_same_keys() {
    let lines = eventful(journaled(&[&["--log-format", "json"], CHAOS].concat(), 0));
    let objects: Vec<String> = lines.iter().map(|line| line[3..].to_owned()).collect();
    events(&objects);
    for (line, object) in lines.iter().zip(&objects) {
        let level = &serde_json::from_str::<Value>(object).unwrap()["level"];
        let priority = match level.as_str() {
            Some("ERROR") => "<3>{",
            Some("WARN") => "<4>{",
            _ => "<6>{",
        };
        assert!(line.starts_with(priority), "{line}");
    }
}

#[test]
fn a_stream_that_is_not_the_journal_gets_no_priorities() {
    let (code, lines) = journaled(&[], 1).stop();
    assert_eq!(code, Some(0));
    assert!(lines.iter().all(|line| !line.starts_with('<')), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("\u{1b}[")), "{lines:#?}");
    // In the journal, but the log is a file: that has time stamps and no priorities.
    let folder = Folder::new("journal");
    let file = folder.file("log");
    let (_, lines) = journaled(&["--log-file", &file], 0).stop();
    assert!(lines.iter().all(|line| line.starts_with("<6>")), "{lines:#?}");
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.lines().all(|line| line.starts_with("20")) && log.contains("draining"), "{log}");
}

#[test]
fn the_page_shows_lines_of_a_server() {
    let mut server = Server::start(&["--log-format", "json"]);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    reset(client);
    server.wait_for_line("ended: reset");
    let port = server.address().port().to_string();
    let (_, lines) = server.stop();
    let steady = |line: &String| {
        let object: Value = serde_json::from_str(line).unwrap();
        let line =
            line.replace(object["timestamp"].as_str().unwrap(), "2026-11-30T15:46:40.243440Z");
        let line = line.replace(&port, "3000");
        // The client's port.
        let task = object["task"].as_str().and_then(|task| task.rsplit(':').next()).unwrap_or("`");
        line.replace(task, "50000`") + "\n"
    };
    let is_shown = |line: &&String| line.contains("\"listening\"") || line.contains("ended: reset");
    let shown: String = lines.iter().filter(is_shown).map(steady).collect();
    assert_page_shows("docs/logs.md", "log-format json", "json", &shown);
}
