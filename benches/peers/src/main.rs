//! Small echo servers built with other libraries, to compare echown with: `echown-peers NAME PORT`.
//!
//! Each is the first version that a competent author would write. `--list` names them. They have
//! the following in common, so that only the implementation differs:
//!
//! - one listener, created here and passed to the peer: `SO_REUSEADDR`, a backlog of [`BACKLOG`]
//!   (`net.core.somaxconn` may be lower), and `TCP_NODELAY`, which accepted sockets inherit on
//!   Linux, so that it costs no system call per connection;
//! - [`BUFFER_BYTES`] are read at a time, into a buffer on the heap;
//! - each byte comes back in order until the client has closed its sending side; then the server
//!   closes its own;
//! - if no thread is available, the connection is closed; if no descriptor is available, accepting
//!   pauses;
//! - SIGINT and SIGTERM have their default action: they end the process.
//!
//! They have no limits, no timeouts, no drain and no log.

mod c;
mod event_loop;
mod futures;
mod threads;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use clap::{Parser, ValueEnum};
use socket2::{Domain, Protocol, Socket, Type};

/// The length of the accept queue.
const BACKLOG: i32 = 4096;

/// The size of a read in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// Small echo servers built with other libraries, to compare echown with.
#[derive(Parser)]
struct Arguments {
    /// The name of the server.
    #[arg(required_unless_present = "list")]
    name: Option<Name>,

    /// The port to listen on; 0 takes a free one. The line `listening on ADDR` contains it.
    #[arg(required_unless_present = "list")]
    port: Option<u16>,

    /// The address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,

    /// List the servers, each with a description.
    #[arg(long)]
    list: bool,
}

/// The servers. `--list` prints their comments.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// std::net, one new thread per connection
    Threads,
    /// the `threadpool` crate without ownership: one thread per concurrent connection
    Threadpool,
    /// tokio, a task per connection, a worker thread per core
    Tokio,
    /// tokio, a task per connection, all of them on one thread
    TokioSingle,
    /// mio, one thread, edge-triggered
    Mio,
    /// C, one POSIX thread per connection
    C,
    /// C, one thread, epoll, level-triggered
    CEpoll,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let (Some(name), Some(port), false) = (arguments.name, arguments.port, arguments.list) else {
        return list();
    };
    let listener = listen(SocketAddr::new(arguments.address, port))?;
    let mut out = io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    match name {
        Name::Threads => threads::spawned(&listener),
        Name::Threadpool => threads::pooled(&listener),
        Name::Tokio => futures::on_all_cores(listener)?,
        Name::TokioSingle => futures::on_one_thread(listener)?,
        Name::Mio => event_loop::run(listener)?,
        Name::C => c::threads(&listener),
        Name::CEpoll => c::epoll(&listener)?,
    }
    Ok(())
}

fn list() -> io::Result<()> {
    let mut out = io::stdout();
    for name in Name::value_variants().iter().filter_map(Name::to_possible_value) {
        let sentence = name.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "{:13}{sentence}", name.get_name())?;
    }
    Ok(())
}

/// The listener of all peers.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn accepted_sockets_inherit_the_listeners_nodelay() {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
