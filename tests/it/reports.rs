//! The checker's reports in the log, and report files.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use rustix::process::Signal;

use super::server::{Server, echown, serve};
use crate::common::wait_until;

/// A directory for one test, removed on drop.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("echown-it-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// One connection, whose fault chaos injects after the first echo.
pub fn meet(server: &Server) {
    let mut client = server.connect();
    // The fault may end the connection at any moment after the first echo.
    if client.write_all(b"x").is_ok() && client.read(&mut [0]).is_ok_and(|bytes| bytes == 1) {
        let _ = client.write_all(b"y");
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
    }
}

#[test]
fn a_leak_report_has_the_source_lines_of_its_custody() {
    let mut server = Server::start(&["--chaos", "leak=1"]);
    meet(&server);
    server.wait_for_line("error[leak]: task ");
    server.wait_for_line("--> src/server/accept.rs:");
    server.wait_for_line("1. acquired here by task ");
    server.wait_for_line("2. given here by task ");
    server.wait_for_line("= help: ");
    // Plain, because it is neither on a terminal nor a log line.
    assert!(!server.seen.iter().any(|line| line.contains('\u{1b}')), "{:#?}", server.seen);
    assert!(!server.seen.iter().any(|line| line.contains("WARN") && line.contains("leak")));
}

