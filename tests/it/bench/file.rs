//! `echown bench --output`: the results in a file.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::Ordering;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{SHORT, bench, counting, text};
use crate::common::{poll, temp_path::TempPath, wait_until};
use crate::server::{DEADLINE, echown};

/// The objects of a file of JSON lines.
#[track_caller]
fn objects(path: &TempPath) -> Vec<Value> {
    let lines = fs::read_to_string(&**path).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_results_are_in_the_file_and_not_on_standard_output() {
    let path = TempPath::new("results.json");
    fs::write(&*path, "of an earlier run").unwrap();
    let json = ["--format", "json", "--output", path.text()];
    let output = bench(&[&["--connections", "2"], &json[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    let result = &objects(&path)[..];
    assert!(result.len() == 1 && result[0]["messages"].as_u64() > Some(0), "{result:?}");

    let compare = ["compare", "echown", "--rounds", "1", "--connections", "1"];
    let output = echown().arg("bench").args(compare).args(SHORT).args(json).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    let table = objects(&path);
    assert_eq!(table[0]["servers"][0]["name"], "echown", "{table:?}");

    let output = bench(&["--connections", "2", "-o", path.text()]);
    assert_eq!(text(&output.stdout), "");
    let written = fs::read_to_string(&*path).unwrap();
    assert!(written.starts_with("2 connections of 64 B"), "{written}");
    let output = bench(&["--connections", "2", "-o", "/dev/stdout"]);
    assert!(text(&output.stdout).starts_with("2 connections of 64 B"), "{output:?}");
}

#[test]
fn a_stopped_run_writes_what_it_has_and_a_failed_one_leaves_the_old_file() {
    let path = TempPath::new("stopped.json");
    fs::write(&*path, "of an earlier run").unwrap();
    // No server listens there.
    let output = bench(&["127.0.0.1:1", "--output", path.text()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(fs::read_to_string(&*path).unwrap(), "of an earlier run");

    let (address, echoed) = counting();
    let mut command = echown();
    command.args(["bench", &address.to_string(), "--connections", "1"]);
    command.args(["--duration", "1h", "--warmup", "0s", "--format", "json", "-o", path.text()]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_until("a hundred messages", || echoed.load(Ordering::Relaxed) >= 100);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = poll(DEADLINE, || child.try_wait().unwrap()).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(objects(&path).len(), 1);
}

#[test]
fn a_file_that_cannot_be_written_or_is_another_output_is_an_error_at_the_start() {
    for (file, code, expected) in [
        ("/nonexistent/file", 1, "echown: failed to write the results to /nonexistent/file: "),
        ("/tmp/same.svg", 2, "echown: --output and --plot name the same file, /tmp/same.svg: "),
    ] {
        let long = ["bench", "--duration", "1h", "--plot", "/tmp/same.svg", "--output", file];
        let output = echown().args(long).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stderr).starts_with(expected), "{output:?}");
    }
}
