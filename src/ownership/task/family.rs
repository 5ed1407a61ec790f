//! Families: children and who answers for them, waiting for them, cancelling them.
//!
//! A task has one bell. It rings when a child ends and when the task itself is cancelled, so that
//! whoever waits in a task waits in one place for everything. The children's lock is the bell's.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use echown_fd::escape;

use super::{Care, Child, Held, Hook, Job, Task, TaskId, TaskLabel, guard};
use crate::ownership::account::Phase;
use crate::ownership::closing::{contain, drop_contained, log_contained};
use crate::ownership::ending;
use crate::ownership::slot::{Pin, Purpose};
use crate::ownership::table::{self, Table};

impl Task {
    /// Enters a child into the family.
    pub(crate) fn adopt(&self, child: &Arc<Task>, care: Care) {
        let child = Child { task: Arc::clone(child), care };
        guard(&self.children).insert(child.task.id, child);
    }

    /// Changes who answers for a child; an ended one that is to be reaped is gone at once.
    pub(crate) fn entrust(&self, child: &Task, care: Care) {
        let mut children = guard(&self.children);
        if child.has_ended() && care == Care::Reaped {
            table::remove(&mut children, &child.id);
        } else if let Some(entry) = children.get_mut(&child.id) {
            entry.care = care;
        }
    }

    /// The promise of a child was dropped: the child can be neither joined nor cancelled by it.
    pub(crate) fn promise_dropped(&self, child: &Task) {
        let mut children = guard(&self.children);
        match children.get_mut(&child.id) {
            Some(entry) if entry.care == Care::Promise && !child.has_ended() => {
                entry.care = Care::Dropped;
            }
            Some(entry) if entry.care == Care::Promise => {
                self.names_forgotten(child, &mut children);
            }
            _ => {}
        }
    }

    /// Keeps the name of an ended child, in the place of the child.
    fn names_forgotten(&self, child: &Task, children: &mut Table<TaskId, Child>) {
        table::remove(children, &child.id);
        guard(&self.forgotten).push(child.home, child.label());
    }

    /// Names of ended children that were forgotten, of one registry or of all; and how many others
    /// there were.
    pub(crate) fn take_forgotten(&self, home: Option<u64>) -> (Vec<TaskLabel>, u32) {
        guard(&self.forgotten).take(home)
    }

    /// Strikes a child that was joined, cancelled or never started.
    pub(crate) fn forget(&self, child: &Task) {
        table::remove(&mut guard(&self.children), &child.id);
    }

    /// The children that have not ended, in no order.
    pub(crate) fn running_children(&self) -> Vec<Arc<Task>> {
        let children = guard(&self.children);
        let running = children.values().filter(|child| !child.task.has_ended());
        running.map(|child| Arc::clone(&child.task)).collect()
    }

    /// The family as it is, oldest first: for the end of the task.
    pub(crate) fn take_children(&self) -> Vec<(Arc<Task>, Care)> {
        let children = std::mem::take(&mut *guard(&self.children)).into_values();
        let mut children: Vec<_> = children.map(|child| (child.task, child.care)).collect();
        children.sort_unstable_by_key(|(child, _)| child.id);
        children
    }

    /// Lets `heir` answer for a child from now on.
    pub(crate) fn move_to(self: &Arc<Task>, heir: &Arc<Task>) {
        *guard(&self.parent) = Some(Arc::clone(heir));
        heir.adopt(self, Care::Reaped);
        if self.has_ended() {
            heir.forget(self);
        }
    }

    /// Drops what this task returns and no other takes, in its name.
    ///
    /// What it transferred to its parent may be in there: the parent will not get that handle any
    /// more, and that is the registry's doing and not a drop elsewhere.
    pub(crate) fn discard_result<T>(&self, result: T) {
        // ord: Relaxed, here and in `discards_to`; this thread alone reads and writes it.
        self.discards.store(true, Ordering::Relaxed);
        drop_contained(&self.label(), result);
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

    pub(crate) fn take_job(&self) -> Option<Job> {
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
            ending::end_unstarted(self, job);
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
            match children.get(&self.id).map(|child| child.care) {
                Some(Care::Reaped) => drop(table::remove(&mut children, &self.id)),
                Some(Care::Dropped) => parent.names_forgotten(self, &mut children),
                Some(Care::Promise) | None => {}
            }
            // ord: Relaxed; the lock of `children` orders it. Who counts itself in after us looks
            // at its condition afterwards, and finds that this child has ended.
            let is_heard = parent.listening.load(Ordering::Relaxed) > 0;
            drop(children);
            if is_heard {
                parent.bell.notify_all();
            }
        }
    }

