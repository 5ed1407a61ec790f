//! What a hostile network does to a server, and what it must not do.
//!
//! Written once for all ways of echoing: a [`Dialect`] knows how to start a server and what one
//! exchange looks like. After each scenario the server's descriptors are, by identity, what they
//! were before; so is its custody table; and no more threads are left than are kept for the next
//! client.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::broadcast::{frame, never_reads as never_hears, try_hear};
use super::server::{
    DEADLINE, Server, as_in_a_terminal, echown, never_reads, pattern, serve, summary,
};
use crate::common::{temp_path::TempPath, wait_until};

/// A way of echoing, as a client sees it.
struct Dialect {
    /// For what tests leave outside: two may run at once.
    name: &'static str,
    /// Arguments of `serve` that choose it.
    arguments: &'static [&'static str],
    /// The request number `n` of about so many bytes.
    request: fn(n: usize, bytes: usize) -> Vec<u8>,
    /// What the server answers to a request.
    reply: fn(request: &[u8]) -> Vec<u8>,
    /// Whether a client also gets what it has not asked for.
    hears_others: bool,
    /// Reads until the reply has come, past whatever else the style may say before.
    hear: fn(client: &mut dyn Read, reply: &[u8]) -> io::Result<()>,
    /// A client that sends and does not read, so that the server cannot write to it any more.
    never_reads: fn(&Server) -> TcpStream,
    /// What the log says when a connection cannot have its threads.
    out_of_threads: &'static str,
    /// The most bytes that are taken and not answered when a request is cut short.
    request_bytes_max: u64,
}

/// The plain echo of RFC 862.
const PLAIN: Dialect = Dialect {
    name: "plain",
    arguments: &[],
    request: |_, bytes| pattern(bytes),
    reply: <[u8]>::to_vec,
    hears_others: false,
    hear: |client, reply| {
        let mut heard = vec![0; reply.len()];
        client.read_exact(&mut heard)?;
        assert!(heard == reply, "another answer than expected");
        Ok(())
    },
    never_reads,
    out_of_threads: "accepting pauses",
    request_bytes_max: 0,
};

/// Lines, by way of machines. A longer request is several lines.
const STAGED: Dialect = Dialect {
    name: "staged",
    arguments: &["--style", "staged", "--max-connections", "1024"],
    request: |_, bytes| {
        let letter = |byte: u8| if byte == b'\n' { b'.' } else { byte };
        let mut lines: Vec<u8> = pattern(bytes).into_iter().map(letter).collect();
        lines.iter_mut().skip(LINE_BYTES - 1).step_by(LINE_BYTES).for_each(|byte| *byte = b'\n');
        lines.push(b'\n');
        lines
    },
    reply: <[u8]>::to_vec,
    hears_others: false,
    hear: PLAIN.hear,
    never_reads: super::staged::never_reads,
    out_of_threads: "accepting pauses",
    request_bytes_max: LINE_BYTES as u64,
};

const LINE_BYTES: usize = 8000;

/// Everybody hears everybody, and so oneself. Here a frame carries its number and a pattern.
const BROADCAST: Dialect = Dialect {
    name: "broadcast",
    arguments: &["--style", "broadcast", "--max-outbox", "64MiB"],
    request: |n, bytes| {
        let mut payload = n.to_be_bytes().to_vec();
        payload.extend(pattern(bytes));
        frame(&payload)
    },
    reply: <[u8]>::to_vec,
    hears_others: true,
    hear: |client, reply| {
        loop {
            let heard = try_hear(client)?;
            assert!(heard[8..] == pattern(heard.len() - 8), "a frame that nobody has sent");
            if heard == reply[8..] {
                return Ok(());
            }
        }
    },
    never_reads: never_hears,
    // A connection has its reading task's thread by then, and not its writer's.
    out_of_threads: "no writer for it",
    request_bytes_max: 0,
};

/// The same by callbacks.
const CALLBACK: Dialect = Dialect { arguments: &["--style", "callback"], ..PLAIN };

/// Idle threads that a pool keeps at the most while a task runs, as an acceptor always does.
const THREADS_KEPT: usize = 32;

impl Dialect {
    fn start(&self, arguments: &[&str]) -> Server {
        Server::start(&[self.arguments, arguments].concat())
    }

