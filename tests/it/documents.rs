//! Outputs are opened before the work starts, documents are replaced atomically and only by a run
//! that started, and no two outputs share a file.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output, Stdio};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use super::reports::{Folder, stderr, text};
use super::server::{DEADLINE, Server, echown, serve};
use crate::common::poll;
use crate::common::temp_path::TempPath;

fn run(arguments: &[&str]) -> Output {
    end(echown().args(arguments))
}

/// Runs a program that exits without a signal, and prints little.
#[track_caller]
fn end(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    if poll(DEADLINE, || child.try_wait().unwrap()).is_none() {
        // Only this child, by its own handle.
        let _ = child.kill();
        panic!("it does not exit: {command:?}: {}", stderr(&child.wait_with_output().unwrap()));
    }
    child.wait_with_output().unwrap()
}

/// The options for outputs.
fn outputs(path: &str) -> Vec<(Vec<&'static str>, Vec<&str>)> {
    let serve = vec!["serve", "--listen", "127.0.0.1:0"];
    let staged = vec!["serve", "--listen", "127.0.0.1:0", "--style", "staged"];
    // Nothing listens on port 1 except a service of the system.
    let client = vec!["client", "127.0.0.1:1", "--count", "1", "--workers", "1"];
    let chat = vec!["client", "127.0.0.1:1", "--style", "broadcast"];
    let bench = vec!["bench", "--duration", "100ms", "--warmup", "0s", "--connections", "1"];
    vec![
        (serve.clone(), vec!["--summary", path]),
        (serve.clone(), vec!["--record", path]),
        (serve.clone(), vec!["--write-baseline", path]),
        (serve.clone(), vec!["--report", "junit", "--report-file", path]),
        (serve.clone(), vec!["--report", "sarif", "--report-file", path]),
        (serve.clone(), vec!["--report", "json", "--report-file", path]),
        (serve, vec!["--log-file", path]),
        (staged, vec!["--trace-events", path]),
        (client.clone(), vec!["--write-baseline", path]),
        (client.clone(), vec!["--report", "junit", "--report-file", path]),
        (client, vec!["--trace-events", path]),
        (chat.clone(), vec!["--write-baseline", path]),
        (chat, vec!["--report", "sarif", "--report-file", path]),
        (bench, vec!["--plot", path]),
    ]
}

#[test]
fn an_unwritable_output_is_an_error_before_the_work_starts() {
    let folder = Folder::new("unusable");
    for path in ["/nonexistent/file", folder.0.to_str().unwrap()] {
        for (command, option) in outputs(path) {
            let arguments = [&command[..], &option].concat();
            let output = run(&arguments);
            let stderr = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
            assert!(stderr.contains(path), "{arguments:?}: {stderr}");
            assert!(stderr.starts_with("echown: failed to "), "{arguments:?}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{arguments:?}: no work was started: {stderr}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
        }
    }
}

#[test]
fn a_dash_is_standard_output_and_no_file_for_every_output() {
    let folder = Folder::new("dash");
    for (command, option) in outputs("-") {
        let mut program = echown();
        program.args(&command).args(&option).current_dir(&folder.0);
        if ["--record", "junit", "sarif"].iter().any(|it| option.contains(it)) {
            let output = end(&mut program);
            assert_eq!(output.status.code(), Some(1), "{option:?}");
            assert!(stderr(&output).contains("needs a regular file"), "{}", stderr(&output));
        } else if command[0] == "serve" {
            assert_eq!(Server::run(&mut program, 1).stop().0, Some(0), "{option:?}");
        } else {
            let stdout = text_of(&end(&mut program));
            let expected = match option[0] {
                "--plot" => "<svg",
                "--write-baseline" => "known = []",
                // A trace to `-` is one to standard error.
                _ => "",
            };
            assert!(stdout.contains(expected), "{command:?} {option:?}: {stdout}");
        }
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0, "{option:?} made a file");
    }
}

fn text_of(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_failed_start_keeps_the_documents_of_the_last_run() {
    let folder = Folder::new("kept");
    let path = folder.file("document");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().unwrap().to_string();
    for (command, option) in outputs(&path).into_iter().filter(|(it, _)| it[0] == "serve") {
        fs::write(&path, "of the last run\n").unwrap();
        let command: Vec<&str> =
            command.iter().map(|it| if *it == "127.0.0.1:0" { &busy } else { *it }).collect();
        let output = run(&[&command[..], &option].concat());
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let now = text(&path);
        assert!(now.starts_with("of the last run\n"), "{option:?}: {now:?}");
        if !["--log-file", "--trace-events"].contains(&option[0]) {
            assert_eq!(now, "of the last run\n", "{option:?}");
        }
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "{option:?} leaves no other file");
    }
}

#[test]
fn a_completed_run_replaces_its_documents_atomically() {
    let folder = Folder::new("whole");
    let (summary, known) = (folder.file("summary"), folder.file("known"));
    let real = folder.file("real");
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
    symlink("real", &summary).unwrap();
    let before = fs::File::open(&real).unwrap();
    let server = Server::start(&["--summary", &summary, "--write-baseline", &known]);
    assert_eq!(text(&real), "old", "until the end it is the old one");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let now: serde_json::Value = serde_json::from_str(&text(&real)).unwrap();
    assert_eq!(now["connections"], 0);
    assert!(fs::symlink_metadata(&summary).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    // A reader of the old document still has all of it: it was not overwritten.
    let mut old = String::new();
    (&before).read_to_string(&mut old).unwrap();
    assert_eq!(old, "old");
    assert!(text(&known).contains("version = 1"), "{}", text(&known));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3, "no other file is left");
}

