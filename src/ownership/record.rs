//! `Record`: the registry's bookkeeping of one resource, independent of its type.

use std::io;
use std::num::NonZeroU64;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use echown_fd::fd::{Direction, Identity, Number};
use echown_fd::kind;
use echown_report::{Event, ResourceId, Site};

use super::custody::{Custody, RecordedStep};
use super::error::{Error, ErrorData, ErrorKind};
use super::label::ResourceLabel;
use super::policy::Level;
use super::registry::Registry;
use super::slot::{Slot, SlotState, Word};
use super::task::{self, Task};
use crate::sys::{close, fork};

/// An id that no other resource of this process has or had.
fn next_id() -> ResourceId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // ord: Relaxed; only uniqueness matters, and that is the increment's own.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    ResourceId::new(NonZeroU64::new(id).expect("2^64 resources take longer than any process lives"))
}

/// The additional data of a resource that is a descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordedFd {
    pub(crate) number: Number,
    pub(crate) identity: Identity,
    /// Which ways a shutdown on this resource's account goes.
    pub(crate) direction: Direction,
}

/// The registry's bookkeeping of one resource. The value itself is in the cell around the record.
pub(crate) struct Record {
    pub(crate) id: ResourceId,
    pub(crate) slot: Slot,
    pub(crate) registry: Registry,
    pub(crate) kind: &'static str,
    pub(crate) descriptor: Option<RecordedFd>,
    pub(crate) acquired: Site,
    pub(crate) created_at: Instant,
    /// For a half: the whole that it belongs to.
    whole: Option<Arc<dyn Managed>>,
    /// Its position on its owner's account; changes under that account's lock.
    position: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Which directions of a socket may have a timeout; see [`Record::may_time_out`].
    timeouts: AtomicU8,
    history: Mutex<History>,
}

#[derive(Default)]
struct History {
    custody: Custody,
    /// For a half the whole's flag counts, so that one replacement is reported once.
    replacement_is_reported: bool,
    /// The halves of a split whole. Set before the slot is split, so that a thread that finds the slot
    /// split finds them. Boxed, because few resources are split.
    halves: Option<Box<[Weak<dyn Managed>; 2]>>,
}

impl Record {
    /// A record held by `owner`, with the first step of its custody.
    pub(crate) fn new(
        registry: Registry,
        kind: &'static str,
        descriptor: Option<RecordedFd>,
        owner: &Task,
        site: Site,
    ) -> Record {
        let now = Instant::now();
        let mut record = Record {
            id: next_id(),
            slot: Slot::new(owner.id().get()),
            registry,
            kind,
            descriptor,
            acquired: site,
            created_at: now,
            whole: None,
            position: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            timeouts: AtomicU8::new(timeouts(Direction::Both)),
            history: Mutex::default(),
        };
        if let Some(step) = record.step(|| now, Event::Acquired, None, Some(owner), site) {
            // No other thread has the record yet.
            let history = record.history.get_mut().unwrap_or_else(PoisonError::into_inner);
            history.custody.push(step);
        }
        record
    }

    /// Makes a new record, which no other task has yet, the record of a half.
    pub(crate) fn set_whole(&mut self, whole: Arc<dyn Managed>) {
        self.whole = Some(whole);
    }

    /// The resource that this is a half of.
    pub(crate) fn half_of(&self) -> Option<ResourceId> {
        self.whole.as_ref().map(|whole| whole.record().id)
    }

    /// Sets the halves of a whole that is about to be split, or that has been rejoined.
    pub(crate) fn set_halves(&self, halves: Option<Box<[Weak<dyn Managed>; 2]>>) {
        if !fork::in_forked_child() {
            self.history().halves = halves;
        }
    }

    pub(crate) fn label(&self) -> ResourceLabel {
        ResourceLabel {
            id: self.id,
            number: self.descriptor.map(|descriptor| descriptor.number.raw()),
            kind: self.kind,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        // ord: Relaxed; read and written under the lock of the account that the position is on.
        self.position.load(Ordering::Relaxed)
    }

    pub(crate) fn set_position(&self, position: u64) {
        // ord: Relaxed, as above.
        self.position.store(position, Ordering::Relaxed);
    }

    /// Counts received bytes. Only the owner calls it, so a load and a store suffice.
    #[inline]
    pub(crate) fn count_received(&self, bytes: usize) {
        count(&self.received, bytes);
    }

    /// Counts sent bytes; see [`count_received`](Record::count_received).
    #[inline]
    pub(crate) fn count_sent(&self, bytes: usize) {
        count(&self.sent, bytes);
    }

    /// Bytes in, bytes out.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        // ord: Relaxed; a statistic, read for descriptions of the resource.
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }

