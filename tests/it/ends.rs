//! How connections end, and what must not end with them unnoticed: urgent bytes, dead hosts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rustix::net::SendFlags;

use super::broadcast::frame;
use super::server::{PATIENCE, Server, TcpEnd};

/// Every style, with what one exchange is in it: these bytes come back as they are.
const STYLES: &[(&str, &[u8])] =
    &[("echo", b"12345678"), ("staged", b"1234567\n"), ("callback", b"12345678")];

#[test]
fn urgent_bytes_come_back_in_their_place_in_every_style() {
    let exchange = |style: &str, message: &[u8]| {
        let mut server = Server::start(&["--style", style]);
        let mut client = server.connect();
        // One urgent byte in the middle, and the last one.
        let (first, second) = message.split_at(message.len() / 2);
        for part in [first, second] {
            let (usual, urgent) = part.split_at(part.len() - 1);
            client.write_all(usual).unwrap();
            rustix::net::send(&client, urgent, SendFlags::OOB).unwrap();
        }
        client.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert_eq!(back, message, "{style}");
        server.signal(rustix::process::Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
    };
    for (style, message) in STYLES {
        exchange(style, message);
    }
    exchange("broadcast", &frame(b"12345678"));
}

/// What the kernel says about the server's end of a silent connection.
fn silent_end(server: &Server, client: &TcpStream) -> TcpEnd {
    server.wait_for("what was sent to be acknowledged", |server| {
        server.end_of(client).is_some_and(|end| end.is_established && end.unsent == 0)
    });
    server.end_of(client).expect("it is connected")
}

#[test]
fn a_silent_client_is_probed_after_a_minute_in_every_style() {
    for style in ["echo", "staged", "broadcast", "callback"] {
        let server = Server::start(&["--style", style]);
        let client = server.connect();
        let probed_in = silent_end(&server, &client).probed_in;
        let probed_in = probed_in.unwrap_or_else(|| panic!("{style}: no keep-alive"));
        assert!(probed_in <= Duration::from_secs(60), "{style}: {probed_in:?}");
        assert!(probed_in + PATIENCE > Duration::from_secs(60), "{style}: {probed_in:?}");
    }
    let server = Server::start(&["--no-keepalive"]);
    let client = server.connect();
    assert_eq!(silent_end(&server, &client).probed_in, None);
}
