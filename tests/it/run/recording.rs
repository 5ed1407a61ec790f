//! `echown run --record`, and what shows such a recording.

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;

use echown::events::reader::Reader;
use echown::events::{Kind, Line};

use super::{double_close, output, python};
use crate::common::temp_path::TempPath;
use crate::reports::stderr;
use crate::server::echown;

fn read(path: &TempPath) -> Vec<Line> {
    let file = fs::File::open(path).expect("the recording exists");
    Reader::new(BufReader::new(file)).read_all().expect("it is a recording")
}

fn record(path: &TempPath, options: &[&str], script: &str) -> Vec<Line> {
    let options = [&["-q", "--record", path.text()], options, &["--", "sh", "-c", script]].concat();
    let output = output(&options);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    read(path)
}

#[test]
fn a_recording_has_processes_descriptors_and_their_ends() {
    let path = TempPath::new("recording.jsonl");
    let lines = record(&path, &[], "exec 5</etc/passwd; /bin/true; exec 5<&-");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let (first, last) = (&lines[0], lines.last().unwrap());
    assert_eq!((first.event, first.source.as_deref()), (Kind::Recording, Some("tracer")));
    assert_eq!(first.program.as_deref(), Some("sh"), "arguments are not recorded");
    assert_eq!((last.event, last.reason.as_deref()), (Kind::End, Some("finished")));
    let five: Vec<&Line> = lines.iter().filter(|line| line.number == Some(5)).collect();
    let steps: Vec<(Kind, &str)> =
        five.iter().map(|line| (line.event, line.call.as_deref().unwrap())).collect();
    let expected = [(Kind::Acquired, "fork"), (Kind::Given, "execve"), (Kind::Finalized, "exit")];
    for step in expected {
        assert!(steps.contains(&step), "{step:?}: {steps:?}");
    }
    assert_eq!(five[0].event, Kind::Acquired);
    assert_eq!(five[0].path.as_deref(), Some("/etc/passwd"));
    assert_eq!(five.last().unwrap().event, Kind::Released);
    let opened: Vec<u64> = of(&lines, |kind| kind == Kind::Acquired);
    let closed: Vec<u64> = of(&lines, Kind::is_final);
    assert_eq!(opened, closed, "everything that was opened was closed");
    let ended = lines.iter().filter(|line| line.event == Kind::ProcessEnded).count();
    assert_eq!(ended, 2);
}

/// The resources of steps, sorted.
fn of(lines: &[Line], is_meant: impl Fn(Kind) -> bool) -> Vec<u64> {
    let meant = lines.iter().filter(|line| is_meant(line.event));
    let mut resources: Vec<u64> = meant.map(|line| line.resource.unwrap()).collect();
    resources.sort_unstable();
    resources
}

#[test]
fn arguments_are_recorded_only_on_request() {
    let path = TempPath::new("recording.jsonl");
    let lines = record(&path, &["--arguments"], "true");
    assert_eq!(lines[0].program.as_deref(), Some("sh -c true"));
}

#[test]
fn findings_are_in_the_recording_and_shown_by_view_and_picture() {
    let Some(python) = python() else { return };
    let path = TempPath::new("recording.jsonl");
    let output = double_close(&python, &["-q", "--record", path.text()]);
    assert_eq!(output.status.code(), Some(23));
    let lines = read(&path);
    let found = lines.iter().find(|line| line.event == Kind::Violation).expect("a finding");
    assert_eq!(found.code.as_deref(), Some("double-close"));
    assert!(found.text.as_deref().unwrap().starts_with("error[double-close]"), "{found:?}");
    assert_eq!(found.resources.as_ref().map(Vec::len), Some(1), "{found:?}");
    let page = TempPath::new("page.html");
    let view = echown().args(["view", path.text(), "--output", page.text()]).output().unwrap();
    assert_eq!(view.status.code(), Some(0), "{}", stderr(&view));
    assert!(fs::read_to_string(&page).unwrap().contains("\"source\":\"tracer\""));
    let picture = echown().args(["picture", path.text()]).output().unwrap();
    let picture = String::from_utf8(picture.stdout).unwrap();
    assert!(picture.contains("! double-close: `python3"), "{picture}");
    assert!(picture.contains(" fd 3 file"), "{picture}");
}

#[test]
fn the_limit_ends_the_recording_and_not_the_command() {
    let path = TempPath::new("recording.jsonl");
    let script =
        "for i in 1 2 3 4 5 6 7 8 9; do for j in 1 2 3 4 5 6 7 8 9; do : </etc/passwd; done; done";
    let words = ["--record", path.text(), "--record-limit", "8KiB", "--", "sh", "-c", script];
    let output = output(&words);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("has reached --record-limit 8.0 KiB and has ended"));
    assert!(fs::metadata(&path).unwrap().len() <= 8192);
    let lines = read(&path);
    assert_eq!(lines.last().unwrap().reason.as_deref(), Some("limit"));
}