    fn exchange(&self, client: &mut TcpStream, n: usize) {
        self.try_exchange(client, n).expect("the server answers");
    }

    fn try_exchange(&self, client: &mut TcpStream, n: usize) -> io::Result<()> {
        let request = (self.request)(n, 100);
        client.write_all(&request)?;
        (self.hear)(client, &(self.reply)(&request)).map(drop)
    }
}

/// How a server was before the storm.
struct Calm {
    descriptors: Vec<(i32, String)>,
    threads: usize,
}

impl Calm {
    fn of(server: &Server) -> Calm {
        // Acceptors may not have their threads yet.
        const ACCEPTORS_MAX: usize = 4;
        Calm { descriptors: server.open_descriptors(), threads: server.threads() + ACCEPTORS_MAX }
    }

    /// Waits until it is calm again, and asks an innocent client and the custody table.
    fn is_back(&self, dialect: &Dialect, server: &mut Server) {
        let numbers: Vec<i32> = self.descriptors.iter().map(|(number, _)| *number).collect();
        let deadline = Instant::now() + DEADLINE;
        // Calm is when both agree: after a crowd has left, its last members are still accepted and
        // found gone.
        loop {
            server.wait_for_descriptors(|open| open == self.descriptors);
            let custody = server.custody();
            if custody == numbers {
                break;
            }
            assert!(Instant::now() < deadline, "custody {custody:?}, descriptors {numbers:?}");
        }
        server.wait_for("surplus threads to leave", |server| {
            server.threads() <= self.threads + THREADS_KEPT
        });
        // One that meets the tail of a crowd in the queue may still be refused.
        server.wait_for("a client to be served", |server| {
            dialect.try_exchange(&mut server.connect(), 0).is_ok()
        });
    }
}

/// Closes with a reset: no lingering, whatever is unsent or unread.
fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

fn resets_at_every_stage(dialect: &Dialect) {
    let mut server = dialect.start(&["--log-format", "json"]);
    let calm = Calm::of(&server);
    let mut innocent = server.connect();
    for n in 0..20 {
        reset(server.connect());
        let mut unread = server.connect();
        unread.write_all(&(dialect.request)(n, 100)).unwrap();
        reset(unread);
        let mut begun = server.connect();
        begun.write_all(&(dialect.request)(n, 100)[..50]).unwrap();
        reset(begun);
        let mut answered = server.connect();
        dialect.exchange(&mut answered, n);
        reset(answered);
        let mut half_read = server.connect();
        half_read.write_all(&(dialect.request)(n, 50_000)).unwrap();
        half_read.read_exact(&mut [0; 10]).unwrap();
        reset(half_read);
        dialect.exchange(&mut innocent, n);
    }
    drop(innocent);
    calm.is_back(dialect, &mut server);
}

fn half_close_gets_everything_and_then_the_end(dialect: &Dialect) {
    let mut server = dialect.start(&["--log-format", "json"]);
    let calm = Calm::of(&server);
    for n in 0..20 {
        let mut client = server.connect();
        let request = (dialect.request)(n, 10_000);
        client.write_all(&request).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).expect("FIN, not a reset");
        assert!(reply == (dialect.reply)(&request));
    }
    calm.is_back(dialect, &mut server);
}

fn a_byte_at_a_time_is_the_same_as_all_at_once(dialect: &Dialect) {
    let server = dialect.start(&[]);
    let mut client = server.connect();
    client.set_nodelay(true).unwrap();
    let request = (dialect.request)(1, 200);
    for byte in &request {
        client.write_all(std::slice::from_ref(byte)).unwrap();
    }
    (dialect.hear)(&mut client, &(dialect.reply)(&request)).unwrap();
}

fn a_peer_that_never_reads_is_cut_by_the_write_timeout(dialect: &Dialect) {
    let mut server = dialect.start(&["--write-timeout", "200ms", "--log-format", "json"]);
    let calm = Calm::of(&server);
    let mut greedy = server.connect();
    greedy.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let request = (dialect.request)(1, 1024 * 1024);
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    // The cut shows as an error that is no timeout: the connection is gone.
    wait_until("it to be cut", || {
        let written = greedy.write(&request);
        written.is_err_and(|error| !matches!(error.kind(), WouldBlock | TimedOut))
    });
    drop(greedy);
    calm.is_back(dialect, &mut server);
}

