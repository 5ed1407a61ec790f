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
    /// When the current step began (see [`now`](super::super::message::now)); `None` before the body.
    pub(crate) since: Option<u64>,
    pub(crate) ended: Option<Ended>,
    pub(crate) status: ExitStatus,
    pub(crate) hang: Option<Hang>,
}

impl ChildReport {
    pub(crate) fn receive(&mut self, message: ChildMessage) {
        match message {
            ChildMessage::Started(started) => self.started = Some(started),
            // The child was killed in the step in which it hangs; the step does not change any more.
            ChildMessage::Began { .. } | ChildMessage::Returned { .. } if self.hang.is_some() => {}
            ChildMessage::Began { at } => {
                (self.progress, self.since) = (Progress::Running, Some(at));
            }
            ChildMessage::Returned { at } => {
                (self.progress, self.since) = (Progress::Returned, Some(at));
            }
            ChildMessage::Ended(ended) => self.ended = Some(ended),
        }
    }
}
