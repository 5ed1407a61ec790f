//! The line buffer: receives and sends lines in pieces, without blocking.

use std::io;
use std::time::{Duration, Instant};

use super::stream::Stream;

/// Size of one read.
pub(crate) const CHUNK_BYTES: usize = 16 * 1024;

/// Capacity that is kept after a long line.
const KEPT_BYTES: usize = 4 * 1024;

/// A line that is received or sent piece by piece.
///
/// It takes no more input than this line: further input stays in the kernel, so that a later wait
/// for the stream still reports it.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    sent: usize,
}

/// The state of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineStatus {
    /// Complete, including its newline.
    Complete,
    /// Incomplete.
    Partial,
    /// Longer than allowed.
    TooLong,
    /// The stream has ended.
    Ended,
}

/// The result of waiting for a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// There are bytes to read.
    Bytes,
    /// The stream has ended.
    End,
    /// Neither, until the timeout.
    Nothing,
}

impl LineBuffer {
    /// Waits until there is something to [receive](LineBuffer::receive), until `deadline`, and for `idle`
    /// at most.
    ///
    /// The deadline is checked first, so single bytes do not extend it.
    ///
    /// # Errors
    /// Errors of the connection and the registry.
    #[track_caller]
    pub(crate) fn wait(
        stream: &Stream,
        deadline: Instant,
        idle: Option<Duration>,
    ) -> io::Result<Readiness> {
        let silence = idle.and_then(|idle| Instant::now().checked_add(idle));
        let deadline = silence.map_or(deadline, |silence| silence.min(deadline));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !stream.wait_readable(Some(left))? {
                return Ok(Readiness::Nothing);
            }
            match stream.try_peek(&mut [0]) {
                Ok(0) => return Ok(Readiness::End),
                Ok(_) => return Ok(Readiness::Bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// An empty line.
    #[must_use]
    pub(crate) fn new() -> LineBuffer {
        LineBuffer::default()
    }

    /// Takes the available input, up to the newline, without blocking, and returns the state of the
    /// line. New bytes are at the end of [`bytes`](LineBuffer::bytes). `bytes_max` includes the
    /// newline.
    ///
    /// # Errors
    /// Errors of the connection and the registry. Missing input is not an error.
    #[track_caller]
    pub(crate) fn receive(&mut self, stream: &Stream, bytes_max: usize) -> io::Result<LineStatus> {
        let before = self.bytes.len();
        let no_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.bytes.try_reserve(CHUNK_BYTES).map_err(no_memory)?;
        self.bytes.resize(before + CHUNK_BYTES, 0);
        let received = receive(stream, &mut self.bytes[before..]);
        self.bytes.truncate(before + received.as_ref().map_or(0, |taken| *taken));
        match received {
            Ok(0) => Ok(LineStatus::Ended),
            Ok(_) if self.bytes.len() > bytes_max => Ok(LineStatus::TooLong),
            Ok(_) if self.bytes.ends_with(b"\n") => Ok(LineStatus::Complete),
            Ok(_) => Ok(LineStatus::Partial),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(LineStatus::Partial),
            Err(error) => Err(error),
        }
    }

    /// Sends as much as the socket accepts, without blocking. Returns true when all is sent.
    ///
    /// # Errors
    /// Errors of the connection and the registry. A full socket buffer is not an error.
    #[track_caller]
    pub(crate) fn send(&mut self, stream: &Stream) -> io::Result<bool> {
        while self.sent < self.bytes.len() {
            match stream.try_write(&self.bytes[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The bytes received so far.
    #[must_use]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sets a line to send.
    #[cfg(feature = "serve")]
    pub(crate) fn set(&mut self, bytes: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Empties the buffer for the next line.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.sent = 0;
    }
}

/// Reads the available input, up to a newline.
#[track_caller]
fn receive(stream: &Stream, buffer: &mut [u8]) -> io::Result<usize> {
    let seen = stream.try_peek(buffer)?;
    let end = buffer[..seen].iter().position(|byte| *byte == b'\n');
    stream.try_read(&mut buffer[..end.map_or(seen, |newline| newline + 1)])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::ownership::Registry;

    fn with_pair(test: impl FnOnce(Stream, Stream)) {
        let registry = Registry::builder().build();
        let outcome = registry.run("test", || {
            let (one, other) = Stream::pair().unwrap();
            test(one, other);
        });
        outcome.unwrap();
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_after_the_silence() {
        const SHORT: Duration = Duration::from_millis(20);
        const LONG: Duration = Duration::from_secs(60);
        with_pair(|_client, server| {
            for (deadline, idle) in [(SHORT, None), (LONG, Some(SHORT)), (SHORT, Some(LONG))] {
                let readiness = LineBuffer::wait(&server, Instant::now() + deadline, idle);
                assert_eq!(readiness.unwrap(), Readiness::Nothing);
            }
        });
    }

    #[test]
    fn two_lines_in_one_segment_are_two() {
        with_pair(|mut client, server| {
            client.write_all(b"one\ntwo\nthr").unwrap();
            let mut line = LineBuffer::new();
            for (expected, progress) in [
                (&b"one\n"[..], LineStatus::Complete),
                (b"two\n", LineStatus::Complete),
                (b"thr", LineStatus::Partial),
            ] {
                assert_eq!(line.receive(&server, 100).unwrap(), progress);
                assert_eq!(line.bytes(), expected);
                line.clear();
            }
        });
    }

    #[test]
    fn a_line_in_pieces_is_one_and_waiting_for_more_is_no_error() {
        with_pair(|mut client, server| {
            let mut line = LineBuffer::new();
            assert_eq!(line.receive(&server, 100).unwrap(), LineStatus::Partial);
            for byte in *b"split" {
                client.write_all(&[byte]).unwrap();
                assert_eq!(line.receive(&server, 100).unwrap(), LineStatus::Partial);
            }
            client.write_all(b"\n").unwrap();
            assert_eq!(line.receive(&server, 100).unwrap(), LineStatus::Complete);
            assert_eq!(line.bytes(), b"split\n");
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(line.receive(&server, 100).unwrap(), LineStatus::Ended);
        });
    }

    #[test]
    fn the_limit_counts_the_newline_and_holds_with_and_without_one() {
        with_pair(|mut client, server| {
            client.write_all(b"1234567\n").unwrap();
            let mut line = LineBuffer::new();
            assert_eq!(line.receive(&server, 8).unwrap(), LineStatus::Complete);
            line.clear();
            client.write_all(b"12345678\n").unwrap();
            assert_eq!(line.receive(&server, 8).unwrap(), LineStatus::TooLong);
            line.clear();
            client.write_all(b"123456789").unwrap();
            assert_eq!(line.receive(&server, 8).unwrap(), LineStatus::TooLong);
        });
    }
}
