//! `client --style staged`: the complete trace of every workflow, and the client against other servers.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::server::{DEADLINE, Server, WRITE, echown, is_in_call};
use crate::common::reserved::Reserved;
use crate::common::{poll, require_tool, stall, wait_until};

/// One worker with short pauses, and its trace in a file.
struct Asking {
    command: Command,
    trace: PathBuf,
}

impl Asking {
    fn new(address: SocketAddr, arguments: &[&str]) -> Asking {
        let trace = super::trace_path();
        let mut command = echown();
        command.arg("client").arg(address.to_string()).args(["--workers", "1", "--pause", "10ms"]);
        command.args(["--retry", "20ms", "--trace-events"]).arg(&trace).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Asking { command, trace }
    }

    fn run(mut self) -> Answered {
        let output = self.command.output().expect("the program starts");
        Answered::read(output, &self.trace)
    }
}

/// The output of a client that has ended.
struct Answered {
    code: Option<i32>,
    said: String,
    errors: String,
    trace: Vec<String>,
}

impl Answered {
    fn read(output: Output, trace: &Path) -> Answered {
        let text = std::fs::read_to_string(trace).expect("it was there from the start");
        let _ = std::fs::remove_file(trace);
        Answered {
            code: output.status.code(),
            said: String::from_utf8(output.stdout).unwrap(),
            errors: String::from_utf8(output.stderr).unwrap(),
            trace: text.lines().map(str::to_owned).collect(),
        }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Replies to each line of each connection with what `reply` returns; `None` closes the connection.
/// Returns the lines.
fn serve_lines(
    listener: TcpListener,
    connections: usize,
    reply: impl Fn(usize, &str) -> Option<String> + Send + 'static,
) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        for _ in 0..connections {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let Ok(line) = line else { break };
                heard.push(line.clone());
                match reply(heard.len(), &line) {
                    Some(reply) => (&stream).write_all(reply.as_bytes()).unwrap(),
                    None => break,
                }
            }
        }
        heard
    })
}

fn echo(_: usize, line: &str) -> Option<String> {
    Some(format!("{line}\n"))
}

const STARTED: [&str; 4] = [
    "TERMINATOR-1 @ INIT got 'M0' from SELF",
    "RX-1 @ INIT got 'M0' from SELF",
    "TX-1 @ INIT got 'M0' from SELF",
    "WORKER-1 @ INIT got 'M0' from SELF",
];

/// A request with its reply.
const ASKED: [&str; 12] = [
    "TX-1 @ IDLE got 'M1' from WORKER-1",
    "TX-1 @ IDLE got 'M0' from SELF",
    "TX-1 @ WORK got 'D1' from OS",
    "TX-1 @ WORK got 'M0' from SELF",
    "WORKER-1 @ SEND got 'M1' from TX-1",
    "WORKER-1 @ SEND got 'M0' from SELF",
    "RX-1 @ IDLE got 'M1' from WORKER-1",
    "RX-1 @ IDLE got 'M0' from SELF",
    "RX-1 @ WORK got 'D0' from OS",
    "RX-1 @ WORK got 'M0' from SELF",
    "WORKER-1 @ RECV got 'M1' from RX-1",
    "reply: WORKER-1-1",
];

