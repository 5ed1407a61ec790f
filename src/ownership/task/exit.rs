//! Task exit: finalizers, leak detection, unclaimed offers, and unjoined children.
//!
//! The order is the same for every exit:
//!
//! 1. The closure and everything it captured are dropped (handles dropped there were released).
//! 2. The account closes and accepts no more entries.
//! 3. What is left is finalized on this thread, last in, first out. After a normal return each of these
//!    is a leak. After a panic or a cancellation it is not: finalizers exist for that.
//! 4. Unclaimed offers move to the parent.
//! 5. The remaining children are cancelled and waited for: parents before their children.
//! 6. The result is stored, and only then has the task ended for the tasks that wait for it.
//!
//! A finalizer that fails or panics is reported, and the others still run.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use echown_events::Outcome;
use echown_fd::escape;
use echown_report::{Event, LeakReport, ResourceData, Site, TaskLabel};

use super::{CurrentTaskGuard, JoinDuty, Task};
use crate::ownership::account::{Position, TaskPhase};
use crate::ownership::closing::{
    catch_panic, complete_close_reporting, drop_catching, log_catching,
};
use crate::ownership::error::ErrorKind;
use crate::ownership::promise::{Panic, TaskError, UnjoinedChildren};
use crate::ownership::record::Managed;
use crate::ownership::registry::Registry;
use crate::ownership::slot::SlotState;
use crate::ownership::task;
use crate::ownership::{report, snapshot};
use crate::sys::fork;

/// Runs `f` as `task` on this thread, including the task's exit. `deliver` gets the result while the
/// task is still the current one. Afterwards the task has ended for the tasks that wait for it.
pub(crate) fn run<T, R>(
    task: &Arc<Task>,
    f: impl FnOnce() -> T,
    deliver: impl FnOnce(Result<T, TaskError<T>>) -> R,
) -> R {
    let mut exit = TaskExit::of(task);
    let entered = task.enter();
    task.publish(Task::started);
    let result = catch_unwind(AssertUnwindSafe(f));
    let outcome = end(task, &entered, result);
    exit.is_settled = true;
    exit.outcome = match &outcome {
        Err(TaskError::Panicked(_)) => Outcome::Panicked,
        Err(TaskError::Cancelled) => Outcome::Cancelled,
        Ok(_) | Err(_) => Outcome::Returned,
    };
    deliver(outcome)
}

/// The guard of a task's exit, which also runs while unwinding: the parent waits for the end.
struct TaskExit<'a> {
    task: &'a Arc<Task>,
    /// Whether everything that the task had was released.
    is_settled: bool,
    outcome: Outcome,
}

impl TaskExit<'_> {
    fn of(task: &Arc<Task>) -> TaskExit<'_> {
        TaskExit { task, is_settled: false, outcome: Outcome::Panicked }
    }
}

impl Drop for TaskExit<'_> {
    #[inline(never)]
    fn drop(&mut self) {
        if !self.is_settled {
            let settled = catch_panic(|| {
                let _entered = self.task.enter();
                settle(self.task, ExitKind::Abrupt);
            });
            if let Err(panic) = settled {
                let task = self.task.label();
                log_catching(
                    || tracing::error!(%task, "the end of a task failed: {}", escape::text(&panic)),
                );
            }
        }
        self.task.finish(self.outcome);
    }
}

/// How the closure ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExitKind {
    Normal,
    /// By panic or cancellation: what is left is not a leak.
    Abrupt,
}

// Not inlined, so that its stack frame does not exist while the task runs: inline tasks nest.
#[inline(never)]
fn end<T>(
    task: &Arc<Task>,
    entered: &CurrentTaskGuard,
    result: std::thread::Result<T>,
) -> Result<T, TaskError<T>> {
    if !task.is_of_this_process() {
        // The task ends in the parent process. Here its locks may be held by threads that do not exist.
        return result.map_err(|payload| TaskError::Panicked(Panic::new(task.label(), payload)));
    }
    if entered.outer().is_some_and(|outer| outer.propagates_cancel()) {
        // The canceller may not have reached this task yet. What it leaves is not a leak.
        task.request_cancel();
    }
    let was_cancelled = close_account(task, result.is_ok());
    let result = match result {
        // No task gets a cancelled task's value; its handles are released as captured ones are.
        Ok(value) if was_cancelled => {
            task.discard_result(value);
            Err(TaskError::Cancelled)
        }
        Ok(value) => Ok(value),
        Err(payload) => Err(TaskError::Panicked(Panic::new(task.label(), payload))),
    };
    let kind = if result.is_ok() { ExitKind::Normal } else { ExitKind::Abrupt };
    let (leaks, (unjoined, omitted)) = settle(task, kind);
    match result {
        Err(failure) => Err(failure),
        Ok(value) if !unjoined.is_empty() => {
            let children = unjoined.into_boxed_slice();
            let children_omitted = omitted;
            Err(TaskError::UnjoinedChildren(UnjoinedChildren {
                value,
                children,
                children_omitted,
                leaks,
            }))
        }
        Ok(value) => match leaks {
            Some(report) => Err(TaskError::Leaked(value, report)),
            None => Ok(value),
        },
    }
}

