//! Report formats for CI, from servers that exit in various ways; and baselines.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use super::reports::{Folder, meet, stderr, text};
use super::server::{Server, echown, serve};
use crate::common::reserved::Reserved;
use crate::common::wait_until;

/// The results of a document, which must be complete.
#[track_caller]
fn results(path: &str) -> Vec<Value> {
    let text = text(path);
    let sarif: Value =
        serde_json::from_str(&text).unwrap_or_else(|fault| panic!("{fault}: {text:?}"));
    sarif["runs"][0]["results"].as_array().expect("there are results").clone()
}

/// The number of findings in a SARIF document.
fn found(path: &str) -> u64 {
    results(path).iter().map(|result| result["occurrenceCount"].as_u64().unwrap()).sum()
}

#[test]
fn a_document_is_complete_from_the_start_and_at_every_moment() {
    const CLIENTS: u64 = 40;
    let folder = Folder::new("moment");
    let path = folder.file("report.sarif");
    let server = Server::start(&["--chaos", "leak=1", "--report", "sarif", "--report-file", &path]);
    assert!(results(&path).is_empty(), "the document exists from the start");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                results(&path);
            }
        });
        (0..CLIENTS).for_each(|_| meet(&server));
        wait_until("the last finding", || found(&path) == CLIENTS);
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(results(&path).len(), 1, "one annotation per site");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(found(&path), CLIENTS);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file is left");
    let summary = lines.iter().find(|line| line.contains(" leaks, ")).unwrap();
    assert!(summary.contains(", 0 open, "), "{summary}");
    assert!(!lines.iter().any(|line| line.contains("leak]")), "{lines:#?}");
}

#[test]
fn a_document_is_complete_however_the_server_exits() {
    let folder = Folder::new("ends");
    for signal in [Signal::TERM, Signal::QUIT, Signal::KILL] {
        let path = folder.file(&format!("report-{}", signal.as_raw()));
        let arguments = ["--chaos", "leak=1", "--format", "sarif", "--report-file", &path];
        let mut server = Server::start(&arguments);
        meet(&server);
        if signal == Signal::KILL {
            wait_until("the finding", || found(&path) == 1);
        }
        server.signal(signal);
        server.wait();
        assert_eq!(found(&path), 1, "{signal:?}: {:#?}", server.seen);
    }
}

#[test]
fn a_second_signal_leaves_a_complete_document_with_the_finding() {
    let folder = Folder::new("stops");
    let path = folder.file("second");
    let arguments = [
        "--drain-timeout",
        "1h",
        "--chaos",
        "leak=0.5",
        "--chaos-seed",
        "1",
        "--report",
        "junit",
        "--report-file",
        &path,
    ];
    let mut server = Server::start(&arguments);
    let mut held = server.connect();
    held.write_all(b"x").unwrap();
    // With or without a fault: another connection will have it.
    let _ = held.read(&mut [0]);
    (0..10).for_each(|_| meet(&server));
    held.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    while held.write_all(&[0; 1 << 16]).is_ok() {}
    server.signal(Signal::TERM);
    server.wait_for_line("draining");
    server.signal_until_it_ends(Signal::TERM);
    let document = text(&path);
    let xml = roxmltree::Document::parse(&document).unwrap();
    assert_eq!(xml.root_element().attribute("failures"), Some("1"), "{document}");
}

#[test]
fn a_finding_is_written_before_its_policy_aborts_the_process() {
    let folder = Folder::new("aborts");
    // If this were a race, it would be lost in some of the runs.
    for round in 0..8 {
        let path = folder.file(&round.to_string());
        let mut command = std::process::Command::new("sh");
        let program = env!("CARGO_BIN_EXE_echown");
        command.args([
            "-c",
            &format!(
                "ulimit -c 0; exec {program} serve --listen 127.0.0.1:0 --chaos leak=1 \
                 --on-leak abort --report sarif --report-file {path}"
            ),
        ]);
        let mut server = Server::run(&mut command, 1);
        meet(&server);
        assert_eq!(server.wait().signal(), Some(Signal::ABORT.as_raw()), "{:#?}", server.seen);
        assert_eq!(found(&path), 1, "round {round}");
    }
}

