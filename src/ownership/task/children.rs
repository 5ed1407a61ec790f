//! Families: children and who answers for them, waiting for them, cancelling them.
//!
//! A task has one bell. It rings when a child ends and when the task itself is cancelled, so that
//! whoever waits in a task waits in one place for everything. The children's lock is the bell's.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use echown_fd::escape;
use echown_report::{Event, Site, TaskId, TaskLabel};

use super::{
    Child, EndHook, JoinDuty, Managed, Origin, Task, TaskJob, current, give, guard, return_all,
};
use crate::ownership::account::Phase;
use crate::ownership::closing::{catch_panic, drop_catching, log_catching};
use crate::ownership::error::{Error, ErrorKind};
use crate::ownership::int_map::{self, IntMap};
use crate::ownership::registry::Registry;
use crate::ownership::slot::{PinGuard, PinPurpose};
use crate::ownership::task_exit;

impl Task {
    /// Enters a child into the family.
    pub(crate) fn add_child(&self, child: &Arc<Task>, duty: JoinDuty) {
        let child = Child { task: Arc::clone(child), duty };
        guard(&self.children).insert(child.task.id, child);
    }

    /// Changes who answers for a child; an ended one that is to be reaped is gone at once.
    pub(crate) fn set_duty(&self, child: &Task, duty: JoinDuty) {
        let mut children = guard(&self.children);
        if child.has_ended() && duty == JoinDuty::Reaped {
            int_map::remove(&mut children, &child.id);
        } else if let Some(entry) = children.get_mut(&child.id) {
            entry.duty = duty;
        }
    }

    /// The promise of a child was dropped: the child can be neither joined nor cancelled by it.
    pub(crate) fn promise_dropped(&self, child: &Task) {
        let mut children = guard(&self.children);
        match children.get_mut(&child.id) {
            Some(entry) if entry.duty == JoinDuty::Promise && !child.has_ended() => {
                entry.duty = JoinDuty::Dropped;
            }
            Some(entry) if entry.duty == JoinDuty::Promise => {
                self.record_unjoined(child, &mut children);
            }
            _ => {}
        }
    }

    /// Keeps the name of an ended child, in the place of the child.
    fn record_unjoined(&self, child: &Task, children: &mut IntMap<TaskId, Child>) {
        int_map::remove(children, &child.id);
        guard(&self.unjoined).push(child.registry_id, child.label());
    }

    /// Names of ended children that were forgotten, of one registry or of all; and how many others
    /// there were.
    pub(crate) fn take_unjoined(&self, registry_id: Option<u64>) -> (Vec<TaskLabel>, u32) {
        guard(&self.unjoined).take(registry_id)
    }

    /// Strikes a child that was joined, cancelled or never started.
    pub(crate) fn remove_child(&self, child: &Task) {
        int_map::remove(&mut guard(&self.children), &child.id);
    }

    /// The children that have not ended, in no order.
    pub(crate) fn running_children(&self) -> Vec<Arc<Task>> {
        let children = guard(&self.children);
        let running = children.values().filter(|child| !child.task.has_ended());
        running.map(|child| Arc::clone(&child.task)).collect()
    }

    /// The family as it is, oldest first: for the end of the task.
    pub(crate) fn take_children(&self) -> Vec<(Arc<Task>, JoinDuty)> {
        let children = std::mem::take(&mut *guard(&self.children)).into_values();
        let mut children: Vec<_> = children.map(|child| (child.task, child.duty)).collect();
        children.sort_unstable_by_key(|(child, _)| child.id);
        children
    }

    /// Lets `new_parent` answer for a child from now on.
    pub(crate) fn move_to(self: &Arc<Task>, new_parent: &Arc<Task>) {
        *guard(&self.parent) = Some(Arc::clone(new_parent));
        new_parent.add_child(self, JoinDuty::Reaped);
        if self.has_ended() {
            new_parent.remove_child(self);
        }
    }

    /// Drops what this task returns and no other takes, in its name.
    ///
    /// What it transferred to its parent may be in there: the parent will not get that handle any
    /// more, and that is the registry's doing and not a drop elsewhere.
    pub(crate) fn discard_result<T>(&self, result: T) {
        // ord: Relaxed, here and in `discards_to`; this thread alone reads and writes it.
        self.discards.store(true, Ordering::Relaxed);
        drop_catching(&self.label(), result);
        self.discards.store(false, Ordering::Relaxed);
    }