#[test]
fn without_the_sources_a_report_has_the_sites_only() {
    let folder = Folder::new("elsewhere");
    // From another folder, and by another name: neither leads to the sources.
    let program = folder.0.join("echown");
    fs::copy(env!("CARGO_BIN_EXE_echown"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--chaos", "leak=1"]).current_dir(&folder.0);
    let mut server = Server::run(&mut command, 1);
    meet(&server);
    server.wait_for_line("error[leak]: task ");
    let acquired = server.wait_for_line("acquired here by task ");
    assert!(acquired.contains(", at src/server/accept.rs:"), "{acquired}");
}

#[test]
fn colours_are_used_on_terminals_or_on_request() {
    for (name, value, is_coloured) in [("CLICOLOR_FORCE", "1", true), ("NO_COLOR", "1", false)] {
        let mut command = serve(&["127.0.0.1:0"], &["--chaos", "leak=1"]);
        let mut server = Server::run(command.env(name, value), 1);
        meet(&server);
        let headline = server.wait_for_line("[leak]");
        assert_eq!(headline.contains('\u{1b}'), is_coloured, "{name}: {headline:?}");
    }
}

#[test]
fn every_report_is_written_as_one_line_of_json() {
    const CLIENTS: usize = 50;
    let folder = Folder::new("json");
    let path = folder.file("reports");
    let server = Server::start(&["--chaos", "leak=1", "--report", "json", "--report-file", &path]);
    assert!(Path::new(&path).exists(), "the document exists from the start");
    for _ in 0..CLIENTS {
        meet(&server);
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "the policy is `warn`: {lines:#?}");
    let written = text(&path);
    let reports: Vec<serde_json::Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(reports.len(), CLIENTS);
    assert!(reports.iter().all(|report| report["verdict"] == "leak"), "{written}");
    assert!(!lines.iter().any(|line| line.contains("[leak]")), "{lines:#?}");
    let summary = lines.iter().find(|line| line.contains(" leaks, ")).unwrap();
    assert!(summary.contains(&format!(" {CLIENTS} leaks, ")), "{summary}");
    assert!(summary.contains(", 0 open, "), "the files are not leaks: {summary}");
}

#[test]
fn files_are_appended_to_and_reopened_on_sighup() {
    let folder = Folder::new("reopen");
    let (log, reports) = (folder.file("log"), folder.file("reports"));
    fs::write(&log, "an older line\n").unwrap();
    let server = Server::start(&[
        "--log-file",
        &log,
        "--report-file",
        &reports,
        "--chaos",
        "leak=1",
        "--log-level",
        "debug",
    ]);
    meet(&server);
    wait_until("the first report", || text(&reports).contains("`echown explain leak`"));
    let moved = [folder.file("log.1"), folder.file("reports.1")];
    fs::rename(&log, &moved[0]).unwrap();
    fs::rename(&reports, &moved[1]).unwrap();
    server.signal(Signal::HUP);
    wait_until("the new files", || Path::new(&log).exists() && Path::new(&reports).exists());
    meet(&server);
    wait_until("the second report", || text(&reports).contains("`echown explain leak`"));
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert_eq!(text(&moved[1]).matches("error[leak]").count(), 1);
    assert_eq!(text(&reports).matches("error[leak]").count(), 1);
    assert!(text(&moved[0]).starts_with("an older line\n"), "{}", text(&moved[0]));
    assert!(text(&moved[0]).contains("SIGHUP"));
    assert!(text(&log).contains("SIGTERM"), "{}", text(&log));
    assert!(!lines.iter().any(|line| line.contains("INFO")), "{lines:#?}");
}

#[test]
fn a_file_that_cannot_be_reopened_is_still_written_to() {
    let folder = Folder::new("gone");
    let inside = folder.0.join("inside");
    fs::create_dir(&inside).unwrap();
    let path = inside.join("log");
    let mut server = Server::start(&["--log-file", path.to_str().unwrap()]);
    fs::rename(&inside, folder.0.join("moved")).unwrap();
    server.signal(Signal::HUP);
    server.wait_for_line("failed to reopen it");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let written = text(folder.0.join("moved/log"));
    assert!(written.contains("SIGTERM"), "{written}");
}

#[test]
fn a_file_that_cannot_be_opened_gives_a_one_line_error_and_exit_code_1() {
    for option in ["--log-file", "--report-file"] {
        let output = serve(&["127.0.0.1:0"], &[option, "/nonexistent/file"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            "echown: failed to open /nonexistent/file: No such file or directory (os error 2)\n"
        );
    }
}

#[test]
fn log_lines_are_written_when_a_second_signal_stops_the_process() {
    let folder = Folder::new("second");
    let path = folder.file("log");
    let arguments = ["--drain-timeout", "1h", "--log-file", &path];
    let mut server = Server::start(&arguments);
    let mut client = server.connect();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    // Until its task is blocked in writing to it.
    client.set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
    while client.write_all(&[0; 1 << 16]).is_ok() {}
    server.signal(Signal::TERM);
    wait_until("the drain", || text(&path).contains("draining"));
    let status = server.signal_until_it_ends(Signal::TERM);
    assert_eq!(status.code(), Some(143), "{:#?}", server.seen);
    assert!(text(&path).contains("stopping now"), "{}", text(&path));
}

#[test]
fn a_report_is_written_before_its_policy_aborts_the_process() {
    let folder = Folder::new("abort");
    let path = folder.file("reports");
    let mut command = std::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_echown");
    command.args([
        "-c",
        &format!(
            "ulimit -c 0; exec {program} serve --listen 127.0.0.1:0 --chaos leak=1 \
             --on-leak abort --report-file {path}"
        ),
    ]);
    let mut server = Server::run(&mut command, 1);
    meet(&server);
    assert_eq!(server.wait().signal(), Some(Signal::ABORT.as_raw()), "{:#?}", server.seen);
    assert!(text(&path).contains("error[leak]: task "), "{}", text(&path));
}

#[test]
fn the_exit_code_is_23_for_a_leak_under_policy_fail() {
    let server = Server::start(&["--chaos", "leak=1", "--on-leak", "fail"]);
    meet(&server);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(23), "{lines:#?}");
}

#[test]
fn a_suppressed_leak_is_listed_with_its_reason_and_an_unused_one_is_a_warning() {
    let folder = Folder::new("suppressed");
    let path = folder.file("known.toml");
    fs::write(
        &path,
        "[[suppress]]\nkind = \"tcp stream\"\nsite = \"src/server/accept.rs\"\n\
         reason = \"chaos asked for it\"\n\n\
         [[suppress]]\npath = \"/nowhere\"\nreason = \"fixed long ago\"\n",
    )
    .unwrap();
    let arguments = ["--chaos", "leak=1", "--on-leak", "fail", "--suppressions", &path];
    let server = Server::start(&arguments);
    meet(&server);
    meet(&server);
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let lines = lines.join("\n");
    assert!(lines.contains("\nsuppressed 2 times: chaos asked for it"), "{lines}");
    assert!(lines.contains("it may be out of date: fixed long ago (path `/nowhere`)"), "{lines}");
    assert!(!lines.contains("error[leak]"), "{lines}");
}

#[test]
fn an_invalid_suppression_file_exits_with_2_and_names_the_line() {
    let folder = Folder::new("wrong");
    let path = folder.file("wrong.toml");
    fs::write(&path, "[[suppress]]\nkind = \"file\"\nreason = \"\"\n").unwrap();
    let output = serve(&["127.0.0.1:0"], &["--suppressions", &path]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = format!(
        "echown: wrong suppressions in {path}: line 3: the reason is empty; say why it may stay open\n"
    );
    assert_eq!(stderr(&output), expected);
}

// `echown explain`.

fn explain(words: &[&str]) -> Output {
    echown().arg("explain").args(words).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn explain_without_a_code_lists_all_codes_and_explains_each() {
    let output = explain(&[]);
    assert_eq!(output.status.code(), Some(0));
    let list = String::from_utf8(output.stdout).unwrap();
    let codes: Vec<&str> = list.lines().take_while(|line| !line.is_empty()).collect();
    assert!(codes.len() >= 19, "{list}");
    for line in codes {
        let code = line.split(' ').next().unwrap();
        let explained = String::from_utf8(explain(&[code]).stdout).unwrap();
        assert!(explained.starts_with(&format!("{code}: ")), "{explained}");
        assert!(explained.contains("## How to fix it"), "{explained}");
    }
}

#[test]
fn explain_accepts_synonyms_of_a_code() {
    let output = explain(&["use-after-free"]);
    assert!(output.stdout.starts_with(b"use-after-release: "));
}

#[test]
fn explain_rejects_an_unknown_code_with_the_list_and_the_nearest_one() {
    let output = explain(&["not-ownr"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = stderr(&output);
    assert!(stderr.contains("a similar value exists: 'not-owner'"), "{stderr}");
    assert!(stderr.contains("leak, double-release, use-after-release, not-owner"), "{stderr}");
}