#[test]
fn two_outputs_to_one_file_are_rejected() {
    let folder = Folder::new("same");
    let inside = folder.0.join("inside");
    fs::create_dir(&inside).unwrap();
    let (one, new) = (folder.file("one"), folder.file("new"));
    fs::write(&one, "kept").unwrap();
    symlink("one", folder.file("link")).unwrap();
    fs::hard_link(&one, folder.file("hard")).unwrap();
    symlink("new", folder.file("later")).unwrap();
    let (dots, dots_new) = (folder.file("inside/../one"), folder.file("inside/../new"));
    let (link, hard, later) = (folder.file("link"), folder.file("hard"), folder.file("later"));
    for (first, second) in [
        (&one, &one),
        (&one, &dots),
        (&link, &one),
        (&one, &hard),
        (&new, &new),
        (&new, &dots_new),
        (&later, &new),
    ] {
        for options in [
            ["--log-file", "--report-file"],
            ["--summary", "--write-baseline"],
            ["--report-file", "--summary"],
        ] {
            let arguments = [options[0], first, options[1], second];
            let output = end(&mut serve(&["127.0.0.1:0"], &arguments));
            let stderr = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
            assert!(stderr.contains("name the same file"), "{arguments:?}: {stderr}");
            assert!(
                options.iter().all(|option| stderr.contains(option)),
                "{arguments:?}: {stderr}"
            );
            assert_eq!(text(&one), "kept");
            assert!(!fs::exists(&new).unwrap(), "{arguments:?}");
        }
    }
    let client = ["client", "127.0.0.1:1", "--trace-events", &one, "--log-file", &link];
    assert_eq!(run(&client).status.code(), Some(2));
}

#[test]
fn devices_and_streams_accept_several_outputs() {
    let folder = Folder::new("stream");
    let path = folder.file("fifo");
    mknodat(CWD, &*path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut fifo = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let arguments = [
        "--log-file",
        "/dev/null",
        "--report-file",
        "/dev/null",
        "--write-baseline",
        &path,
        "--summary",
        "/dev/stdout",
    ];
    let mut command = serve(&["127.0.0.1:0"], &arguments);
    let mut server = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Once it listens it can be stopped.
    let mut errors = String::new();
    let mut byte = [0];
    while !errors.contains("listening on 127.0.0.1:") || !errors.ends_with('\n') {
        server.stderr.as_mut().unwrap().read_exact(&mut byte).unwrap();
        errors.push(byte[0].into());
    }
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let output = server.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["connections"], 0);
    let mut known = [0; 10];
    fifo.read_exact(&mut known).unwrap();
    assert_eq!(&known, b"# Known fi");
    assert!(!fs::metadata(&path).unwrap().is_file());
}

#[test]
fn a_document_needs_a_replaceable_file() {
    let folder = Folder::new("regular");
    // Not a device: a server that fails this test would put a file in its place.
    let fifo = folder.file("fifo");
    mknodat(CWD, &*fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for path in [&*fifo, "/dev/stderr"] {
        let arguments = ["--report", "junit", "--report-file", path];
        // An address for documentation only ends a server that would start.
        let output = end(&mut serve(&["192.0.2.1:0"], &arguments));
        assert_eq!(output.status.code(), Some(1));
        let stderr = stderr(&output);
        assert!(stderr.contains("a whole document needs a regular file"), "{stderr}");
    }
}

#[test]
fn a_text_that_cannot_be_written_gives_exit_code_1() {
    let recording = TempPath::new("recording");
    fs::write(&recording, "{\"event\":\"recording\",\"schema_version\":1,\"time_ns\":0}\n")
        .unwrap();
    let recording = recording.to_str().unwrap();
    let texts: [&[&str]; 9] = [
        &["view", "--output", "-", recording],
        &["--help"],
        &["-h"],
        &["--version"],
        &["help"],
        &["serve", "--help"],
        &["bench", "compare", "--help"],
        &["explain"],
        &["explain", "leak"],
    ];
    for arguments in texts {
        let into = |stdout: Stdio| -> Output {
            let mut command: Command = echown();
            command.args(arguments).stdout(stdout).output().unwrap()
        };
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = into(full.into());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let stderr = stderr(&output);
        assert!(
            stderr.starts_with("echown: failed to write to standard output: No space"),
            "{stderr}"
        );
        let closed = format!("exec {} \"$@\" >&-", env!("CARGO_BIN_EXE_echown"));
        let output =
            Command::new("sh").args(["-c", &closed, "sh"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let stderr = super::reports::stderr(&output);
        assert!(stderr.contains("failed to write to standard output: it is closed"), "{stderr}");
        // A reader that stops reading early.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(into(writer.into()).status.code(), Some(0), "{arguments:?}");
        assert_eq!(into(Stdio::null()).status.code(), Some(0), "{arguments:?}");
    }
}
