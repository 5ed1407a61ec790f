//! HTTP responses: the head with the headers that protect every one of them, and the error texts.

use std::fmt::Write as _;
use std::io;
use std::time::SystemTime;

use echown_fd::escape;

use super::access::{Denied, Resource};
use super::request::{HEAD_BYTES_MAX, HEAD_TIME, Request, RequestError};
use super::{BUSY_RETRY, CLIENTS_MAX, page};

/// The maximum length of a request's text in a response, in characters.
const QUOTED_MAX: usize = 100;

/// The policy of what is not the page: such a document may load nothing and stand in no frame.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// What precedes a body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: &'static str,
    pub(super) content_type: &'static str,
    /// Further header fields.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Head {
    pub(super) fn ok(content_type: &'static str) -> Head {
        Head { status: "200 OK", content_type, fields: Vec::new() }
    }

    /// The head as it is sent; without a length, the body ends with the connection.
    pub(super) fn to_bytes(&self, length: Option<usize>) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {}\r\n", self.status);
        let mut add = |name: &str, value: &str| {
            // Writing to a string does not fail.
            let _ = write!(text, "{name}: {value}\r\n");
        };
        add("Date", &httpdate::fmt_http_date(SystemTime::now()));
        add("Connection", "close");
        add("Content-Type", self.content_type);
        if let Some(length) = length {
            add("Content-Length", &length.to_string());
        }
        add("Cache-Control", "no-store");
        add("X-Content-Type-Options", "nosniff");
        add("X-Frame-Options", "DENY");
        add("Referrer-Policy", "no-referrer");
        add("Cross-Origin-Resource-Policy", "same-origin");
        add("Cross-Origin-Opener-Policy", "same-origin");
        if !self.fields.iter().any(|(name, _)| *name == "Content-Security-Policy") {
            add("Content-Security-Policy", POLICY);
        }
        for (name, value) in &self.fields {
            add(name, value);
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response { head: Head::ok(content_type), body: body.into() }
    }

    pub(super) fn page() -> Response {
        Response::ok("text/html; charset=utf-8", page::document())
            .with("Content-Security-Policy", page::content_security_policy())
    }

    /// Whether the program serves.
    pub(super) fn health(is_serving: bool) -> Response {
        if is_serving {
            return Response::ok("text/plain; charset=utf-8", "ok\n");
        }
        Response::error("503 Service Unavailable", "the server is stopping")
    }

    /// An error, with a text for people.
    fn error(status: &'static str, text: &str) -> Response {
        let body = format!("{status}\n\n{text}\n").into_bytes();
        let content_type = "text/plain; charset=utf-8";
        Response { head: Head { status, content_type, fields: Vec::new() }, body }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.head.fields.push((name, value.into()));
        self
    }

    /// The response where the server itself failed.
    pub(super) fn failed(error: &io::Error) -> Response {
        Response::error("500 Internal Server Error", &quoted(&error.to_string()))
    }

    /// The response to a client beyond the limit.
    pub(super) fn busy() -> Response {
        let text = format!("{CLIENTS_MAX} clients are connected, and there may be no more.");
        Response::error("503 Service Unavailable", &text)
            .with("Retry-After", BUSY_RETRY.as_secs().to_string())
    }

    /// The response to a client that sent no request; `None` if no client is there to read it.
    pub(super) fn to_no_request(error: RequestError) -> Option<Response> {
        Some(match error {
            RequestError::Gone => return None,
            RequestError::Invalid(why) => Response::error("400 Bad Request", &quoted(&why)),
            RequestError::Version => {
                Response::error("505 HTTP Version Not Supported", "HTTP/1.1 is supported.")
            }
            RequestError::TooLarge => Response::error(
                "431 Request Header Fields Too Large",
                &format!("The head of a request has at most {HEAD_BYTES_MAX} bytes and 64 fields."),
            ),
            RequestError::TooSlow => Response::error(
                "408 Request Timeout",
                &format!("The head of a request must arrive within {} s.", HEAD_TIME.as_secs()),
            ),
        })
    }

    /// The response to a request that may not read what it asks for. `url` is the address of this
    /// server.
    pub(super) fn to_denied(
        denied: Denied,
        request: &Request,
        url: &str,
        served: &[Resource],
    ) -> Response {
        match denied {
            Denied::Host => Response::error(
                "403 Forbidden",
                &format!(
                    "`{}` is not a name of this server. The check keeps pages of other sites from \
                     reading it through a name that they let resolve to this machine. Use {url} or \
                     localhost; for a reverse proxy, start with --status-host NAME.",
                    quoted(&request.host)
                ),
            ),
            Denied::Method => {
                Response::error("405 Method Not Allowed", "Only GET and HEAD are supported.")
                    .with("Allow", "GET, HEAD")
            }
            Denied::NotFound => {
                let mut text = "There is no such resource. There are:\n".to_owned();
                for resource in served {
                    // Writing to a string does not fail.
                    let _ = write!(text, "\n{:16}{}", resource.path(), resource.what());
                }
                if served.iter().all(|resource| resource.is_public()) {
                    text.push_str(
                        "\n\nOther machines can connect to this address; what names clients, tasks and \
                         paths is served only on a loopback address or a Unix socket.",
                    );
                }
                Response::error("404 Not Found", &text)
            }
            Denied::OtherSite => Response::error(
                "403 Forbidden",
                "A page of another site sent this request. Open the address itself.",
            ),
        }
    }
}

/// A text that a client chose, escaped and shortened.
fn quoted(text: &str) -> String {
    let text = escape::text(text);
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response) -> String {
        let mut bytes = response.head.to_bytes(Some(response.body.len()));
        bytes.extend(&response.body);
        String::from_utf8(bytes).expect("it is text")
    }

    #[test]
    fn every_response_has_the_headers_that_protect_it() {
        let denied = [Denied::Host, Denied::Method, Denied::NotFound, Denied::OtherSite];
        let request = Request {
            method: "GET".into(),
            path: "/".into(),
            host: "evil\r\nX: y".into(),
            fetch_site: None,
            accept: None,
        };
        let url = "http://127.0.0.1:1/";
        let mut all: Vec<Response> = denied
            .into_iter()
            .map(|denied| Response::to_denied(denied, &request, url, &Resource::ALL))
            .collect();
        all.push(Response::ok("application/json", "{}"));
        all.push(Response::busy());
        for error in [
            RequestError::Invalid("x".into()),
            RequestError::Version,
            RequestError::TooLarge,
            RequestError::TooSlow,
        ] {
            all.push(Response::to_no_request(error).expect("a response"));
        }
        for response in all {
            let text = text(&response);
            let (head, body) = text.split_once("\r\n\r\n").expect("an empty line");
            assert!(!head.contains("X: y") && !body.contains("\r"), "{text}");
            for field in [
                "Connection: close",
                "Cache-Control: no-store",
                "X-Content-Type-Options: nosniff",
                "X-Frame-Options: DENY",
                "Referrer-Policy: no-referrer",
                "Cross-Origin-Resource-Policy: same-origin",
                "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
            ] {
                assert_eq!(head.split("\r\n").filter(|line| *line == field).count(), 1, "{field}");
            }
            assert!(!head.to_lowercase().contains("access-control"), "{head}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        }
    }

    #[test]
    fn a_quoted_text_is_escaped_and_short() {
        assert_eq!(quoted("a\u{1b}[1m"), "a\\x1b[1m");
        assert_eq!(quoted(&"x".repeat(1_000)).len(), QUOTED_MAX + 3);
    }
}
