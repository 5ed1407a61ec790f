//! `echown client --style broadcast`, as its user sees it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::broadcast::{frame, try_hear};
use super::server::{SENDTO, Server, echown, is_in_call};
use crate::common::reserved::Reserved;
use crate::common::{require_tool, wait_for, wait_until};

fn start() -> Server {
    Server::start(&["--style", "broadcast"])
}

fn client(address: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = echown();
    command.args(["client", "--style", "broadcast", &address.to_string()]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Sends all of the input, and waits for the end.
fn talk(address: SocketAddr, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = client(address, arguments).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|threads| {
        // A client that exits early stops reading: not a failure here.
        threads.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

fn code_and_stderr(output: &Output) -> (Option<i32>, &str) {
    (output.status.code(), std::str::from_utf8(&output.stderr).unwrap())
}

/// A running chat client.
struct Chatting {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Chatting {
    fn start(address: SocketAddr, arguments: &[&str]) -> Chatting {
        let mut child = client(address, arguments).spawn().expect("the program starts");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Chatting { child, lines }
    }

    fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{text}").expect("it reads its input");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code and standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for("the client to end", || self.child.try_wait().unwrap());
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (status.code(), text)
    }
}

impl Drop for Chatting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_users_chat_and_both_receive_all_lines() {
    let server = start();
    let mut ann = Chatting::start(server.address(), &["--name", "ann"]);
    ann.say("is anybody here?");
    assert_eq!(ann.hear(), "ann: is anybody here?");
    let mut bob = Chatting::start(server.address(), &["--name", "bob"]);
    bob.say("I am");
    assert_eq!(bob.hear(), "bob: I am");
    assert_eq!(ann.hear(), "bob: I am");
    ann.say("good");
    assert_eq!(ann.hear(), "ann: good");
    assert_eq!(bob.hear(), "ann: good");
    for mut who in [ann, bob] {
        drop(who.child.stdin.take());
        assert_eq!(who.end(), (Some(0), String::new()));
    }
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn after_end_of_input_the_chat_waits_for_all_its_frames() {
    let server = start();
    for input in
        [&b"one\ntwo\nlast without an end"[..], b"", b"\n", b"bytes \xff\xfe that are no text\n"]
    {
        let output = talk(server.address(), &[], input);
        assert_eq!(code_and_stderr(&output), (Some(0), ""));
        let mut expected = String::from_utf8_lossy(input).replace("\u{fffd}\u{fffd}", r"\xff\xfe");
        if !input.is_empty() && !input.ends_with(b"\n") {
            expected.push('\n');
        }
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
}

#[test]
fn a_long_input_is_paced_by_the_frames_that_come_back() {
    let server = Server::start(&["--style", "broadcast", "--max-send-queue", "512KiB"]);
    // Far more than all buffers on the path hold.
    let input: String = (0..32 * 1024).map(|n| format!("{n:01023}\n")).collect();
    let expected = input.clone();
    let mut chat = Chatting::start(server.address(), &[]);
    let mut stdin = chat.child.stdin.take().unwrap();
    let (output_text, all_said) = std::sync::mpsc::channel();
    let typing = std::thread::spawn(move || {
        stdin.write_all(input.as_bytes()).expect("it reads its input");
        drop(stdin);
        output_text.send(()).unwrap();
    });
    // Its output is not read: it cannot receive, and so it stops sending.
    let timeout = Duration::from_millis(500);
    assert!(all_said.recv_timeout(timeout).is_err(), "it sends ahead of what it receives");
    let mut heard = String::new();
    chat.lines.read_to_string(&mut heard).unwrap();
    assert!(heard == expected, "each line, once, in order");
    typing.join().unwrap();
    assert_eq!(chat.end(), (Some(0), String::new()));
}

#[test]
fn a_chat_exits_with_0_on_sigint_and_sigterm() {
    let server = start();
    for signal in [Signal::INT, Signal::TERM] {
        let mut chat = Chatting::start(server.address(), &[]);
        chat.say("before");
        assert_eq!(chat.hear(), "before");
        chat.signal(signal);
        assert_eq!(chat.end(), (Some(0), String::new()));
    }
}

#[test]
fn a_chat_without_a_server_prints_a_one_line_error() {
    let reserved_address = Reserved::new();
    let free = reserved_address.address();
    let output = talk(free, &[], b"hello?\n");
    let expected = format!("echown: failed to connect to {free}: connection refused\n");
    assert_eq!(code_and_stderr(&output), (Some(1), &*expected));
    let output = echown().args(["client", "--style", "broadcast", "nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_chat_exits_with_1_immediately_when_the_server_closes() {
    let server = start();
    let mut chat = Chatting::start(server.address(), &[]);
    chat.say("before");
    assert_eq!(chat.hear(), "before");
    assert_eq!(server.stop().0, Some(0));
    // Its input is still open, and it sends nothing.
    let closed = "echown: the server has closed the connection\n";
    assert_eq!(chat.end(), (Some(1), closed.to_owned()));
}

#[test]
fn a_closed_standard_output_is_not_a_failure() {
    let server = start();
    let mut chat = Chatting::start(server.address(), &[]);
    chat.say("first");
    assert_eq!(chat.hear(), "first");
    chat.lines = BufReader::new({
        // Only the child's end of the pipe is left.
        let mut other = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        other.wait().unwrap();
        other.stdout.take().unwrap()
    });
    chat.say("this is not read");
    assert_eq!(chat.end(), (Some(0), String::new()));
}

#[test]
fn a_line_longer_than_the_frame_limit_is_rejected_and_not_truncated() {
    let server = start();
    let output = talk(server.address(), &["--max-frame", "10"], b"short\nmuch too long\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        code_and_stderr(&output).1.contains("cannot send a line longer than 10 bytes"),
        "{output:?}"
    );
}

#[test]
fn custody_of_the_client_shows_two_halves_and_two_owners() {
    let server = start();
    let mut chat = Chatting::start(server.address(), &[]);
    chat.say("x");
    chat.hear();
    chat.signal(Signal::USR1);
    // Its whole table is written at once, to a separate pipe.
    let mut stderr = BufReader::new(chat.child.stderr.take().unwrap());
    let mut table = String::new();
    while !table.contains("declared: signal-hook") {
        assert_ne!(stderr.read_line(&mut table).unwrap(), 0, "{table}");
    }
    for (task, half) in [("`chat` (running", "write half"), ("`listener` (running", "read half")] {
        let of_task = table.split("\ntask ").find(|part| part.contains(task));
        assert!(of_task.is_some_and(|part| part.contains(half)), "{task} has no {half}: {table}");
    }
}

// Other servers.

/// Serves one connection with a closure.
fn other_server(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

#[test]
fn a_server_of_another_protocol_is_recognized() {
    let address = other_server(|mut stream| {
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
        let _ = stream.read(&mut [0; 100]);
    });
    let output = talk(address, &[], b"hello\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(code_and_stderr(&output).1.contains("the server does not send frames: "), "{output:?}");
}

#[test]
fn a_frame_that_does_not_come_back_is_reported() {
    let address = other_server(|mut stream| {
        assert_eq!(try_hear(&mut stream).unwrap(), b"kept");
        try_hear(&mut stream).unwrap();
        stream.write_all(&frame(b"kept")).unwrap();
    });
    let output = talk(address, &[], b"kept\nlost\n");
    let missed = "echown: the server has closed the connection, \
                  and 1 sent frame was not received back\n";
    assert_eq!(code_and_stderr(&output), (Some(1), missed));
    assert_eq!(output.stdout, b"kept\n");
}

#[test]
fn a_signal_ends_a_chat_with_an_unresponsive_server() {
    let (done, until) = std::sync::mpsc::channel::<()>();
    let address = other_server(move |stream| {
        // It neither reads nor closes until the test has ended.
        let _ = until.recv();
        drop(stream);
    });
    let mut chat = Chatting::start(address, &[]);
    let long = "x".repeat(8 * 1024 * 1024);
    let mut stdin = chat.child.stdin.take().unwrap();
    let typing = std::thread::spawn(move || drop(stdin.write_all(long.as_bytes())));
    wait_until("the client to block", || is_in_call(chat.child.id(), SENDTO));
    chat.signal(Signal::TERM);
    // Without a signal it would wait for the server to close.
    let (code, output_text) = chat.end();
    assert_eq!(code, Some(1), "{output_text}");
    typing.join().unwrap();
    drop(done);
}

#[test]
fn on_a_terminal_own_lines_are_not_repeated_and_commands_are_visible() {
    // Gives a program a terminal.
    let script = Command::new("script").arg("--version").output();
    if !require_tool("`script`, of util-linux", script.is_ok()) {
        return;
    }
    let server = start();
    let program = env!("CARGO_BIN_EXE_echown");
    let line = format!("{program} client --style broadcast {}", server.address());
    let mut terminal = Command::new("script");
    terminal.args(["-q", "-e", "-E", "never", "-c", &line, "/dev/null"]);
    let mut chat = terminal
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it exists");
    let mut other = server.connect();
    // A client that has received its own frame receives all frames.
    other.write_all(&frame(b"I am in")).unwrap();
    assert_eq!(try_hear(&mut other).unwrap(), b"I am in");
    let mut typed = chat.stdin.take().unwrap();
    typed.write_all(b"mine\n").unwrap();
    assert_eq!(try_hear(&mut other).unwrap(), b"mine");
    other.write_all(&frame(b"\x1b[2Jtheirs")).unwrap();
    let mut shown = BufReader::new(chat.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("theirs") {
        assert_ne!(shown.read_line(&mut text).unwrap(), 0, "{text}");
    }
    // End of input, as typed on a terminal.
    typed.write_all(b"\x04").unwrap();
    shown.read_to_string(&mut text).unwrap();
    assert!(text.contains("\\x1b[2Jtheirs"), "{text:?}");
    assert!(!text.contains("mine"), "the terminal does not echo: {text:?}");
    assert_eq!(chat.wait().unwrap().code(), Some(0));
}
