//! Sockets that a service manager passes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::process::Signal;

use crate::common::temp_path::TempPath;
use crate::common::{require_tool, wait_until};
use crate::server::{DEADLINE, Server, as_in_a_terminal, exchange, summary};
use crate::status::http::get;

/// `echown serve` that gets these descriptors with these names, as systemd passes them. At most two.
fn passing<const N: usize>(passed: [(&str, OwnedFd); N], arguments: &[&str]) -> Command {
    // The shell stays the same process, so its id is the server's.
    let begin = "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" serve \"$@\"";
    let begin = if N > 1 { format!("exec 4<&1 1>/dev/null; {begin}") } else { begin.to_owned() };
    let mut command = as_in_a_terminal("sh");
    let names = passed.each_ref().map(|(name, _)| *name).join(":");
    command.env("LISTEN_FDS", N.to_string()).env("LISTEN_FDNAMES", names);
    command.args(["-c", &begin, env!("CARGO_BIN_EXE_echown")]).args(arguments);
    let mut passed = passed.into_iter().map(|(_, descriptor)| descriptor);
    command.stdin(passed.next().expect("one is passed"));
    if let Some(second) = passed.next() {
        command.stdout(second);
    }
    command
}

fn start(command: &mut Command, listeners: usize) -> Server {
    let (stderr, writer) = std::io::pipe().unwrap();
    Server::run_on(command.stderr(writer), stderr, listeners)
}

fn listener() -> (TcpListener, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // As systemd makes it.
    listener.set_nonblocking(true).unwrap();
    let passed = listener.try_clone().unwrap().into();
    (listener, passed)
}

/// The one line of a server that does not start.
fn refusal(mut command: Command) -> String {
    let mut server = start(&mut command, 0);
    assert_eq!(server.wait().code(), Some(1), "{:#?}", server.seen);
    let lines = server.seen.iter().filter(|line| line.starts_with("echown: "));
    let lines: Vec<&String> = lines.collect();
    assert_eq!(lines.len(), 1, "{:#?}", server.seen);
    lines[0].clone()
}

#[test]
fn a_passed_socket_is_served_at_its_address_and_outlives_the_server() {
    let (kept, passed) = listener();
    let mut server = start(&mut passing([("echown.socket", passed)], &[]), 1);
    assert_eq!(server.address(), kept.local_addr().unwrap());
    assert_eq!(server.listeners(), 1);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    server.signal(Signal::USR1);
    let line = server.wait_for_line("received from the service manager by task 1 `main`");
    assert!(line.contains(" at src/cli/serve/start.rs:"), "{line}");
    let address = server.address();
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let received = "received descriptor 3 (\"echown.socket\") from the service manager: 127.0.0.1:";
    assert!(lines.iter().any(|line| line.contains(received)), "{lines:#?}");
    // It was closed and not shut down: the manager's next client waits for the next server.
    let _waiting = TcpStream::connect(address).unwrap();
    kept.accept().unwrap();
}

#[test]
fn an_abort_does_not_shut_a_passed_socket_down() {
    let (kept, passed) = listener();
    let mut server = start(&mut passing([("echown.socket", passed)], &[]), 1);
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let _waiting = TcpStream::connect(kept.local_addr().unwrap()).unwrap();
    kept.accept().unwrap();
}

#[test]
fn the_custody_table_has_the_passed_sockets_and_all_others() {
    let ((_a, first), (_b, second)) = (listener(), listener());
    let passed = [("a", first), ("b", second)];
    let mut server = start(&mut passing(passed, &["--log-format", "json"]), 0);
    server.wait_for_line("\"listening\"");
    server.wait_for_line("\"listening\"");
    let open: Vec<i32> = server.open_descriptors().into_iter().map(|(number, _)| number).collect();
    assert_eq!(server.custody(), open);
}

