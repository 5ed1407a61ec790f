//! `serve --upgrade-socket`: a new process takes over the sockets of a running one.

use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::server::{DEADLINE, Server, echown, exchange, summary};
use super::systemd::manager::Manager;
use crate::common::poll;

mod addresses;
mod load;
mod old;
mod steps;
mod trust;

/// A folder for sockets that only this user can write to. Removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("echown-up-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).expect("it does not exist");
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("it is UTF-8").to_owned()
    }

    fn socket(&self) -> String {
        self.path("upgrade")
    }

    /// `echown serve` with the upgrade socket in this folder.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = echown();
        command.args(["serve", "--upgrade-socket", &self.socket()]).args(arguments);
        command
    }

    /// A server on a free port, which a later one with the same arguments takes over.
    fn serve(&self, arguments: &[&str]) -> Server {
        let all = [&["--listen", "127.0.0.1:0"], arguments].concat();
        Server::run(&mut self.command(&all), 1)
    }

    /// [`serve`](Folder::serve), and waits until it has taken over.
    fn take_over(&self, arguments: &[&str]) -> Server {
        let mut server = self.serve(arguments);
        server.wait_for_line("took over from process ");
        server
    }

    /// Runs a server that is expected to fail.
    fn fail(&self, arguments: &[&str]) -> (Option<i32>, String) {
        failure(&mut self.command(arguments))
    }

    fn connect(&self) -> Client {
        Client::connect(&self.socket())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn failure(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        command.stdin(Stdio::null()).output().expect("the program starts");
    (status.code(), String::from_utf8(stderr).expect("it is UTF-8"))
}

/// A hand-written new process, which stops wherever a test wants.
struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn connect(path: &str) -> Client {
        let stream = UnixStream::connect(path).expect("the server listens for upgrades");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line comes");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.stream.get_mut(), "{message}").expect("the server reads");
    }

    /// The reason of the refusal that comes next.
    fn refusal(&mut self) -> String {
        let message = self.receive();
        assert_eq!(message["message"], "refused", "{message}");
        message["reason"].as_str().expect("a text").to_owned()
    }

    /// Claims all addresses and receives their sockets.
    fn claim_all(&mut self) -> Vec<OwnedFd> {
        let offer = self.receive();
        let addresses = offer["addresses"].as_array().expect("a list");
        let all: Vec<usize> = (0..addresses.len()).collect();
        self.send(&json!({"message": "claim", "version": 1, "addresses": all}));
        let count: u64 = addresses.iter().map(|it| it["sockets"].as_u64().unwrap()).sum();
        let mut sockets = Vec::new();
        for _ in 0..count {
            // Without the buffer, so that the descriptor comes along.
            let mut line = [0; 64];
            let mut bytes = [IoSliceMut::new(&mut line)];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            recvmsg(self.stream.get_ref(), &mut bytes, &mut control, flags).unwrap();
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmRights(passed) => sockets.extend(passed),
                    _ => panic!("only descriptors are sent"),
                }
            }
        }
        assert_eq!(sockets.len() as u64, count);
        sockets
    }
}

/// A server serves: its clients get their bytes back.
#[track_caller]
fn assert_serves(server: &Server) {
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
}

/// A replaced server ends by itself, and lost nothing.
#[track_caller]
fn assert_ends_well(server: Server) {
    assert_ends_without(server, &["errors", "aborted", "panics", "leaks", "violations", "refused"]);
}

/// A replaced server ends by itself, without these.
#[track_caller]
fn assert_ends_without(mut server: Server, counts: &[&str]) {
    let status = server.wait();
    let lines = std::mem::take(&mut server.seen);
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    for what in counts {
        assert_eq!(summary(&lines, what), 0, "{what}: {lines:#?}");
    }
}

/// The client that is first in the queue.
#[track_caller]
fn accept(listener: &TcpListener) -> SocketAddr {
    listener.set_nonblocking(true).expect("the option exists");
    let accepted = poll(DEADLINE, || listener.accept().ok());
    accepted.expect("a client is in the queue").1
}

fn stop(server: Server) {
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
}

#[test]
fn under_a_service_manager_the_new_process_is_the_main_one_of_the_service() {
    let folder = Folder::new();
    let mut manager = Manager::new();
    let arguments = ["--listen", "127.0.0.1:0", "--drain-timeout", "1h"];
    let old = Server::run(manager.manages(&mut folder.command(&arguments)), 1);
    manager.wait_for("READY=1");
    let idle = old.connect();
    let new = Server::run(manager.manages(&mut folder.command(&arguments)), 1);
    manager.wait_for(&format!("MAINPID={}", new.pid()));
    manager.wait_for("READY=1");
    // The manager would take the end of the old process for that of the service.
    old.signal(Signal::TERM);
    assert_ends_well(old);
    drop(idle);
    assert!(!manager.all().iter().any(|it| it.contains("STOPPING")), "{:#?}", manager.seen);
    stop(new);
    manager.wait_for("STOPPING=1");
}

#[test]
fn the_custody_of_both_processes_names_the_other_one() {
    let folder = Folder::new();
    let record = folder.path("old.jsonl");
    let old = folder.serve(&["--record", &record]);
    let mut new = folder.take_over(&[]);
    let (old_process, new_process) = (old.pid(), new.pid());
    assert_ends_well(old);
    new.signal(Signal::USR1);
    let received = format!("received from process {old_process} by task 1 `main`");
    new.wait_for_line("tcp listener fd ");
    new.wait_for_line(&received);
    stop(new);
    let recorded = std::fs::read_to_string(record).unwrap();
    let steps: Vec<Value> =
        recorded.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listener = steps.iter().find(|it| it["kind"] == "tcp listener").expect("it is recorded");
    let of_it = steps.iter().filter(|it| it["resource"] == listener["resource"]);
    let of_it: Vec<&Value> = of_it.collect();
    let events: Vec<&str> = of_it.iter().map(|it| it["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["acquired", "given", "shared", "handed_over", "released"]);
    let process = format!("process {new_process}");
    assert_eq!(
        (&of_it[2]["to"]["name"], &of_it[3]["to"]["name"]),
        (&json!(process), &json!(process))
    );
}
