//! The bytes that are sent, and that have to come back.
//!
//! A stream of random bytes that repeats after a prime number of them, longer than what a lying server
//! could be expected to lose or to send twice by chance; each connection begins at another place in
//! it. Nothing is copied: what is sent and what is compared are slices of one ring.

use fastrand::Rng;

use crate::plan::Dialect;

/// Bytes after which it repeats.
const PERIOD: usize = 16_381;

/// The most that is sent or compared at once.
pub(crate) const SLICE_MAX: usize = 256 * 1024;

/// How far apart two connections begin.
const STEP: u64 = 7_919;

pub(crate) struct Pattern {
    /// One period, and as much again as a slice may reach over its end.
    ring: Vec<u8>,
    period: u64,
    /// Where a connection may begin: at whole lines.
    grain: u64,
}

impl Pattern {
    pub(crate) fn new(dialect: Dialect, message_bytes: usize, seed: u64) -> Pattern {
        let mut random = Rng::with_seed(seed);
        let (period, grain) = match dialect {
            Dialect::Bytes | Dialect::Frames => (PERIOD, 1),
            Dialect::Lines => (message_bytes * PERIOD.div_ceil(message_bytes), message_bytes),
        };
        let mut ring: Vec<u8> = (0..period).map(|_| random.u8(..)).collect();
        if dialect == Dialect::Lines {
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
        Pattern { ring, period: period as u64, grain: grain as u64 }
    }

    /// Where a connection begins.
    pub(crate) fn beginning(&self, connection: usize) -> u64 {
        (connection as u64).wrapping_mul(STEP) % (self.period / self.grain) * self.grain
    }

    /// What stands there, so many bytes of it; fewer where that is too many at once.
    pub(crate) fn slice(&self, offset: u64, bytes: u64) -> &[u8] {
        let at = (offset % self.period) as usize;
        &self.ring[at..at + bytes.min(SLICE_MAX as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_the_stream_wherever_it_begins() {
        let pattern = Pattern::new(Dialect::Bytes, 64, 1);
        let far = 3 * PERIOD as u64 - 5;
        let long = pattern.slice(far, 1 << 40);
        assert_eq!(long.len(), SLICE_MAX);
        for index in [0, 4, 5, 6, PERIOD, PERIOD + 7, SLICE_MAX - 1] {
            assert_eq!(long[index], pattern.slice(far + index as u64, 1)[0]);
        }
        assert_ne!(pattern.beginning(1), pattern.beginning(2));
    }

    #[test]
    fn each_line_is_one_whoever_sends_it() {
        for bytes in [1, 2, 64, 20_000] {
            let pattern = Pattern::new(Dialect::Lines, bytes, 1);
            for connection in 0..5 {
                let at = pattern.beginning(connection);
                let line = pattern.slice(at, bytes as u64);
                assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(bytes - 1));
            }
        }
    }
}