fn connected(address: SocketAddr) -> Vec<String> {
    [
        "TX-1 @ IDLE got 'M1' from WORKER-1",
        "TX-1 @ IDLE got 'M0' from SELF",
        "TX-1 @ WORK got 'D1' from OS",
        "TX-1 @ WORK got 'M0' from SELF",
        "WORKER-1 @ CONN got 'M1' from TX-1",
        &format!("WORKER-1 : connected to '{address}'"),
        "WORKER-1 @ CONN got 'M0' from SELF",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn not_connected(address: SocketAddr) -> Vec<String> {
    [
        "TX-1 @ IDLE got 'M1' from WORKER-1",
        "TX-1 @ IDLE got 'M0' from SELF",
        "TX-1 @ WORK got 'D2' from OS",
        "TX-1 @ WORK got 'M0' from SELF",
        "WORKER-1 @ CONN got 'M2' from TX-1",
        &format!("WORKER-1 : can not connect to '{address}'"),
        "WORKER-1 @ CONN got 'M3' from SELF",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn owned(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn a_worker_connects_asks_is_answered_and_asks_again() {
    let (listener, address) = listener();
    let server = serve_lines(listener, 1, echo);
    let answered = Asking::new(address, &["--count", "2"]).run();
    assert_eq!(answered.code, Some(0), "{}", answered.errors);
    assert_eq!(server.join().unwrap(), ["WORKER-1-1", "WORKER-1-2"]);
    let second: Vec<String> =
        ASKED.iter().map(|line| line.replace("WORKER-1-1", "WORKER-1-2")).collect();
    let between =
        owned(&["WORKER-1 @ RECV got 'M0' from SELF", "WORKER-1 @ TWIX got 'T0' from OS"]);
    let last = owned(&["WORKER-1 @ RECV got 'M0' from SELF"]);
    let expected =
        [owned(&STARTED), connected(address), owned(&ASKED), between, second, last].concat();
    assert_eq!(answered.trace, expected);
    let said =
        format!("WORKER-1 : connected to '{address}'\nreply: WORKER-1-1\nreply: WORKER-1-2\n");
    assert_eq!(answered.said, said);
    let summary = "2 requests, 2 verified, 0 wrong, 1 connection, 0 failed attempts, 0 lost";
    assert!(answered.errors.contains(summary), "{}", answered.errors);
}

#[test]
fn a_worker_that_cannot_connect_says_so_waits_and_tries_again() {
    let (listener, address) = listener();
    drop(listener);
    let answered = Asking::new(address, &["--count", "2"]).run();
    assert_eq!(answered.code, Some(1), "counted on, and not answered");
    let waited = owned(&["WORKER-1 @ WAIT got 'T0' from OS"]);
    let expected =
        [owned(&STARTED), not_connected(address), waited, not_connected(address)].concat();
    assert_eq!(answered.trace, expected);
    assert_eq!(answered.said, format!("WORKER-1 : can not connect to '{address}'\n").repeat(2));
}

#[test]
fn a_lost_connection_is_made_again_and_the_sequence_continues() {
    let (listener, address) = listener();
    // The second of three requests gets no reply.
    let server =
        serve_lines(listener, 2, |number, line| (number != 2).then(|| format!("{line}\n")));
    let answered = Asking::new(address, &["--count", "3"]).run();
    assert_eq!(answered.code, Some(1), "one was not answered");
    assert_eq!(server.join().unwrap(), ["WORKER-1-1", "WORKER-1-2", "WORKER-1-3"]);
    let summary = "3 requests, 2 verified, 0 wrong, 2 connections, 0 failed attempts, 1 lost";
    assert!(answered.errors.contains(summary), "{}", answered.errors);
    let lost = [
        "RX-1 @ WORK got 'D2' from OS",
        "RX-1 @ WORK got 'M0' from SELF",
        "WORKER-1 @ RECV got 'M2' from RX-1",
        "WORKER-1 @ RECV got 'M3' from SELF",
        "WORKER-1 @ WAIT got 'T0' from OS",
    ];
    assert!(answered.trace.windows(lost.len()).any(|lines| lines == lost), "{:#?}", answered.trace);
}

#[test]
fn a_server_that_answers_something_else_is_found_out() {
    for lie in ["WORKER-1-2\n", "WORKER-1-1 and more\n"] {
        let (listener, address) = listener();
        let server = serve_lines(listener, 1, move |_, _| Some(lie.to_owned()));
        let answered = Asking::new(address, &["--count", "1"]).run();
        assert_eq!(answered.code, Some(1));
        assert!(
            answered.errors.contains("asked \"WORKER-1-1\" and got \"WORKER-1-"),
            "{}",
            answered.errors
        );
        assert!(answered.errors.contains("0 verified, 1 wrong"), "{}", answered.errors);
        server.join().unwrap();
    }
}

#[test]
fn a_server_that_does_not_answer_ends_by_the_reply_timeout() {
    let (listener, address) = listener();
    let server = serve_lines(listener, 1, |_, _| Some(String::new()));
    let answered = Asking::new(address, &["--count", "1", "--reply-timeout", "100ms"]).run();
    assert_eq!(answered.code, Some(1));
    assert!(answered.trace.contains(&"RX-1 @ WORK got 'T0' from OS".to_owned()));
    server.join().unwrap();
}

fn started(asking: &mut Asking) -> Child {
    asking.command.spawn().expect("the program starts")
}

fn wait_for_trace(path: &Path, part: &str) {
    let text = || std::fs::read_to_string(path);
    let found = poll(DEADLINE, || text().is_ok_and(|text| text.contains(part)).then_some(()));
    assert!(found.is_some(), "no {part:?} in {:?}", text());
}

#[test]
fn signals_end_it_cleanly_in_whatever_it_waits_for() {
    let (silent, address) = listener();
    let accepting = std::thread::spawn(move || -> Vec<TcpStream> {
        (0..4).map(|_| silent.accept().unwrap().0).collect()
    });
    let (closed, nowhere) = listener();
    drop(closed);
    for (signal, tag, number) in [(Signal::INT, "S0", 2), (Signal::TERM, "S1", 15)] {
        for (address, arguments, waits) in [
            (address, &[][..], "RX-1 @ IDLE got 'M0' from SELF"),
            (nowhere, &["--retry", "1h"], "WORKER-1 @ CONN got 'M3' from SELF"),
        ] {
            let mut asking = Asking::new(address, arguments);
            let child = started(&mut asking);
            wait_for_trace(&asking.trace, waits);
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal)
                .unwrap();
            let answered = Answered::read(child.wait_with_output().unwrap(), &asking.trace);
            assert_eq!(answered.code, Some(0), "{}", answered.errors);
            let [.., told, signal] = &answered.trace[..] else { panic!("{:?}", answered.trace) };
            assert_eq!(*told, format!("TERMINATOR-1 @ IDLE got '{tag}' from OS"));
            assert_eq!(*signal, format!("got signal #{number} from PID {}", std::process::id()));
            assert!(answered.errors.contains(" verified, 0 wrong, "), "{}", answered.errors);
        }
    }
    // Two of the four accepted connections were the client's.
    for _ in 0..2 {
        TcpStream::connect(address).unwrap();
    }
    accepting.join().unwrap();
}

#[test]
fn four_workers_ask_our_own_server() {
    let server = Server::start(&["--style", "staged"]);
    let output = echown()
        .args(["client", &server.address().to_string(), "--count", "5", "--pause", "1ms"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    for worker in 1..=4 {
        for number in 1..=5 {
            let reply = format!("reply: WORKER-{worker}-{number}\n");
            assert!(said.contains(&reply), "no {reply} in {said}");
        }
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0));
    assert!(lines.iter().any(|line| line.contains("4 connections, 0 refused")), "{lines:#?}");
}

#[test]
fn the_client_works_with_servers_of_other_programs() {
    let reserved = Reserved::new();
    let address = reserved.address();
    let port = address.port().to_string();
    let socat = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork");
    let servers: [(&str, Vec<&str>); 2] = [
        ("socat", vec![&socat, "EXEC:cat"]),
        ("ncat", vec!["--listen", "127.0.0.1", &port, "--keep-open", "--exec", "/bin/cat"]),
    ];
    for (program, arguments) in servers {
        let mut command = Command::new(program);
        command.args(&arguments).stdin(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn();
        require_tool(program, server.is_ok());
        let Ok(mut server) = server else { continue };
        wait_until("the server to listen", || TcpStream::connect(address).is_ok());
        let answered = Asking::new(address, &["--count", "3", "--workers", "4"]).run();
        let _ = server.kill();
        server.wait().unwrap();
        assert_eq!(answered.code, Some(0), "{program}: {}", answered.errors);
        let summary = "12 requests, 12 verified, 0 wrong, 4 connections";
        assert!(answered.errors.contains(summary), "{program}: {}", answered.errors);
    }
}

#[test]
fn an_option_of_another_style_is_refused_by_name() {
    for (arguments, expected) in [
        (&["--name", "me"][..], "--name is for --style broadcast"),
        (&["--style", "broadcast", "--workers", "2"], "--workers is for --style staged"),
    ] {
        let output = echown().arg("client").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_reply_in_pieces_is_one_and_slow_bytes_do_not_extend_its_timeout() {
    let (listener, address) = listener();
    let server = std::thread::spawn(move || {
        for pause in [Duration::from_millis(20), Duration::from_millis(150)] {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for byte in b"WORKER-1-1\n" {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                stall(pause);
            }
        }
    });
    let in_time = ["--count", "1", "--reply-timeout", "10s"];
    let answered = Asking::new(address, &in_time).run();
    assert_eq!(answered.code, Some(0), "{}", answered.errors);
    let late = ["--count", "1", "--reply-timeout", "500ms"];
    let answered = Asking::new(address, &late).run();
    assert_eq!(answered.code, Some(1), "{}", answered.said);
    assert!(answered.trace.contains(&"RX-1 @ WORK got 'T0' from OS".to_owned()));
    server.join().unwrap();
}

#[test]
fn a_stop_by_a_signal_is_no_failure_whatever_count_was_asked_for() {
    let (listener, address) = listener();
    let server = serve_lines(listener, 1, echo);
    let most = u64::MAX.to_string();
    let mut asking = Asking::new(address, &["--count", &most]);
    let child = started(&mut asking);
    wait_for_trace(&asking.trace, "reply: WORKER-1-1\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    let answered = Answered::read(child.wait_with_output().unwrap(), &asking.trace);
    assert_eq!(answered.code, Some(0), "{}", answered.errors);
    server.join().unwrap();
}

#[test]
fn a_standard_output_that_cannot_be_written_is_reported_and_a_failure() {
    let (listener, address) = listener();
    let server = serve_lines(listener, 1, echo);
    let mut asking = Asking::new(address, &["--count", "1"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    asking.command.stdout(full);
    let answered = asking.run();
    assert_eq!(answered.code, Some(1));
    assert!(answered.errors.contains("failed to write all replies"), "{}", answered.errors);
    assert!(answered.errors.contains("1 verified"), "{}", answered.errors);
    server.join().unwrap();
}

#[test]
fn an_output_without_a_reader_does_not_keep_it_from_stopping() {
    let (listener, address) = listener();
    let server = serve_lines(listener, 1, echo);
    let mut asking = Asking::new(address, &["--pause", "0s"]);
    let mut child = started(&mut asking);
    // It is blocked when it waits in `write(2)` and its pipe has no space for another line.
    let pipe = child.stdout.as_ref().unwrap();
    let room = rustix::pipe::fcntl_getpipe_size(pipe).unwrap() as u64;
    let is_full = || rustix::io::ioctl_fionread(pipe).unwrap() + 4096 > room;
    wait_until("it to block", || is_full() && is_in_call(child.id(), WRITE));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    wait_until("it to stop", || child.try_wait().unwrap().is_some());
    let answered = Answered::read(child.wait_with_output().unwrap(), &asking.trace);
    assert_eq!(answered.code, Some(1));
    assert!(answered.errors.contains("its output is not read"), "{}", answered.errors);
    server.join().unwrap();
}
