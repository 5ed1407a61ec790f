//! The payload: the bytes that are sent and must be echoed.
//!
//! It is a stream of random bytes that repeats after a prime number of them. The period is long enough that
//! a server does not lose or repeat exactly one period by chance. Each connection starts at another
//! offset. Nothing is copied: the sent and compared bytes are slices of one ring.

use fastrand::Rng;

use crate::plan::WireProtocol;

/// Bytes after which the payload repeats.
const PERIOD: usize = 16_381;

/// The maximum number of bytes that are sent or compared at once.
pub(crate) const SLICE_MAX: usize = 256 * 1024;

/// The distance between the offsets of two connections.
const STEP: u64 = 7_919;

pub(crate) struct Payload {
    /// One period, followed by as many bytes as a slice may extend beyond its end.
    ring: Vec<u8>,
    period: u64,
    /// The unit of offsets: a whole line, or one byte.
    grain: u64,
}

impl Payload {
    pub(crate) fn new(protocol: WireProtocol, message_bytes: usize, seed: u64) -> Payload {
        let mut random = Rng::with_seed(seed);
        let (period, grain) = match protocol {
            WireProtocol::Bytes | WireProtocol::Frames => (PERIOD, 1),
            WireProtocol::Lines => (message_bytes * PERIOD.div_ceil(message_bytes), message_bytes),
        };
        let mut ring: Vec<u8> = (0..period).map(|_| random.u8(..)).collect();
        if protocol == WireProtocol::Lines {
            for line in ring.chunks_mut(message_bytes) {
                let Some((newline, text)) = line.split_last_mut() else { continue };
                *newline = b'\n';
                text.iter_mut().for_each(|byte| *byte = random.alphanumeric() as u8);
            }
        }
        while ring.len() < period + SLICE_MAX {
            let missing = period + SLICE_MAX - ring.len();
            ring.extend_from_within(..missing.min(period));
        }
        Payload { ring, period: period as u64, grain: grain as u64 }
    }

    /// The offset of a connection.
    pub(crate) fn offset(&self, connection: usize) -> u64 {
        (connection as u64).wrapping_mul(STEP) % (self.period / self.grain) * self.grain
    }

    /// The bytes at an offset, at most `bytes` and [`SLICE_MAX`] of them.
    pub(crate) fn slice(&self, offset: u64, bytes: u64) -> &[u8] {
        let at = (offset % self.period) as usize;
        &self.ring[at..at + bytes.min(SLICE_MAX as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_the_same_stream_at_every_offset() {
        let payload = Payload::new(WireProtocol::Bytes, 64, 1);
        let far = 3 * PERIOD as u64 - 5;
        let long = payload.slice(far, 1 << 40);
        assert_eq!(long.len(), SLICE_MAX);
        for index in [0, 4, 5, 6, PERIOD, PERIOD + 7, SLICE_MAX - 1] {
            assert_eq!(long[index], payload.slice(far + index as u64, 1)[0]);
        }
        assert_ne!(payload.offset(1), payload.offset(2));
    }

    #[test]
    fn every_connection_starts_at_a_whole_line() {
        for bytes in [1, 2, 64, 20_000] {
            let payload = Payload::new(WireProtocol::Lines, bytes, 1);
            for connection in 0..5 {
                let at = payload.offset(connection);
                let line = payload.slice(at, bytes as u64);
                assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(bytes - 1));
            }
        }
    }
}