    /// Whether this task, which is the current one, discards its result, and `owner` is its parent.
    pub(crate) fn discards_to(&self, owner: u64) -> bool {
        // ord: Relaxed; see above.
        self.discards.load(Ordering::Relaxed)
            && self.parent().is_some_and(|parent| parent.id.get() == owner)
    }

    /// Gives the task its work.
    pub(crate) fn set_job(&self, job: impl FnOnce(&Arc<Task>) + Send + 'static) {
        *guard(&self.job) = Some(Box::new(job));
    }

    /// Sets what is to happen at the very end of the task, on the thread that ends it: the task has
    /// ended for others when this has run. Runs it here and now when the task has ended already.
    pub(crate) fn set_on_end(self: &Arc<Task>, hook: impl FnOnce() + Send + 'static) {
        let mut place = guard(&self.on_end);
        // The end is set under the same lock, by a thread that finds no hook there.
        if !self.has_ended() {
            *place = Some(Box::new(hook));
            return;
        }
        drop(place);
        self.run_end_hook(Box::new(hook));
    }

    /// Whether its job still waits for a thread.
    pub(crate) fn has_job(&self) -> bool {
        guard(&self.job).is_some()
    }

    pub(crate) fn take_job(&self) -> Option<TaskJob> {
        if !self.is_of_this_process() {
            return None;
        }
        guard(&self.job).take()
    }

    /// Runs the task's job here and now, if nobody has run or abandoned it.
    pub(crate) fn execute(self: &Arc<Task>) {
        if let Some(job) = self.take_job() {
            job(self);
        }
    }

    /// Ends a task that was never started: what it was given is finalized on this thread.
    pub(crate) fn abandon(self: &Arc<Task>) {
        if let Some(job) = self.take_job() {
            task_exit::exit_unstarted(self, job);
        }
    }

    /// Declares the task over, after its outcome was stored, and tells its parent.
    pub(crate) fn finish(self: &Arc<Task>) {
        if !self.is_of_this_process() {
            return;
        }
        self.account().phase = Phase::Ended;
        // Before the end is set: a parent that ends waits for its children's ends, and so for the
        // reaper of their outcomes, which is the parent's own doing.
        while let Some(hook) = self.hook_or_end() {
            self.run_end_hook(hook);
        }
        if let Some(parent) = self.parent() {
            let mut children = guard(&parent.children);
            match children.get(&self.id).map(|child| child.duty) {
                Some(JoinDuty::Reaped) => drop(int_map::remove(&mut children, &self.id)),
                Some(JoinDuty::Dropped) => parent.record_unjoined(self, &mut children),
                Some(JoinDuty::Promise) | None => {}
            }
            // ord: Relaxed; the lock of `children` orders it. Who counts itself in after us looks
            // at its condition afterwards, and finds that this child has ended.
            let is_heard = parent.waiters.load(Ordering::Relaxed) > 0;
            drop(children);
            if is_heard {
                parent.wakeup.notify_all();
            }
        }
    }

    /// Takes the hook that is still to be run, or sets the end.
    fn hook_or_end(&self) -> Option<EndHook> {
        let mut place = guard(&self.on_end);
        let hook = place.take();
        if hook.is_none() {
            // ord: Release; partner: `has_ended`.
            self.ended.store(true, Ordering::Release);
        }
        hook
    }

    fn run_end_hook(self: &Arc<Task>, hook: EndHook) {
        // In the ended task's name: what the hook drops is put down to it. The hook calls and
        // drops what is the user's, and the parent waits for what comes after it.
        let ran = catch_panic(|| {
            let _entered = self.enter();
            hook();
        });
        if let Err(panic) = ran {
            let task = self.label();
            log_catching(
                || tracing::error!(%task, "a hook at the end of a task panicked: {}", escape::text(&panic)),
            );
        }
    }

