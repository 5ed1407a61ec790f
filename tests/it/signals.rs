//! Signals: inherited dispositions, limits that raise signals, and signals that arrive twice.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::server::{Server, echown, exchange, never_reads, without_variables};
use crate::common::{require_tool, wait_until};

/// A command in front of `echown` that changes inherited state, such as `env --block-signal=TERM`.
/// `None` if this machine's `env` cannot do that; a message says so.
fn after_env(option: &str, arguments: &[&str]) -> Option<Command> {
    let is_known = Command::new("env").args([option, "true"]).output();
    let is_known = is_known.is_ok_and(|output| output.status.success());
    if !require_tool(&format!("`env {option}`"), is_known) {
        return None;
    }
    let mut command = Command::new("env");
    // First as in a terminal: the test runner may have been started with signals ignored.
    command.args(["--default-signal=INT,QUIT,HUP,TERM,PIPE", "env", option]);
    command.arg(env!("CARGO_BIN_EXE_echown")).args(arguments);
    without_variables(&mut command);
    Some(command)
}

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("echown-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_server_at_its_file_size_limit_keeps_serving_and_logs_failed_writes() {
    let folder = Folder::new("fsize");
    for (option, output_text) in [
        ("--log-file", "failed to write (File too large"),
        ("--chaos leak=1 --report-file", "failed to write (File too large"),
        ("--chaos leak=1 --format sarif --report-file", "failed to write (File too large"),
        ("--style staged --trace-events", "failed to write (File too large"),
    ] {
        let file = folder.file("file");
        let arguments: Vec<&str> = option.split(' ').chain([&*file]).collect();
        let mut server = Server::start(&arguments);
        // Not before: the first edition of a document has to fit.
        server.set_limit("--fsize=0");
        let mut clients = 0;
        wait_until(&format!("{option} to fail"), || {
            if option == "--log-file" {
                // The signal is logged, but not the connects of clients.
                server.signal(Signal::HUP);
            }
            clients += 1;
            assert_eq!(exchange(server.connect(), b"hello\n"), b"hello\n", "{option}: {clients}");
            server.lines().iter().any(|line| line.contains(output_text))
        });
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{option}: {:#?}", server.seen);
        let _ = fs::remove_file(file);
    }
}

#[test]
fn no_command_is_killed_at_its_file_size_limit() {
    let folder = Folder::new("fsize-all");
    let server = Server::start(&[]);
    let (address, log, plot) = (server.address(), folder.file("log"), folder.file("plot"));
    for arguments in [
        format!("client --count 1 --workers 1 --log-level trace --log-file {log} {address}"),
        format!("bench --duration 100ms --warmup 0s --connections 1 --plot {plot} {address}"),
        format!("explain leak > {log}"),
        format!("--help > {log}"),
        format!("serve --help > {log}"),
    ] {
        let output = Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -f 0; exec '{}' {arguments}", env!("CARGO_BIN_EXE_echown")),
            ])
            .output()
            .unwrap();
        assert!(output.status.code().is_some(), "{arguments}: {output:?}");
    }
}

#[test]
fn signals_blocked_by_the_parent_are_handled() {
    let block = "--block-signal=INT,TERM,QUIT,HUP,USR1";
    for (signal, output_text, code) in [
        (Signal::TERM, "draining", Some(0)),
        (Signal::INT, "draining", Some(0)),
        (Signal::QUIT, "aborting all connections", Some(0)),
        (Signal::HUP, "reopening files", None),
        (Signal::USR1, "custody: ", None),
    ] {
        let Some(mut command) = after_env(block, &SERVE) else { return };
        let mut server = Server::run(&mut command, 1);
        server.signal(signal);
        server.wait_for_line(output_text);
        if code.is_some() {
            assert_eq!(server.wait().code(), code, "{signal:?}: {:#?}", server.seen);
        }
    }
}

#[test]
fn clients_and_loads_handle_signals_blocked_by_the_parent() {
    let server = Server::start(&[]);
    let address = server.address().to_string();
    for arguments in [
        &["client", &address][..],
        &["bench", &address, "--duration", "1h"],
        &["bench", "--duration", "1h"],
        &["bench", "compare", "echown", "echown-off", "--duration", "1h"],
    ] {
        let Some(mut command) = after_env("--block-signal=TERM", arguments) else { return };
        let mut program = Server::run(&mut command, 0);
        until_handled(&program);
        program.signal(Signal::TERM);
        assert!(program.wait().code().is_some(), "{arguments:?}: {:#?}", program.seen);
    }
}

