//! Client limits: clients above a limit, and limits that the system does not allow.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;

use super::hostile::as_unprivileged_user;
use super::server::{Server, as_in_a_terminal, exchange, serve};
use super::status::events::Viewer;
use super::status::http::{get, status_of};
use crate::common::{require_tool, temp_path::TempPath};

#[test]
fn a_client_above_the_limit_is_closed_immediately_and_counted() {
    let mut server = Server::start(&["--max-connections", "2"]);
    let mut inside: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut inside {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let mut outside = server.connect();
    let mut back = Vec::new();
    outside.read_to_end(&mut back).expect("closed without a reset");
    assert!(back.is_empty());

    // A place that becomes free is given to the next client.
    drop(inside.pop());
    server.wait_for_descriptors(|open| {
        open.iter().filter(|(_, target)| target.starts_with("socket:")).count() <= 4
    });
    let served = (0..1000).any(|_| exchange_or_refused(&server));
    assert!(served, "a later client is served");
    drop(inside);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let summary = server.seen.iter().find(|line| line.contains(" refused,")).unwrap();
    let rejected: u64 = summary
        .split(", ")
        .find_map(|part| part.strip_suffix(" refused"))
        .and_then(|count| count.parse().ok())
        .unwrap();
    assert!(rejected >= 1, "{summary}");
}

/// The task of the client that left may not have exited yet: then the next one is also rejected.
fn exchange_or_refused(server: &Server) -> bool {
    let mut client = server.connect();
    let mut back = Vec::new();
    client.write_all(b"later").is_ok()
        && client.shutdown(std::net::Shutdown::Write).is_ok()
        && client.read_to_end(&mut back).is_ok()
        && back == b"later"
}

#[test]
fn a_client_limit_above_the_fd_limit_is_lowered_with_a_remedy() {
    let mut server = Server::start(&["--max-connections", "100000000"]);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.seen.join("\n");
    assert!(log.contains("--max-connections 100000000 is lowered to "));
    assert!(log.contains("raise it with `ulimit -n 10000"), "{log}");
}

#[test]
fn a_default_client_limit_above_the_fd_limit_is_lowered_silently() {
    let mut server = under("--nofile=64", &[]);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.seen.join("\n");
    assert!(log.contains(" connections fit, fewer than the default of 1024: RLIMIT_NOFILE is 64"));
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_limit_raised_as_the_warning_states_admits_all_clients() {
    let mut server = under("--nofile=64", &["--max-connections", "100"]);
    let log = server.lines().join("\n");
    let enough = log.split("`ulimit -n ").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    let mut server = under(&format!("--nofile={enough}"), &["--max-connections", "100"]);
    assert_filled_and_refused(&mut server, 100, "--max-connections");
}

#[test]
fn at_the_fd_limit_new_clients_are_rejected_and_others_continue() {
    for (more, is_enough) in [(&[][..], 30..64), (&["--park"], 20..40)] {
        let arguments = [&["--max-connections", "1000"], more].concat();
        let mut server = under("--nofile=64", &arguments);
        let fit = lowered_to(&mut server);
        assert!(is_enough.contains(&fit), "{more:?}: {fit}");
        assert_filled_and_refused(&mut server, fit, "RLIMIT_NOFILE of 64 allows no more");
    }
}

#[test]
fn at_the_fd_limit_the_status_has_descriptors_of_its_own() {
    let arguments = ["--max-connections", "1000", "--status", "127.0.0.1:0"];
    let mut server = under("--nofile=64", &arguments);
    let status = status_of(&mut server);
    let fit = lowered_to(&mut server);
    // Its listener, the two ends of its stop pipe, 8 clients, and 4 and one more that are rejected.
    let without = lowered_to(&mut under("--nofile=64", &arguments[..2]));
    assert_eq!(without - fit, 3 + 8 + 4 + 1);
    let crowd: Vec<TcpStream> = (0..fit).map(|_| server.connect()).collect();
    server.wait_for("all clients", |server| server.open_descriptors().len() >= fit);
    assert!(is_refused(&mut server.connect()));
    let mut viewers: Vec<Viewer> = (0..8).map(|_| Viewer::connect(status)).collect();
    viewers.iter_mut().for_each(|viewer| drop(viewer.wait_for_event("live")));
    assert_eq!(get(status, "/snapshot.json").code, 503, "the ninth gets a response, too");
    let lines = server.lines().join("\n");
    assert!(!lines.contains("accept paused"), "no descriptor was missing: {lines}");
    drop(crowd);
}

#[test]
fn at_the_thread_limit_new_clients_are_rejected_and_others_continue() {
    // Each style separately: one of them has two tasks per connection.
    for (style, is_enough) in [("echo", 30..64), ("broadcast", 15..32)] {
        let Some((mut command, _copy)) = as_unprivileged_user(&format!("limit {style}")) else {
            eprintln!("skipped: needs root, to become a user without privileges");
            return;
        };
        command.args(["--max-connections", "1000", "--style", style]);
        let mut limited = std::process::Command::new("prlimit");
        limited.arg("--nproc=64").arg(command.get_program()).args(command.get_args());
        let mut server = Server::run(&mut limited, 1);
        let fit = lowered_to(&mut server);
        assert!(is_enough.contains(&fit), "{style}: {fit}");
        if style == "echo" {
            assert_filled_and_refused(&mut server, fit, "RLIMIT_NPROC of 64 allows no more");
        } else {
            let crowd: Vec<_> = (0..fit).map(|_| server.connect()).collect();
            server.wait_for("all threads", |server| server.threads() > 2 * crowd.len());
            assert!(is_refused(&mut server.connect()));
            assert!(!server.lines().join("").contains("failed to start its writer"));
        }
    }
}

/// A server under a limit that `prlimit(1)` sets.
fn under(limit: &str, arguments: &[&str]) -> Server {
    let program = serve(&["127.0.0.1:0"], arguments);
    let mut command = std::process::Command::new("prlimit");
    command.arg(limit).arg(program.get_program()).args(program.get_args());
    Server::run(&mut command, 1)
}

fn lowered_to(server: &mut Server) -> usize {
    let log = server.lines().join("\n");
    let fit = log.split("is lowered to ").nth(1).and_then(|rest| rest.split(':').next());
    fit.and_then(|fit| fit.parse().ok()).unwrap_or_else(|| panic!("not lowered: {log}"))
}

/// Fills a server with clients, and asserts that further ones are rejected for this reason, that
/// the connected clients are not affected, and that nothing is exhausted.
fn assert_filled_and_refused(server: &mut Server, fit: usize, reason: &str) {
    let mut inside: Vec<TcpStream> = (0..fit).map(|_| server.connect()).collect();
    for client in &mut inside {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).expect("it is served");
    }
    for round in 0..30 {
        assert!(is_refused(&mut server.connect()), "round {round}");
        let client = &mut inside[round % fit];
        client.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).expect("it is not disturbed");
    }
    for client in inside.drain(..) {
        assert_eq!(exchange(client, b"bye"), b"bye");
    }
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.seen.join("\n");
    assert!(log.contains(reason), "{reason:?} is not in {log}");
    assert!(!log.contains("accept paused"), "the ceiling was too high: {log}");
}

