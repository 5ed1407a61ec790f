//! `Record`: the registry's bookkeeping of one resource, independent of its type.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io;
use std::num::NonZeroU64;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use echown_events::{ResourceName, What};
use echown_fd::fd::{Direction, Identity, Number};
use echown_fd::kind;
use echown_report::{Event, ResourceId, Site, TaskId, TaskLabel};

use super::custody::{Custody, RecordedStep, Repeated};
use super::error::Error;
use super::label::ResourceLabel;
use super::moment::Moment;
use super::policy::Level;
use super::registry::Registry;
use super::slot::Slot;
use crate::sys::{close, fork};

/// Ids that a thread takes at once, at most.
const IDS_PER_BLOCK: u64 = 64;

thread_local! {
    /// The rest of this thread's block of ids (the next one, and the end), and the block's size. Needs no
    /// destructor.
    static IDS: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
}

/// An id that no other resource of this process has or had.
///
/// Threads take ids in blocks, so that those that own at the same time rarely meet at the counter. A
/// thread's first block has one id and each further one twice as many, because most threads own little.
/// Ids grow within a thread; between threads their order says nothing.
fn next_id() -> ResourceId {
    static NEXT_BLOCK: AtomicU64 = AtomicU64::new(1);
    let (mut id, mut end, mut size) = IDS.get();
    if id == end {
        size = (2 * size).clamp(1, IDS_PER_BLOCK);
        // ord: Relaxed; only uniqueness matters, and that is the increment's own.
        id = NEXT_BLOCK.fetch_add(size, Ordering::Relaxed);
        end = id + size;
    }
    IDS.set((id + 1, end, size));
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
    pub(crate) created_at: Moment,
    /// For a half: the whole that it belongs to. Boxed, because few resources are halves.
    pub(super) whole: Option<Box<Arc<dyn Managed>>>,
    /// Its position on its owner's account; changes under that account's lock.
    position: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Which directions of a socket may have a timeout; see [`Record::may_time_out`].
    timeouts: AtomicU8,
    /// Another process has the open file description, too; see [`Record::set_shared`].
    is_shared: AtomicBool,
    /// Another process has taken over; see [`Record::set_handed_over`].
    is_handed_over: AtomicBool,
    history: Mutex<History>,
}

#[derive(Default)]
pub(super) struct History {
    pub(super) custody: Custody,
    /// `None` for most resources.
    pub(super) rare: Option<Box<RareHistory>>,
}

/// What few resources have: those that were split or replaced.
#[derive(Default)]
pub(super) struct RareHistory {
    /// For a half the whole's flag counts, so that one replacement is reported once.
    pub(super) replacement_is_reported: bool,
    /// The halves of a split whole. Set before the slot is split, so that a thread that finds the slot
    /// split finds them.
    pub(super) halves: Option<[Weak<dyn Managed>; 2]>,
}

