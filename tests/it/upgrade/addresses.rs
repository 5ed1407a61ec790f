//! Which addresses go along, and what happens to the others.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::super::server::Server;
use super::{Folder, assert_ends_well, assert_serves, stop};

#[test]
fn an_address_that_the_new_process_does_not_want_is_drained() {
    let folder = Folder::new();
    let path = folder.path("echo");
    let unix = format!("unix:{path}");
    let all = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--listen", &unix];
    let mut old = folder.command(&all);
    let mut old = Server::run(&mut old, 2);
    let declined = old.addresses[1];
    let new = folder.take_over(&[]);
    assert_eq!(new.address(), old.address());
    let process = new.pid();
    let line = old.wait_for_line("no server does now");
    let expected =
        format!("process {process} does not serve {declined}, {unix}; no server does now");
    assert!(line.contains(&expected), "{line}");
    assert_ends_well(old);
    assert!(TcpStream::connect(declined).is_err());
    assert!(!std::fs::exists(path).unwrap());
    assert_serves(&new);
    stop(new);
}

#[test]
fn the_new_process_binds_what_only_it_wants() {
    let folder = Folder::new();
    let old = folder.serve(&[]);
    let path = folder.path("echo");
    let new = folder.take_over(&["--listen", &format!("unix:{path}")]);
    assert_ends_well(old);
    assert_serves(&new);
    assert!(UnixStream::connect(path).is_ok());
    stop(new);
}

#[test]
fn every_socket_of_an_address_goes_along_whatever_the_number_of_acceptors() {
    let folder = Folder::new();
    let mut old = folder.serve(&["--acceptors", "3"]);
    for (acceptors, sockets) in [("1", 3), ("5", 3), ("2", 3)] {
        let new = folder.take_over(&["--acceptors", acceptors]);
        assert_ends_well(old);
        assert_eq!(new.listeners(), sockets, "--acceptors {acceptors}");
        for _ in 0..10 {
            assert_serves(&new);
        }
        old = new;
    }
    stop(old);
}

#[test]
fn the_status_goes_along_and_shows_the_new_process() {
    let folder = Folder::new();
    let arguments = ["--status", "127.0.0.1:0"];
    let mut old = folder.serve(&arguments);
    let url = old.wait_for_line("status on ");
    let mut new = folder.serve(&arguments);
    assert_eq!(new.wait_for_line("status on "), url);
    new.wait_for_line("took over from process ");
    assert_ends_well(old);
    let address = url.trim_start_matches("status on http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET /snapshot.json HTTP/1.1\r\nHost: {address}\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let mut response = String::new();
    std::io::Read::read_to_string(&mut stream, &mut response).unwrap();
    assert!(response.contains("\"received\""), "{response}");
    stop(new);
}

/// Whether the kernel probes this connection when it is silent: the server's end has a keep-alive timer.
fn is_probed(server: &Server) -> bool {
    let client = server.connect();
    let end = |address: std::net::SocketAddr| format!("0100007F:{:04X}", address.port());
    let (local, remote) = (end(server.address()), end(client.local_addr().unwrap()));
    let timer = crate::common::poll(super::DEADLINE, || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("this is Linux");
        let of_server = |line: &&str| line.contains(&format!("{local} {remote} 01 "));
        let line = table.lines().find(of_server)?;
        line.split_whitespace().nth(5).map(str::to_owned)
    });
    timer.expect("the connection is in the table").starts_with("02:")
}

#[test]
fn a_new_process_that_fails_leaves_the_options_of_the_sockets() {
    let folder = Folder::new();
    let old = folder.serve(&[]);
    assert!(is_probed(&old));
    // It has claimed the sockets when it finds out that it cannot start.
    let other = ["--listen", "127.0.0.1:0", "--listen", "192.0.2.1:1", "--no-keepalive"];
    let (code, stderr) = folder.fail(&other);
    assert!(code == Some(1) && stderr.contains("failed to listen on 192.0.2.1:1"), "{stderr}");
    assert!(is_probed(&old));
    let new = folder.take_over(&["--no-keepalive"]);
    assert_ends_well(old);
    // A connection has the options that the socket had when it arrived, and the acceptor sets those of the
    // new process when its thread starts.
    let is_applied = crate::common::poll(super::DEADLINE, || (!is_probed(&new)).then_some(()));
    is_applied.expect("later connections have the options of the new process");
    stop(new);
}

#[test]
fn a_path_that_is_the_status_socket_is_refused_with_the_option() {
    let folder = Folder::new();
    let status = format!("unix:{}", folder.socket());
    let (code, stderr) = folder.fail(&["--status", &status]);
    let reason = "already used by --status; choose another address with --upgrade-socket";
    assert!(code == Some(1) && stderr.contains(reason), "{code:?} {stderr}");
}
