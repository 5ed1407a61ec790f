//! Several acceptors, Unix sockets and IPv6.

use std::io::Write;
use std::net::TcpStream;

use rustix::process::Signal;

use super::super::server::{Server, serve};
use super::dialect::{Calm, Dialect};

pub fn each_of_several_acceptors_accepts_clients(dialect: &Dialect) {
    let mut server = dialect.start(&["--acceptors", "4", "--log-format", "json"]);
    let calm = Calm::of(&server);
    let listeners = server.listeners();
    assert_eq!(listeners, 4);
    let mut clients: Vec<TcpStream> = (0..64).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        dialect.exchange(client, n);
    }
    drop(clients);
    calm.assert_restored(dialect, &mut server);
    // A second server on the same port is rejected all the same.
    let busy = serve(&[&server.address().to_string()], &["--acceptors", "4"]).output().unwrap();
    assert_eq!(busy.status.code(), Some(1));
}

pub fn a_unix_socket_serves_and_its_file_is_removed_on_exit(dialect: &Dialect) {
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
    assert_eq!(second.status.code(), Some(1), "an address in use is busy");
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another program"));
    talk(2);
    // A killed server leaves its file behind, which is stale.
    first.signal(Signal::KILL);
    first.wait();
    assert!(path.exists());
    let mut third = Server::run(&mut serve(&[&address], dialect.arguments), 0);
    third.wait_for_line("listening on ");
    talk(3);
    let (code, _) = third.stop();
    assert_eq!(code, Some(0));
    assert!(!path.exists(), "the server removes its file");
    // A file that is not a socket is not touched.
    std::fs::write(&path, "precious").unwrap();
    let rejected = serve(&[&address], dialect.arguments).output().unwrap();
    assert_eq!(rejected.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
}

pub fn ipv6_clients_are_served(dialect: &Dialect) {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let server = Server::start_on(&["[::1]:0"], dialect.arguments);
    assert!(server.address().is_ipv6());
    dialect.exchange(&mut server.connect(), 1);
}

#[test]
fn a_server_does_not_remove_another_servers_socket_file() {
    let path = std::env::temp_dir().join(format!("echown-{}.two.sock", std::process::id()));
    let address = format!("unix:{}", path.display());
    let mut first = Server::run(&mut serve(&[&address], &[]), 0);
    first.wait_for_line("listening on ");
    std::fs::remove_file(&path).unwrap();
    let mut second = Server::run(&mut serve(&[&address], &[]), 0);
    second.wait_for_line("listening on ");
    assert_eq!(first.stop().0, Some(0));
    assert!(path.exists(), "the file belongs to the second server");
    assert_eq!(second.stop().0, Some(0));
    assert!(!path.exists());
}

#[test]
fn a_unix_server_with_a_full_queue_is_reported_as_busy_immediately() {
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
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another program"));
    std::fs::remove_file(&path).unwrap();
}
