//! Line splitter for input in pieces, and payloads as lines of output.

use echown_fd::escape;

/// Splits input into lines.
#[derive(Debug)]
pub(super) struct Lines {
    line_max: usize,
    partial: Vec<u8>,
}

/// A line exceeds the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineTooLong;

impl Lines {
    pub(super) fn new(line_max: usize) -> Lines {
        Lines { line_max, partial: Vec::new() }
    }

    /// Takes bytes from the front of `piece` until a line is complete, and returns the line without its
    /// newline; or until `piece` is empty.
    pub(super) fn take(&mut self, piece: &mut &[u8]) -> Result<Option<Vec<u8>>, LineTooLong> {
        let end = piece.iter().position(|&byte| byte == b'\n');
        let (taken, rest) = piece.split_at(end.unwrap_or(piece.len()));
        if self.partial.len() + taken.len() > self.line_max {
            return Err(LineTooLong);
        }
        self.partial.extend_from_slice(taken);
        *piece = rest.get(1..).unwrap_or_default();
        Ok(end.map(|_| std::mem::take(&mut self.partial)))
    }

    /// The bytes after the last newline, if there are any.
    pub(super) fn rest(self) -> Option<Vec<u8>> {
        (!self.partial.is_empty()).then_some(self.partial)
    }
}

/// A payload as one line of output, [escaped](escape) except for tabs, which terminals display safely.
pub(super) fn escape_payload(payload: &[u8]) -> String {
    let pieces: Vec<_> = payload.split(|&byte| byte == b'\t').map(escape::bytes).collect();
    pieces.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut lines = Lines::new(100);
        let mut all = Vec::new();
        for mut piece in input.chunks(piece) {
            while let Some(line) = lines.take(&mut piece).expect("none is too long") {
                all.push(line);
            }
        }
        all.extend(lines.rest());
        all
    }

    #[test]
    fn lines_do_not_depend_on_the_pieces() {
        let input = b"one\n\ntwo \xff\n\nlast without an end";
        let expected: [&[u8]; 5] = [b"one", b"", b"two \xff", b"", b"last without an end"];
        for piece in 1..=input.len() {
            assert_eq!(lines(input, piece), expected, "in pieces of {piece}");
        }
        assert_eq!(lines(b"a\n", 8), [b"a"], "an end is no line");
    }

    #[test]
    fn a_line_that_is_too_long_is_rejected_and_not_truncated() {
        let mut lines = Lines::new(3);
        assert_eq!(lines.take(&mut &b"abc\n"[..]), Ok(Some(b"abc".to_vec())));
        assert_eq!(lines.take(&mut &b"ab"[..]), Ok(None));
        assert_eq!(lines.take(&mut &b"cd"[..]), Err(LineTooLong));
    }

    #[test]
    fn a_payload_is_one_line_without_control_sequences() {
        assert_eq!(escape_payload("plain, Grüße\t😀".as_bytes()), "plain, Grüße\t😀");
        assert_eq!(escape_payload(b"\x1b[2J\tgone\r\nbob: yes"), "\\x1b[2J\tgone\\r\\nbob: yes");
        assert_eq!(escape_payload(b"\xff\xfe"), "\\xff\\xfe");
    }
}
