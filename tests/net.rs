//! Checked sockets, pipes and files, by their public API.
//!
//! Every test runs as a root task in its own registry, which must be clean afterwards unless the
//! test breaks rules on purpose.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use echown::net::{Listener, Stream};
use echown::ownership::{Error, ErrorKind, Promise, Registry, TaskError};

#[path = "net/adopting.rs"]
mod adopting;

#[path = "net/cancelling.rs"]
mod cancelling;

#[path = "net/connections.rs"]
mod connections;

#[path = "net/halves.rs"]
mod halves;

#[path = "net/inherited.rs"]
mod inherited;

#[path = "net/interrupting.rs"]
mod interrupting;

#[path = "net/options.rs"]
mod options;

#[path = "net/udp_pipe_file.rs"]
mod udp_pipe_file;

#[path = "net/registries.rs"]
mod registries;

#[path = "net/refusals.rs"]
mod refusals;

#[path = "common/mod.rs"]
mod common;

#[path = "common/signals.rs"]
mod signals;

#[path = "net/stopping.rs"]
mod stopping;

use common::{DEADLINE, poll};

/// A registry that keeps its reports and does not print them.
fn quiet() -> Registry {
    Registry::builder().sink(|_| {}).build()
}

/// Runs a test as a root task. Asserts that it leaves no resource and breaks no rule.
fn clean(test: impl FnOnce()) {
    let registry = quiet();
    run(&registry, test);
    let verdict = registry.summary();
    assert!(verdict.is_clean(), "{verdict:?}\n{:#?}", registry.reports());
}

fn run(registry: &Registry, test: impl FnOnce()) {
    match registry.run("test", test) {
        Ok(()) => {}
        Err(TaskError::Panicked(panic)) => std::panic::resume_unwind(panic.into_payload()),
        Err(failure) => panic!("{failure}"),
    }
}

/// A path that no other test uses. The file there is removed on drop.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        Place(std::env::temp_dir().join(format!("echown-{name}-{}", std::process::id())))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A connected pair over this listener: the client's end, then the server's.
fn connected(listener: &Listener) -> (Stream, Stream) {
    let address = listener.local_addr().unwrap();
    let client = Stream::connect_to(&address).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

fn kind_of(error: &io::Error) -> ErrorKind {
    Error::in_io(error).unwrap_or_else(|| panic!("not an error of the registry: {error:?}")).kind()
}

/// A bound socket that does not listen: no other socket can have its address.
fn bound_socket() -> rustix::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    socket
}

fn rustix_address(socket: &rustix::fd::OwnedFd) -> SocketAddr {
    rustix::net::getsockname(socket).unwrap().try_into().unwrap()
}

/// A listener with a full backlog, and the clients that fill it.
fn full_listener() -> (rustix::fd::OwnedFd, Vec<std::net::TcpStream>, SocketAddr) {
    let listener = bound_socket();
    let address = rustix_address(&listener);
    rustix::net::listen(&listener, 0).unwrap();
    let mut clients = Vec::new();
    while let Ok(client) =
        std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300))
    {
        clients.push(client);
        assert!(clients.len() < 100, "a backlog of 0 accepts all of them");
    }
    (listener, clients, address)
}

/// Waits until the task's thread is blocked in the kernel. The test must also pass without this,
/// which makes the interesting case the usual one.
fn let_block<T>(task: &Promise<T>) {
    let id = task.task().id;
    let is_blocked = || {
        let tasks = Registry::current().snapshot().tasks;
        let data = tasks.iter().find(|data| data.task.id == id)?;
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", data.thread_id?));
        let is_sleeping =
            |stat: &str| stat.rsplit(") ").next().is_some_and(|it| it.starts_with('S'));
        stat.map_or(true, |stat| is_sleeping(&stat)).then_some(())
    };
    let _ = poll(DEADLINE, || if task.has_ended() { Some(()) } else { is_blocked() });
}

#[track_caller]
fn assert_carries_both_ways(listener: &Listener, kind: &str) {
    let address = listener.local_addr().unwrap();
    let mut client = Stream::connect_to(&address).unwrap();
    let (mut server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(peer, server.peer_addr().unwrap());
    assert_eq!(client.peer_addr().unwrap(), address);

    client.write_all(b"there").unwrap();
    let mut buffer = [0; 5];
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"there");
    server.write_all(b"and back").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "and back");

    let described = server.describe();
    assert_eq!((described.kind, described.bytes_in, described.bytes_out), (kind, 5, 8));
    let described = client.describe();
    assert_eq!((described.kind, described.bytes_in, described.bytes_out), (kind, 8, 5));
    assert!(server.take_error().unwrap().is_none());
}
