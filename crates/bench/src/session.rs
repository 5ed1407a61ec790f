//! The echo session of one connection, without its socket: which bytes to send next, and whether the
//! received bytes are the ones that were sent.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::payload::Payload;

/// The received bytes differ from the sent ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CorruptEcho;

pub(crate) struct EchoSession {
    payload: Arc<Payload>,
    offset: u64,
    message_bytes: u64,
    /// Bytes of all messages that were scheduled.
    scheduled: u64,
    sent: u64,
    received: u64,
    /// When the messages in flight were due, the oldest first, in nanoseconds of the run.
    due: VecDeque<u64>,
}

impl EchoSession {
    pub(crate) fn new(
        payload: &Arc<Payload>,
        message_bytes: usize,
        connection: usize,
    ) -> EchoSession {
        EchoSession {
            payload: Arc::clone(payload),
            offset: payload.offset(connection),
            message_bytes: message_bytes as u64,
            scheduled: 0,
            sent: 0,
            received: 0,
            due: VecDeque::new(),
        }
    }

    /// Schedules a message that is due at this time.
    pub(crate) fn schedule(&mut self, due: u64) {
        self.scheduled += self.message_bytes;
        self.due.push_back(due);
    }

    /// The number of messages that were scheduled and not completed.
    pub(crate) fn in_flight(&self) -> usize {
        self.due.len()
    }

    /// Bytes to send now.
    pub(crate) fn unsent(&self) -> &[u8] {
        self.payload.slice(self.offset + self.sent, self.scheduled - self.sent)
    }

    /// Notes that this many of the [unsent](EchoSession::unsent) bytes were sent.
    pub(crate) fn mark_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Compares received bytes. Returns how many messages they complete; each has to be
    /// [taken](EchoSession::take_completed).
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) -> Result<u64, CorruptEcho> {
        if bytes.len() as u64 > self.sent - self.received {
            return Err(CorruptEcho);
        }
        let before = self.received / self.message_bytes;
        while !bytes.is_empty() {
            let wanted = self.payload.slice(self.offset + self.received, bytes.len() as u64);
            let (now, later) = bytes.split_at(wanted.len());
            if now != wanted {
                return Err(CorruptEcho);
            }
            self.received += now.len() as u64;
            bytes = later;
        }
        Ok(self.received / self.message_bytes - before)
    }

    /// Removes the oldest message. Returns when it was due.
    pub(crate) fn take_completed(&mut self) -> u64 {
        self.due.pop_front().unwrap_or_default()
    }

    /// Starts again, for another connection.
    pub(crate) fn reset(&mut self) {
        self.scheduled = 0;
        self.sent = 0;
        self.received = 0;
        self.due.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::WireProtocol;

    fn session() -> EchoSession {
        let payload = Arc::new(Payload::new(WireProtocol::Bytes, 10, 1));
        let mut session = EchoSession::new(&payload, 10, 3);
        session.schedule(5);
        session.schedule(6);
        session
    }

    #[test]
    fn messages_complete_in_order_however_the_bytes_are_cut() {
        let mut session = session();
        let bytes = session.unsent().to_vec();
        assert_eq!(bytes.len(), 20);
        session.mark_sent(20);
        assert_eq!(session.receive(&bytes[..7]), Ok(0));
        assert_eq!(session.receive(&bytes[7..15]), Ok(1));
        assert_eq!(session.take_completed(), 5);
        assert_eq!(session.receive(&bytes[15..]), Ok(1));
        assert_eq!(session.take_completed(), 6);
        assert_eq!(session.in_flight(), 0);
    }

    #[test]
    fn a_changed_lost_duplicated_or_extra_byte_is_a_corrupt_echo() {
        let sent = || {
            let mut session = session();
            let bytes = session.unsent().to_vec();
            session.mark_sent(bytes.len());
            (session, bytes)
        };
        let (mut session, mut bytes) = sent();
        bytes[13] ^= 1;
        assert_eq!(session.receive(&bytes), Err(CorruptEcho));
        let (mut session, mut bytes) = sent();
        bytes.remove(4);
        assert_eq!(session.receive(&bytes), Err(CorruptEcho));
        let (mut session, mut bytes) = sent();
        bytes.insert(4, bytes[4]);
        assert_eq!(session.receive(&bytes), Err(CorruptEcho));
        let (mut session, bytes) = sent();
        assert_eq!(session.receive(&bytes), Ok(2));
        assert_eq!(session.receive(&bytes[..1]), Err(CorruptEcho));
    }
}