#[test]
fn a_moved_document_is_complete_and_sighup_starts_another() {
    let folder = Folder::new("rotated");
    let (path, moved) = (folder.file("report"), folder.file("report.1"));
    let server = Server::start(&["--chaos", "leak=1", "--report", "sarif", "--report-file", &path]);
    meet(&server);
    wait_until("the first finding", || found(&path) == 1);
    // No file was moved, so nothing is lost.
    server.signal(Signal::HUP);
    meet(&server);
    wait_until("the second finding", || found(&path) == 2);
    fs::rename(&path, &moved).unwrap();
    server.signal(Signal::HUP);
    wait_until("the new document", || Path::new(&path).exists());
    assert!(results(&path).is_empty());
    for _ in 0..3 {
        meet(&server);
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!((found(&moved), found(&path)), (2, 3));
}

#[test]
fn a_document_without_a_file_is_an_error_with_a_remedy() {
    for arguments in [["serve", "--report", "junit"], ["client", "--format", "sarif"]] {
        let output = echown().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("add --report-file FILE"), "{}", stderr(&output));
    }
    let arguments = ["--report", "sarif", "--report-file", "/nonexistent/file"];
    let output = serve(&["127.0.0.1:0"], &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("failed to open /nonexistent/file: No such"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn github_gets_one_annotation_per_site() {
    let server = Server::start(&["--chaos", "leak=1", "--report", "github"]);
    (0..5).for_each(|_| meet(&server));
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let annotations: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("::error ")).collect();
    assert_eq!(annotations.len(), 1, "{lines:#?}");
    assert!(
        annotations[0].starts_with("::error file=src/server/accept.rs,line="),
        "{}",
        annotations[0]
    );
}

#[test]
fn both_clients_write_documents() {
    let folder = Folder::new("client");
    let reserved_address = Reserved::new();
    let address = reserved_address.address().to_string();
    for style in ["staged", "broadcast"] {
        let path = folder.file(style);
        let mut command = echown();
        command.args(["client", &address, "--style", style, "--report", "sarif"]);
        command.args(["--report-file", &path]).stdin(std::process::Stdio::null());
        if style == "staged" {
            command.args(["--count", "1", "--workers", "1"]);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "nothing listens: {}", stderr(&output));
        assert!(results(&path).is_empty());
    }
}

#[test]
fn a_baseline_accepts_old_findings_fails_on_new_ones_and_lists_fixed_ones() {
    let folder = Folder::new("baseline");
    let (known, report) = (folder.file("known.toml"), folder.file("report"));
    let fail = ["--on-leak", "fail", "--on-violation", "fail"];
    let run = |arguments: &[&str]| {
        let server = Server::start(&[&fail[..], arguments].concat());
        meet(&server);
        meet(&server);
        let (code, lines) = server.stop();
        (code, lines.join("\n"))
    };
    let (code, lines) = run(&["--chaos", "leak=1", "--write-baseline", &known]);
    assert_eq!(code, Some(0), "findings added to the baseline do not fail: {lines}");
    assert!(lines.contains("baseline: 1 finding written to "), "{lines}");
    assert!(lines.contains("error[leak]"), "and is reported all the same: {lines}");

    let (code, lines) = run(&["--chaos", "leak=1", "--baseline", &known]);
    assert_eq!(code, Some(0), "{lines}");
    assert!(lines.contains("baseline: 2 findings known (entries used: 1)"), "{lines}");
    assert!(!lines.contains("error[leak]"), "{lines}");

    let marked = ["--baseline", &known, "--report", "sarif", "--report-file", &report];
    let (code, lines) = run(&[&["--chaos", "double-release=1"][..], &marked].concat());
    assert_eq!(code, Some(23), "{lines}");
    assert!(lines.contains("baseline entry not found again, it may be fixed: leak of"), "{lines}");
    assert_eq!(results(&report)[0]["baselineState"], "new");
    let (code, lines) = run(&[&["--chaos", "leak=1"][..], &marked].concat());
    assert_eq!(code, Some(0), "{lines}");
    assert_eq!(results(&report)[0]["baselineState"], "unchanged");
}

#[test]
fn an_invalid_baseline_exits_with_2_and_states_the_error() {
    let folder = Folder::new("wrong-baseline");
    let path = folder.file("known.toml");
    fs::write(&path, "version = 1\n[[known]]\ncode = \"leak\"\nwhere = 3\n").unwrap();
    let output = serve(&["127.0.0.1:0"], &["--baseline", &path]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = stderr(&output);
    assert!(stderr.starts_with(&format!("echown: wrong baseline in {path}: ")), "{stderr}");
    assert!(stderr.contains("line 4") && stderr.contains("unknown field `where`"), "{stderr}");
}
