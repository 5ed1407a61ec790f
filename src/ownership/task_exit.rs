//! The end of a task decides what was a leak, and gives everything back.
//!
//! The order is the same for every end:
//!
//! 1. the closure and all that it captured are gone (handles dropped there were released);
//! 2. the account closes: nothing comes in any more;
//! 3. what is left is finalized, last in, first out, on this thread. After a normal end each of
//!    these is a leak; after a panic or a cancellation it is what finalizers are for;
//! 4. unclaimed offers pass to the parent;
//! 5. the children that are left are cancelled and waited for: parents first;
//! 6. the outcome is stored, and only then is the task over for whoever waits.
//!
//! A finalizer that fails or panics is reported and keeps none of the others from running.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use echown_fd::escape;
use echown_report::{Event, LeakReport, ResourceData, Site, TaskLabel};

use super::account::{Phase, Position};
use super::closing::{catch_panic, complete_close_reporting, drop_catching, log_catching};
use super::error::ErrorKind;
use super::record::Managed;
use super::registry::Registry;
use super::slot::SlotState;
use super::task::{self, CurrentTaskGuard, JoinDuty, Task};
use super::task_error::{Panic, TaskError, UnjoinedChildren};
use super::{report, snapshot};
use crate::sys::fork;

/// Runs `f` as `task` on this thread, through to the task's end. `deliver` gets the outcome while
/// the task is still the current one; then the task has ended for those that wait.
pub(crate) fn run<T, R>(
    task: &Arc<Task>,
    f: impl FnOnce() -> T,
    deliver: impl FnOnce(Result<T, TaskError<T>>) -> R,
) -> R {
    let mut ending = TaskExit::of(task);
    let entered = task.enter();
    let result = catch_unwind(AssertUnwindSafe(f));
    let outcome = end(task, &entered, result);
    ending.is_settled = true;
    deliver(outcome)
}

/// The end of a task, which comes whatever unwinds: its parent waits for it.
struct TaskExit<'a> {
    task: &'a Arc<Task>,
    /// Whether everything that the task had was given back.
    is_settled: bool,
}

impl TaskExit<'_> {
    fn of(task: &Arc<Task>) -> TaskExit<'_> {
        TaskExit { task, is_settled: false }
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
        self.task.finish();
    }
}

/// How the closure came back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExitKind {
    Normal,
    /// By panic or cancellation: what is left is expected, not leaked.
    Abrupt,
}

