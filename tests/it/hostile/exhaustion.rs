//! More clients than a server has places, descriptors or threads for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::server::{DEADLINE, Server, summary, without_variables};
use super::dialect::{Calm, Dialect};
use crate::common::{temp_path::TempPath, wait_until};

pub fn a_flood_over_the_limit_is_rejected_and_counted_without_effect_on_others(dialect: &Dialect) {
    let arguments = ["--max-connections", "10", "--log-format", "json"];
    let mut server = dialect.start(&arguments);
    let calm = Calm::of(&server);
    let mut inside: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for (n, client) in inside.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    for round in 0..300 {
        let mut outside = server.connect();
        let mut received = Vec::new();
        // Closed immediately: with FIN, or with a reset if the client wrote first.
        let _ = outside.read_to_end(&mut received);
        assert!(received.is_empty());
        dialect.exchange(&mut inside[round % 10], round);
    }
    let log = server.lines().iter().filter(|line| line.contains("was refused")).count();
    assert!((1..=30).contains(&log), "{log} lines for 300 rejected clients");
    drop(inside);
    calm.assert_restored(dialect, &mut server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(summary(&server.seen, "refused") >= 300, "{:#?}", server.seen.last());
}

pub fn a_flood_over_the_backlog_leaves_the_server_working(dialect: &Dialect) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    /// More than the 1,024 that are queued.
    const FLOOD: usize = 1500;
    let mut server = dialect.start(&["--max-connections", "50", "--log-format", "json"]);
    let calm = Calm::of(&server);
    // A stopped server accepts no client, and the queue overflows.
    server.hold();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let crowd: Vec<_> = (0..FLOOD)
        .map_while(|_| {
            let inet = AddressFamily::INET;
            let client = rustix::net::socket_with(inet, SocketType::STREAM, flags, None).ok()?;
            // In progress, or rejected because the queue is full: a flood has both.
            let _ = rustix::net::connect(&client, &server.address());
            Some(client)
        })
        .collect();
    assert!(crowd.len() > 1100, "this machine allows {} descriptors only", crowd.len());
    server.signal(Signal::CONT);
    drop(crowd);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut client = server.connect();
        let request = (dialect.request)(1, 100);
        let reply = (dialect.reply)(&request);
        if client.write_all(&request).is_ok() && (dialect.hear)(&mut client, &reply).is_ok() {
            break;
        }
        assert!(Instant::now() < deadline, "it does not recover");
    }
    calm.assert_restored(dialect, &mut server);
}

pub fn one_address_cannot_use_all_places(dialect: &Dialect) {
    let server = dialect.start(&["--max-per-ip", "3"]);
    let mut inside: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for (n, client) in inside.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    let mut fourth = server.connect();
    let mut received = Vec::new();
    let _ = fourth.read_to_end(&mut received);
    assert!(received.is_empty());
    // Another address of the same machine is another client.
    let elsewhere = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(&elsewhere, &"127.0.0.2:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    rustix::net::connect(&elsewhere, &server.address()).unwrap();
    dialect.exchange(&mut TcpStream::from(elsewhere), 1);
}

pub fn a_server_out_of_descriptors_pauses_logs_it_once_and_recovers(dialect: &Dialect) {
    let mut server = dialect.start(&["--log-format", "json"]);
    // Below the limit at its start, as when the whole system runs out.
    server.set_limit("--nofile=40");
    let calm = Calm::of(&server);
    let mut inside = server.connect();
    dialect.exchange(&mut inside, 1);
    let mut crowd: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    server.wait_for_line("accept paused");
    for n in 0..50 {
        dialect.exchange(&mut inside, n);
    }
    // Some of the clients were closed with the descriptor in reserve.
    wait_until("the close of a client", || {
        crowd.iter_mut().any(|client| {
            client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            matches!(client.read(&mut [0]), Ok(0))
        })
    });
    crowd.clear();
    server.wait_for_line("accept resumed");
    let pauses = server.seen.iter().filter(|line| line.contains("accept paused")).count();
    assert!(pauses <= 5, "{pauses} lines about it");
    drop(inside);
    calm.assert_restored(dialect, &mut server);
}

pub fn a_server_out_of_threads_rejects_clients_and_recovers(dialect: &Dialect) {
    // The limit is counted per user, and does not apply to a privileged one.
    let Some((mut command, _copy)) = as_unprivileged_user(dialect.name) else {
        eprintln!("skipped: needs root, to become a user without privileges");
        return;
    };
    let mut server = Server::run(command.args(dialect.arguments), 1);
    // Below the limit at its start, as when other processes of the same user take theirs.
    server.set_limit("--nproc=40");
    let mut inside = server.connect();
    dialect.exchange(&mut inside, 1);
    let crowd: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    server.wait_for_line(dialect.out_of_threads);
    for n in 0..50 {
        dialect.exchange(&mut inside, n);
    }
    drop(crowd);
    drop(inside);
    wait_until("the server to recover", || {
        let mut client = server.connect();
        let request = (dialect.request)(1, 100);
        let _ = client.write_all(&request);
        (dialect.hear)(&mut client, &(dialect.reply)(&request)).is_ok()
    });
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
}

/// The server as a separate user with a thread limit, and the copy of the program that it runs;
/// `None` without the right to change the user.
pub fn as_unprivileged_user(name: &str) -> Option<(Command, TempPath)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    // No other process has this user, whose threads are counted together.
    let other = name.bytes().map(u32::from).sum::<u32>();
    let user = 54_000 + (std::process::id() + other) % 1000;
    // The program may be in a folder that this user cannot enter.
    let copy = TempPath::new("of-another-user");
    // Copied by another process: a child that another test starts meanwhile would inherit the file
    // that is open for writing, and such a file cannot be executed.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_echown")).arg(&*copy).status();
    if !copied.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), "--regid=65534", "--clear-groups"]).arg(&*copy);
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    without_variables(&mut command);
    Some((command, copy))
}