    /// Waits until `done`, woken by the ends of children and by this task's cancellation.
    ///
    /// False when the deadline passed first.
    pub(crate) fn wait_until(
        &self,
        mut done: impl FnMut() -> bool,
        deadline: Option<Instant>,
    ) -> bool {
        let mut children = guard(&self.children);
        // ord: Relaxed; under the lock of `children`, as is the look at it in `finish`.
        self.waiters.fetch_add(1, Ordering::Relaxed);
        let is_done = loop {
            if done() {
                break true;
            }
            children = match deadline {
                None => self.wakeup.wait(children).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        break false;
                    }
                    self.wakeup
                        .wait_timeout(children, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        };
        // ord: Relaxed; as above, and the lock is still held.
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        drop(children);
        is_done
    }

    /// Wakes whatever waits in this task.
    pub(crate) fn notify(&self) {
        // Taking the lock orders this after a waiter's look at its condition.
        drop(guard(&self.children));
        self.wakeup.notify_all();
    }

    /// Cancels this task and not what runs in its place. Whether that is to be cancelled as well:
    /// not while this task runs its finalizers.
    pub(super) fn cancel_self(self: &Arc<Task>) -> bool {
        let mut account = self.account();
        if !account.is_open() {
            return account.phase != Phase::Ending;
        }
        account.cancelled = true;
        // ord: Release; partner: `is_cancelled`. Under the lock, as the account's own flag: a task
        // that finds one of them set finds both.
        self.cancelled.store(true, Ordering::Release);
        let owned: Vec<Arc<dyn Managed>> = account.entries().cloned().collect();
        let pinned = self.pin_all(&owned, PinPurpose::Cancel);
        drop(account);
        for (held, pin) in pinned {
            held.record().shutdown();
            drop(pin);
        }
        self.notify();
        self.abandon();
        true
    }

    /// Drains this task and not what runs in its place. Whether that is to be drained as well.
    pub(super) fn drain_self(&self) -> bool {
        let mut account = self.account();
        // Before the shutdown, which is what wakes the task.
        account.draining = true;
        let goes_on = account.phase != Phase::Ending;
        drop(account);
        self.shutdown_read();
        goes_on
    }

    /// Lets every stream that this task owns come to its end.
    pub(super) fn shutdown_read(&self) {
        let account = self.account();
        let owned: Vec<Arc<dyn Managed>> = account.entries().cloned().collect();
        let pinned = self.pin_all(&owned, PinPurpose::Inspect);
        drop(account);
        for (held, pin) in pinned {
            held.record().shutdown_read();
            drop(pin);
        }
    }

    /// Cancels what this task owns now, and not the task: whoever lends it a thread is cancelled.
    pub(super) fn cancel_owned(&self) {
        let account = self.account();
        let owned: Vec<Arc<dyn Managed>> = account.entries().cloned().collect();
        let pinned = self.pin_all(&owned, PinPurpose::Cancel);
        drop(account);
        for (held, pin) in pinned {
            held.record().shutdown();
            drop(pin);
        }
    }

    /// Pins what this task holds of `owned`; under its account's lock.
    fn pin_all<'a>(
        &self,
        owned: &'a [Arc<dyn Managed>],
        purpose: PinPurpose,
    ) -> Vec<(&'a Arc<dyn Managed>, PinGuard<'a>)> {
        let me = self.id.get();
        let pin =
            |held: &'a Arc<dyn Managed>| Some((held, held.record().slot.pin_guard(me, purpose)?));
        owned.iter().filter_map(pin).collect()
    }

    /// Cancels the task and waits until all of it is over.
    pub(crate) fn cancel_and_wait(self: &Arc<Task>, me: &Task) {
        self.request_cancel();
        me.wait_until(|| self.has_ended(), None);
    }
}

/// Makes a child of `parent` (of the current task, if that is none), entered into its family, with
/// what the current task gives it.
///
/// A parent of its own has what is spawned while another task runs in the parent's place, into a
/// scope of the parent's.
///
/// # Errors
/// The parent or the current task was cancelled or is at its end, or something cannot be given; then
/// there is no child and nothing has moved.
#[inline(never)]
pub(crate) fn make_child(
    registry: &Registry,
    parent: Option<&Arc<Task>>,
    name: &str,
    given: &[Arc<dyn Managed>],
    duty: JoinDuty,
    site: Site,
) -> Result<Arc<Task>, Error> {
    let me = current(registry);
    let parent = parent.unwrap_or(&me);
    for task in [&me, parent] {
        let closed = Task::closed_reason(&task.account());
        // An actor whose lender was cancelled starts nothing either.
        let closed = closed.or(task.is_cancelled().then_some(ErrorKind::Cancelled));
        if let Some(kind) = closed {
            return Err(me.refusal(kind, None, site));
        }
    }
    let child =
        Task::new(name.into(), Origin::Child, registry.id(), Some(Arc::clone(parent)), site);
    give(&me, &child, given, Event::Given, site)?;
    parent.add_child(&child, duty);
    Ok(child)
}

/// Undoes [`make_child`] for a child that cannot be started.
pub(crate) fn undo_make_child(
    registry: &Registry,
    child: &Arc<Task>,
    given: &[Arc<dyn Managed>],
    site: Site,
) {
    if let Some(parent) = child.parent() {
        parent.remove_child(child);
    }
    drop(child.take_job());
    return_all(child, &current(registry), given, site);
    child.account().phase = Phase::Ended;
}
