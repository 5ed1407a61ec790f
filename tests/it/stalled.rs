//! Stalled outputs: a pipe or FIFO whose reader does not read. Neither clients nor signals wait for
//! them, lost lines are counted, and the exit is quick.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use super::reports::{Folder, text};
use super::server::{DEADLINE, echown, without_variables};
use crate::common::{stall, wait_for, wait_until};

/// Longer than the time in which a repeated signal counts as one, and shorter than the timeout of
/// an output.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(300);

/// A program whose standard error is a pipe that is not read unless the test does.
struct StalledProgram {
    child: Child,
    errors: PipeReader,
    /// The other end, for a check whether it is writable.
    full: Option<PipeWriter>,
}

impl StalledProgram {
    fn start(command: &mut Command) -> StalledProgram {
        let (reader, writer) = std::io::pipe().unwrap();
        let full = Some(writer.try_clone().unwrap());
        let child = without_variables(command).stdin(Stdio::null()).stderr(writer).spawn().unwrap();
        // The parent's copies of the writing end are in the command.
        command.stderr(Stdio::null()).stdout(Stdio::null());
        StalledProgram { child, errors: reader, full }
    }

    /// A server, of whose output only the line with its address is read.
    fn serve(arguments: &[&str]) -> (StalledProgram, SocketAddr) {
        let mut command = echown();
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut stalled = StalledProgram::start(command.stdout(Stdio::null()));
        let address = stalled.line_with("listening on ");
        let address = address.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        (stalled, address)
    }

    fn line_with(&mut self, part: &str) -> String {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            while !line.ends_with('\n') {
                let mut byte = [0];
                let poll = &mut [PollFd::new(&self.errors, PollFlags::IN)];
                let timeout = Timespec::try_from(DEADLINE).unwrap();
                let is_ready = rustix::event::poll(poll, Some(&timeout)).unwrap() > 0;
                assert!(is_ready, "no line with {part:?} in time");
                assert_eq!(self.errors.read(&mut byte).unwrap(), 1, "no line with {part:?}");
                line.push(byte[0].into());
            }
        }
        line
    }

    fn signal(&self, signal: Signal) {
        // It may have exited.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Requests its custody table until the pipe is full, and a few times more.
    fn fill_stderr(&self) {
        let writer = self.full.as_ref().unwrap();
        wait_until("its standard error is full", || {
            self.signal(Signal::USR1);
            let poll = &mut [PollFd::new(writer, PollFlags::OUT)];
            rustix::event::poll(poll, Some(&Timespec::default())).unwrap() == 0
        });
        // The writer is blocked with an earlier line, and more lines are queued.
        for _ in 0..60 {
            self.signal(Signal::USR1);
            stall(Duration::from_millis(1));
        }
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        wait_for("the program to end", || self.child.try_wait().unwrap())
    }

    /// Sends signals until it exits.
    #[track_caller]
    fn end_by_many(&mut self, signal: Signal) -> ExitStatus {
        wait_for("the program to end", || {
            self.signal(signal);
            stall(BETWEEN_SIGNALS);
            self.child.try_wait().unwrap()
        })
    }
}