    /// Takes the hook that is still to be run, or sets the end.
    fn hook_or_end(&self) -> Option<Hook> {
        let mut place = guard(&self.on_end);
        let hook = place.take();
        if hook.is_none() {
            // ord: Release; partner: `has_ended`.
            self.ended.store(true, Ordering::Release);
        }
        hook
    }

    fn run_end_hook(self: &Arc<Task>, hook: Hook) {
        // In the ended task's name: what the hook drops is put down to it. The hook calls and
        // drops what is the user's, and the parent waits for what comes after it.
        let ran = contain(|| {
            let _entered = self.enter();
            hook();
        });
        if let Err(panic) = ran {
            let task = self.label();
            log_contained(
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
        self.listening.fetch_add(1, Ordering::Relaxed);
        let is_done = loop {
            if done() {
                break true;
            }
            children = match deadline {
                None => self.bell.wait(children).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        break false;
                    }
                    self.bell.wait_timeout(children, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        // ord: Relaxed; as above, and the lock is still held.
        self.listening.fetch_sub(1, Ordering::Relaxed);
        drop(children);
        is_done
    }

    /// Wakes whatever waits in this task.
    pub(crate) fn ring(&self) {
        // Taking the lock orders this after a waiter's look at its condition.
        drop(guard(&self.children));
        self.bell.notify_all();
    }

    /// Cancels this task and not what runs in its place. Whether that is to be cancelled as well:
    /// not while this task runs its finalizers.
    pub(super) fn cancel_alone(self: &Arc<Task>) -> bool {
        let mut account = self.account();
        if !account.is_open() {
            return account.phase != Phase::Ending;
        }
        account.cancelled = true;
        // ord: Release; partner: `is_cancelled`. Under the lock, as the account's own flag: a task
        // that finds one of them set finds both.
        self.cancelled.store(true, Ordering::Release);
        let owned: Vec<Arc<dyn Held>> = account.entries().cloned().collect();
        let pinned = self.pin_all(&owned, Purpose::Cancel);
        drop(account);
        for (held, pin) in pinned {
            held.record().shut();
            drop(pin);
        }
        self.ring();
        self.abandon();
        true
    }

    /// Drains this task and not what runs in its place. Whether that is to be drained as well.
    pub(super) fn drain_alone(&self) -> bool {
        let mut account = self.account();
        // Before the shutdown, which is what wakes the task.
        account.draining = true;
        let goes_on = account.phase != Phase::Ending;
        drop(account);
        self.shut_reading();
        goes_on
    }

    /// Lets every stream that this task owns come to its end.
    pub(super) fn shut_reading(&self) {
        let account = self.account();
        let owned: Vec<Arc<dyn Held>> = account.entries().cloned().collect();
        let pinned = self.pin_all(&owned, Purpose::Look);
        drop(account);
        for (held, pin) in pinned {
            held.record().shut_reading();
            drop(pin);
        }
    }

    /// Cancels what this task owns now, and not the task: whoever lends it a thread is cancelled.
    pub(super) fn interrupt(&self) {
        let account = self.account();
        let owned: Vec<Arc<dyn Held>> = account.entries().cloned().collect();
        let pinned = self.pin_all(&owned, Purpose::Cancel);
        drop(account);
        for (held, pin) in pinned {
            held.record().shut();
            drop(pin);
        }
    }

    /// Pins what this task holds of `owned`; under its account's lock.
    fn pin_all<'a>(
        &self,
        owned: &'a [Arc<dyn Held>],
        purpose: Purpose,
    ) -> Vec<(&'a Arc<dyn Held>, Pin<'a>)> {
        let me = self.id.get();
        let pin = |held: &'a Arc<dyn Held>| Some((held, held.record().slot.pinned(me, purpose)?));
        owned.iter().filter_map(pin).collect()
    }

    /// Cancels the task and waits until all of it is over.
    pub(crate) fn cancel_and_wait(self: &Arc<Task>, me: &Task) {
        self.request_cancel();
        me.wait_until(|| self.has_ended(), None);
    }
}