#[test]
fn under_nohup_sigint_drains_without_a_warning() {
    let Some(mut command) = after_env("--ignore-signal=HUP", &SERVE) else { return };
    let mut server = Server::run(&mut command, 1);
    server.signal(Signal::HUP);
    assert_eq!(exchange(server.connect(), b"still here"), b"still here");
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert!(server.seen.iter().any(|line| line.contains("got SIGINT")), "{:#?}", server.seen);
    assert!(!server.seen.iter().any(|line| line.contains("WARN")), "{:#?}", server.seen);
    assert!(!server.seen.iter().any(|line| line.contains("reopening")), "{:#?}", server.seen);
}

#[test]
fn a_background_job_of_a_script_keeps_ignoring_terminal_signals() {
    let Some(mut command) = after_env("--ignore-signal=INT,QUIT", &SERVE) else { return };
    let server = Server::run(&mut command, 1);
    for signal in [Signal::INT, Signal::QUIT] {
        server.signal(signal);
        assert_eq!(exchange(server.connect(), b"still here"), b"still here");
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("WARN")), "{lines:#?}");
    let output_text = "ignores stay ignored: SIGINT, SIGQUIT; SIGTERM is handled";
    assert!(lines.iter().any(|line| line.contains(output_text)), "{lines:#?}");
}

#[test]
fn sigterm_and_sigusr1_are_handled_even_if_the_parent_ignores_them() {
    let Some(mut command) = after_env("--ignore-signal=TERM,USR1", &SERVE) else { return };
    let mut server = Server::run(&mut command, 1);
    server.signal(Signal::USR1);
    server.wait_for_line("custody: ");
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("WARN")), "{lines:#?}");
}

#[test]
fn a_broken_standard_error_ends_no_server_for_any_inherited_sigpipe() {
    for option in ["--ignore-signal=PIPE", "--default-signal=PIPE", "--block-signal=PIPE"] {
        let Some(mut command) = after_env(option, &SERVE) else { return };
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let mut output_text = String::new();
        while !output_text.contains("listening on ") || !output_text.ends_with('\n') {
            let mut byte = [0];
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{option}: {output_text}");
            output_text.push(char::from(byte[0]));
        }
        drop(stderr);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, Signal::USR1).unwrap();
        let address =
            output_text.lines().last().unwrap().trim_start_matches("listening on ").to_owned();
        let client = std::net::TcpStream::connect(address).unwrap();
        assert_eq!(exchange(client, b"still here"), b"still here", "{option}");
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{option}");
    }
}

#[test]
fn bench_works_if_the_parent_ignores_sigchld() {
    let arguments = ["bench", "--duration", "100ms", "--warmup", "0s", "--connections", "1"];
    let Some(mut command) = after_env("--ignore-signal=CHLD", &arguments) else { return };
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Waits until a program handles all the signals that it handles: SIGUSR1 is the last but one.
fn until_handled(program: &Server) {
    program.wait_for("its handlers", |program| mask(program, "SigCgt:") & bit(Signal::USR1) != 0);
}

/// A set of signals of a process; empty when it has ended.
fn mask(program: &Server, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.pid()));
    let status = status.unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(name));
    mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).expect("it is hexadecimal"))
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// As `timeout(1)` does: sends the signal to the process, and then to its group.
fn signal_twice(program: &Server) {
    program.signal(Signal::TERM);
    // A signal sent while the first is pending merges with it; the process may have exited since.
    while mask(program, "ShdPnd:") & bit(Signal::TERM) != 0 {}
    program.signal(Signal::TERM);
}

#[test]
fn a_signal_sent_twice_at_once_counts_as_one() {
    const ROUNDS: usize = 5;
    let drained = (0..ROUNDS).filter(|_| {
        let mut server = Server::start(&["--drain-timeout", "500ms"]);
        let _greedy = never_reads(&server);
        signal_twice(&server);
        server.wait().code() == Some(0)
    });
    // On a machine that stalls for 200 ms, a repetition comes too late.
    assert!(drained.count() > ROUNDS / 2, "the second signal counted as a second one");
}

#[test]
fn a_signal_sent_twice_at_once_counts_as_one_for_clients_and_loads() {
    let server = Server::start(&["--style", "staged"]);
    let address = server.address().to_string();
    let load = ["bench", &address, "--style", "staged", "--duration", "1h", "--warmup", "0s"];
    for round in 0..20 {
        for arguments in [&["client", &address][..], &load] {
            let mut program = Server::run(echown().args(arguments), 0);
            until_handled(&program);
            signal_twice(&program);
            // A load without measurements exits with 1. Stopped immediately it would be 143.
            let code = program.wait().code();
            assert!(matches!(code, Some(0 | 1)), "{round}: {code:?}, {:#?}", program.seen);
        }
    }
}

#[test]
fn a_different_signal_counts_as_a_second_one_immediately() {
    let mut server = Server::start(&["--drain-timeout", "1h"]);
    let _greedy = never_reads(&server);
    server.signal(Signal::TERM);
    server.wait_for_line("draining");
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(130), "{:#?}", server.seen);
}
