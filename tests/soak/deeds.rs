//! The actions of clients and operators in a soak. Each is one visit, bounded in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Signal, kill_process};

use super::Load;

/// An action that is repeated.
pub struct Deed {
    pub name: &'static str,
    /// The number of threads that do it.
    pub at_once: u64,
    pub act: fn(&Load, &mut Rng),
}

/// All actions, which run at once.
pub const ALL: &[Deed] = &[
    Deed { name: "visits: a few messages, each checked", at_once: 4, act: visit },
    Deed { name: "resets", at_once: 2, act: reset },
    Deed { name: "half-closes: all of it back, checked", at_once: 2, act: half_close },
    Deed { name: "floods: megabytes, never read", at_once: 1, act: flood },
    Deed { name: "slow readers", at_once: 2, act: read_slowly },
    Deed { name: "crowds: more than are let in", at_once: 1, act: crowd },
    Deed { name: "signals: SIGUSR1 and SIGHUP", at_once: 1, act: signal },
];

/// The timeout of clients.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often a client that waits for the server checks whether the soak has ended.
const SLICE: Duration = Duration::from_millis(20);

fn connect(load: &Load) -> Option<TcpStream> {
    match TcpStream::connect(load.address) {
        Ok(stream) => {
            load.count_connection();
            let _ = stream.set_read_timeout(Some(DEADLINE));
            let _ = stream.set_write_timeout(Some(DEADLINE));
            Some(stream)
        }
        Err(_) => {
            // No free port: those of the connections before are taken for a second.
            crate::common::stall(SLICE);
            None
        }
    }
}

fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let length = random.usize(1..=most);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

/// A few messages, one after the other. With chaos a connection may end at any time. The bytes
/// received until then are those that were sent.
fn visit(load: &Load, random: &mut Rng) {
    let Some(mut client) = connect(load) else { return };
    for _ in 0..random.usize(1..5) {
        let sent = bytes(random, 2000);
        if client.write_all(&sent).is_err() {
            return;
        }
        let mut back = vec![0; sent.len()];
        let mut filled = 0;
        while filled < sent.len() {
            match client.read(&mut back[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) => {
                    if error.kind() == ErrorKind::WouldBlock {
                        // Neither a reply nor end of stream.
                        load.count_wrong();
                    }
                    break;
                }
            }
        }
        if back[..filled] != sent[..filled] {
            load.count_wrong();
        }
        if filled < sent.len() {
            return;
        }
    }
}

/// Disconnects in the middle of an exchange.
fn reset(load: &Load, random: &mut Rng) {
    let Some(mut client) = connect(load) else { return };
    if random.bool() {
        let _ = client.write_all(&bytes(random, 10_000));
    }
    if random.bool() {
        let _ = client.set_read_timeout(Some(SLICE));
        let _ = client.read(&mut [0; 100]);
    }
    let _ = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
}

/// Sends, finishes, and reads to the end.
fn half_close(load: &Load, random: &mut Rng) {
    let Some(mut client) = connect(load) else { return };
    // As much as fits into the buffers on the path, so that no read is needed meanwhile.
    let sent = bytes(random, 50_000);
    if client.write_all(&sent).is_err() || client.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut back = Vec::new();
    let _ = client.read_to_end(&mut back);
    if back.len() > sent.len() || back != sent[..back.len()] {
        load.count_wrong();
    }
}

/// Sends without reading until the buffers are full, and disconnects.
fn flood(load: &Load, random: &mut Rng) {
    let Some(mut client) = connect(load) else { return };
    let _ = client.set_write_timeout(Some(SLICE));
    let block = bytes(random, 1 << 20);
    for _ in 0..random.usize(1..30) {
        if client.write(&block).is_err() || load.is_over() {
            return;
        }
    }
}

/// Reads a large reply slowly: sometimes it finishes in time, sometimes the server disconnects it.
fn read_slowly(load: &Load, random: &mut Rng) {
    let Some(mut client) = connect(load) else { return };
    let _ = client.set_write_timeout(Some(SLICE));
    let block = bytes(random, 1 << 20);
    for _ in 0..10 {
        if client.write(&block).is_err() {
            break;
        }
    }
    let _ = client.set_read_timeout(Some(SLICE));
    let until = Instant::now() + Duration::from_millis(random.u64(100..4000));
    while Instant::now() < until && !load.is_over() {
        if random.u8(..) < 8 && matches!(client.read(&mut [0; 1000]), Ok(0)) {
            return;
        }
        crate::common::stall(SLICE);
    }
}

/// More clients than the limit, at one time; accepted clients send a message.
fn crowd(load: &Load, random: &mut Rng) {
    let mut clients: Vec<TcpStream> =
        (0..random.usize(50..400)).map_while(|_| connect(load)).collect();
    for client in &mut clients {
        let _ = client.write_all(b"x");
    }
    for client in &mut clients {
        let mut back = [0];
        if client.read(&mut back).is_ok_and(|bytes| bytes > 0) && back != *b"x" {
            load.count_wrong();
        }
    }
    drop(clients);
    for _ in 0..random.usize(0..20) {
        if !load.is_over() {
            crate::common::stall(SLICE);
        }
    }
}

/// Requests the custody table, or has the files reopened.
fn signal(load: &Load, random: &mut Rng) {
    let signal = if random.bool() { Signal::USR1 } else { Signal::HUP };
    let _ = kill_process(load.pid, signal);
    for _ in 0..random.usize(1..20) {
        if !load.is_over() {
            crate::common::stall(SLICE);
        }
    }
}
