//! The health check: whether a server serves, asked as one client with a limit of time.
//!
//! The failure story: a server whose threads are blocked, or whose places are all taken, still has its
//! port open, so a check that only connects calls it healthy. So where the protocol allows it, a line is
//! sent and must return; and a status address is asked for `/healthz`, which says no from the first signal
//! to stop on. Whatever hangs (the resolver, the connect, the reply), the check ends within its limit.
//!
//! # Limits
//!
//! - The check is a client like any other: it takes a place and is counted. The status address has places
//!   of its own.
//! - Where it only connects ([`Probe::Connect`]), the kernel accepts on behalf of the server.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use echown_fd::escape;
use echown_report::InputError;

use crate::net::{Endpoint, Stream};

/// The line that must return.
const LINE: &[u8] = b"echown healthcheck\n";

/// The path at the status address.
const HEALTH_PATH: &str = "/healthz";

/// What is read of a reply over HTTP, at most.
const REPLY_BYTES_MAX: usize = 8 * 1024;

/// What is quoted of a reply, at most, in characters.
const QUOTED_MAX: usize = 100;

/// How long the server may take to close after a good reply. The result does not depend on it.
const CLOSE_TIME: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The address of the echo server.
    Echo(Endpoint),
    /// The status address.
    Status(Endpoint),
}

/// How an echo address is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A line is sent and must return.
    Exchange,
    /// The connection must be established.
    Connect,
}

impl FromStr for Target {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Target, InputError> {
        let or_http = |error: InputError| {
            InputError::new(format!("{error}, or http://ADDRESS:PORT{HEALTH_PATH}"))
        };
        let Some(status) = text.strip_prefix("http://") else {
            return text.parse().map(Target::Echo).map_err(or_http);
        };
        let address = status.strip_suffix(HEALTH_PATH).unwrap_or(status);
        let address = address.strip_suffix('/').unwrap_or(address);
        if let Some((_, path)) = address.split_once('/')
            && !address.starts_with("unix:")
        {
            return Err(InputError::new(format!(
                "`/{}` is not the path of a health check; expected http://ADDRESS:PORT{HEALTH_PATH}",
                escape::text(path)
            )));
        }
        address.parse().map(Target::Status).map_err(or_http)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Echo(endpoint) => endpoint.fmt(f),
            Target::Status(endpoint) => write!(f, "http://{endpoint}{HEALTH_PATH}"),
        }
    }
}

/// Asks a server whether it serves, for at most `limit` in total. The current task owns the socket.
///
/// # Errors
/// Why the server is not healthy, with what was tried.
pub(crate) fn check(target: &Target, probe: Probe, limit: Duration) -> Result<(), String> {
    let time = Time { limit, end: Instant::now() + limit };
    match target {
        Target::Echo(endpoint) => {
            let connection = Connection { stream: connect(endpoint, &time)?, target, time: &time };
            if probe == Probe::Exchange {
                connection.exchange()?;
            }
            connection.finish();
            Ok(())
        }
        Target::Status(endpoint) => {
            let connection = Connection { stream: connect(endpoint, &time)?, target, time: &time };
            connection.ask(endpoint)
        }
    }
}

/// The limit of a check.
struct Time {
    limit: Duration,
    end: Instant,
}

impl Time {
    /// What is left; at least a moment, because zero means no limit to some calls.
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// `within 2 s`
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "within {} s", self.limit.as_secs_f64())
    }
}

/// Connects to the first address of an endpoint that accepts.
fn connect(endpoint: &Endpoint, time: &Time) -> Result<Stream, String> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::TimedOut => {
            format!("failed to connect to {endpoint}: no answer {time}")
        }
        _ => format!("failed to connect to {endpoint}: {error}"),
    };
    if let Endpoint::Unix(path) = endpoint {
        return connect_unix(path, time).map_err(|error| failed(&error));
    }
    let addresses = resolve(endpoint, time)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (tried, address) in addresses.iter().enumerate() {
        // An address that does not answer leaves time for the others.
        let share = time.left() / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match Stream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(failed(&last))
}

fn connect_unix(path: &Path, time: &Time) -> io::Result<Stream> {
    Stream::connect_unix_timeout(path, time.left())
}

/// Resolves an endpoint. A name is resolved on another thread, because the resolver cannot be
/// interrupted; a number needs no thread, of which a full system may have none.
fn resolve(endpoint: &Endpoint, time: &Time) -> Result<Vec<SocketAddr>, String> {
    let is_numeric = match endpoint {
        Endpoint::Inet(address) => address.parse::<SocketAddr>().is_ok(),
        Endpoint::All(_) | Endpoint::Unix(_) => true,
    };
    if is_numeric {
        return endpoint.resolve().map_err(|error| error.to_string());
    }
    let (sender, resolved) = sync_channel(1);
    let resolver = endpoint.clone();
    let promise = crate::thread::spawn_named("resolver", [], move || {
        // Fails if the time has passed.
        let _ = sender.send(resolver.resolve());
    });
    let promise = promise.map_err(|error| error.without_job().to_string())?;
    match resolved.recv_timeout(time.left()) {
        Ok(addresses) => {
            // It has nothing more to do.
            let _ = promise.join();
            addresses.map_err(|error| error.to_string())
        }
        Err(_) => {
            // It may run for longer than this process.
            std::mem::forget(promise);
            Err(format!("the host of {endpoint} was not resolved {time}"))
        }
    }
}

/// A connection to the server that is checked.
struct Connection<'a> {
    stream: Stream,
    target: &'a Target,
    time: &'a Time,
}

