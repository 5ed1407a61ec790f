//! Length-prefixed frames: eight bytes of length, big-endian, followed by the payload.
//!
//! A stream does not preserve the boundaries of writes. The [`FrameDecoder`] accepts bytes in pieces of
//! any size and returns frames; the result does not depend on where the stream is cut. Its memory grows
//! with the bytes that have arrived: a peer that announces 2^40 bytes and sends ten costs twenty.
//!
//! # Examples
//! ```
//! use echown::frame::{Frame, FrameDecoder};
//!
//! let sent = [Frame::new(b"hello"), Frame::new(b"")];
//! let wire: Vec<u8> = sent.iter().flat_map(|frame| frame.wire()).copied().collect();
//! assert_eq!(wire, b"\0\0\0\0\0\0\0\x05hello\0\0\0\0\0\0\0\0");
//!
//! let mut decoder = FrameDecoder::new(1024);
//! let mut received = Vec::new();
//! for mut piece in wire.chunks(3) {
//!     while let Some(frame) = decoder.take(&mut piece)? {
//!         received.push(frame);
//!     }
//! }
//! assert_eq!(received, sent);
//! # Ok::<(), echown::frame::FrameError>(())
//! ```

mod budget;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use budget::BudgetCharge;
pub(crate) use budget::FrameBudget;

/// Length of a frame's header.
pub const HEADER_BYTES: usize = 8;

/// Memory of a frame in addition to its bytes: its header, and the allocator's overhead of both.
const OVERHEAD_BYTES: usize = 96;

/// A frame with its header. Clones share the bytes.
#[derive(Clone)]
pub struct Frame(Arc<Stored>);

struct Stored {
    wire: Vec<u8>,
    /// Returned to the budget with the last clone.
    _charge: BudgetCharge,
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        self.wire() == other.wire()
    }
}

impl Eq for Frame {}

impl Hash for Frame {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.wire().hash(state);
    }
}

impl Frame {
    /// Makes a frame of a payload, which may be empty.
    #[must_use]
    pub fn new(payload: &[u8]) -> Frame {
        let mut wire = Vec::with_capacity(HEADER_BYTES + payload.len());
        wire.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        wire.extend_from_slice(payload);
        Frame(Arc::new(Stored { wire, _charge: BudgetCharge::default() }))
    }

    /// The header and the payload.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0.wire
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.wire[HEADER_BYTES..]
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({})", self.payload().escape_ascii())
    }
}

/// Decodes a stream of bytes into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    payload_max: usize,
    /// The bytes of the incomplete frame, including its header.
    partial: Vec<u8>,
    /// The budget's charge for `partial`.
    charge: BudgetCharge,
}

impl FrameDecoder {
    /// Decodes frames whose payload has at most `payload_max` bytes.
    #[must_use]
    pub fn new(payload_max: usize) -> FrameDecoder {
        FrameDecoder::within(payload_max, &FrameBudget::default())
    }

    /// [`new`](FrameDecoder::new), with a budget that is charged for a frame's memory until its last clone
    /// is dropped.
    #[must_use]
    pub(crate) fn within(payload_max: usize, budget: &FrameBudget) -> FrameDecoder {
        // No `Vec` could be longer, and the header is added to it.
        let payload_max = payload_max.min(isize::MAX as usize - HEADER_BYTES);
        FrameDecoder { payload_max, partial: Vec::new(), charge: BudgetCharge::of(budget) }
    }

    /// Takes bytes from the front of `piece` until a frame is complete, and returns the frame; or until
    /// `piece` is empty.
    ///
    /// # Errors
    /// The announced length exceeds the limit: nothing was allocated for it, and no further frame can be
    /// decoded, because the start of the next one is unknown. Or there is no memory for the bytes that have
    /// arrived, or the budget is used up.
    pub fn take(&mut self, piece: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        self.move_from(piece, HEADER_BYTES)?;
        let Some(frame_bytes) = self.frame_bytes()? else { return Ok(None) };
        self.move_from(piece, frame_bytes)?;
        if self.partial.len() < frame_bytes {
            return Ok(None);
        }
        let (wire, charge) = (std::mem::take(&mut self.partial), self.charge.take());
        Ok(Some(Frame(Arc::new(Stored { wire, _charge: charge }))))
    }

    /// How many bytes can be taken without reaching into the next frame: the rest of the header, and then
    /// the rest of the payload.
    #[must_use]
    pub fn missing(&self) -> usize {
        let frame_bytes = self.frame_bytes().ok().flatten().unwrap_or(HEADER_BYTES);
        frame_bytes - self.partial.len()
    }

    /// Whether a frame is incomplete.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Total bytes of the incomplete frame, once its header is complete.
    fn frame_bytes(&self) -> Result<Option<usize>, FrameError> {
        let Some(header) = self.partial.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let length = u64::from_be_bytes(*header);
        match usize::try_from(length) {
            Ok(payload) if payload <= self.payload_max => Ok(Some(HEADER_BYTES + payload)),
            _ => Err(FrameError::TooLong { length, payload_max: self.payload_max }),
        }
    }

    /// Moves bytes until this many of the frame have arrived.
    fn move_from(&mut self, piece: &mut &[u8], frame_bytes: usize) -> Result<(), FrameError> {
        let missing = frame_bytes.saturating_sub(self.partial.len());
        let (taken, rest) = piece.split_at(missing.min(piece.len()));
        *piece = rest;
        if self.partial.capacity() - self.partial.len() < taken.len() {
            // Twice the present or arriving bytes, so that growing is cheap; never more than the
            // frame, and never for bytes that were only announced.
            let wanted = self.partial.len().max(taken.len()) * 2;
            let capacity = wanted.max(self.partial.len() + taken.len()).min(frame_bytes);
            let no_memory = FrameError::NoMemory { bytes: capacity };
            if !self.charge.grow_to((capacity + OVERHEAD_BYTES) as u64) {
                return Err(no_memory);
            }
            self.partial.try_reserve_exact(capacity - self.partial.len()).map_err(|_| no_memory)?;
        }
        self.partial.extend_from_slice(taken);
        Ok(())
    }
}

