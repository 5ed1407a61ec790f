//! A task's children: creating, join duty, waiting, cancelling, and the end of a task.
//!
//! A task has one condition variable, `wakeup`. It is notified when a child ends and when the task
//! itself is cancelled, so that one wait covers both. Its mutex is the one of the children.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use echown_events::{Outcome, What};
use echown_fd::escape;
use echown_report::{Event, Site, TaskId, TaskLabel};

use super::{
    Child, EndHook, JoinDuty, Managed, Origin, Task, TaskJob, current, give, guard, return_all,
};
use crate::ownership::account::{Account, TaskPhase};
use crate::ownership::closing::{catch_panic, drop_catching, log_catching};
use crate::ownership::error::Error;
use crate::ownership::int_map::{self, IntMap};
use crate::ownership::record::{Labelled, Record};
use crate::ownership::registry::Registry;
use crate::ownership::slot::{PinGuard, PinPurpose};
use crate::ownership::task::exit;
use crate::sync::MutexGuard;

impl Task {
    /// Adds a child.
    pub(crate) fn add_child(&self, child: &Arc<Task>, duty: JoinDuty) {
        let child = Child { task: Arc::clone(child), duty };
        guard(&self.children).insert(child.task.id, child);
    }

    /// Changes the join duty of a child. An ended child that is to be reaped is removed at once.
    pub(crate) fn set_duty(&self, child: &Task, duty: JoinDuty) {
        let mut children = guard(&self.children);
        if child.has_ended() && duty == JoinDuty::Reaped {
            int_map::remove(&mut children, &child.id);
        } else if let Some(entry) = children.get_mut(&child.id) {
            entry.duty = duty;
        }
    }

    /// Records that the promise of a child was dropped: the child can no longer be joined or cancelled.
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

    /// Replaces an ended child by its name.
    fn record_unjoined(&self, child: &Task, children: &mut IntMap<TaskId, Child>) {
        int_map::remove(children, &child.id);
        guard(&self.unjoined).push(child.registry_id, child.label());
    }

    /// The names of ended children that were not joined, of one registry or of all, and how many others
    /// there were.
    pub(crate) fn take_unjoined(&self, registry_id: Option<u64>) -> (Vec<TaskLabel>, u32) {
        guard(&self.unjoined).take(registry_id)
    }

    /// Removes a child that was joined, cancelled or never started.
    pub(crate) fn remove_child(&self, child: &Task) {
        int_map::remove(&mut guard(&self.children), &child.id);
    }

    /// The children that have not ended, in any order.
    pub(crate) fn running_children(&self) -> Vec<Arc<Task>> {
        let children = guard(&self.children);
        let running = children.values().filter(|child| !child.task.has_ended());
        running.map(|child| Arc::clone(&child.task)).collect()
    }

    /// Takes all children, oldest first, for the exit of the task.
    pub(crate) fn take_children(&self) -> Vec<(Arc<Task>, JoinDuty)> {
        let children = std::mem::take(&mut *guard(&self.children)).into_values();
        let mut children: Vec<_> = children.map(|child| (child.task, child.duty)).collect();
        children.sort_unstable_by_key(|(child, _)| child.id);
        children
    }

    /// Makes this task a child of `new_parent`, which does not have to join it.
    pub(crate) fn move_to(self: &Arc<Task>, new_parent: &Arc<Task>) {
        *guard(&self.parent) = Some(Arc::clone(new_parent));
        new_parent.add_child(self, JoinDuty::Reaped);
        if self.has_ended() {
            new_parent.remove_child(self);
        }
    }

    /// Drops this task's result, which no other task takes, with this task as the current one.
    ///
    /// The result may contain handles that the task transferred to its parent. Their drop is the
    /// registry's doing and not a drop by a non-owner.
    pub(crate) fn discard_result<T>(&self, result: T) {
        // ord: Relaxed, here and in `discards_to`; this thread alone reads and writes it.
        self.discards.store(true, Ordering::Relaxed);
        drop_catching(&self.label(), result);
        self.discards.store(false, Ordering::Relaxed);
    }

    /// Whether this task, which is the current one, is dropping its result, and `owner` is its parent.
    pub(crate) fn discards_to(&self, owner: u64) -> bool {
        // ord: Relaxed; see above.
        self.discards.load(Ordering::Relaxed)
            && self.parent().is_some_and(|parent| parent.id.get() == owner)
    }

    /// Sets the job of the task.
    pub(crate) fn set_job(&self, job: impl FnOnce(&Arc<Task>) + Send + 'static) {
        *guard(&self.job) = Some(Box::new(job));
    }

    /// Sets a hook that runs as the last step of the task, on the thread that ends it. The task has ended
    /// for other tasks when the hook has run. If the task has already ended, runs the hook at once.
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

