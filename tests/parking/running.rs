//! A server in this process that parks its connections, stopped at the end of its test.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use echown::echo::{Handler, Plain, Turn, Turns};
use echown::faults::FaultInjector;
use echown::net::Stream;
use echown::ownership::Registry;
use echown::server::{Control, ControlHandle, Server, ServerSettings, ServerSummary};

use super::clients::Client;
use crate::common::{DEADLINE, lock, wait_for, wait_until};

/// What a test does after a turn: it gets what was received, and may change the outcome.
type AfterTurn = dyn Fn(&[u8], Turn) -> Turn + Send + Sync;

/// The plain echo, with a hook at the end of each turn, where a worker has the connection and no more
/// reads it.
struct Hooked {
    after_turn: Box<AfterTurn>,
}

impl Handler for Hooked {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        Plain.serve(stream)
    }

    fn turns(&self) -> Option<&dyn Turns> {
        Some(self)
    }
}

impl Turns for Hooked {
    fn turn(&self, stream: &Stream, buffer: &mut [u8]) -> io::Result<Turn> {
        // Otherwise a turn without input would show the bytes of the last one.
        buffer[..4].fill(0);
        let turn = Plain.turn(stream, buffer)?;
        Ok((self.after_turn)(buffer, turn))
    }
}

/// A running server.
pub struct Running {
    pub registry: Registry,
    pub control: ControlHandle,
    pub address: SocketAddr,
    /// What the registry reported.
    pub reports: Arc<Mutex<Vec<String>>>,
    ended: Receiver<ServerSummary>,
    thread: JoinHandle<()>,
}

/// Starts a server of one acceptor with this many workers, under injected faults of system calls.
pub fn start_with_faults(
    workers: usize,
    faults: &str,
    change: impl FnOnce(&mut ServerSettings),
    after_turn: impl Fn(&[u8], Turn) -> Turn + Send + Sync + 'static,
) -> Running {
    let reports: Arc<Mutex<Vec<String>>> = Arc::default();
    let reported = Arc::clone(&reports);
    let mut builder = Registry::builder();
    if !faults.is_empty() {
        let injector = FaultInjector::new(faults, 1).unwrap();
        builder = builder.inject_faults(&Arc::new(injector));
    }
    let registry = builder.sink(move |report| lock(&reported).push(report.to_string())).build();
    let mut settings = ServerSettings::default();
    settings.park = NonZeroUsize::new(workers);
    settings.drain_timeout = DEADLINE;
    change(&mut settings);
    let handler = Arc::new(Hooked { after_turn: Box::new(after_turn) });
    let (started, start) = channel();
    let (ending, ended) = channel();
    let serving = registry.clone();
    let thread = std::thread::spawn(move || {
        let endpoints = ["127.0.0.1:0".parse().unwrap()];
        let server = Server::bind(&serving, &endpoints, settings, handler).unwrap();
        let address: SocketAddr = server.addresses().next().unwrap().parse().unwrap();
        started.send((server.control(), address)).unwrap();
        // Fails only if the test has failed.
        let _ = ending.send(server.serve().unwrap());
    });
    let (control, address) = start.recv_timeout(DEADLINE).expect("the server starts");
    Running { registry, control, address, reports, ended, thread }
}

/// [`start_with_faults`] without any.
pub fn start(
    workers: usize,
    change: impl FnOnce(&mut ServerSettings),
    after_turn: impl Fn(&[u8], Turn) -> Turn + Send + Sync + 'static,
) -> Running {
    start_with_faults(workers, "", change, after_turn)
}

impl Running {
    /// Drains it, unless that was done, and checks that no connection was aborted.
    pub fn drain(self) -> ServerSummary {
        let summary = self.end_by(Control::Drain);
        assert_eq!((summary.panics, summary.aborted), (0, 0), "{summary}");
        summary
    }

    /// Ends it, and checks that it leaves nothing.
    pub fn end_by(self, control: Control) -> ServerSummary {
        self.control.send(control);
        let summary = self.ended.recv_timeout(2 * DEADLINE).expect("the drain ends");
        self.thread.join().expect("the server does not panic");
        assert_eq!(*lock(&self.reports), [""; 0], "a report");
        assert_eq!((summary.leaks, summary.violations, summary.open_resources), (0, 0, 0));
        assert!(summary.stuck.is_empty(), "{summary}");
        assert!(self.registry.snapshot().resources.is_empty());
        summary
    }
}

/// The descriptor number of the server's end of this connection, and the state that the registry shows.
pub fn server_end(server: &Running, client: &Client) -> Option<(i32, &'static str)> {
    let own = client.stream.local_addr().unwrap().to_string();
    let all = server.registry.snapshot().resources;
    let end = all.into_iter().find(|one| one.peer.as_deref() == Some(&*own))?;
    Some((end.number?, end.state))
}

/// Another descriptor of the server's end, so that its file stays open.
pub fn second_descriptor(server: &Running, client: &Client) -> OwnedFd {
    let (number, _) = wait_for("the server's end", || server_end(server, client));
    let path = format!("/proc/self/fd/{number}");
    assert!(std::fs::read_link(path).unwrap().to_string_lossy().starts_with("socket:"));
    let borrowed = crate::common::fd_misuse::second_owner(number);
    let second = borrowed.try_clone().unwrap();
    // The server is the owner of that number.
    std::mem::forget(borrowed);
    second
}

/// How often the same must have been seen to be the end of it.
const STILL: u32 = 20;

/// Sends without reading until the server no longer reads from this client. Returns what was sent.
pub fn block(server: &Running, client: &mut Client) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    let end = second_descriptor(server, client);
    let mut sent = Vec::new();
    let (mut before, mut same) = (0, 0);
    wait_until("the server does not read", || {
        sent.extend(client.send_until_full(1 << 20, &mut random).unwrap());
        let unread = rustix::io::ioctl_fionread(&end).unwrap();
        same = if unread > 0 && unread == before { same + 1 } else { 0 };
        before = unread;
        same >= STILL
    });
    sent
}