impl Connection<'_> {
    /// Sends a line and expects it back.
    fn exchange(&self) -> Result<(), String> {
        let what = "echo of a line";
        self.send(LINE, what)?;
        let mut reply = [0; LINE.len()];
        let mut length = 0;
        while length < LINE.len() {
            length += match self.receive(&mut reply[length..], what)? {
                0 => return Err(self.closed()),
                bytes => bytes,
            };
            if reply[..length] != LINE[..length] {
                return Err(format!("{} does not echo: it returned other bytes", self.target));
            }
        }
        Ok(())
    }

    /// Requests `/healthz` and expects 200.
    fn ask(&self, endpoint: &Endpoint) -> Result<(), String> {
        let what = "response to GET";
        let host = match endpoint {
            Endpoint::Inet(address) => address,
            Endpoint::All(_) | Endpoint::Unix(_) => "localhost",
        };
        let request =
            format!("GET {HEALTH_PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        self.send(request.as_bytes(), what)?;
        let mut reply = vec![0; REPLY_BYTES_MAX];
        let mut length = 0;
        while length < reply.len() {
            match self.receive(&mut reply[length..], what)? {
                0 => break,
                bytes => length += bytes,
            }
        }
        match status(&reply[..length]) {
            Some((200, _)) => Ok(()),
            Some((code, text)) => Err(format!("{} returned {code}: {text}", self.target)),
            None if length == 0 => Err(self.closed()),
            None => Err(format!("{} does not answer in HTTP", self.target)),
        }
    }

    fn send(&self, mut bytes: &[u8], what: &str) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(|left| self.stream.wait_writable(left), what)?;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    /// Receives what arrives next; zero bytes at the end.
    fn receive(&self, buffer: &mut [u8], what: &str) -> Result<usize, String> {
        loop {
            match self.stream.try_read(buffer) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(|left| self.stream.wait_readable(left), what)?;
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    fn wait(
        &self,
        wait: impl Fn(Option<Duration>) -> io::Result<bool>,
        what: &str,
    ) -> Result<(), String> {
        let is_ready = !self.time.is_over() && wait(Some(self.time.left())).unwrap_or(true);
        if is_ready {
            return Ok(());
        }
        Err(format!("{} was connected, but no {what} came {}", self.target, self.time))
    }

    fn failed(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => self.closed(),
            _ => format!("{} failed: {error}", self.target),
        }
    }

    /// What a client of a full server sees.
    fn closed(&self) -> String {
        format!("{} closed the connection without a reply: it is full or stopping", self.target)
    }

    /// Closes so that the server sees a client that finished, and not a reset.
    fn finish(self) {
        let end = Instant::now() + CLOSE_TIME.min(self.time.left());
        let mut rest = [0; 1024];
        // The check has succeeded; how the connection ends makes no difference.
        let _ = self.stream.shutdown(Shutdown::Write);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !self.stream.wait_readable(Some(left)).unwrap_or(false)
                || !self.stream.try_read(&mut rest).is_ok_and(|bytes| bytes > 0)
            {
                return;
            }
        }
    }
}

/// The status code and the last line of a response; `None` if it is none.
fn status(reply: &[u8]) -> Option<(u16, String)> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = parsed.parse(reply).ok()? else { return None };
    let body = String::from_utf8_lossy(&reply[head..]);
    let text = body.lines().rfind(|line| !line.is_empty()).unwrap_or_default();
    let text = escape::text(text).chars().take(QUOTED_MAX).collect();
    Some((parsed.code?, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_echo_address_or_the_status_address_as_a_url() {
        let inet = |text: &str| Endpoint::Inet(text.into());
        let unix = |text: &str| Endpoint::Unix(text.into());
        for (text, target) in [
            ("127.0.0.1:3000", Target::Echo(inet("127.0.0.1:3000"))),
            ("3000", Target::Echo(inet("127.0.0.1:3000"))),
            ("unix:/run/echo", Target::Echo(unix("/run/echo"))),
            ("http://[::1]:9100/healthz", Target::Status(inet("[::1]:9100"))),
            ("http://echo.example:9100", Target::Status(inet("echo.example:9100"))),
            ("http://9100/", Target::Status(inet("127.0.0.1:9100"))),
            ("http://:9100/healthz", Target::Status(Endpoint::All(9100))),
            ("http://unix:/run/status/healthz", Target::Status(unix("/run/status"))),
            ("http://unix:/run/status", Target::Status(unix("/run/status"))),
        ] {
            assert_eq!(text.parse(), Ok(target), "{text}");
        }
        for (text, why) in [
            ("https://echo.example:1/healthz", "omit `https://`"),
            ("http://echo.example/healthz", "the port is missing"),
            ("http://127.0.0.1:1/metrics", "`/metrics` is not the path of a health check"),
            ("http://unix:", "needs a path"),
            ("nowhere", "or http://ADDRESS:PORT/healthz"),
        ] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_response_is_its_code_and_its_last_line_escaped() {
        let status = |text: &str| status(text.as_bytes());
        assert_eq!(status("HTTP/1.1 200 OK\r\n\r\nok\n"), Some((200, "ok".into())));
        let busy = status("HTTP/1.1 503 X\r\nA: b\r\n\r\n503 X\n\nbusy\u{1b}[1m\n");
        assert_eq!(busy, Some((503, "busy\\x1b[1m".into())));
        assert_eq!(status("HTTP/1.1 200 OK\r\n"), None);
        assert_eq!(status("GET /healthz HTTP/1.1\r\n\r\n"), None);
    }
}