fn an_idle_peer_is_closed_by_the_idle_timeout(dialect: &Dialect) {
    let mut server = dialect.start(&["--idle-timeout", "150ms", "--log-format", "json"]);
    let calm = Calm::of(&server);
    let mut idle = server.connect();
    dialect.exchange(&mut idle, 1);
    let since = Instant::now();
    let _ = idle.read(&mut [0]);
    assert!(since.elapsed() >= Duration::from_millis(140), "closed after {:?}", since.elapsed());
    drop(idle);
    calm.is_back(dialect, &mut server);
}

fn a_flood_over_the_limit_is_refused_and_counted_and_those_inside_notice_nothing(
    dialect: &Dialect,
) {
    let arguments = ["--max-connections", "10", "--log-format", "json"];
    let mut server = dialect.start(&arguments);
    let calm = Calm::of(&server);
    let mut inside: Vec<TcpStream> = (0..10).map(|_| server.connect()).collect();
    for (n, client) in inside.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    for round in 0..300 {
        let mut outside = server.connect();
        let mut answer = Vec::new();
        // Closed at once: with FIN, or with a reset if we were quicker.
        let _ = outside.read_to_end(&mut answer);
        assert!(answer.is_empty());
        dialect.exchange(&mut inside[round % 10], round);
    }
    let said = server.lines().iter().filter(|line| line.contains("was refused")).count();
    assert!((1..=30).contains(&said), "{said} lines about 300 refusals");
    drop(inside);
    calm.is_back(dialect, &mut server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(summary(&server.seen, "refused") >= 300, "{:#?}", server.seen.last());
}

fn a_flood_over_the_backlog_does_no_harm(dialect: &Dialect) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    /// More than the 1,024 that are queued.
    const FLOOD: usize = 1500;
    let mut server = dialect.start(&["--max-connections", "50", "--log-format", "json"]);
    let calm = Calm::of(&server);
    // While it is stopped nobody accepts, and the queue overflows.
    server.hold();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let crowd: Vec<_> = (0..FLOOD)
        .map_while(|_| {
            let inet = AddressFamily::INET;
            let client = rustix::net::socket_with(inet, SocketType::STREAM, flags, None).ok()?;
            // In progress, or refused for want of room: both are what a flood is.
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
    calm.is_back(dialect, &mut server);
}

fn one_address_cannot_take_all_places(dialect: &Dialect) {
    let server = dialect.start(&["--max-per-ip", "3"]);
    let mut inside: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for (n, client) in inside.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    let mut fourth = server.connect();
    let mut answer = Vec::new();
    let _ = fourth.read_to_end(&mut answer);
    assert!(answer.is_empty());
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

fn a_server_out_of_descriptors_pauses_says_so_once_and_recovers(dialect: &Dialect) {
    let mut server = dialect.start(&["--log-format", "json"]);
    // Below what it has reckoned with at its start, as when the whole system runs out.
    server.set_limit("--nofile=40");
    let calm = Calm::of(&server);
    let mut inside = server.connect();
    dialect.exchange(&mut inside, 1);
    let mut crowd: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    server.wait_for_line("accepting pauses");
    for n in 0..50 {
        dialect.exchange(&mut inside, n);
    }
    // Some of the crowd were closed with the descriptor in reserve.
    let closed = crowd.iter_mut().any(|client| {
        client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        matches!(client.read(&mut [0]), Ok(0))
    });
    assert!(closed, "nobody was told");
    crowd.clear();
    server.wait_for_line("accepting goes on");
    let pauses = server.seen.iter().filter(|line| line.contains("accepting pauses")).count();
    assert!(pauses <= 5, "{pauses} lines about it");
    drop(inside);
    calm.is_back(dialect, &mut server);
}

fn a_server_out_of_threads_refuses_and_recovers(dialect: &Dialect) {
    // The limit is counted per user, and binds no privileged one.
    let Some((mut command, _copy)) = as_nobody(dialect.name) else {
        eprintln!("skipped: needs root, to become a user without privileges");
        return;
    };
    let mut server = Server::run(command.args(dialect.arguments), 1);
    // Below what it has reckoned with at its start, as when others of the same user take theirs.
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

/// The server as a user of its own, whose threads are limited, and the copy of the program that it
/// runs; `None` without the right to change the user.
pub fn as_nobody(name: &str) -> Option<(Command, TempPath)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    // No other process has this user, whose threads are counted together.
    let other = name.bytes().map(u32::from).sum::<u32>();
    let user = 54_000 + (std::process::id() + other) % 1000;
    // The program may be in a folder that such a user cannot enter.
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
    Some((command, copy))
}

fn exchanges_of_a_mebibyte_under_way_at_sigterm_are_answered_in_full(dialect: &Dialect) {
    let server = dialect.start(&["--drain-timeout", "20s"]);
    const CLIENTS: usize = 8;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let request = (dialect.request)(n, 1024 * 1024);
            let expected = (dialect.reply)(&request);
            let mut client = server.connect();
            let mut writer = client.try_clone().unwrap();
            let (begun, has_begun) = std::sync::mpsc::channel();
            let sending = std::thread::spawn(move || {
                // What the server took before the order is answered; what comes later meets the end.
                let _ = writer.write_all(&request);
                let _ = writer.shutdown(Shutdown::Write);
            });
            let reading = std::thread::spawn(move || {
                let mut reply = vec![0; 1];
                client.read_exact(&mut reply).unwrap();
                begun.send(()).unwrap();
                let ended = client.read_to_end(&mut reply);
                (reply, ended.is_ok(), expected)
            });
            (sending, reading, has_begun)
        })
        .collect();
    for (_, _, has_begun) in &clients {
        has_begun.recv_timeout(DEADLINE).expect("the server answers");
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let (mut received, sent) = (0, summary(&lines, "bytes out"));
    for (sending, reading, _) in clients {
        sending.join().unwrap();
        let (reply, _, expected) = reading.join().unwrap();
        assert!(expected.starts_with(&reply), "an answer is a beginning of what was sent");
        received += reply.len() as u64;
    }
    assert_eq!(received, sent, "all that the server sent arrived");
    let unanswered = summary(&lines, "bytes in") - sent;
    let may_be_cut = CLIENTS as u64 * dialect.request_bytes_max;
    assert!(unanswered <= may_be_cut, "{unanswered} bytes were received and not answered");
}

fn idle_connections_are_closed_long_before_the_drain_timeout(dialect: &Dialect) {
    let mut server = dialect.start(&["--drain-timeout", "1h"]);
    let mut idle: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    for (n, client) in idle.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    server.signal(Signal::TERM);
    for client in &mut idle {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("FIN, not a reset");
        assert!(rest.is_empty() || dialect.hears_others, "{rest:?}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

fn sigquit_shows_the_table_cuts_everything_and_exits_with_0(dialect: &Dialect) {
    let mut server = dialect.start(&["--drain-timeout", "1h"]);
    let mut client = server.connect();
    dialect.exchange(&mut client, 1);
    server.signal(Signal::QUIT);
    server.wait_for_line("custody: ");
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "cancelled"), 1);
}

fn sigquit_ends_a_drain_that_takes_too_long(dialect: &Dialect) {
    let mut server = dialect.start(&["--drain-timeout", "1h", "--write-timeout", "1h"]);
    let _greedy = (dialect.never_reads)(&server);
    server.signal(Signal::TERM);
    server.wait_for_line("draining");
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    assert_eq!(summary(&server.seen, "cancelled"), 1);
}

fn a_signal_that_only_asks_disturbs_no_client(dialect: &Dialect) {
    let mut server = dialect.start(&[]);
    let mut client = server.connect();
    for n in 0..20 {
        server.signal(if n % 2 == 0 { Signal::USR1 } else { Signal::HUP });
        dialect.exchange(&mut client, n);
    }
    // In either order: pending signals are seen together.
    for answer in ["custody: ", "reopening files"] {
        if !server.lines().iter().any(|line| line.contains(answer)) {
            server.wait_for_line(answer);
        }
    }
}

fn the_summary_is_written_as_json(dialect: &Dialect) {
    let file = format!("echown-summary-{}-{}", std::process::id(), dialect.name);
    let path = std::env::temp_dir().join(file);
    let path_text = path.to_str().unwrap();
    let server = dialect.start(&["--summary", path_text]);
    dialect.exchange(&mut server.connect(), 1);
    let (code, _) = server.stop();
    assert_eq!(code, Some(0));
    let json = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    for field in [
        "connections",
        "refused",
        "bytes_in",
        "bytes_out",
        "leaks",
        "violations",
        "panics",
        "replaced",
        "open_resources",
        "drain_ms",
    ] {
        assert!(summary[field].is_u64(), "{field} in {json}");
    }
    assert_eq!(summary["connections"], 1);
    assert_eq!(summary["open_resources"], 0);
}

fn each_of_several_acceptors_takes_clients(dialect: &Dialect) {
    let mut server = dialect.start(&["--acceptors", "4", "--log-format", "json"]);
    let calm = Calm::of(&server);
    let listeners = server.listeners();
    assert_eq!(listeners, 4);
    let mut clients: Vec<TcpStream> = (0..64).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    drop(clients);
    calm.is_back(dialect, &mut server);
    // Whoever asks for the same port is refused all the same.
    let busy = serve(&[&server.address().to_string()], &["--acceptors", "4"]).output().unwrap();
    assert_eq!(busy.status.code(), Some(1));
}

fn a_unix_socket_serves_and_its_file_goes_with_the_server(dialect: &Dialect) {
    let path =
        std::env::temp_dir().join(format!("echown-{}-{}.sock", std::process::id(), dialect.name));
    let address = format!("unix:{}", path.display());
    let talk = |n: usize| {
        let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let request = (dialect.request)(n, 100);
        client.write_all(&request).unwrap();
        (dialect.hear)(&mut client, &(dialect.reply)(&request)).unwrap();
    };
    let two = [dialect.arguments, &["--acceptors", "2"]].concat();
    let mut first = Server::run(&mut serve(&[&address], &two), 0);
    first.wait_for_line(&format!("listening on {address}"));
    talk(1);
    let second = serve(&[&address], dialect.arguments).output().unwrap();
    assert_eq!(second.status.code(), Some(1), "a live socket is busy");
    assert!(String::from_utf8_lossy(&second.stderr).contains("another program has it"));
    talk(2);
    // Killed, it leaves its file behind, and that is stale.
    first.signal(Signal::KILL);
    first.wait();
    assert!(path.exists());
    let mut third = Server::run(&mut serve(&[&address], dialect.arguments), 0);
    third.wait_for_line("listening on ");
    talk(3);
    let (code, _) = third.stop();
    assert_eq!(code, Some(0));
    assert!(!path.exists(), "the file went with the server");
    // What is no socket is not touched.
    std::fs::write(&path, "precious").unwrap();
    let refused = serve(&[&address], dialect.arguments).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

fn ipv6_is_served_too(dialect: &Dialect) {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let server = Server::start_on(&["[::1]:0"], dialect.arguments);
    assert!(server.address().is_ipv6());
    dialect.exchange(&mut server.connect(), 1);
}

/// One module per dialect with one test per scenario.
macro_rules! suite {
    ($module:ident, $dialect:expr, [$($scenario:ident),+ $(,)?]) => {
        mod $module {
            $(
                #[test]
                fn $scenario() {
                    super::$scenario(&$dialect);
                }
            )+
        }
    };
}

/// All of them, for a way of echoing in which everybody hears oneself alone.
macro_rules! whole_suite {
    ($module:ident, $dialect:expr) => {
        suite!(
            $module,
            $dialect,
            [
                resets_at_every_stage,
                half_close_gets_everything_and_then_the_end,
                a_byte_at_a_time_is_the_same_as_all_at_once,
                a_peer_that_never_reads_is_cut_by_the_write_timeout,
                an_idle_peer_is_closed_by_the_idle_timeout,
                a_flood_over_the_limit_is_refused_and_counted_and_those_inside_notice_nothing,
                a_flood_over_the_backlog_does_no_harm,
                one_address_cannot_take_all_places,
                a_server_out_of_descriptors_pauses_says_so_once_and_recovers,
                a_server_out_of_threads_refuses_and_recovers,
                exchanges_of_a_mebibyte_under_way_at_sigterm_are_answered_in_full,
                idle_connections_are_closed_long_before_the_drain_timeout,
                sigquit_shows_the_table_cuts_everything_and_exits_with_0,
                sigquit_ends_a_drain_that_takes_too_long,
                a_signal_that_only_asks_disturbs_no_client,
                the_summary_is_written_as_json,
                each_of_several_acceptors_takes_clients,
                a_unix_socket_serves_and_its_file_goes_with_the_server,
                ipv6_is_served_too,
            ]
        );
    };
}

whole_suite!(plain, super::PLAIN);
whole_suite!(staged, super::STAGED);
whole_suite!(callback, super::CALLBACK);

// What is under way when a drain begins is everybody's here: `broadcast.rs` has that scenario.
suite!(
    broadcast,
    super::BROADCAST,
    [
        resets_at_every_stage,
        half_close_gets_everything_and_then_the_end,
        a_byte_at_a_time_is_the_same_as_all_at_once,
        a_peer_that_never_reads_is_cut_by_the_write_timeout,
        an_idle_peer_is_closed_by_the_idle_timeout,
        a_flood_over_the_limit_is_refused_and_counted_and_those_inside_notice_nothing,
        a_flood_over_the_backlog_does_no_harm,
        one_address_cannot_take_all_places,
        a_server_out_of_descriptors_pauses_says_so_once_and_recovers,
        a_server_out_of_threads_refuses_and_recovers,
        idle_connections_are_closed_long_before_the_drain_timeout,
        sigquit_shows_the_table_cuts_everything_and_exits_with_0,
        sigquit_ends_a_drain_that_takes_too_long,
        a_signal_that_only_asks_disturbs_no_client,
        the_summary_is_written_as_json,
        each_of_several_acceptors_takes_clients,
        a_unix_socket_serves_and_its_file_goes_with_the_server,
        ipv6_is_served_too,
    ]
);

#[test]
fn a_summary_that_cannot_be_written_is_a_clear_error() {
    let output = echown()
        .args(["serve", "--listen", "127.0.0.1:0", "--summary", "/no/such/place"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write the summary to /no/such/place"), "{said}");
}

#[test]
fn a_standard_error_that_is_full_or_closed_ends_nothing() {
    for nowhere in ["2>/dev/full", "2>&-"] {
        let path = std::env::temp_dir().join(format!("echown-{}.full.sock", std::process::id()));
        let program = env!("CARGO_BIN_EXE_echown");
        let line = format!("exec {program} serve --listen unix:{} {nowhere}", path.display());
        let mut command = as_in_a_terminal("sh");
        let mut server = Server::run(command.args(["-c", &line]), 0);
        server.wait_for("its socket", |_| path.exists());
        let talk = || {
            let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
            client.write_all(b"still here").unwrap();
            client.read_exact(&mut [0; 10]).unwrap();
        };
        // Who is served knows that signals are watched for.
        talk();
        server.signal(Signal::USR1);
        server.signal(Signal::HUP);
        talk();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0), "{nowhere}");
    }
}

#[test]
fn a_report_fifo_without_a_reader_does_not_delay_the_end() {
    let fifo = std::env::temp_dir().join(format!("echown-{}.fifo", std::process::id()));
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo is there");
    assert!(made.success());
    // Open for both, so that opening it for writing doesn't wait; nobody reads.
    let _open = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let path = fifo.to_str().unwrap();
    let mut server =
        Server::start(&["--chaos", "leak=1", "--report-file", path, "--drain-timeout", "500ms"]);
    for _ in 0..200 {
        let mut client = server.connect();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    std::fs::remove_file(&fifo).unwrap();
}

#[test]
fn a_servers_end_leaves_another_servers_socket_file_alone() {
    let path = std::env::temp_dir().join(format!("echown-{}.two.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let mut first = Server::run(&mut serve(&[&address], &[]), 0);
    first.wait_for_line("listening on ");
    std::fs::remove_file(&path).unwrap();
    let mut second = Server::run(&mut serve(&[&address], &[]), 0);
    second.wait_for_line("listening on ");
    assert_eq!(first.stop().0, Some(0));
    assert!(path.exists(), "it is the second server's");
    assert_eq!(second.stop().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn a_live_unix_server_with_a_full_queue_is_busy_and_not_waited_for() {
    let path = std::env::temp_dir().join(format!("echown-{}.busy.sock", std::process::id()));
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _queued = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let output = serve(&[&format!("unix:{}", path.display())], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another program has it"));
    std::fs::remove_file(&path).unwrap();
}