impl Drop for StalledProgram {
    fn drop(&mut self) {
        // Only this child, by its own handle.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A FIFO with a reader that reads nothing, open as long as the file.
fn fifo(path: &str) -> File {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn ask(client: &mut TcpStream, line: &[u8]) {
    client.write_all(line).unwrap();
    let mut reply = vec![0; line.len()];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, line);
}

/// In every style, with all outputs that standard error can have.
const VERBOSE: [&[&str]; 4] = [
    &["--style", "echo", "--log-level", "trace"],
    &["--style", "staged", "--log-level", "trace", "--trace-events"],
    &["--style", "broadcast", "--log-level", "trace"],
    &["--style", "callback", "--log-level", "trace", "--graph"],
];

#[test]
fn a_stalled_stderr_delays_neither_clients_nor_the_drain() {
    for arguments in VERBOSE {
        let (mut server, address) = StalledProgram::serve(arguments);
        server.fill_stderr();
        for _ in 0..20 {
            let mut client = connect(address);
            if arguments[1] == "broadcast" {
                ask(&mut client, b"\0\0\0\0\0\0\0\x02hi");
            } else {
                ask(&mut client, b"hello\n");
            }
        }
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_second_signal_ends_a_drain_with_a_stalled_stderr() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_echown"), "serve"]);
        command.args(["--listen", "127.0.0.1:0", "--drain-timeout", "1h", "--write-timeout", "1h"]);
        let mut server = StalledProgram::start(command.stdout(Stdio::null()));
        let address = server.line_with("listening on ");
        let address = address.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
        let mut client = connect(address);
        ask(&mut client, b"x");
        // Until its task is blocked in writing to it.
        client.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        while client.write_all(&[0; 1 << 16]).is_ok() {}
        server.fill_stderr();
        assert_eq!(server.end_by_many(signal).code(), Some(code));
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_stalled_stderr_at_the_end() {
    let (mut server, _) = StalledProgram::serve(&[]);
    server.fill_stderr();
    server.signal(Signal::TERM);
    // After the drain it waits two seconds for its output.
    assert_eq!(server.end_by_many(Signal::TERM).code(), Some(143));
}

#[test]
fn panics_with_a_stalled_stderr_end_only_their_clients_tasks() {
    let (mut server, address) = StalledProgram::serve(&["--chaos", "panic=1"]);
    server.fill_stderr();
    for _ in 0..20 {
        let mut client = connect(address);
        ask(&mut client, b"x");
        // The panic comes after the first echo and ends the connection.
        let _ = client.write_all(b"y");
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
    }
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}

#[test]
fn a_policy_aborts_the_process_even_with_a_stalled_stderr() {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_echown");
    let line = format!(
        "ulimit -c 0; exec {program} serve --listen 127.0.0.1:0 --chaos leak=1 --on-leak abort"
    );
    let mut server = StalledProgram::start(command.args(["-c", &line]).stdout(Stdio::null()));
    let address = server.line_with("listening on ");
    let address = address.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
    server.fill_stderr();
    let mut client = connect(address);
    ask(&mut client, b"x");
    drop(client);
    assert_eq!(server.end().signal(), Some(Signal::ABORT.as_raw()));
}

#[test]
fn a_stalled_file_delays_neither_clients_nor_the_drain() {
    let folder = Folder::new("stalled");
    for (index, arguments) in [
        &["--log-level", "trace", "--log-file"][..],
        &["--chaos", "leak=1", "--report-file"],
        &["--style", "staged", "--trace-events"],
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.file(&format!("fifo{index}"));
        let fifo = fifo(&path);
        let (mut server, address) = StalledProgram::serve(&[arguments, &[&path]].concat());
        // All of its standard error is read.
        drop(server.full.take());
        let errors = server.errors.try_clone().unwrap();
        let output_text = std::thread::spawn(move || {
            let mut output_text = String::new();
            BufReader::new(errors).read_to_string(&mut output_text).unwrap();
            output_text
        });
        rustix::pipe::fcntl_setpipe_size(&fifo, 4096).unwrap();
        for _ in 0..50 {
            let mut client = connect(address);
            ask(&mut client, b"hello\n");
            let _ = client.write_all(b"again\n");
            let _ = client.read(&mut [0; 6]);
        }
        for _ in 0..20 {
            server.signal(Signal::HUP);
        }
        let is_full = || rustix::io::ioctl_fionread(&fifo).unwrap() > 0;
        wait_until("some output is written", is_full);
        server.signal(Signal::TERM);
        assert_eq!(server.end().code(), Some(0), "{arguments:?}");
        let output_text = output_text.join().unwrap();
        assert!(output_text.contains("was given up, it took nothing in the end"), "{output_text}");
        assert!(output_text.contains("of output dropped"), "{output_text}");
    }
}

#[test]
fn lines_lost_by_a_stalled_output_are_counted_in_place_and_in_the_summary() {
    let folder = Folder::new("lost");
    let (path, summary) = (folder.file("fifo"), folder.file("summary"));
    let mut fifo = fifo(&path);
    let arguments = ["--style", "staged", "--summary", &summary, "--trace-events", &path];
    let (mut server, address) = StalledProgram::serve(&arguments);
    let mut client = connect(address);
    // More than 4 MiB of trace: a line of 60 bytes is traced byte by byte, in more than 1,000
    // bytes.
    let line = [&[b'x'; 59][..], b"\n"].concat();
    for _ in 0..8_000 {
        ask(&mut client, &line);
    }
    drop(client);
    let mut lines = BufReader::new(&mut fifo);
    let mut dropped = None;
    let mut line = String::new();
    while dropped.is_none() {
        line.clear();
        lines.read_line(&mut line).unwrap();
        let count =
            line.strip_suffix(" lines dropped here: this output did not take them in time\n");
        dropped = count.map(|count| count.trim_start_matches("echown: ").parse::<u64>().unwrap());
        let is_whole = line.ends_with('\n');
        assert!(is_whole, "{line}");
    }
    server.signal(Signal::TERM);
    // The rest is read, so that no more lines are lost.
    while server.child.try_wait().unwrap().is_none() {
        line.clear();
        if rustix::io::ioctl_fionread(lines.get_ref()).unwrap() > 0 || !lines.buffer().is_empty() {
            lines.read_line(&mut line).unwrap();
        }
    }
    assert_eq!(server.end().code(), Some(0));
    let output_text = server.line_with("of output dropped");
    let json: serde_json::Value = serde_json::from_str(&text(&summary)).unwrap();
    assert_eq!(json["dropped_output"].as_u64(), dropped, "{output_text}");
    assert!(dropped.unwrap() > 0);
    assert!(output_text.starts_with(&format!("{} lines", dropped.unwrap())), "{output_text}");
}

#[test]
fn a_fast_reader_receives_all_of_a_long_trace() {
    let folder = Folder::new("whole");
    let path = folder.file("trace");
    let (mut server, address) = StalledProgram::serve(&[
        "--style",
        "staged",
        "--trace-events",
        &path,
        "--max-connections",
        "1",
    ]);
    let mut client = connect(address);
    for _ in 0..2_000 {
        ask(&mut client, b"hello\n");
    }
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    let trace = text(&path);
    assert_eq!(trace.matches("<<< 6 bytes").count(), 2_000);
    assert!(!trace.contains("dropped"), "{trace}");
}

#[test]
fn a_fifo_without_a_reader_is_an_immediate_error() {
    let folder = Folder::new("unread");
    let path = folder.file("fifo");
    mknodat(CWD, &*path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    for arguments in [
        &["serve", "--listen", "127.0.0.1:0", "--log-file", &path][..],
        &["serve", "--listen", "127.0.0.1:0", "--report-file", &path],
        &["serve", "--listen", "127.0.0.1:0", "--style", "staged", "--trace-events", &path],
        &["client", "127.0.0.1:1", "--trace-events", &path],
        &["client", "127.0.0.1:1", "--style", "broadcast", "--report-file", &path],
    ] {
        let mut program = StalledProgram::start(echown().args(arguments).stdout(Stdio::null()));
        let line = program.line_with("failed to open");
        assert!(line.contains("no process reads this FIFO; start its reader first"), "{line}");
        assert_eq!(program.end().code(), Some(1), "{arguments:?}");
    }
}

// The clients and the load generator.

/// Accepts and reads, and never replies.
fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let clients: Vec<_> = listener.incoming().map_while(Result::ok).collect();
        drop(clients);
    });
    address
}

#[test]
fn one_signal_ends_clients_and_load_generators_with_a_stalled_stderr() {
    let address = silent().to_string();
    for (arguments, code) in [
        (&["client", &address, "--trace-events", "--pause", "0s"][..], 0),
        (&["client", &address, "--style", "broadcast"], 0),
        (&["bench", &address, "--duration", "1h", "--connections", "1"], 1),
    ] {
        let mut command = echown();
        command.args(arguments).stdout(Stdio::null());
        let (reader, writer) = std::io::pipe().unwrap();
        // A chat lasts as long as its input.
        let (input, _input) = std::io::pipe().unwrap();
        let full = Some(writer.try_clone().unwrap());
        let child = command.stdin(input).stderr(writer).spawn().unwrap();
        drop(command);
        let mut program = StalledProgram { child, errors: reader, full };
        // A signal before its handlers are installed ends it.
        wait_until("it has its signals", || takes(&program.child, Signal::USR1));
        program.fill_stderr();
        program.signal(Signal::TERM);
        assert_eq!(program.end().code(), Some(code), "{arguments:?}");
    }
}

/// Whether a process has a handler for a signal.
fn takes(child: &Child, signal: Signal) -> bool {
    let status = text(format!("/proc/{}/status", child.id()));
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"));
    let caught = caught.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    caught & (1 << (signal.as_raw() - 1)) != 0
}

/// A full pipe.
fn full() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let bytes = rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    writer.write_all(&vec![b'\n'; bytes]).unwrap();
    (reader, writer)
}

#[test]
fn bench_waits_for_a_reader_of_its_figures_until_a_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (ended, measured) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let ended = ended.clone();
            std::thread::spawn(move || {
                let mut writer = client.try_clone().unwrap();
                let _ = std::io::copy(&mut client, &mut writer);
                let _ = ended.send(());
            });
        }
    });
    let (reader, writer) = full();
    let mut command = echown();
    command.args(["bench", &address, "--duration", "100ms", "--warmup", "0s"]);
    let mut bench = StalledProgram::start(command.args(["--connections", "1"]).stdout(writer));
    // The measurement is complete, and the figures cannot be written.
    measured.recv_timeout(DEADLINE).unwrap();
    bench.signal(Signal::TERM);
    assert_eq!(bench.end().code(), Some(1));
    let line = bench.line_with("standard output");
    assert!(line.contains("its reader stalled"), "{line}");
    drop(reader);
}

#[test]
fn clients_wait_for_a_reader_of_their_replies_until_a_signal() {
    let (mut server, address) = StalledProgram::serve(&["--style", "staged"]);
    for style in ["staged", "broadcast"] {
        let (reader, writer) = full();
        let mut command = echown();
        command.args(["client", &address.to_string(), "--style", style]).stdout(writer);
        let (input, mut words) = std::io::pipe().unwrap();
        if style == "staged" {
            command.args(["--pause", "0s", "--workers", "1"]);
        }
        let (errors, stderr) = std::io::pipe().unwrap();
        let child = command.stdin(input).stderr(stderr).spawn().unwrap();
        drop(command);
        let mut client = StalledProgram { child, errors, full: None };
        let _ = words.write_all(b"hello\n");
        wait_until("it has its signals", || takes(&client.child, Signal::USR1));
        client.signal(Signal::TERM);
        assert!(client.end().code().is_some(), "{style}");
        drop(reader);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
}
