//! Each example prints the output in its documentation.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Far longer than any example takes, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(60);

/// The built example. `cargo test` builds them next to this test's own directory.
fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().expect("a test knows its own path");
    path.pop();
    path.pop();
    path.extend(["examples", name]);
    assert!(path.exists(), "run `cargo test` without a target: {} is not built", path.display());
    Command::new(path)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The output in an example's module documentation: its one block of text.
fn promised(name: &str) -> String {
    let path = folder().join(name).with_extension("rs");
    let source = std::fs::read_to_string(path).expect("an example has a source");
    let documentation = source.lines().map_while(|line| line.strip_prefix("//!"));
    let mut block = documentation.skip_while(|line| *line != " ```text").skip(1);
    let lines: Vec<&str> = block.by_ref().take_while(|line| *line != " ```").collect();
    assert!(!lines.is_empty(), "{name} does not document its output");
    assert!(!block.any(|line| line == " ```text"), "{name} has two blocks of output");
    lines.iter().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

#[track_caller]
fn assert_as_documented(name: &str, output: &Output) {
    let printed = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} ended with {}:\n{printed}{log}", output.status);
    let promised = promised(name);
    assert!(
        printed == promised,
        "{name} does not print its documented output.\ndocumented:\n{promised}\nprinted:\n{printed}"
    );
}

/// Ends the process when the test fails before it does.
struct Stopped(Option<Child>);

impl Stopped {
    fn start(command: &mut Command) -> Stopped {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Stopped(Some(command.spawn().expect("it can be run")))
    }

    /// Its output, after it has exited without a signal.
    #[track_caller]
    fn output(mut self) -> Output {
        let child = self.0.take().expect("it was not stopped");
        let process = Pid::from_child(&child);
        let (send, ended) = channel();
        thread::spawn(move || send.send(child.wait_with_output()));
        match ended.recv_timeout(DEADLINE) {
            Ok(output) => output.expect("its output can be read"),
            Err(_) => {
                // The thread above has not reaped it yet, so the process ID is still its own.
                let _ = kill_process(process, Signal::KILL);
                panic!("it has not exited after {DEADLINE:?}");
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[track_caller]
fn assert_documented_output(name: &str) {
    let output = Stopped::start(&mut example(name)).output();
    assert_as_documented(name, &output);
}

#[test]
fn leak_prints_its_documented_output() {
    assert_documented_output("leak");
}

#[test]
fn transfer_prints_its_documented_output() {
    assert_documented_output("transfer");
}

#[test]
fn finalizer_prints_its_documented_output() {
    assert_documented_output("finalizer");
}

#[test]
fn offer_prints_its_documented_output() {
    assert_documented_output("offer");
}

#[test]
fn echo_serves_its_clients_and_exits_cleanly() {
    let mut server = Stopped::start(example("echo").args(["127.0.0.1:0", "2"]));
    let log = server.0.as_mut().and_then(|server| server.stderr.take()).expect("it is piped");
    let (mut log, mut line) = (BufReader::new(log), String::new());
    log.read_line(&mut line).expect("it prints its address");
    let address = line.trim_end().strip_prefix("listening on ").expect("it prints its address");

    // Both at once: the first client is served while the second one is.
    let mut clients: Vec<TcpStream> = (0..2)
        .map(|_| TcpStream::connect(address).expect("it listens"))
        .inspect(|client| client.set_read_timeout(Some(DEADLINE)).expect("it is not zero"))
        .collect();
    for client in clients.iter_mut().rev() {
        client.write_all(b"Hello\n").expect("it reads");
        let mut reply = [0; 6];
        client.read_exact(&mut reply).expect("it replies");
        assert_eq!(&reply, b"Hello\n");
    }
    for client in &mut clients {
        client.shutdown(Shutdown::Write).expect("it is connected");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("it closes");
        assert!(rest.is_empty(), "{rest:?}");
    }
    assert_as_documented("echo", &server.output());
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("its log can be read");
    assert_eq!(rest, "", "a client was lost");
}

#[test]
fn parallel_serves_one_address_with_several_servers_and_exits_cleanly() {
    let mut server = Stopped::start(example("parallel").args(["127.0.0.1:0", "20"]));
    let log = server.0.as_mut().and_then(|server| server.stderr.take()).expect("it is piped");
    let (mut log, mut line) = (BufReader::new(log), String::new());
    log.read_line(&mut line).expect("it prints its address");
    let (servers, address) =
        line.trim_end().split_once(" servers on ").expect("the message says so");
    assert!(servers.parse::<usize>().expect("a number") >= 1);

    let mut clients: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(address).expect("it listens"))
        .inspect(|client| client.set_read_timeout(Some(DEADLINE)).expect("it is not zero"))
        .collect();
    for client in clients.iter_mut().rev() {
        client.write_all(b"Hello\n").expect("it reads");
        let mut reply = [0; 6];
        client.read_exact(&mut reply).expect("it replies");
        assert_eq!(&reply, b"Hello\n");
        client.shutdown(Shutdown::Write).expect("it is connected");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("it closes");
        assert!(rest.is_empty(), "{rest:?}");
    }
    let mut output = server.output();
    // The documentation has two clients.
    let printed = String::from_utf8_lossy(&output.stdout).replace("served 20", "served 2");
    output.stdout = printed.into_bytes();
    assert_as_documented("parallel", &output);
    let mut rest = String::new();
    log.read_to_string(&mut rest).expect("its log can be read");
    assert_eq!(rest, "", "a client was lost");
}

#[test]
fn every_example_has_a_test() {
    let entries = std::fs::read_dir(folder()).expect("there are examples");
    let names: BTreeSet<String> = entries
        .map(|entry| entry.expect("a folder can be read").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    let known = ["echo", "finalizer", "leak", "offer", "parallel", "transfer"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(known));
}
