//! The child's report, in memory that it shares with its parent.

use std::io;
use std::os::fd::OwnedFd;
use std::process::exit;
use std::sync::{Mutex, PoisonError};

use echown_fd::shared_map::SharedMap;

use super::message::{ChildMessage, Ended};

/// The exit code of a child that could not report.
pub(super) const LOST_EXIT_CODE: i32 = 97;

/// The maximum number of descriptors that are reported one by one if the whole report is too large.
const LEFT_MAX: usize = 1000;

/// The end that the child writes to. It has no descriptor.
pub(super) struct ReportWriter {
    map: Mutex<SharedMap>,
    process: u32,
}

impl ReportWriter {
    /// Maps the memory and closes the descriptor.
    pub(super) fn new(passed: OwnedFd) -> io::Result<ReportWriter> {
        let map = Mutex::new(SharedMap::open(&passed)?);
        Ok(ReportWriter { map, process: std::process::id() })
    }

    /// Sends a message. A child that the test forked, and that returned from the body as well, ends
    /// here instead: it has the same map.
    pub(super) fn send(&self, message: &ChildMessage) {
        if std::process::id() != self.process {
            exit(LOST_EXIT_CODE);
        }
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if map.append(&message.to_bytes()) {
            return;
        }
        let shorter = match message {
            ChildMessage::Ended(ended) => ChildMessage::Ended(shortened(ended)),
            other => other.clone(),
        };
        if !map.append(&shorter.to_bytes()) {
            exit(LOST_EXIT_CODE);
        }
    }
}

/// A report with the places of the first descriptors only. Those of thousands take megabytes.
fn shortened(ended: &Ended) -> Ended {
    let mut ended = ended.clone();
    for left in ended.left.iter_mut().skip(LEFT_MAX) {
        left.opened = None;
        left.custody.clear();
    }
    ended
}

/// The end that the parent reads from.
pub(super) struct ReportReader {
    map: SharedMap,
    read: usize,
}

impl ReportReader {
    /// The memory of a new report, and the descriptor for the child.
    pub(super) fn create() -> io::Result<(OwnedFd, ReportReader)> {
        let (fd, map) = SharedMap::create()?;
        Ok((fd, ReportReader { map, read: 0 }))
    }

    /// The messages that have arrived since the last call.
    pub(super) fn receive(&mut self) -> Vec<ChildMessage> {
        let arrived = self.map.read_from(self.read);
        let mut rest = arrived;
        let messages = std::iter::from_fn(|| ChildMessage::take_from(&mut rest)).collect();
        self.read += arrived.len() - rest.len();
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Left;
    use super::*;
    use echown_report::{Place, StackFrame};

    #[test]
    fn each_message_is_received_once() {
        let (fd, mut reader) = ReportReader::create().unwrap();
        let writer = ReportWriter::new(fd).unwrap();
        assert_eq!(reader.receive(), []);
        let (began, returned) = (ChildMessage::Began { at: 1 }, ChildMessage::Returned { at: 2 });
        writer.send(&began);
        writer.send(&returned);
        assert_eq!(reader.receive(), [began, returned.clone()]);
        writer.send(&returned);
        assert_eq!(reader.receive(), [returned]);
    }

    #[test]
    fn a_report_that_is_too_large_loses_places_and_no_descriptor() {
        let (fd, mut reader) = ReportReader::create().unwrap();
        let writer = ReportWriter::new(fd).unwrap();
        let frame = StackFrame { function: "f".repeat(40_000), ..StackFrame::default() };
        let place = Place { frames: vec![frame], ..Place::default() };
        let left = Left { opened: Some(place), ..Left::default() };
        let ended = Ended { left: vec![left; 1800], ..Ended::default() };
        writer.send(&ChildMessage::Ended(ended));
        let received = reader.receive();
        let [ChildMessage::Ended(ended)] = &received[..] else { panic!("one message") };
        assert_eq!(ended.left.len(), 1800);
        assert!(ended.left[LEFT_MAX - 1].opened.is_some());
        assert!(ended.left[LEFT_MAX].opened.is_none());
    }
}
