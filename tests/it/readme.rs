//! The first commands of the README, run as written.

use std::io::Write;
use std::process::{Command, Stdio};

use super::server::Server;
use crate::common::require_tool;

#[test]
fn netcat_gets_hello_echoed() {
    let help = Command::new("nc").arg("-h").output();
    let is_openbsd =
        help.is_ok_and(|help| String::from_utf8_lossy(&help.stderr).contains("OpenBSD"));
    if !require_tool("OpenBSD netcat", is_openbsd) {
        return;
    }
    let server = Server::start(&[]);
    let port = server.address().port().to_string();
    let mut nc = Command::new("nc")
        .args(["-N", "localhost", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("nc starts");
    nc.stdin.take().expect("it was piped").write_all(b"Hello\n").unwrap();
    let output = nc.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"Hello\n");
}

#[test]
fn the_listening_address_is_the_first_line_of_output() {
    let server = Server::start(&[]);
    assert_eq!(server.seen.last().unwrap(), &format!("listening on {}", server.address()));
}
