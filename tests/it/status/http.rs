//! A minimal HTTP client, which can also be rude.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::super::server::{DEADLINE, Server};

/// A response, or the part of it that arrived before the connection ended.
#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn of(text: &str) -> Reply {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let mut lines = head.split("\r\n");
        let first = lines.next().expect("a status line");
        let code = first.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1")[..3].parse().unwrap();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a header field");
            (name.to_lowercase(), value.to_owned())
        });
        Reply { code, fields: fields.collect(), body: body.to_owned() }
    }

    /// The value of a header field, which must occur at most once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "{name} occurs twice: {self:?}");
        value
    }

    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.code, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The address in the line `status on http://ADDRESS/`.
pub fn status_of(server: &mut Server) -> SocketAddr {
    let line = server.wait_for_line("status on ");
    let url = line.strip_prefix("status on http://").unwrap_or_else(|| panic!("{line}"));
    url.trim_end_matches('/').parse().expect("the address is numeric")
}

pub fn connect(status: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(status).expect("the status server accepts");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads until the server closes.
pub fn reply(mut stream: impl Read) -> Reply {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the response is complete");
    Reply::of(&text)
}

/// Sends these bytes and reads the response.
pub fn send(status: SocketAddr, bytes: &[u8]) -> Reply {
    let mut stream = connect(status);
    stream.write_all(bytes).unwrap();
    reply(stream)
}

/// A request with this host.
pub fn request(method: &str, target: &str, host: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

pub fn get(status: SocketAddr, target: &str) -> Reply {
    send(status, request("GET", target, "localhost").as_bytes())
}
