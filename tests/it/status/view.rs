//! `echown view`: the page on a recording.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Output};

use rustix::process::Signal;

use super::super::common::temp_path::TempPath;
use super::super::server::{Server, echown};
use super::events::Viewer;
use super::http;

const RECORDING: &str = r#"{"event":"recording","schema_version":1,"time_ns":5,"program":"demo"}
{"event":"task_started","time_ns":6,"task":{"id":1,"name":"main"}}
{"event":"acquired","time_ns":7,"resource":1,"kind":"file","number":3,"peer":"</script><b>","unknown":[1]}
"#;
const END: &str = r#"{"event":"end","time_ns":9,"reason":"finished","lost":0}"#;

fn recording(text: &str) -> TempPath {
    let file = TempPath::new("recording.jsonl");
    fs::write(&*file, text).unwrap();
    file
}

fn view(arguments: &[&str]) -> Command {
    let mut command = echown();
    command.arg("view").args(arguments);
    command
}

/// A running `echown view`, with its address.
fn serve(file: &TempPath) -> (Server, SocketAddr) {
    let mut server = Server::run(&mut view(&[file.text()]), 0);
    let line = server.wait_for_line("open http://");
    let address = line.trim_start_matches("open http://").trim_end_matches('/').parse().unwrap();
    (server, address)
}

/// The lines that a viewer gets.
fn lines(address: SocketAddr) -> Vec<serde_json::Value> {
    let mut viewer = Viewer::connect(address);
    let lines = std::iter::from_fn(|| viewer.next()).collect();
    assert!(viewer.is_of_recording);
    lines
}

fn failure(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("echown: "), "{stderr}");
    stderr
}

#[test]
fn a_recording_is_served_line_by_line_and_ends_with_its_end() {
    let file = recording(&format!("{RECORDING}{END}\n"));
    let (mut server, address) = serve(&file);
    let sent: Vec<serde_json::Value> =
        [RECORDING, END].concat().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines(address), sent, "unknown fields are kept");
    assert_eq!(lines(address), sent, "the second viewer gets the same");
    assert_eq!(http::get(address, "/").code, 200);
    let missing = http::get(address, "/snapshot.json");
    assert_eq!(missing.code, 404);
    assert!(
        missing.body.contains("\n/events ") && !missing.body.contains("snapshot"),
        "{missing:?}"
    );
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
}

#[test]
fn a_recording_without_an_end_gets_one() {
    for (rest, reason) in [
        ("", "cut off"),
        ("{\"event\":\"acq", "cut off"),
        ("{\"event\":\"acq\n{}\n", "line 4 is damaged: "),
    ] {
        let file = recording(&format!("{RECORDING}{rest}"));
        let (_server, address) = serve(&file);
        let lines = lines(address);
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert_eq!((&lines[3]["event"], &lines[3]["time_ns"]), (&"end".into(), &7.into()));
        assert!(lines[3]["reason"].as_str().unwrap().starts_with(reason), "{}", lines[3]);
    }
}

#[test]
fn a_long_recording_arrives_in_full() {
    use std::fmt::Write as _;
    let mut text = RECORDING.to_owned();
    for id in 0..20_000 {
        writeln!(text, r#"{{"event":"acquired","time_ns":{id},"resource":{id},"kind":"file"}}"#)
            .unwrap();
    }
    let file = recording(&text);
    let (_server, address) = serve(&file);
    let lines = lines(address);
    assert_eq!(lines.len(), 3 + 20_000 + 1);
    assert_eq!(lines[3 + 19_999]["resource"], 19_999);
}

#[test]
fn what_is_no_recording_is_an_error_that_names_the_file_and_the_reason() {
    let newer = recording("{\"event\":\"recording\",\"schema_version\":2}\n");
    let text = recording("hello\n");
    let empty = recording("");
    let folder = TempPath::folder("recording");
    let missing = TempPath::new("missing");
    let page = TempPath::new("page.html");
    for (file, reason) in [
        (&newer, "it has schema version 2, and this program reads up to 1"),
        (&text, "it is not a recording"),
        (&empty, "it is not a recording"),
        (&folder, "a recording is a regular file"),
        (&missing, "No such file"),
    ] {
        for arguments in [vec![file.text()], vec![file.text(), "-o", page.text()]] {
            let stderr = failure(&view(&arguments).output().unwrap());
            assert!(stderr.contains(file.text()) && stderr.contains(reason), "{stderr}");
        }
    }
    assert!(!page.exists());
    let file = recording(RECORDING);
    let stderr = failure(&view(&[file.text(), "--listen", "0.0.0.0:0"]).output().unwrap());
    assert!(stderr.contains("other machines could connect to it"), "{stderr}");
    assert!(stderr.contains("with --listen"), "{stderr}");
    drop(fs::remove_dir(&*folder));
}

#[test]
fn a_page_with_the_recording_inside_is_one_document() {
    let file = recording(RECORDING);
    let page = TempPath::new("page.html");
    let output = view(&[file.text(), "-o", page.text()]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let html = fs::read_to_string(&*page).unwrap();
    let output = view(&[file.text(), "-o", "-"]).output().unwrap();
    assert!(output.stdout == html.as_bytes(), "the same page on standard output");
    let open = "<script type=\"application/json\" id=\"recording\">";
    assert_eq!(html.matches(open).count(), 1);
    let embedded = html.split_once(open).unwrap().1.split_once("</script>").unwrap().0;
    assert!(!embedded.contains('<'), "{embedded}");
    let lines: Vec<serde_json::Value> =
        embedded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[2]["peer"], "</script><b>");
    assert_eq!((&lines[3]["event"], &lines[3]["reason"]), (&"end".into(), &"cut off".into()));
}

#[test]
fn a_page_never_replaces_its_recording() {
    let file = recording(RECORDING);
    let stderr = failure(&view(&[file.text(), "-o", file.text()]).output().unwrap());
    assert!(stderr.contains("FILE and --output name the same file"), "{stderr}");
    let arguments = ["picture", file.text(), "--format", "svg", "-o", file.text()];
    let output = echown().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(fs::read_to_string(&*file).unwrap(), RECORDING);
}

#[test]
fn the_page_of_a_damaged_recording_has_what_comes_before_and_is_a_failure() {
    let file = recording(&format!("{RECORDING}{{\"event\":\"acq\n{END}\n"));
    let page = TempPath::new("page.html");
    let stderr = failure(&view(&[file.text(), "-o", page.text()]).output().unwrap());
    assert!(stderr.contains("line 4 is damaged: control character"), "{stderr}");
    assert!(fs::read_to_string(&*page).unwrap().contains("task_started"));
}
