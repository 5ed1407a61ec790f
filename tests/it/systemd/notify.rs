//! The messages to a service manager: readiness, reloads, the stop, the status.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::process::Signal;

use super::manager::Manager;
use crate::common::temp_path::TempPath;
use crate::common::wait_until;
use crate::server::{DEADLINE, Server, exchange, serve};

#[test]
fn a_manager_learns_of_the_start_a_reload_the_stop_and_the_connections() {
    let mut manager = Manager::new();
    let mut command = serve(&["127.0.0.1:0", "127.0.0.1:0"], &[]);
    let mut server = Server::run(manager.manages(&mut command), 2);
    assert_eq!(manager.wait_for("READY="), "READY=1\n");
    assert_eq!(manager.seen[0], "STATUS=0 connections, 0 open, 0 refused\n");

    let client = server.connect();
    assert_eq!(exchange(client.try_clone().unwrap(), b"hello"), b"hello");
    let after_start = manager.seen.len();
    let told =
        manager.wait_until("of the client", |line| line.starts_with("STATUS=1 connection, "));
    assert!(told.ends_with(" open, 0 refused\n"), "{told}");
    assert!(manager.seen.len() - after_start <= 2, "{:#?}", manager.seen);

    server.signal(Signal::HUP);
    let reloading = manager.wait_for("RELOADING=1");
    let at =
        reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the time of the reload");
    assert!(at.trim_end().parse::<u64>().is_ok_and(|at| at > 0), "{reloading}");
    assert_eq!(manager.wait_for("READY="), "READY=1\n");

    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
    let all = manager.all();
    assert_eq!(all.iter().filter(|message| *message == "STOPPING=1\n").count(), 1, "{all:#?}");
}

#[test]
fn an_abort_is_a_stop_for_the_manager_too() {
    let mut manager = Manager::new();
    let mut server = manager.start(&[]);
    server.signal(Signal::QUIT);
    assert_eq!(manager.wait_for("STOPPING="), "STOPPING=1\n");
    assert_eq!(server.wait().code(), Some(0), "{:#?}", server.seen);
}

#[test]
fn a_server_that_cannot_bind_every_address_is_never_ready() {
    let mut manager = Manager::new();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = ["127.0.0.1:0", &busy.local_addr().unwrap().to_string()];
    let mut command = serve(&addresses, &[]);
    let mut server = Server::run(manager.manages(&mut command), 0);
    assert_eq!(server.wait().code(), Some(1), "{:#?}", server.seen);
    assert_eq!(manager.all(), [""; 0]);
}

#[test]
fn the_notify_socket_is_in_the_custody_table_with_its_task() {
    let manager = Manager::new();
    let mut server = manager.start(&["--log-format", "json"]);
    let open: Vec<i32> = server.open_descriptors().into_iter().map(|(number, _)| number).collect();
    assert_eq!(server.custody(), open);
    let table = server.seen.iter().find(|line| line.contains("\"declared\":")).unwrap();
    assert!(table.contains("service manager"), "{table}");
}

#[test]
fn an_abstract_notify_socket_is_reached() {
    let name = TempPath::new("abstract");
    let address = SocketAddr::from_abstract_name(name.text()).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = serve(&["127.0.0.1:0"], &[]);
    let _server = Server::run(command.env("NOTIFY_SOCKET", format!("@{}", name.text())), 1);
    let mut buffer = [0; 100];
    let mut next = || socket.recv(&mut buffer).map(|bytes| buffer[..bytes].to_vec()).unwrap();
    while next() != b"READY=1\n" {}
}

#[test]
fn a_manager_that_cannot_be_reached_is_one_warning_and_no_failure() {
    for (address, why) in [
        ("/nonexistent/notify", "No such file or directory"),
        ("vsock:2:1234", "neither an absolute path nor `@` and a name"),
    ] {
        let mut command = serve(&["127.0.0.1:0"], &[]);
        let server = Server::run(command.env("NOTIFY_SOCKET", address), 1);
        assert_eq!(exchange(server.connect(), b"hello"), b"hello");
        server.signal(Signal::HUP);
        let (code, lines) = server.stop();
        assert_eq!(code, Some(0), "{lines:#?}");
        let warnings: Vec<_> = lines.iter().filter(|line| line.contains("WARN")).collect();
        assert!(matches!(&warnings[..], [one] if one.contains(why)), "{warnings:#?}");
    }
}

#[test]
fn a_message_that_a_full_queue_rejects_arrives_later_and_delays_no_client() {
    let mut manager = Manager::new();
    let filled = manager.fill();
    let mut server = manager.start(&[]);
    assert_eq!(exchange(server.connect(), b"hello"), b"hello");
    wait_until("the failure to be logged", || {
        server.lines().iter().any(|line| line.contains("failed to notify the service manager: "))
    });
    for _ in 0..filled {
        assert_eq!(manager.receive(DEADLINE).unwrap(), "FILLED=1\n");
    }
    manager.wait_for("READY=1");
}

#[test]
fn a_manager_that_is_gone_is_logged_once() {
    let manager = Manager::new();
    let mut server = manager.start(&[]);
    drop(manager);
    for _ in 0..3 {
        server.signal(Signal::HUP);
        server.wait_for_line("reopening files");
    }
    let (code, lines) = server.stop();
    assert_eq!(code, Some(0), "{lines:#?}");
    let failures = lines.iter().filter(|line| line.contains("failed to notify")).count();
    assert_eq!(failures, 1, "{lines:#?}");
}
