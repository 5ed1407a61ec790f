//! The report of one child process, assembled from its messages.

use std::process::ExitStatus;

use crate::hang::Hang;
use crate::message::{Ended, Message, Started};
use crate::progress::Progress;

/// What one child process reported, and how it ended.
#[derive(Debug, Default)]
pub(crate) struct ChildReport {
    pub(crate) started: Option<Started>,
    pub(crate) progress: Progress,
    pub(crate) ended: Option<Ended>,
    pub(crate) recurs: Option<Vec<bool>>,
    pub(crate) status: ExitStatus,
    pub(crate) hang: Option<Hang>,
}

impl ChildReport {
    pub(crate) fn receive(&mut self, message: Message) {
        match message {
            Message::Started(started) => self.started = Some(started),
            // The child was killed in the step in which it hangs; the step does not change any
            // more.
            Message::Began | Message::Returned if self.hang.is_some() => {}
            Message::Began => self.progress = Progress::Running,
            Message::Returned => self.progress = Progress::Returned,
            Message::Ended(ended) => self.ended = Some(ended),
            Message::Rerun { recurs } => self.recurs = Some(recurs),
        }
    }
}