/// Releases everything that a task has: resources, offers, children. If a panic interrupted a first
/// call, a second one does the rest.
fn settle(task: &Arc<Task>, kind: ExitKind) -> (Option<LeakReport>, (Vec<TaskLabel>, u32)) {
    if !task.is_of_this_process() {
        return (None, (Vec::new(), 0));
    }
    let leaks = release_owned(task, kind);
    (leaks, end_children(task))
}

/// Closes the account and empties it.
fn release_owned(task: &Arc<Task>, kind: ExitKind) -> Option<LeakReport> {
    task.account().phase = TaskPhase::Ending;
    let leaks = finalize_all(task, kind, |_| true);
    task::pass_offers_on(task, task.spawn_site());
    finalize_unclaimed(task, |_| true);
    leaks
}

/// Ends a task whose closure never ran. The closure is dropped here, with the task as the current one.
pub(crate) fn exit_unstarted(task: &Arc<Task>, job: impl Any) {
    let mut exit = TaskExit::of(task);
    let entered = task.enter();
    drop_catching(&task.label(), job);
    settle(task, ExitKind::Abrupt);
    drop(entered);
    exit.is_settled = true;
    exit.outcome = Outcome::Cancelled;
}

/// The exit of a thread that was not started as a task. It must neither panic nor wait.
pub(crate) fn exit_adopted_thread(task: &Arc<Task>) {
    if fork::in_forked_child() {
        return;
    }
    let ended = catch_panic(|| {
        release_owned(task, ExitKind::Normal);
        let root = task::root();
        for (child, _) in task.take_children() {
            child.move_to(&root);
            child.request_cancel();
        }
    });
    if let Err(panic) = ended {
        // Unwinding out of a thread-local's destructor would abort the process.
        let task = task.label();
        log_catching(
            || tracing::error!(%task, "the end of a thread failed: {}", escape::text(&panic)),
        );
    }
    task.finish(Outcome::Returned);
}

/// How long the end of the process waits for unjoined children that do not end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Releases what the current task has in one registry, at the end of the process: its remaining
/// resources, its unclaimed offers and its unjoined children.
pub(crate) fn settle_process(registry: &Registry) -> (Option<LeakReport>, Vec<TaskLabel>) {
    if fork::in_forked_child() {
        return (None, Vec::new());
    }
    let me = task::current(registry);
    let here = |held: &dyn Managed| held.record().registry == *registry;
    let leaks = finalize_all(&me, ExitKind::Normal, here);
    finalize_unclaimed(&me, here);
    let (mut left, (mut unjoined, _)) = (Vec::new(), me.take_unjoined(Some(registry.id())));
    for (child, duty) in me.take_children() {
        if child.registry_id() != registry.id() {
            me.add_child(&child, duty);
            continue;
        }
        if is_unjoined(&child, duty) {
            unjoined.push(child.label());
        }
        child.request_cancel();
        left.push(child);
    }
    let deadline = Instant::now() + FINISH_TIMEOUT;
    for child in &left {
        me.wait_until(|| child.has_ended(), Some(deadline));
    }
    (leaks, unjoined)
}

/// Closes the account after the closure has ended, unless the value of a cancelled task has to be
/// dropped first. Returns whether the task was cancelled.
fn close_account(task: &Task, has_returned: bool) -> bool {
    let mut account = task.account();
    let keep_open = account.cancelled && has_returned;
    if !keep_open {
        account.phase = TaskPhase::Ending;
    }
    account.cancelled
}