/// Whether a client is closed immediately, with nothing sent: with FIN, or with a reset if the
/// client wrote first.
fn is_refused(client: &mut TcpStream) -> bool {
    client.read_to_end(&mut Vec::new()).map_or(true, |bytes| bytes == 0)
}

#[test]
fn the_limit_per_client_is_one_for_the_64_of_an_ipv6_address() {
    // Addresses of two networks, in a network namespace, so that they are free.
    let prepare = "ip link set lo up && ip -6 addr add 2001:db8::1/64 dev lo nodad \
                   && ip -6 addr add 2001:db8::2/64 dev lo nodad \
                   && ip -6 addr add 2001:db8:0:1::1/64 dev lo nodad";
    let possible = Command::new("unshare").args(["-rn", "sh", "-c", prepare]).output();
    let possible = possible.is_ok_and(|output| output.status.success());
    if !require_tool("IPv6 and a network namespace (`unshare -rn ip`)", possible) {
        return;
    }
    let program = env!("CARGO_BIN_EXE_echown");
    let serve = format!("{prepare} && exec {program} serve --listen [::]:0 --max-per-ip 1");
    let mut server = as_in_a_terminal("unshare");
    let mut server = Server::run(server.args(["-rn", "sh", "-c", &serve]), 1);
    let (pid, port) = (server.pid().to_string(), server.address().port());
    let load = |sources: [&str; 2]| {
        let mut bench = Command::new("nsenter");
        bench.args([
            "--target",
            &pid,
            "--user",
            "--preserve-credentials",
            "--net",
            program,
            "bench",
        ]);
        bench.args([&format!("[2001:db8::1]:{port}"), "--connections", "2", "--warmup", "0s"]);
        bench.args(["--duration", "100ms", "--source", sources[0], "--source", sources[1]]);
        bench.output().unwrap()
    };
    let output = load(["2001:db8::1", "2001:db8:0:1::1"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let refusal = "was refused: 1 connection is served for ";
    assert!(!server.lines().iter().any(|line| line.contains(refusal)), "{:#?}", server.seen);
    load(["2001:db8::1", "2001:db8::2"]);
    let line = server.wait_for_line(refusal);
    assert!(line.ends_with("served for 2001:db8::/64 (--max-per-ip)"), "{line}");
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn a_client_by_ipv4_on_an_ipv6_socket_is_limited_by_its_own_address() {
    let server = Server::start_on(&[":0"], &["--max-per-ip", "1"]);
    let port = server.address().port();
    // Mapped into IPv6, both are in the same /64.
    let mut clients = ["127.0.0.1", "127.0.0.2"].map(|from| {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let from: std::net::SocketAddr = format!("{from}:0").parse().unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        let to: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
        rustix::net::connect(&socket, &to).unwrap();
        TcpStream::from(socket)
    });
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn the_backlog_is_as_long_as_requested_or_lowered_with_a_warning() {
    const BACKLOG: usize = 3;
    let path = TempPath::new("backlog");
    let mut server = serve(&[&format!("unix:{}", path.display())], &["--backlog", "3"]);
    let mut server = Server::run(&mut server, 0);
    server.wait_for_line("listening on ");
    server.hold();
    let address = SocketAddrUnix::new(&*path).unwrap();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let clients: Vec<_> = std::iter::from_fn(|| {
        let unix = (AddressFamily::UNIX, SocketType::STREAM);
        let client = rustix::net::socket_with(unix.0, unix.1, flags, None).unwrap();
        rustix::net::connect(&client, &address).is_ok().then_some(client)
    })
    .take(100)
    .collect();
    // The kernel lets one more in than the number says.
    assert_eq!(clients.len(), BACKLOG + 1);
    server.signal(Signal::CONT);
    assert_eq!(server.stop().0, Some(0));

    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let allowed = allowed.trim();
    let mut server = Server::start(&["--backlog", "4000000000"]);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    let expected = format!(
        "--backlog 4000000000 is lowered to {allowed}: net.core.somaxconn is {allowed}; raise it with"
    );
    assert!(server.lines().iter().any(|line| line.contains(&expected)), "{:#?}", server.seen);
}