    /// Runs the task's job on this thread, unless it was run or abandoned before.
    pub(crate) fn execute(self: &Arc<Task>) {
        if let Some(job) = self.take_job() {
            job(self);
        }
    }

    /// Ends a task that was never started: what it was given is finalized on this thread.
    pub(crate) fn abandon(self: &Arc<Task>) {
        if let Some(job) = self.take_job() {
            exit::exit_unstarted(self, job);
        }
    }

    /// Marks the task as ended, after its result was stored, and notifies its parent.
    pub(crate) fn finish(self: &Arc<Task>, outcome: Outcome) {
        if !self.is_of_this_process() {
            return;
        }
        self.account().phase = TaskPhase::Ended;
        self.publish(|task| What::TaskEnded { task: task.shared_label(), outcome });
        // Before the end is set: a parent that exits waits for the ends of its children, and so also for
        // the reaper of their results, which is the parent's own code.
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
            // ord: Relaxed; the lock of `children` orders it. A thread that increments it after us
            // checks its condition afterwards, and finds that this child has ended.
            let has_waiters = parent.waiters.load(Ordering::Relaxed) > 0;
            drop(children);
            if has_waiters {
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
        // As the ended task, so that drops in the hook are attributed to it. The hook calls and drops
        // user code, and the parent waits for what comes after it.
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

    /// Waits until `done` returns true. Ends of children and this task's cancellation wake the wait.
    ///
    /// Returns false if the deadline passed first.
    pub(crate) fn wait_until(
        &self,
        mut done: impl FnMut() -> bool,
        deadline: Option<Instant>,
    ) -> bool {
        let mut children = guard(&self.children);
        // ord: Relaxed; under the lock of `children`, as is the load in `finish`.
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

    /// Wakes the threads that wait in this task.
    pub(crate) fn notify(&self) {
        // Taking the lock orders this after a waiter's check of its condition.
        drop(guard(&self.children));
        self.wakeup.notify_all();
    }

    /// Cancels this task, but not the tasks that run in its place. Returns whether those must be cancelled
    /// as well: not while this task runs its finalizers.
    pub(super) fn cancel_self(self: &Arc<Task>) -> bool {
        let mut account = self.account();
        if !account.is_open() {
            return account.phase != TaskPhase::Ending;
        }
        account.cancelled = true;
        // ord: Release; partner: `is_cancelled`. Under the lock, like the account's own flag, so that a
        // task that finds one of them set finds both.
        self.cancelled.store(true, Ordering::Release);
        self.publish(|task| What::TaskCancelled { task: task.shared_label() });
        self.for_each_pinned(account, PinPurpose::Cancel, |record| {
            record.publish_cancelled(self);
            record.shutdown();
        });
        self.notify();
        self.abandon();
        true
    }

    /// Drains this task, but not the tasks that run in its place. Returns whether those must be drained as
    /// well.
    pub(super) fn drain_self(&self) -> bool {
        let mut account = self.account();
        // Before the shutdown, which is what wakes the task.
        account.draining = true;
        let continues = account.phase != TaskPhase::Ending;
        self.for_each_pinned(account, PinPurpose::Inspect, Record::shutdown_read);
        continues
    }

    /// Pins every resource that this task holds, under its account's lock, then releases the lock and calls
    /// `act` for each.
    fn for_each_pinned(
        &self,
        account: MutexGuard<'_, Account<Arc<dyn Managed>>>,
        purpose: PinPurpose,
        act: impl Fn(&Record),
    ) {
        let me = self.id.get();
        let owned: Vec<Arc<dyn Managed>> = account.entries().cloned().collect();
        let pins: Vec<(&Record, PinGuard<'_>)> = owned
            .iter()
            .map(|held| held.record())
            .filter_map(|record| Some((record, record.slot.pin_guard(me, purpose)?)))
            .collect();
        drop(account);
        for (record, pin) in pins {
            act(record);
            drop(pin);
        }
    }

    /// Cancels the task and waits until it has ended.
    pub(crate) fn cancel_and_wait(self: &Arc<Task>, me: &Task) {
        self.request_cancel();
        me.wait_until(|| self.has_ended(), None);
    }
}

/// Creates a child of `parent` (default: the current task), adds it to the parent's children, and gives
/// it resources of the current task.
///
/// The parent and the current task differ if another task, running in the parent's place, spawns into a
/// scope of the parent.
///
/// # Errors
/// The current task was cancelled or is exiting, or a resource cannot be given. No child exists then, and
/// nothing has moved.
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
    // Not the parent's: another task is current only in its place, and is cancelled with it.
    if let Some(kind) = Task::closed_reason(&me.account()) {
        return Err(me.refusal(kind, None, site));
    }
    let child =
        Task::new(name.into(), Origin::Child, Some(registry), Some(Arc::clone(parent)), site);
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
    child.account().phase = TaskPhase::Ended;
}
