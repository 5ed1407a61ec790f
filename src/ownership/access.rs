//! The access check before every operation on a resource, and the errors of what it rejects.

use std::io;

use echown_fd::fd::Identity;
use echown_report::{Event, Site};

use super::error::{Error, ErrorData, ErrorKind};
use super::policy::Level;
use super::record::{Labelled, Record, is_final};
use super::slot::{SlotState, Word};
use super::task::{self, Task};
use crate::sys::fork;

impl Record {
    /// The access check before every operation.
    ///
    /// # Errors
    /// See [`Record::refusal`].
    #[inline]
    #[track_caller]
    pub(crate) fn check_access(&self) -> Result<(), Error> {
        let level = self.registry.level();
        let fine = match level {
            Level::On => self.slot.held_by(task::current_id()),
            Level::Off => self.slot.is_usable(),
            Level::Full => false,
        };
        if fine { Ok(()) } else { self.check_access_slow(Site::here()) }
    }

    /// The uncommon cases: a thread without a task, a forked child, level `full`, and rejections.
    #[cold]
    #[inline(never)]
    fn check_access_slow(&self, site: Site) -> Result<(), Error> {
        if fork::in_forked_child() {
            return Ok(());
        }
        let me = task::current(&self.registry);
        if let Err(word) = self.slot.check(me.id().get()) {
            return Err(self.refusal(word, &me, site));
        }
        if self.registry.level() == Level::Full
            && let Some(now) = self.replacement()
        {
            self.mark_replaced(&me, site, &now);
            return Err(self.refusal(self.slot.load(), &me, site));
        }
        Ok(())
    }

    /// The error for a use by `me` that found `word`; reported when it is a violation.
    #[cold]
    pub(crate) fn refusal(&self, word: Word, me: &Task, site: Site) -> Error {
        self.refusal_as(ErrorKind::UseAfterRelease, word, me, site)
    }

    /// [`refuse`](Record::refusal) for a release.
    #[cold]
    pub(crate) fn release_refusal(&self, word: Word, me: &Task, site: Site) -> Error {
        self.refusal_as(ErrorKind::DoubleRelease, word, me, site)
    }

    /// `after_release` is the kind for a resource that is already released.
    fn refusal_as(&self, after_release: ErrorKind, word: Word, me: &Task, site: Site) -> Error {
        let mine = word.owner() == self.acting_owner(me);
        let kind = match word.state() {
            // A cancelled task gets `Cancelled`, also for what its inline child had to finalize.
            SlotState::Released | SlotState::Closing
                if me.is_cancelled() && self.was_finalized() =>
            {
                ErrorKind::Cancelled
            }
            SlotState::Released | SlotState::Closing => after_release,
            SlotState::Split => ErrorKind::IsSplit,
            _ if !mine => ErrorKind::NotOwner,
            _ if word.is_cancelled() => ErrorKind::Cancelled,
            _ if word.is_replaced() => ErrorKind::FdReplaced,
            SlotState::Offered | SlotState::Parked => ErrorKind::NotOwner,
            SlotState::Busy | SlotState::Held => ErrorKind::InUse,
        };
        if kind == ErrorKind::Cancelled {
            wait_for_canceller(me);
        }
        let is_parked = kind == ErrorKind::NotOwner && word.state() == SlotState::Parked;
        let detail = is_parked.then(|| "it is parked".to_owned());
        let error = self.error(kind, word, me, site, detail);
        if kind != ErrorKind::FdReplaced {
            // The replacement itself was reported when it was found.
            self.registry.report_violation(&error, self);
        }
        error
    }

    /// Whether the resource ended with its owner, and was not released or dropped by a call.
    fn was_finalized(&self) -> bool {
        let history = self.history();
        let last = history.custody.steps().rev().find(|step| is_final(step.event));
        last.is_some_and(|step| step.event == Event::Finalized)
    }

    /// An error of this kind about this resource, with the owner and the site from its custody.
    pub(crate) fn error(
        &self,
        kind: ErrorKind,
        word: Word,
        me: &dyn Labelled,
        site: Site,
        detail: Option<String>,
    ) -> Error {
        if fork::in_forked_child() {
            // Threads of the parent process may hold the locks of the owner and the custody.
            return Error::new(ErrorData {
                kind,
                subject: Some(self.label()),
                actor: me.label(),
                owner: None,
                earlier: None,
                end: None,
                site,
                detail,
            });
        }
        let (mut owner, mut earlier) = (task::find(word.owner()).map(|task| task.label()), None);
        let mut end = None;
        let history = self.history();
        match kind {
            ErrorKind::DoubleRelease | ErrorKind::UseAfterRelease => {
                let last = history.custody.steps().rev().find(|step| is_final(step.event));
                owner = last.and_then(|step| step.from.as_deref().cloned());
                earlier = last.map(|step| step.site);
                end = last.map(|step| step.event);
            }
            ErrorKind::IsSplit => {
                earlier = history.custody.latest(Event::Split).map(|step| step.site)
            }
            ErrorKind::Cancelled | ErrorKind::TaskExiting => {}
            _ => earlier = Some(self.acquired),
        }
        drop(history);
        Error::new(ErrorData {
            kind,
            subject: Some(self.label()),
            actor: me.label(),
            owner,
            earlier,
            end,
            site,
            detail,
        })
    }

    /// Marks the descriptor as replaced, on a whole and its halves together, and reports this once for all
    /// of them.
    #[cold]
    pub(crate) fn mark_replaced(
        &self,
        me: &dyn Labelled,
        site: Site,
        now: &io::Result<Identity>,
    ) -> Error {
        let whole = self.whole.as_ref().map_or(self, |whole| whole.record());
        // The whole first: if the halves are rejoined before they are marked, the whole is marked.
        whole.slot.mark_replaced();
        let halves = whole.halves();
        for half in &halves {
            half.record().slot.mark_replaced();
        }
        let detail = match (&self.descriptor, now) {
            (Some(mine), Ok(now)) => format!("registered as {}, now {now}", mine.identity),
            (Some(mine), Err(error)) => format!("registered as {}, now {error}", mine.identity),
            (None, _) => unreachable!("only a descriptor has a number that can be replaced"),
        };
        let error = self.error(ErrorKind::FdReplaced, self.slot.load(), me, site, Some(detail));
        let mut history = whole.history();
        let rare = history.rare.get_or_insert_default();
        let is_first = !std::mem::replace(&mut rare.replacement_is_reported, true);
        drop(history);
        if is_first {
            whole.record_step(Event::Replaced, None, None, site);
            for half in &halves {
                half.record().record_step(Event::Replaced, None, None, site);
            }
            self.registry.report_violation(&error, self);
        }
        error
    }
}

/// The canceller flags a task's resources one by one, under the lock of its account. A task that found
/// one flag waits here until all are set, so that none of its next operations is allowed.
pub(super) fn wait_for_canceller(me: &Task) {
    drop(me.account());
}
