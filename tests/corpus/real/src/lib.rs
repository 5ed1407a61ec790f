//! What the tests of public bugs share. The packages `buggy` and `fixed` both build this file and the
//! folder `tests`, each with its own versions of the crates.

use std::ffi::c_int;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Command;
use std::thread::{self, JoinHandle};

/// A server for one HTTP request. It keeps the connection until the client closes it.
pub fn http_server() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    (address, server)
}

/// A listener as a service manager passes it: without close-on-exec.
pub fn activated_listener() -> OwnedFd {
    let domain: c_int = libc::AF_INET;
    // SAFETY: socket, bind and listen with valid arguments; the descriptor has no other owner.
    unsafe {
        let number = libc::socket(domain, libc::SOCK_STREAM, 0);
        assert!(number >= 0, "{}", io::Error::last_os_error());
        let socket = OwnedFd::from_raw_fd(number);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = domain as libc::sa_family_t;
        address.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 1]);
        let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        assert_eq!(libc::bind(number, (&raw const address).cast(), size), 0);
        assert_eq!(libc::listen(number, 1), 0);
        socket
    }
}

/// Starts a program and waits for its end.
pub fn run_a_program() {
    assert!(Command::new("true").status().unwrap().success());
}
