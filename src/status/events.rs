//! The stream of events: JSON lines as server-sent events, until the viewer leaves.
//!
//! One message has the lines of a tenth of a second, each in a `data:` line. A comment every 15 s shows
//! proxies, and this server, that the other side is still there.
//!
//! The failure story: a browser that closes a page says so only by closing the connection. If that is
//! noticed with the next event, a few reloads of an idle program's page occupy all places. So the wait
//! between two messages is a wait for the client's end.
//!
//! # Limits
//!
//! A client that closes its sending side counts as gone.

use std::io;
use std::time::{Duration, Instant};

use super::Shared;
use super::response::Head;
use super::send::send;
use super::source::{Lines, Next};
use crate::net::Stream;

/// The time between two messages.
const INTERVAL: Duration = Duration::from_millis(100);

/// The time between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The head of the response, whose body ends with the connection.
pub(super) fn head() -> Vec<u8> {
    let mut head = Head::ok("text/event-stream");
    // For nginx, which otherwise collects a response before it passes it on.
    head.fields.push(("X-Accel-Buffering", "no".into()));
    head.to_bytes(None)
}

/// Sends events until they end, the viewer leaves or the server stops.
pub(super) fn stream(stream: &Stream, lines: &mut dyn Lines, shared: &Shared) -> io::Result<()> {
    let mut begin = head();
    // A browser connects again after a second.
    begin.extend(b"retry: 1000\n\n");
    if shared.source.snapshot.is_none() {
        // The lines of a recording are those of a running program; the page has to know which it shows.
        begin.extend(b"event: recording\ndata: {}\n\n");
    }
    send(stream, &begin)?;
    let mut last_sent = Instant::now();
    let mut batch = Vec::new();
    loop {
        // Before the lines are taken: what happened until the stop is sent.
        let is_stopping = shared.is_stopping();
        let next = lines.next(&mut batch);
        let is_last = is_stopping && next == Next::Later && batch.is_empty();
        if is_last {
            batch.push(lines.end());
        }
        if !batch.is_empty() {
            send(stream, message(&batch).as_bytes())?;
            batch.clear();
            last_sent = Instant::now();
        }
        match next {
            Next::More => continue,
            Next::Ended => return Ok(()),
            Next::Later if is_last => return Ok(()),
            // What still waits in the queue is sent at once.
            Next::Later if is_stopping => continue,
            Next::Later => {}
        }
        if last_sent.elapsed() >= KEEP_ALIVE {
            send(stream, b":\n\n")?;
            last_sent = Instant::now();
        }
        if stream.wait_readable(Some(INTERVAL))? && !shared.is_stopping() && is_gone(stream) {
            return Ok(());
        }
    }
}

/// One message.
fn message(lines: &[String]) -> String {
    let mut text =
        String::with_capacity(lines.iter().map(|line| line.len() + 7).sum::<usize>() + 1);
    for line in lines {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text
}

/// Whether the client has closed its connection, or at least its sending side. Discards what it sent.
fn is_gone(stream: &Stream) -> bool {
    let mut input = [0; 512];
    match stream.try_read(&mut input) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::OnceLock;

    use super::super::access::Hosts;
    use super::super::source::Source;
    use super::*;
    use crate::net::Endpoint;
    use crate::ownership::Registry;

    /// As many batches as a limited rate allows one after the other.
    struct Batches(u32);

    impl Lines for Batches {
        fn next(&mut self, lines: &mut Vec<String>) -> Next {
            if self.0 > 0 {
                lines.push(format!("batch {}", self.0));
                self.0 -= 1;
            }
            Next::Later
        }

        fn end(&self) -> String {
            "end".to_owned()
        }
    }

    #[test]
    fn all_that_waits_is_sent_before_the_end_when_the_server_stops() {
        let registry = Registry::new();
        let _entered = registry.enter();
        let (server, mut viewer) = Stream::pair().expect("a pair of sockets");
        let endpoint: Endpoint = "127.0.0.1:0".parse().expect("it is valid");
        let shared = Shared {
            source: Source {
                snapshot: None,
                health: None,
                metrics: None,
                begin: Box::new(|| Err(io::ErrorKind::Unsupported.into())),
            },
            hosts: Hosts::new(&endpoint, &[]),
            served: Vec::new(),
            url: String::new(),
            stop: OnceLock::from(()),
        };
        stream(&server, &mut Batches(3), &shared).expect("the viewer reads");
        drop(server);
        let mut text = String::new();
        viewer.read_to_string(&mut text).expect("it is text");
        let (_, body) = text.split_once("\n\n").expect("the first line of the stream");
        let body =
            body.strip_prefix("event: recording\ndata: {}\n\n").expect("there is no snapshot");
        assert_eq!(body, "data: batch 3\n\ndata: batch 2\n\ndata: batch 1\n\ndata: end\n\n");
    }
}
