//! The report of one child process, assembled from its messages.

use std::process::ExitStatus;

use super::super::hang::Hang;
use super::super::message::{ChildMessage, Ended, Started};
use super::super::progress::Progress;

/// The report of one child process, with its exit status.
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
    pub(crate) fn receive(&mut self, message: ChildMessage) {
        match message {
            ChildMessage::Started(started) => self.started = Some(started),
            // The child was killed in the step in which it hangs; the step does not change any
            // more.
            ChildMessage::Began | ChildMessage::Returned if self.hang.is_some() => {}
            ChildMessage::Began => self.progress = Progress::Running,
            ChildMessage::Returned => self.progress = Progress::Returned,
            ChildMessage::Ended(ended) => self.ended = Some(ended),
            ChildMessage::Rerun { recurs } => self.recurs = Some(recurs),
        }
    }
}