    /// Whether calls in this direction may end by a timeout of the socket (`SO_RCVTIMEO`, `SO_SNDTIMEO`).
    /// True for a descriptor from outside, whose options are unknown.
    #[inline]
    pub(crate) fn may_time_out(&self, way: Direction) -> bool {
        // ord: Relaxed; only the owner reads and writes it, and a change of owner orders them (the
        // slot's AcqRel).
        self.timeouts.load(Ordering::Relaxed) & timeouts(way) != 0
    }

    /// Records whether a timeout is set, for one direction or both.
    pub(crate) fn set_may_time_out(&self, way: Direction, on: bool) {
        // ord: Relaxed; as above.
        let before = self.timeouts.load(Ordering::Relaxed);
        let after = if on { before | timeouts(way) } else { before & !timeouts(way) };
        // ord: Relaxed; as above.
        self.timeouts.store(after, Ordering::Relaxed);
    }

    /// Copies the timeout flags of the same socket, or of a listener whose options are inherited.
    pub(crate) fn inherit_timeouts(&self, from: &Record) {
        // ord: Relaxed; as above, and both are the current task's.
        self.timeouts.store(from.timeouts.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Adds the traffic of a half to the whole.
    pub(crate) fn add_traffic(&self, half: &Record) {
        let (received, sent) = half.traffic();
        // ord: Relaxed; a statistic. Two halves may end at once, hence the additions.
        self.received.fetch_add(received, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }

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
            SlotState::Offered => ErrorKind::NotOwner,
            SlotState::Busy | SlotState::Held => ErrorKind::InUse,
        };
        let error = self.error(kind, word, me, site, None);
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
        me: &Task,
        site: Site,
        detail: Option<String>,
    ) -> Error {
        if kind == ErrorKind::Cancelled {
            // The canceller flags the task's resources one by one, under this lock. A task that found one
            // flag waits here until all are set, so that none of its next operations is allowed.
            drop(me.account());
        }
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
                owner = last.and_then(|step| step.from.clone());
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

    /// The identity that the number refers to now, if it is no longer this resource.
    pub(crate) fn replacement(&self) -> Option<io::Result<Identity>> {
        let RecordedFd { number, identity, .. } = self.descriptor?;
        let now = match identity {
            Identity::Socket { .. } => number.identity_as_socket(),
            _ => number.identity(),
        };
        match now {
            Ok(now) if !identity.differs_from(now) => None,
            changed => Some(changed),
        }
    }

    /// Marks the descriptor as replaced, on a whole and its halves together, and reports this once for all
    /// of them.
    #[cold]
    pub(crate) fn mark_replaced(&self, me: &Task, site: Site, now: &io::Result<Identity>) -> Error {
        let whole = self.whole.as_ref().map_or(self, |whole| whole.record());
        // The whole first: if the halves are rejoined before they are marked, the whole is marked.
        whole.slot.mark_replaced();
        let halves = whole.history().halves.clone();
        let halves: Vec<_> = halves.iter().flat_map(|halves| &**halves).collect();
        let halves: Vec<_> = halves.into_iter().filter_map(Weak::upgrade).collect();
        for half in &halves {
            half.record().slot.mark_replaced();
        }
        let detail = match (&self.descriptor, now) {
            (Some(mine), Ok(now)) => format!("registered as {}, now {now}", mine.identity),
            (Some(mine), Err(error)) => format!("registered as {}, now {error}", mine.identity),
            (None, _) => unreachable!("only a descriptor has a number that can be replaced"),
        };
        let error = self.error(ErrorKind::FdReplaced, self.slot.load(), me, site, Some(detail));
        let is_first = !std::mem::replace(&mut whole.history().replacement_is_reported, true);
        if is_first {
            whole.record_step(Event::Replaced, None, None, site);
            for half in &halves {
                half.record().record_step(Event::Replaced, None, None, site);
            }
            self.registry.report_violation(&error, self);
        }
        error
    }

    /// Adds a step to the custody. At level `off` only final steps are kept, for error messages.
    pub(crate) fn record_step(
        &self,
        event: Event,
        from: Option<&Task>,
        to: Option<&Task>,
        site: Site,
    ) {
        self.record_step_at(Instant::now, event, from, to, site);
    }

    /// [`record_step`](Record::record_step) with a given time.
    pub(crate) fn record_step_at(
        &self,
        at: impl FnOnce() -> Instant,
        event: Event,
        from: Option<&Task>,
        to: Option<&Task>,
        site: Site,
    ) {
        if let Some(step) = self.step(at, event, from, to, site) {
            self.history().custody.push(step);
        }
    }

    /// A custody step, if this level keeps it.
    #[inline]
    fn step(
        &self,
        at: impl FnOnce() -> Instant,
        event: Event,
        from: Option<&Task>,
        to: Option<&Task>,
        site: Site,
    ) -> Option<RecordedStep> {
        let level = self.registry.level();
        if (level == Level::Off && !is_final(event)) || fork::in_forked_child() {
            return None;
        }
        let at = at();
        let backtrace =
            (level == Level::Full).then(|| std::backtrace::Backtrace::force_capture().into());
        Some(RecordedStep {
            event,
            from: from.map(Task::label),
            to: to.map(Task::label),
            site,
            at,
            thread: crate::sys::thread::kernel_id(),
            backtrace,
        })
    }

    /// The owner that `me` passes to the slot: its own id. In a forked child, where the registry is off,
    /// the current owner's id.
    pub(crate) fn acting_owner(&self, me: &Task) -> u64 {
        if fork::in_forked_child() { self.slot.load().owner() } else { me.id().get() }
    }

    /// A copy of the custody.
    pub(crate) fn custody(&self) -> Custody {
        if fork::in_forked_child() {
            return Custody::default();
        }
        self.history().custody.clone()
    }

    /// Shuts down the number, which is pinned or held exclusively, in this resource's direction.
    pub(crate) fn shutdown(&self) {
        if let Some(RecordedFd { number, direction, .. }) = self.descriptor
            && self.replacement().is_none()
        {
            close::shut(number, direction);
        }
    }

    /// Shuts down the reading of a stream. What has arrived can still be read, then comes the end of the
    /// stream.
    pub(crate) fn shutdown_read(&self) {
        if let Some(RecordedFd { number, direction, .. }) = self.descriptor
            && direction != Direction::Write
            && kind::is_stream(self.kind)
            && self.replacement().is_none()
        {
            close::shut(number, Direction::Read);
        }
    }

    /// Locks the history, for tests.
    #[cfg(all(test, not(echown_loom)))]
    pub(crate) fn hold(&self) -> impl Sized {
        self.history()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_final(event: Event) -> bool {
    matches!(
        event,
        Event::Released | Event::Dropped | Event::Finalized | Event::Disowned | Event::Rejoined
    )
}

const fn timeouts(way: Direction) -> u8 {
    match way {
        Direction::Read => 1,
        Direction::Write => 2,
        Direction::Both => 3,
    }
}

#[inline]
fn count(counter: &AtomicU64, bytes: usize) {
    // ord: Relaxed; only the owner writes, a change of owner orders the writers (the slot's AcqRel), and
    // it is a statistic for readers.
    let before = counter.load(Ordering::Relaxed);
    counter.store(before + bytes as u64, Ordering::Relaxed);
}

/// A resource that can be on a task's account.
pub(crate) trait Managed: Send + Sync + UnwindSafe + RefUnwindSafe {
    fn record(&self) -> &Record;

    /// Runs the finalizer. Only for the caller that won [`Slot::begin_close`] and has waited for the pins.
    ///
    /// # Errors
    /// The finalizer failed or panicked, or the number was replaced.
    fn finalize(&self, me: &Task, site: Site) -> Result<(), Error>;

    /// Drops the value without its finalizer: in a forked child, where only this process's copy of a
    /// descriptor is closed.
    fn drop_in_fork(&self);
}