#[test]
fn the_path_of_a_passed_unix_socket_is_never_removed() {
    let path = TempPath::new("passed");
    let kept = UnixListener::bind(&path).unwrap();
    let passed = kept.try_clone().unwrap().into();
    let mut server = start(&mut passing([("echown.socket", passed)], &[]), 0);
    server.wait_for_line(&format!("listening on unix:{}", path.text()));
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let _waiting = UnixStream::connect(&path).unwrap();
    kept.accept().unwrap();
}

#[test]
fn a_socket_with_the_name_status_goes_to_the_status_server() {
    let ((_echo, passed), (status, passed_status)) = (listener(), listener());
    let passed = [("status", passed_status), ("echown.socket", passed)];
    let mut server = start(&mut passing(passed, &[]), 1);
    server.wait_for_line("status on http://127.0.0.1:");
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    let reply = get(status.local_addr().unwrap(), "/healthz");
    assert_eq!(reply.code, 200, "{}", reply.body);
}

#[test]
fn a_status_socket_that_all_machines_reach_shows_no_more_than_a_bound_one() {
    let status = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = status.local_addr().unwrap().port();
    let passed = [("status", status.into())];
    let mut server = start(&mut passing(passed, &["--listen", "127.0.0.1:0"]), 1);
    server.wait_for_line("status on ");
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(get(local, "/healthz").code, 200);
    assert_ne!(get(local, "/snapshot.json").code, 200);
}

#[test]
fn with_listen_a_passed_socket_is_matched_and_the_rest_is_bound() {
    let (kept, passed) = listener();
    let own = kept.local_addr().unwrap().to_string();
    let arguments = ["--listen", &own, "--listen", "127.0.0.1:0", "--acceptors", "2"];
    let server = start(&mut passing([("x", passed)], &arguments), 2);
    assert_eq!(server.addresses[0], kept.local_addr().unwrap());
    for address in &server.addresses {
        let client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(exchange(client, b"hello"), b"hello");
    }
}

#[test]
fn a_passed_socket_that_no_option_names_is_an_error() {
    let (kept, passed) = listener();
    let error = refusal(passing([("x", passed)], &["--listen", "127.0.0.1:1"]));
    let address = kept.local_addr().unwrap();
    assert_eq!(
        error,
        format!(
            "echown: the service manager passed a socket at {address}, which is the address of no \
             --listen and no --status"
        )
    );
}

#[test]
fn what_is_no_listening_stream_socket_is_refused_with_number_name_and_kind() {
    let (_kept, passed) = listener();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = refusal(passing([("a", passed), ("dgram", udp.into())], &[]));
    assert_eq!(
        error,
        "echown: descriptor 4 (\"dgram\") from the service manager is a udp socket, and not a \
         listening stream socket"
    );
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = refusal(passing([("\u{1b}[31m", file.into())], &[]));
    assert!(error.contains("descriptor 3 (\"\\x1b[31m\")"), "{error}");
    assert!(error.contains(" is a character device, and not "), "{error}");
}

#[test]
fn a_descriptor_that_was_not_passed_is_an_error() {
    for (count, what) in [
        ("2", "LISTEN_FDS is 2, but the service manager has not passed descriptor 4"),
        ("two", "LISTEN_FDS is two, and not a number of descriptors"),
        ("-1", "LISTEN_FDS is -1, and not a number of descriptors"),
    ] {
        let (_kept, passed) = listener();
        let mut command = passing([("x", passed)], &[]);
        command.env("LISTEN_FDS", count);
        assert_eq!(refusal(command), format!("echown: {what}"));
    }
}

#[test]
fn descriptors_for_another_process_are_left_alone() {
    let (kept, passed) = listener();
    let mut command = as_in_a_terminal("sh");
    command.args(["-c", "exec 3<&0 0</dev/null; exec \"$0\" serve --listen 127.0.0.1:0"]);
    command.arg(env!("CARGO_BIN_EXE_echown")).stdin(passed);
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "x");
    let server = start(&mut command, 1);
    assert_ne!(server.address(), kept.local_addr().unwrap());
}

