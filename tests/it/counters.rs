//! The summary's counts of injected (`--chaos`) and struck (`--faults`) faults are correct, even if
//! one fault prevents another.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use super::broadcast::frame;
use super::reports::{Folder, text};
use super::server::{DEADLINE, Server};

const CHAOS: &str = "panic=0.14,leak=0.14,foreign-write=0.14,cycle=0.14,double-release=0.14,fd-replaced=0.14,finalizer-panic=0.14";
const CHAOS_KINDS: [&str; 7] =
    ["panic", "leak", "foreign-write", "cycle", "double-release", "fd-replaced", "finalizer-panic"];

/// Every kind of fault, at rates that leave most connections alive until their first reply.
const FAULTS: [&str; 11] = [
    "interrupt=0.5",
    "short=1",
    "again=0.5",
    "accept=0.3",
    "thread=0.3",
    "read=0.2",
    "write=0.2",
    "connect=1",
    "close=1",
    "all=0.05",
    "all=0.2",
];

const CLIENTS: usize = 64;

/// Sends two messages, reads until the end, and ignores errors.
fn meet(address: SocketAddr, message: &[u8]) -> Option<Vec<u8>> {
    let mut client = TcpStream::connect(address).ok()?;
    client.set_read_timeout(Some(DEADLINE)).ok()?;
    client.write_all(message).ok()?;
    // The fault comes after the first reply.
    client.read_exact(&mut vec![0; message.len()]).ok()?;
    client.write_all(message).ok()?;
    client.shutdown(Shutdown::Write).ok()?;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).ok()?;
    Some(rest)
}

/// Runs a server until `clients` clients were served. Returns its summary.
fn summary(name: &str, arguments: &[&str], clients: usize, message: &[u8]) -> Value {
    let folder = Folder::new(name);
    let (path, report) = (folder.file("summary"), folder.file("report"));
    let mut all = vec!["--summary", &path, "--report", "json", "--report-file", &report];
    all.extend(arguments);
    let mut server = Server::start(&all);
    let (address, before) = (server.address(), server.open_descriptors().len());
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| (0..clients / 4).for_each(|_| drop(meet(address, message))));
        }
    });
    // The deadline of a drain would cancel tasks in the middle of a fault.
    server.wait_for_descriptors(|open| open.len() <= before);
    server.signal(Signal::TERM);
    assert!(server.wait().success(), "{:#?}", server.seen);
    serde_json::from_str(&text(&path)).expect("the summary is JSON")
}

#[test]
fn injected_counts_only_faults_that_were_done_for_every_kind() {
    let line = b"a message that is a line\n";
    let styles: [(&str, Vec<u8>); 4] = [
        ("echo", line.to_vec()),
        ("staged", line.to_vec()),
        ("callback", line.to_vec()),
        ("broadcast", frame(line)),
    ];
    for (style, message) in &styles {
        let mut done = [0; CHAOS_KINDS.len()];
        for faults in FAULTS {
            let arguments = ["--style", style, "--chaos", CHAOS, "--faults", faults];
            let seeds = ["--chaos-seed", "3", "--faults-seed", "5", "--max-connections", "64"];
            let name = format!("counters-{style}-{faults}");
            let summary = summary(&name, &[&arguments[..], &seeds].concat(), CLIENTS, message);
            let of =
                |what: &str, kind: &str| summary[what][kind.replace('-', "_")].as_u64().unwrap();
            for (done, kind) in done.iter_mut().zip(CHAOS_KINDS) {
                let (injected, reported) = (of("injected", kind), of("reported", kind));
                assert_eq!(injected, reported, "{kind}, {style} with {faults}: {summary}");
                *done += injected;
            }
        }
        assert!(done.iter().all(|&times| times > 0), "{style}: {done:?} of {CHAOS_KINDS:?}");
    }
}

#[test]
fn a_double_release_is_injected_even_if_every_close_fails() {
    let arguments = ["--chaos", "double-release=1", "--faults", "close=1"];
    let summary = summary("counters-double", &arguments, CLIENTS, b"x");
    assert_eq!(summary["injected"]["double_release"], CLIENTS as u64, "{summary}");
    assert_eq!(summary["reported"]["double_release"], CLIENTS as u64, "{summary}");
}

#[test]
fn only_reads_that_were_cut_short_are_counted_as_such() {
    // Messages of one byte cannot be cut short.
    let summary = summary("counters-short", &["--faults", "short=1"], CLIENTS, b"x");
    assert_eq!(summary["bytes_in"], 2 * CLIENTS as u64, "{summary}");
    assert_eq!(summary["syscall_faults"]["short"], 0, "{summary}");
}