/// Finalizes what is left, latest first. Reports the leaks and returns them.
fn finalize_all(
    task: &Arc<Task>,
    kind: ExitKind,
    wanted: impl Fn(&dyn Managed) -> bool,
) -> Option<LeakReport> {
    if fork::in_forked_child() {
        // Only the parent process runs finalizers; this process's copies end with the process.
        return None;
    }
    let me = task.id().get();
    let mut leaks: Vec<(Registry, ResourceData)> = Vec::new();
    let mut before = Position::MAX;
    loop {
        let next = task.account().take_last(&mut before, |held| {
            let slot = &held.record().slot;
            wanted(&**held)
                && matches!(slot.load().state(), SlotState::Held | SlotState::Parked)
                && slot.begin_close(me).is_ok()
        });
        let Some(held) = next else { break };
        if kind == ExitKind::Normal {
            // Described while the descriptor is still open, because the kernel still has its addresses.
            leaks.extend(describe_leak(&*held).map(|data| (held.record().registry.clone(), data)));
        }
        complete_close_reporting(&*held, task, Event::Finalized, task.spawn_site());
    }
    report_leaks(task, leaks)
}

/// A leak's description, unless the registry's level or a suppression says otherwise.
fn describe_leak(held: &dyn Managed) -> Option<ResourceData> {
    let record = held.record();
    if !record.registry.reports_leaks() {
        return None;
    }
    let mut data = snapshot::of_closing(held);
    if record.registry.suppresses(&data) {
        return None;
    }
    data.kept_alive_by =
        record.registry.references_if_any().and_then(|known| known.cycle_behind(record.id));
    Some(data)
}

fn report_leaks(task: &Task, leaks: Vec<(Registry, ResourceData)>) -> Option<LeakReport> {
    if leaks.is_empty() {
        return None;
    }
    let mut registries: Vec<&Registry> = Vec::new();
    for (registry, _) in &leaks {
        // One report per registry, in whatever order their leaks are.
        if registries.contains(&registry) {
            continue;
        }
        registries.push(registry);
        let here = leaks.iter().filter(|(of, _)| of == registry);
        let report = report::of_leak(task, here.map(|(_, data)| data.clone()).collect());
        registry.report_leak(report);
    }
    Some(report::of_leak(task, leaks.into_iter().map(|(_, data)| data).collect()))
}

/// Finalizes and reports the offers that no ancestor's account has accepted.
fn finalize_unclaimed(task: &Arc<Task>, wanted: impl Fn(&dyn Managed) -> bool) {
    if fork::in_forked_child() {
        return;
    }
    let me = task.id().get();
    let mut before = Position::MAX;
    loop {
        let next = task.account().take_last(&mut before, |held| {
            let slot = &held.record().slot;
            wanted(&**held)
                && slot.load().state() == SlotState::Offered
                && slot.begin_close(me).is_ok()
        });
        let Some(held) = next else { return };
        finalize_offer(&held, task, task.spawn_site());
    }
}

/// Finalizes an offer that was closed unclaimed, and reports it.
pub(crate) fn finalize_offer(held: &Arc<dyn Managed>, me: &Task, site: Site) {
    let record = held.record();
    let word = record.slot.load();
    let error = record.error(ErrorKind::Unclaimed, word, me, site, None);
    record.registry.report_violation(&error, record);
    complete_close_reporting(&**held, me, Event::Finalized, site);
}

/// Cancels the remaining children and waits for them. Returns the unjoined ones: those with a promise,
/// and those that were still running.
fn end_children(task: &Arc<Task>) -> (Vec<TaskLabel>, u32) {
    let mut children = task.take_children();
    let (mut unjoined, omitted) = task.take_unjoined(None);
    children.retain(|(child, duty)| *duty != JoinDuty::Reaped || !child.has_ended());
    let left = children.iter().filter(|(child, duty)| is_unjoined(child, *duty));
    unjoined.extend(left.map(|(child, _)| child.label()));
    unjoined.sort_unstable_by_key(|child| child.id);
    // Request all cancellations before the first wait: one child may wait for another.
    for (child, _) in &children {
        child.request_cancel();
    }
    for (child, _) in &children {
        task.wait_until(|| child.has_ended(), None);
    }
    (unjoined, omitted)
}

/// Whether a child counts as unjoined: not while its reaper runs.
fn is_unjoined(child: &Task, duty: JoinDuty) -> bool {
    duty != JoinDuty::Reaped || child.account().phase != TaskPhase::Ended
}