/// A connection: the client's end, and the end that a service manager passes.
fn accepted() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    (client, listener.accept().unwrap().0.into())
}

#[test]
fn an_accepted_connection_is_served_by_each_style_and_ends_the_server() {
    let frame = b"\0\0\0\0\0\0\0\x01\n";
    for style in ["echo", "staged", "broadcast", "callback"] {
        let (client, passed) = accepted();
        let arguments = ["--style", style, "--max-connections", "1"];
        let mut server = start(&mut passing([("connection", passed)], &arguments), 0);
        assert_eq!(exchange(client, frame), frame, "{style}");
        assert_eq!(server.wait().code(), Some(0), "{style}: {:#?}", server.seen);
        assert_eq!(summary(&server.seen, "connection"), 1, "{style}: {:#?}", server.seen);
        assert!(!server.seen.iter().any(|line| line.contains("listening on")), "{style}");
    }
}

#[test]
fn a_signal_drains_or_aborts_an_accepted_connection() {
    for (signal, how) in [(Signal::TERM, "1 drained"), (Signal::QUIT, "1 aborted")] {
        let (mut client, passed) = accepted();
        let mut server = start(&mut passing([("connection", passed)], &[]), 0);
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
        let ended = format!("connections ended: {how}");
        assert!(server.seen.contains(&ended), "{:#?}", server.seen);
    }
}

#[test]
fn an_accepted_connection_leaves_nothing_to_listen_to() {
    let (_client, passed) = accepted();
    let error = refusal(passing([("connection", passed)], &["--listen", "127.0.0.1:0"]));
    assert!(error.ends_with("so there is nothing to --listen to"), "{error}");
    let ((_client, passed), (_other, second)) = (accepted(), accepted());
    let error = refusal(passing([("a", passed), ("b", second)], &[]));
    assert!(error.contains("is a tcp stream, and not a listening"), "{error}");
}

/// Whether `systemd-socket-activate` is there.
fn has_activate() -> bool {
    let version = Command::new("systemd-socket-activate").arg("--version").output();
    require_tool("`systemd-socket-activate`", version.is_ok_and(|it| it.status.success()))
}

#[test]
fn systemd_socket_activate_starts_the_server_for_its_first_client() {
    if !has_activate() {
        return;
    }
    let path = TempPath::new("activated");
    let mut command = as_in_a_terminal("systemd-socket-activate");
    command.args(["-l", path.text(), "--fdname=echo", env!("CARGO_BIN_EXE_echown"), "serve"]);
    let mut server = Server::run(&mut command, 0);
    wait_until("the socket", || path.exists());
    let mut client = None;
    wait_until("a connection", || {
        client = UnixStream::connect(&path).ok();
        client.is_some()
    });
    server.wait_for_line("received descriptor 3 (\"echo\") from the service manager");
    let mut client = client.unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(std::io::read_to_string(client).unwrap(), "hello");
    assert_eq!(server.stop().0, Some(0));
    assert!(path.exists());
}

#[test]
fn systemd_socket_activate_starts_a_server_for_each_connection() {
    if !has_activate() {
        return;
    }
    let path = TempPath::new("each");
    let mut command = as_in_a_terminal("systemd-socket-activate");
    command.args(["-a", "-l", path.text(), env!("CARGO_BIN_EXE_echown"), "serve"]);
    let mut parent = Server::run(&mut command, 0);
    for _ in 0..2 {
        let mut client = None;
        wait_until("a connection", || {
            client = UnixStream::connect(&path).ok();
            client.is_some()
        });
        let mut client = client.unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(std::io::read_to_string(client).unwrap(), "hello");
        parent.wait_for_line("1 connection, 0 refused, 5 bytes in, 5 bytes out");
    }
}
