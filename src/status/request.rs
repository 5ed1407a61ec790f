//! Reading the head of an HTTP request: bounded in bytes, headers and time.
//!
//! The failure story: a client that connects and sends one byte a minute, or headers without end,
//! occupies a place and memory. So a head has [`HEAD_BYTES_MAX`] bytes and [`HEAD_TIME`] in total, not
//! per read.
//!
//! # Limits
//!
//! One request per connection. The body of a request is never read as anything: no method that is
//! served has one.

use std::io;
use std::time::{Duration, Instant};

use crate::net::Stream;

/// The maximum size of a request's head, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The time for a request's head to arrive.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(5);

/// The maximum number of header fields; a browser sends about 15.
const FIELDS_MAX: usize = 64;

/// What is used of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// The `Host` header, or the authority of a target such as `http://localhost/events`.
    pub(super) host: String,
    /// The `Sec-Fetch-Site` header: from which site's page a browser sends this.
    pub(super) fetch_site: Option<String>,
    /// The `Accept` headers: the formats that the client reads.
    pub(super) accept: Option<String>,
}

/// Why there is no request.
#[derive(Debug)]
pub(super) enum RequestError {
    /// Not HTTP/1, or not valid.
    Invalid(String),
    /// Another major version of HTTP.
    Version,
    /// More than [`HEAD_BYTES_MAX`] bytes or [`FIELDS_MAX`] fields.
    TooLarge,
    /// Not complete within [`HEAD_TIME`].
    TooSlow,
    /// The client closed the connection, or it failed; there is no one to reply to.
    Gone,
}

impl From<io::Error> for RequestError {
    fn from(_: io::Error) -> RequestError {
        RequestError::Gone
    }
}

/// Reads a request's head from a client.
pub(super) fn read(stream: &Stream) -> Result<Request, RequestError> {
    let deadline = Instant::now() + HEAD_TIME;
    let mut head = vec![0; HEAD_BYTES_MAX];
    let mut length = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if !stream.wait_readable(Some(left))? {
            return Err(RequestError::TooSlow);
        }
        match stream.try_read(&mut head[length..]) {
            Ok(0) => return Err(RequestError::Gone),
            Ok(bytes) => length += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        match parse(&head[..length])? {
            Some(request) => return Ok(request),
            None if length == HEAD_BYTES_MAX => return Err(RequestError::TooLarge),
            None => {}
        }
    }
}

/// Parses a head; `None` if it is not complete.
fn parse(head: &[u8]) -> Result<Option<Request>, RequestError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooLarge),
        Err(httparse::Error::Version) => return Err(RequestError::Version),
        Err(error) => return Err(invalid(format!("not a request of HTTP/1.1: {error}"))),
    }
    let method = parsed.method.unwrap_or_default().to_owned();
    let target = parsed.path.unwrap_or_default();
    let host = field(parsed.headers, "host")?;
    let fetch_site = field(parsed.headers, "sec-fetch-site")?;
    let accept = list(parsed.headers, "accept");
    let Some(host) = host else {
        return Err(invalid("a request needs a `Host` header, as in `Host: localhost`".into()));
    };
    let (host, path) = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            let (authority, path) = rest.split_at(end);
            (authority.to_owned(), if path.starts_with('/') { path } else { "/" })
        }
        _ => (host, target),
    };
    let path = path.split('?').next().unwrap_or_default().to_owned();
    Ok(Some(Request { method, path, host, fetch_site, accept }))
}

/// The value of a header field that may occur once.
fn field(fields: &[httparse::Header<'_>], name: &str) -> Result<Option<String>, RequestError> {
    let mut values = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid(format!("the header `{name}` occurs twice")));
    }
    match std::str::from_utf8(first.value) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(_) => Err(invalid(format!("the header `{name}` is not UTF-8"))),
    }
}

/// The values of a header field that is a list, and may occur more than once.
fn list(fields: &[httparse::Header<'_>], name: &str) -> Option<String> {
    let of_name = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let values: Vec<_> = of_name.map(|field| String::from_utf8_lossy(field.value)).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn invalid(why: String) -> RequestError {
    RequestError::Invalid(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(head: &str) -> Request {
        parse(head.as_bytes()).expect("it is valid").expect("it is complete")
    }

    fn why(head: &[u8]) -> String {
        match parse(head) {
            Err(RequestError::Invalid(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_is_parsed_at_its_empty_line_and_not_before() {
        let head = "GET /events?from=page HTTP/1.1\r\nhOST:  localhost:80 \r\n\
                    Sec-Fetch-Site: same-origin\r\nAccept: */*\r\n\r\n";
        for end in 0..head.len() {
            assert!(matches!(parse(&head.as_bytes()[..end]), Ok(None)), "{end}");
        }
        let request = Request {
            method: "GET".into(),
            path: "/events".into(),
            host: "localhost:80".into(),
            fetch_site: Some("same-origin".into()),
            accept: Some("*/*".into()),
        };
        assert_eq!(complete(head), request);
        // What follows belongs to a body.
        assert_eq!(complete(&format!("{head}GET / HTTP/1.1\r\n\r\n")), request);
    }

    #[test]
    fn the_authority_of_an_absolute_target_replaces_the_host_header() {
        for (target, host, path) in [
            ("http://localhost:1/events?a", "localhost:1", "/events"),
            ("HTTP://evil.example", "evil.example", "/"),
            ("http://evil.example?/x", "evil.example", "/"),
            ("/a://b", "localhost", "/a://b"),
            ("*", "localhost", "*"),
        ] {
            let request = complete(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            assert_eq!((&*request.host, &*request.path), (host, path), "{target}");
        }
    }

    #[test]
    fn an_invalid_head_is_rejected_with_the_reason() {
        let twice = b"GET / HTTP/1.1\r\nHost: localhost\r\nhost: evil.example\r\n\r\n";
        assert_eq!(why(twice), "the header `host` occurs twice");
        let without = why(b"GET / HTTP/1.0\r\n\r\n");
        assert_eq!(without, "a request needs a `Host` header, as in `Host: localhost`");
        assert_eq!(why(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n"), "the header `host` is not UTF-8");
        // The beginning of a TLS handshake.
        assert!(why(b"\x16\x03\x01\x02\x00\x01").starts_with("not a request of HTTP/1.1: "));
        for (space, head) in [
            ("before the colon", "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"),
            ("at the start", "GET / HTTP/1.1\r\nHost: localhost\r\n evil.example\r\n\r\n"),
        ] {
            assert!(why(head.as_bytes()).starts_with("not a request of HTTP/1.1: "), "{space}");
        }
        let version = parse(b"PRI * HTTP/2.0\r\n\r\n");
        assert!(matches!(version, Err(RequestError::Version)), "{version:?}");
        let fields = "a: b\r\n".repeat(FIELDS_MAX + 1);
        let many = parse(format!("GET / HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert!(matches!(many, Err(RequestError::TooLarge)), "{many:?}");
    }
}