/// Why a stream cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame's announced length exceeds the limit.
    TooLong {
        /// The announced length, in bytes.
        length: u64,
        /// The largest payload that is accepted.
        payload_max: usize,
    },
    /// There is no memory for the bytes of a frame that have arrived.
    NoMemory {
        /// The bytes that would be stored.
        bytes: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { length, payload_max } => {
                write!(f, "frame too long: {length} bytes announced, at most {payload_max} allowed")
            }
            FrameError::NoMemory { bytes } => {
                write!(f, "failed to allocate {bytes} bytes for a frame")
            }
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(payloads: &[Vec<u8>]) -> Vec<u8> {
        payloads.iter().flat_map(|payload| Frame::new(payload).wire().to_vec()).collect()
    }

    proptest! {
        #[test]
        fn frames_do_not_depend_on_where_the_stream_is_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..12),
            cuts in prop::collection::vec(1..40_usize, 1..60),
        ) {
            let wire = wire(&payloads);
            let mut decoder = FrameDecoder::new(70);
            let mut received = Vec::new();
            let (mut rest, mut cuts) = (&wire[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = (*cuts.next().expect("a cycle")).min(rest.len());
                let (mut piece, after) = rest.split_at(cut);
                rest = after;
                while let Some(frame) = decoder.take(&mut piece).expect("none is too long") {
                    received.push(frame.payload().to_vec());
                }
                prop_assert!(piece.is_empty(), "a piece is used up");
            }
            prop_assert_eq!(received, payloads);
            prop_assert!(!decoder.has_partial());
        }

        #[test]
        fn missing_bytes_never_reach_into_the_next_frame(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 1..6),
            step in 1..20_usize,
        ) {
            let wire = wire(&payloads);
            let mut rest = &wire[..];
            let mut decoder = FrameDecoder::new(70);
            for payload in &payloads {
                let frame = loop {
                    let missing = decoder.missing();
                    prop_assert!(missing > 0 && missing <= rest.len());
                    let (mut piece, after) = rest.split_at(missing.min(step));
                    rest = after;
                    if let Some(frame) = decoder.take(&mut piece).expect("none is too long") {
                        break frame;
                    }
                };
                prop_assert_eq!(frame.payload(), &payload[..]);
            }
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_rejected_at_its_last_byte_without_allocation() {
        for length in [101, 1 << 40, u64::MAX, i64::MAX as u64] {
            let mut decoder = FrameDecoder::new(100);
            let header = length.to_be_bytes();
            assert_eq!(decoder.take(&mut &header[..7]), Ok(None));
            let error = decoder.take(&mut &header[7..]).unwrap_err();
            assert_eq!(error, FrameError::TooLong { length, payload_max: 100 });
            assert!(decoder.partial.capacity() <= 2 * HEADER_BYTES);
            assert!(decoder.take(&mut &b"more"[..]).is_err(), "later input is rejected, too");
        }
        let text = FrameError::TooLong { length: 101, payload_max: 100 }.to_string();
        assert_eq!(text, "frame too long: 101 bytes announced, at most 100 allowed");
    }

    #[test]
    fn a_length_beyond_the_address_space_is_rejected_without_any_limit() {
        let mut decoder = FrameDecoder::new(usize::MAX);
        assert!(decoder.take(&mut &u64::MAX.to_be_bytes()[..]).is_err());
    }

    #[test]
    fn memory_follows_the_bytes_that_have_arrived() {
        let mut decoder = FrameDecoder::new(1 << 40);
        decoder.take(&mut &(1_u64 << 40).to_be_bytes()[..]).unwrap();
        let mut arrived = HEADER_BYTES;
        while arrived < 100_000 {
            decoder.take(&mut &[0; 100][..]).unwrap();
            arrived += 100;
            let capacity = decoder.partial.capacity();
            assert!(capacity <= 2 * arrived, "{capacity} bytes for {arrived}");
        }
        // And a complete frame has no spare capacity.
        let mut decoder = FrameDecoder::new(1000);
        let wire = Frame::new(&[7; 1000]).wire().to_vec();
        let mut frame = None;
        for mut piece in wire.chunks(7) {
            frame = decoder.take(&mut piece).unwrap();
        }
        assert_eq!(frame.expect("it is complete").0.wire.capacity(), wire.len());
    }

    #[test]
    fn frames_beyond_their_budget_are_rejected_and_dropped_frames_return_it() {
        let budget = FrameBudget::limited(10_000);
        let wire = Frame::new(&[7; 4000]).wire().to_vec();
        let assemble = || FrameDecoder::within(4000, &budget).take(&mut &wire[..]);
        let first = assemble().unwrap().expect("it is complete");
        let (clone, second) = (first.clone(), assemble().unwrap());
        assert!(matches!(assemble(), Err(FrameError::NoMemory { bytes: 4008 })));
        drop(first);
        assert!(assemble().is_err(), "a clone keeps its bytes");
        drop(clone);
        assert!(assemble().is_ok());
        // An incomplete frame counts as well, as far as it has arrived.
        let mut partial = FrameDecoder::within(4000, &budget);
        assert_eq!(partial.take(&mut &wire[..3000]), Ok(None));
        assert!(assemble().is_err());
        drop((partial, second));
        assert_eq!(budget.left(), Some(10_000));
    }
}
