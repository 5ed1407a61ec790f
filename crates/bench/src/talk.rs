//! One connection's conversation, without the connection: what is to be sent next, and whether what
//! has come is what was sent.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::pattern::Pattern;

/// What came is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lie;

pub(crate) struct Talk {
    pattern: Arc<Pattern>,
    beginning: u64,
    message_bytes: u64,
    /// Bytes that messages begun come to.
    owed: u64,
    sent: u64,
    received: u64,
    /// When the messages that are under way were due, the oldest first, in nanoseconds of the run.
    begun: VecDeque<u64>,
}

impl Talk {
    pub(crate) fn new(pattern: &Arc<Pattern>, message_bytes: usize, connection: usize) -> Talk {
        Talk {
            pattern: Arc::clone(pattern),
            beginning: pattern.beginning(connection),
            message_bytes: message_bytes as u64,
            owed: 0,
            sent: 0,
            received: 0,
            begun: VecDeque::new(),
        }
    }

    /// Begins a message, which was due then.
    pub(crate) fn begin(&mut self, due: u64) {
        self.owed += self.message_bytes;
        self.begun.push_back(due);
    }

    /// Messages under way.
    pub(crate) fn under_way(&self) -> usize {
        self.begun.len()
    }

    /// What can be sent now.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.pattern.slice(self.beginning + self.sent, self.owed - self.sent)
    }

    pub(crate) fn was_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Compares what has come. How many messages it completes, which are then to be
    /// [taken](Talk::take_completed).
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) -> Result<u64, Lie> {
        if bytes.len() as u64 > self.sent - self.received {
            return Err(Lie);
        }
        let before = self.received / self.message_bytes;
        while !bytes.is_empty() {
            let wanted = self.pattern.slice(self.beginning + self.received, bytes.len() as u64);
            let (now, later) = bytes.split_at(wanted.len());
            if now != wanted {
                return Err(Lie);
            }
            self.received += now.len() as u64;
            bytes = later;
        }
        Ok(self.received / self.message_bytes - before)
    }

    /// When the oldest message was due; it is no longer under way.
    pub(crate) fn take_completed(&mut self) -> u64 {
        self.begun.pop_front().unwrap_or_default()
    }

    /// Begins anew, on another connection.
    pub(crate) fn forget(&mut self) {
        self.owed = 0;
        self.sent = 0;
        self.received = 0;
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Dialect;

    fn talk() -> Talk {
        let pattern = Arc::new(Pattern::new(Dialect::Bytes, 10, 1));
        let mut talk = Talk::new(&pattern, 10, 3);
        talk.begin(5);
        talk.begin(6);
        talk
    }

    #[test]
    fn messages_complete_in_order_however_their_bytes_are_cut() {
        let mut talk = talk();
        let bytes = talk.unsent().to_vec();
        assert_eq!(bytes.len(), 20);
        talk.was_sent(20);
        assert_eq!(talk.receive(&bytes[..7]), Ok(0));
        assert_eq!(talk.receive(&bytes[7..15]), Ok(1));
        assert_eq!(talk.take_completed(), 5);
        assert_eq!(talk.receive(&bytes[15..]), Ok(1));
        assert_eq!(talk.take_completed(), 6);
        assert_eq!(talk.under_way(), 0);
    }

    #[test]
    fn a_byte_that_is_changed_lost_doubled_or_too_many_is_a_lie() {
        let sent = || {
            let mut talk = talk();
            let bytes = talk.unsent().to_vec();
            talk.was_sent(bytes.len());
            (talk, bytes)
        };
        let (mut talk, mut bytes) = sent();
        bytes[13] ^= 1;
        assert_eq!(talk.receive(&bytes), Err(Lie));
        let (mut talk, mut bytes) = sent();
        bytes.remove(4);
        assert_eq!(talk.receive(&bytes), Err(Lie));
        let (mut talk, mut bytes) = sent();
        bytes.insert(4, bytes[4]);
        assert_eq!(talk.receive(&bytes), Err(Lie));
        let (mut talk, bytes) = sent();
        assert_eq!(talk.receive(&bytes), Ok(2));
        assert_eq!(talk.receive(&bytes[..1]), Err(Lie));
    }
}