// Not inlined: what it needs of the stack is not kept while the task runs, and inline tasks nest.
#[inline(never)]
fn end<T>(
    task: &Arc<Task>,
    entered: &CurrentTaskGuard,
    result: std::thread::Result<T>,
) -> Result<T, TaskError<T>> {
    if !task.is_of_this_process() {
        // It ends in the parent process. Here its locks may be held by threads that are not there.
        return result.map_err(|payload| TaskError::Panicked(Panic::new(task.label(), payload)));
    }
    if entered.outer().is_some_and(|outer| outer.propagates_cancel()) {
        // The canceller may not have come to this task yet. What it leaves is no leak.
        task.request_cancel();
    }
    let was_cancelled = close_account(task, result.is_ok());
    let result = match result {
        // A cancelled task's value goes nowhere; its handles are released like captured ones.
        Ok(value) if was_cancelled => {
            task.discard_result(value);
            Err(TaskError::Cancelled)
        }
        Ok(value) => Ok(value),
        Err(payload) => Err(TaskError::Panicked(Panic::new(task.label(), payload))),
    };
    let kind = if result.is_ok() { ExitKind::Normal } else { ExitKind::Abrupt };
    let (leaks, (forgotten, omitted)) = settle(task, kind);
    match result {
        Err(failure) => Err(failure),
        Ok(value) if !forgotten.is_empty() => {
            let children = forgotten.into_boxed_slice();
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

/// Gives back everything that a task has: resources, offers, children. What a first call was kept
/// from by a panic, a second one does.
fn settle(task: &Arc<Task>, kind: ExitKind) -> (Option<LeakReport>, (Vec<TaskLabel>, u32)) {
    if !task.is_of_this_process() {
        return (None, (Vec::new(), 0));
    }
    let leaks = release_owned(task, kind);
    (leaks, end_children(task))
}

/// Closes the account and empties it.
fn release_owned(task: &Arc<Task>, kind: ExitKind) -> Option<LeakReport> {
    task.account().phase = Phase::Ending;
    let leaks = finalize_all(task, kind, |_| true);
    task::pass_offers_on(task, task.spawn_site());
    finalize_unclaimed(task, |_| true);
    leaks
}

/// Ends a task whose closure never ran: it is dropped here, in the task's name.
pub(crate) fn exit_unstarted(task: &Arc<Task>, job: impl Any) {
    let mut ending = TaskExit::of(task);
    let entered = task.enter();
    drop_catching(&task.label(), job);
    settle(task, ExitKind::Abrupt);
    drop(entered);
    ending.is_settled = true;
}

/// The end of a thread that was not started as a task: it must neither panic nor wait.
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
    task.finish();
}

/// How long the end of the process waits for forgotten children that do not end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Ends what the current task has in one registry, at the end of the process: its remaining
/// resources and unclaimed offers, and its forgotten children.
pub(crate) fn settle_process(registry: &Registry) -> (Option<LeakReport>, Vec<TaskLabel>) {
    if fork::in_forked_child() {
        return (None, Vec::new());
    }
    let me = task::current(registry);
    let here = |held: &dyn Managed| held.record().registry == *registry;
    let leaks = finalize_all(&me, ExitKind::Normal, here);
    finalize_unclaimed(&me, here);
    let (mut left, (mut forgotten, _)) = (Vec::new(), me.take_unjoined(Some(registry.id())));
    for (child, duty) in me.take_children() {
        if child.registry_id() != registry.id() {
            me.add_child(&child, duty);
            continue;
        }
        if is_unjoined(&child, duty) {
            forgotten.push(child.label());
        }
        child.request_cancel();
        left.push(child);
    }
    let deadline = Instant::now() + FINISH_TIMEOUT;
    for child in &left {
        me.wait_until(|| child.has_ended(), Some(deadline));
    }
    (leaks, forgotten)
}

/// Closes the account after a closure has come back, unless a cancelled one's value has to be
/// dropped first. True when the task was cancelled.
fn close_account(task: &Task, came_back: bool) -> bool {
    let mut account = task.account();
    let keep_open = account.cancelled && came_back;
    if !keep_open {
        account.phase = Phase::Ending;
    }
    account.cancelled
}

/// Finalizes what is left, latest first. Answers the leaks, which have been reported.
fn finalize_all(
    task: &Arc<Task>,
    kind: ExitKind,
    wanted: impl Fn(&dyn Managed) -> bool,
) -> Option<LeakReport> {
    if fork::in_forked_child() {
        // The promises are the parent's to keep; this process's copies go with the process.
        return None;
    }
    let me = task.id().get();
    let mut leaks: Vec<(Registry, ResourceData)> = Vec::new();
    let mut before = Position::MAX;
    loop {
        let next = task.account().take_last(&mut before, |held| {
            let slot = &held.record().slot;
            wanted(&**held)
                && slot.load().state() == SlotState::Held
                && slot.begin_close(me).is_ok()
        });
        let Some(held) = next else { break };
        if kind == ExitKind::Normal {
            // Described while the descriptor is still open: the kernel knows its addresses.
            leaks.extend(leaked(&*held).map(|data| (held.record().registry.clone(), data)));
        }
        complete_close_reporting(&*held, task, Event::Finalized, task.spawn_site());
    }
    report_leaks(task, leaks)
}

/// A leak's description, unless the registry's level or a suppression says otherwise.
fn leaked(held: &dyn Managed) -> Option<ResourceData> {
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
        // One report to each, however the leaks are mixed.
        if registries.contains(&registry) {
            continue;
        }
        registries.push(registry);
        let here = leaks.iter().filter(|(of, _)| of == registry);
        let report = report::of_leak(task, here.map(|(_, data)| data.clone()).collect());
        registry.leaked(report);
    }
    Some(report::of_leak(task, leaks.into_iter().map(|(_, data)| data).collect()))
}

/// Finalizes and reports the offers that no ancestor's account could take.
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

/// Cancels and awaits the children that are left. Answers the forgotten ones: those that a promise
/// stood for, and those that still ran.
fn end_children(task: &Arc<Task>) -> (Vec<TaskLabel>, u32) {
    let mut children = task.take_children();
    let (mut forgotten, omitted) = task.take_unjoined(None);
    children.retain(|(child, duty)| *duty != JoinDuty::Reaped || !child.has_ended());
    let left = children.iter().filter(|(child, duty)| is_unjoined(child, *duty));
    forgotten.extend(left.map(|(child, _)| child.label()));
    forgotten.sort_unstable_by_key(|child| child.id);
    // All are asked before the first is waited for: one may wait for another.
    for (child, _) in &children {
        child.request_cancel();
    }
    for (child, _) in &children {
        task.wait_until(|| child.has_ended(), None);
    }
    (forgotten, omitted)
}

/// Whether a child that has not been joined or reaped is its parent's fault: not while its reaper runs.
fn is_unjoined(child: &Task, duty: JoinDuty) -> bool {
    duty != JoinDuty::Reaped || child.account().phase != Phase::Ended
}
