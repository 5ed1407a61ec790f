//! The frames of a broadcasting server: eight bytes of length, big-endian, then the payload.
//!
//! The server has a codec of its own. A load generator that decoded with the code under test would not
//! notice a mistake in it.

/// Bytes of a frame before its payload.
const HEADER_BYTES: usize = 8;

/// A frame as it is on the wire.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WireFrame(Vec<u8>);

impl WireFrame {
    pub(crate) fn of(payload: &[u8]) -> WireFrame {
        let mut wire = Vec::with_capacity(HEADER_BYTES + payload.len());
        wire.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        wire.extend_from_slice(payload);
        WireFrame(wire)
    }

    pub(crate) fn wire(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }
}

/// A frame's length exceeds the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WireFrameTooLong;

/// Decodes frames from a stream's bytes, in pieces of any size.
pub(crate) struct WireDecoder {
    payload_max: usize,
    /// The received bytes of the current frame, including its header.
    wire: Vec<u8>,
}

impl WireDecoder {
    pub(crate) fn new(payload_max: usize) -> WireDecoder {
        WireDecoder { payload_max, wire: Vec::new() }
    }

    /// Takes bytes from the front of `piece` until a frame is complete, or until the piece is used up.
    pub(crate) fn take(
        &mut self,
        piece: &mut &[u8],
    ) -> Result<Option<WireFrame>, WireFrameTooLong> {
        self.fill(piece, HEADER_BYTES);
        let Some(header) = self.wire.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u64::from_be_bytes(*header)).map_err(|_| WireFrameTooLong)?;
        if length > self.payload_max {
            return Err(WireFrameTooLong);
        }
        self.fill(piece, HEADER_BYTES + length);
        let is_whole = self.wire.len() == HEADER_BYTES + length;
        Ok(is_whole.then(|| WireFrame(std::mem::take(&mut self.wire))))
    }

    /// Moves bytes from the piece until the frame has `wanted` bytes.
    fn fill(&mut self, piece: &mut &[u8], wanted: usize) {
        let missing = wanted - self.wire.len().min(wanted);
        let (taken, rest) = piece.split_at(missing.min(piece.len()));
        self.wire.reserve_exact(missing);
        self.wire.extend_from_slice(taken);
        *piece = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_do_not_depend_on_how_the_stream_is_cut() {
        let sent = [WireFrame::of(b"hello"), WireFrame::of(b""), WireFrame::of(&[7; 100])];
        let wire: Vec<u8> = sent.iter().flat_map(|frame| frame.wire()).copied().collect();
        for size in 1..wire.len() {
            let mut decoder = WireDecoder::new(100);
            let mut received = Vec::new();
            for mut piece in wire.chunks(size) {
                while let Some(frame) = decoder.take(&mut piece).unwrap() {
                    received.push(frame);
                }
                assert!(piece.is_empty());
            }
            assert_eq!(received, sent);
        }
    }

    #[test]
    fn a_length_over_the_limit_is_an_error() {
        for length in [101, 1 << 40, u64::MAX] {
            let header = length.to_be_bytes();
            assert_eq!(WireDecoder::new(100).take(&mut &header[..]), Err(WireFrameTooLong));
        }
    }
}