impl Record {
    /// A record held by `owner`, with the first step of its custody, which is not published yet.
    pub(crate) fn new(
        registry: Registry,
        kind: &'static str,
        descriptor: Option<RecordedFd>,
        owner: &dyn Labelled,
        site: Site,
    ) -> Record {
        let now = Moment::now();
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
            is_shared: AtomicBool::new(false),
            is_handed_over: AtomicBool::new(false),
            history: Mutex::default(),
        };
        if record.keeps(Event::Acquired) {
            let step = recorded_step(now, Event::Acquired, None, Some(owner), site);
            let backtrace = record.backtrace();
            // No other thread has the record yet.
            let history = record.history.get_mut().unwrap_or_else(PoisonError::into_inner);
            history.custody.push(step);
            if let Some(backtrace) = backtrace {
                history.custody.push_backtrace(backtrace);
            }
        }
        record
    }

    /// Makes a new record, which no other task has yet, the record of a half.
    pub(crate) fn set_whole(&mut self, whole: Arc<dyn Managed>) {
        self.whole = Some(Box::new(whole));
    }

    /// The resource that this is a half of.
    pub(crate) fn half_of(&self) -> Option<ResourceId> {
        self.whole.as_ref().map(|whole| whole.record().id)
    }

    /// The halves of a split whole that have not ended.
    pub(super) fn halves(&self) -> Vec<Arc<dyn Managed>> {
        let halves = self.history().rare.as_ref().and_then(|rare| rare.halves.clone());
        halves.iter().flatten().filter_map(Weak::upgrade).collect()
    }

    /// Sets the halves of a whole that is about to be split, or that has been rejoined.
    pub(crate) fn set_halves(&self, halves: Option<[Weak<dyn Managed>; 2]>) {
        if !fork::in_forked_child() {
            self.history().rare.get_or_insert_default().halves = halves;
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

    /// What the number refers to now, if that is no longer this resource.
    pub(crate) fn replacement(&self) -> Option<io::Result<Identity>> {
        let RecordedFd { number, identity, .. } = self.descriptor?;
        match number.identity_like(identity) {
            Ok(now) if !identity.differs_from(now) => None,
            changed => Some(changed),
        }
    }

    /// Adds a step to the custody. At level `off` only final steps are kept, for error messages.
    pub(crate) fn record_step(
        &self,
        event: Event,
        from: Option<&dyn Labelled>,
        to: Option<&dyn Labelled>,
        site: Site,
    ) {
        self.record_step_at(Moment::now, event, from, to, site);
    }

    /// [`record_step`](Record::record_step) with a given time.
    pub(crate) fn record_step_at(
        &self,
        at: impl FnOnce() -> Moment,
        event: Event,
        from: Option<&dyn Labelled>,
        to: Option<&dyn Labelled>,
        site: Site,
    ) {
        let keeps = self.keeps(event);
        if !keeps && !self.registry.is_watched() {
            return;
        }
        let step = recorded_step(at(), event, from, to, site);
        let mut published = None;
        if keeps {
            let backtrace = self.backtrace();
            let custody = &mut self.history().custody;
            // Under the lock of the custody: an observer that begins now reads it either before this step,
            // and finds the event in its queue, or after it.
            if self.registry.is_watched() {
                published = Some(step.to_event(self.event_name(), 1));
            }
            custody.push(step);
            if let Some(backtrace) = backtrace {
                custody.push_backtrace(backtrace);
            }
        } else {
            published = Some(step.to_event(self.event_name(), 1));
        }
        if let Some(event) = published {
            self.registry.publish(event);
        }
    }

    /// [`record_step`](Record::record_step) for parking and unparking, which a server does for each message:
    /// if the step only repeats what the custody has, no label is copied.
    #[inline]
    pub(crate) fn record_parking(
        &self,
        event: Event,
        from: &dyn Labelled,
        to: &dyn Labelled,
        site: Site,
    ) {
        let level = self.registry.level();
        if level == Level::Off && !self.registry.is_watched() {
            return;
        }
        let now = Moment::now();
        if level == Level::On && !self.registry.is_watched() && !fork::in_forked_child() {
            let thread = crate::sys::thread::kernel_id();
            let repeated = Repeated { event, from: from.id(), to: to.id(), site, at: now, thread };
            if self.history().custody.repeat(repeated) {
                return;
            }
        }
        self.record_step_at(|| now, event, Some(from), Some(to), site);
    }

    /// Publishes the acquisition, once the record can be found by its number.
    pub(crate) fn publish_acquired(&self, owner: &dyn Labelled) {
        if self.registry.is_watched() {
            let at = self.created_at;
            let step = recorded_step(at, Event::Acquired, None, Some(owner), self.acquired);
            self.registry.publish(step.to_event(self.event_name(), 1));
        }
    }

    /// Publishes that it was shut down, because its owner was cancelled.
    pub(crate) fn publish_cancelled(&self, owner: &dyn Labelled) {
        if self.registry.is_watched() {
            let (resource, owner) = (self.event_name(), owner.shared_label());
            self.registry.publish_now(What::Cancelled { resource, owner });
        }
    }

    /// What names it in an event.
    pub(crate) fn event_name(&self) -> ResourceName {
        let half = self.descriptor.and_then(|descriptor| direction_name(descriptor.direction));
        ResourceName {
            id: self.id,
            kind: self.kind,
            number: self.descriptor.map(|descriptor| descriptor.number.raw()),
            half_of: self.half_of().zip(half),
        }
    }

    /// The backtrace of a step, at level `full`.
    #[inline]
    fn backtrace(&self) -> Option<Arc<Backtrace>> {
        (self.registry.level() == Level::Full).then(|| Backtrace::force_capture().into())
    }

    /// Whether this level keeps a step in the custody.
    #[inline]
    fn keeps(&self, event: Event) -> bool {
        (self.registry.level() != Level::Off || is_final(event)) && !fork::in_forked_child()
    }

    /// The owner that `me` passes to the slot: its own id. In a forked child, where the registry is off,
    /// the current owner's id.
    pub(crate) fn acting_owner(&self, me: &dyn Labelled) -> u64 {
        if fork::in_forked_child() { self.slot.load().owner() } else { me.id().get() }
    }

    /// A copy of the custody.
    pub(crate) fn custody(&self) -> Custody {
        if fork::in_forked_child() {
            return Custody::default();
        }
        self.history().custody.clone()
    }

    /// Records that another process has the same open file description, by SCM_RIGHTS or by inheritance.
    /// From now on the descriptor is only closed here, and never shut down, not even at a cancellation:
    /// `shutdown(2)` ends the socket for every process that has it. So no thread may block in a call on
    /// it: nothing would wake it.
    pub(crate) fn set_shared(&self) {
        // ord: Release, to the Acquire in `is_shared`: who learns that another process has the socket finds
        // the flag set.
        self.is_shared.store(true, Ordering::Release);
    }

    /// Whether another process has the same open file description.
    pub(crate) fn is_shared(&self) -> bool {
        // ord: Acquire, as above.
        self.is_shared.load(Ordering::Acquire)
    }

    /// Records that another process has taken over the open file description that it shares: the owner has
    /// only to close the descriptor.
    pub(crate) fn set_handed_over(&self) {
        // ord: Release, to the Acquire in `is_handed_over`: an owner that finds it set also finds what the
        // hand-over wrote before.
        self.is_handed_over.store(true, Ordering::Release);
    }

    /// Whether another process has taken over.
    pub(crate) fn is_handed_over(&self) -> bool {
        // ord: Acquire, as above.
        self.is_handed_over.load(Ordering::Acquire)
    }

    /// Shuts down the number, which is pinned or held exclusively, in this resource's direction.
    pub(crate) fn shutdown(&self) {
        if self.is_shared() {
            return;
        }
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
            && !self.is_shared()
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

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[inline]
fn recorded_step(
    at: Moment,
    event: Event,
    from: Option<&dyn Labelled>,
    to: Option<&dyn Labelled>,
    site: Site,
) -> RecordedStep {
    RecordedStep {
        event,
        from: from.map(Labelled::shared_label),
        to: to.map(Labelled::shared_label),
        site,
        at,
        thread: crate::sys::thread::kernel_id(),
    }
}

/// The name of a half's direction.
pub(super) fn direction_name(direction: Direction) -> Option<&'static str> {
    match direction {
        Direction::Both => None,
        Direction::Read => Some("read"),
        Direction::Write => Some("write"),
    }
}

pub(super) fn is_final(event: Event) -> bool {
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

/// A task, as far as a record has to know it. Records stand below tasks and import none.
pub(crate) trait Labelled {
    fn id(&self) -> TaskId;
    fn label(&self) -> TaskLabel;
    /// The label as custody steps keep it.
    fn shared_label(&self) -> Arc<TaskLabel>;
}

impl<L: Labelled> Labelled for Arc<L> {
    fn id(&self) -> TaskId {
        (**self).id()
    }

    fn label(&self) -> TaskLabel {
        (**self).label()
    }

    fn shared_label(&self) -> Arc<TaskLabel> {
        (**self).shared_label()
    }
}

/// A resource that can be on a task's account.
pub(crate) trait Managed: Send + Sync + UnwindSafe + RefUnwindSafe {
    fn record(&self) -> &Record;

    /// Runs the finalizer. Only for the caller that won [`Slot::begin_close`] and has waited for the pins.
    ///
    /// # Errors
    /// The finalizer failed or panicked, or the number was replaced.
    fn finalize(&self, me: &dyn Labelled, site: Site) -> Result<(), Error>;

    /// Drops the value without its finalizer: in a forked child, where only this process's copy of a
    /// descriptor is closed.
    fn drop_in_fork(&self);
}
