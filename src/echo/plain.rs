//! The plain echo of RFC 862: sends every byte back, in order, until the peer has finished.
//!
//! The failure story: a write fails after all input was read. An ordinary close would then send the end
//! of the stream, and the client would take half an echo for a complete one. So a connection that ends
//! with a system error is reset. A timeout without input is no such error: nothing is missing, and the
//! client gets an ordinary end.

mod buffer;

use std::io;
use std::time::Duration;

use super::exchange::{receive, reset_by, send_back, timed_out};
use super::{ChaosTarget, EndReason, Handler, Turn, Turns};
use crate::net::{AdaptiveSpin, Stream};
use buffer::AdaptiveBuffer;

/// How long the last bytes of a drained connection may take to arrive. The drain's own deadline is
/// usually earlier.
const FINAL_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Echoes all input until the peer closes its sending side, and then closes ours: a client that
/// sends a file and half-closes gets all of it back, and then the end of the stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Handler for Plain {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn serve(&self, stream: Stream) -> io::Result<()> {
        let mut buffer = AdaptiveBuffer::new()?;
        let mut spin = AdaptiveSpin::default();
        loop {
            let received = match receive(&stream, buffer.bytes(), &mut spin) {
                Err(error) if buffer.shrink_if_silent(&error, &stream)? => continue,
                result => result.map_err(|error| timed_out(error, EndReason::IdleTimeout))?,
            };
            if received == 0 {
                break;
            }
            send_back(&stream, &buffer.bytes()[..received])?;
            buffer.grow_if_filled(received, &stream)?;
        }
        stream.finish(FINAL_SEND_TIMEOUT)
    }

    fn turns(&self) -> Option<&dyn Turns> {
        Some(self)
    }
}

impl Turns for Plain {
    fn turn(&self, stream: &Stream, buffer: &mut [u8]) -> io::Result<Turn> {
        let received = match stream.try_read(buffer) {
            Ok(0) => return Ok(Turn::Finished),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Turn::Drained),
            Err(error) => return Err(reset_by(stream, error)),
        };
        let sent = match stream.try_write(&buffer[..received]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(reset_by(stream, error)),
        };
        Ok(match () {
            () if sent < received => Turn::Blocked { from: sent, to: received },
            () if received == buffer.len() => Turn::More,
            () => Turn::Drained,
        })
    }
}

impl ChaosTarget for Plain {}
