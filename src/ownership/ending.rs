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

use super::account::Phase;
use super::custody::{Event, Site};
use super::finding::{LeakReport, Report};
use super::outcome::{Failure, Forgotten, Panic};
use super::record::Held;
use super::registry::Registry;
use super::slot::State;
use super::snapshot::ResourceData;
use super::task::{self, Care, Origin, Task, TaskLabel};
use super::violation::{Error, ErrorKind};
use crate::sys::{escape, fork};

/// Runs `f` as `task`, on this thread, through to the task's end (all but the storing of the
/// outcome).
pub(crate) fn run<T>(task: &Arc<Task>, f: impl FnOnce() -> T) -> Result<T, Failure<T>> {
    let entered = task.enter();
    let outcome = end(task, catch_unwind(AssertUnwindSafe(f)));
    drop(entered);
    outcome
}

/// How the closure came back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Normal,
    /// By panic or cancellation: what is left is expected, not leaked.
    Abrupt,
}

fn end<T>(task: &Arc<Task>, result: std::thread::Result<T>) -> Result<T, Failure<T>> {
    let was_cancelled = close_account(task, result.is_ok());
    let result = match result {
        // A cancelled task's answer is nobody's; its handles are released like captured ones.
        Ok(value) if was_cancelled => {
            drop_quietly(task, value);
            task.account().phase = Phase::Ending;
            Err(Failure::Cancelled)
        }
        Ok(value) => Ok(value),
        Err(payload) => Err(Failure::Panicked(Panic::new(task.label(), payload))),
    };
    let manner = if result.is_ok() { Manner::Normal } else { Manner::Abrupt };
    let leaks = finalize_all(task, manner, |_| true);
    task::pass_offers_on(task, task.spawned());
    finalize_unclaimed(task, |_| true);
    let forgotten = end_children(task);
    match result {
        Err(failure) => Err(failure),
        Ok(value) if !forgotten.is_empty() => {
            Err(Failure::StillHasChildren(Forgotten { value, children: forgotten, leaks }))
        }
        Ok(value) => match leaks {
            Some(report) => Err(Failure::Leaked(value, report)),
            None => Ok(value),
        },
    }
}

/// Ends a task whose closure never ran: it is dropped here, in the task's name.
pub(crate) fn end_unstarted(task: &Arc<Task>, job: impl Any) {
    let entered = task.enter();
    drop_quietly(task, job);
    task.account().phase = Phase::Ending;
    finalize_all(task, Manner::Abrupt, |_| true);
    task::pass_offers_on(task, task.spawned());
    finalize_unclaimed(task, |_| true);
    end_children(task);
    drop(entered);
}

/// The end of a thread that nobody started as a task: it must neither panic nor wait.
pub(crate) fn end_of_foreign_thread(task: &Arc<Task>) {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        task.account().phase = Phase::Ending;
        finalize_all(task, Manner::Normal, |_| true);
        task::pass_offers_on(task, task.spawned());
        finalize_unclaimed(task, |_| true);
        let root = task::root();
        for (child, _) in task.take_children() {
            child.move_to(&root);
            child.request_cancel();
        }
        task.finish();
    }));
    if let Err(payload) = ended {
        // Unwinding out of a thread-local's destructor would abort the process.
        tracing::error!(
            task = %task.label(),
            "the end of a thread failed: {}",
            escape::text(super::outcome::message(&*payload))
        );
        std::mem::forget(payload);
    }
}

/// How long the end of the process waits for forgotten children that do not end.
const FINISH_PATIENCE: Duration = Duration::from_secs(10);

/// Ends what the current task has in one registry, at the end of the process: its remaining
/// resources and unclaimed offers, and its forgotten children.
pub(crate) fn settle(registry: &Registry) -> (Option<LeakReport>, Vec<TaskLabel>) {
    let me = task::current(registry);
    let here = |held: &dyn Held| held.record().registry == *registry;
    let leaks = finalize_all(&me, Manner::Normal, here);
    finalize_unclaimed(&me, here);
    let mut forgotten = Vec::new();
    for (child, care) in me.take_children() {
        if child.home() != registry.id() {
            me.adopt(&child, care);
        } else if care == Care::Promise || !child.has_ended() {
            child.request_cancel();
            forgotten.push(child);
        }
    }
    let deadline = Instant::now() + FINISH_PATIENCE;
    for child in &forgotten {
        me.wait_until(|| child.has_ended(), Some(deadline));
    }
    (leaks, forgotten.iter().map(|child| child.label()).collect())
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
    manner: Manner,
    wanted: impl Fn(&dyn Held) -> bool,
) -> Option<LeakReport> {
    if fork::in_forked_child() {
        // The promises are the parent's to keep; this process's copies go with the process.
        return None;
    }
    let me = task.id().get();
    let mut leaks: Vec<(Registry, ResourceData)> = Vec::new();
    loop {
        let next = task.account().take_last(|held| {
            let slot = &held.record().slot;
            wanted(&**held) && slot.look().state() == State::Held && slot.begin_close(me).is_ok()
        });
        let Some(held) = next else { break };
        let record = held.record();
        record.slot.await_pins();
        if manner == Manner::Normal {
            // Described while the descriptor is still open: it can tell its addresses.
            leaks.extend(leaked(&*held).map(|data| (record.registry.clone(), data)));
        }
        record.note(Event::Finalized, Some(task), None, task.spawned());
        if let Err(error) = held.finalize(task, task.spawned()) {
            report_finalizer(&*held, &error);
        }
        record.slot.closed();
    }
    report_leaks(task, leaks)
}

/// A leak's description, unless the registry's level or a suppression says otherwise.
fn leaked(held: &dyn Held) -> Option<ResourceData> {
    let record = held.record();
    if !record.registry.reports_leaks() {
        return None;
    }
    let mut data = ResourceData::of_closing(held);
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
        let report = LeakReport::new(task, here.map(|(_, data)| data.clone()).collect());
        registry.leaked(report);
    }
    Some(LeakReport::new(task, leaks.into_iter().map(|(_, data)| data).collect()))
}

/// What a finalizer did wrong, when there is nobody to tell it to.
pub(crate) fn report_finalizer(held: &dyn Held, error: &Error) {
    if error.kind() != ErrorKind::Theft {
        held.record().registry.deliver(Report::of_error(error, held.record()));
    }
}

/// Finalizes and reports the offers that no ancestor's account could take.
fn finalize_unclaimed(task: &Arc<Task>, wanted: impl Fn(&dyn Held) -> bool) {
    if fork::in_forked_child() {
        return;
    }
    let me = task.id().get();
    loop {
        let next = task.account().take_last(|held| {
            let slot = &held.record().slot;
            wanted(&**held) && slot.look().state() == State::Offered && slot.begin_close(me).is_ok()
        });
        let Some(held) = next else { return };
        finalize_offer(&held, task, task.spawned());
    }
}

/// Finalizes an offer that was closed unclaimed, and reports it.
pub(crate) fn finalize_offer(held: &Arc<dyn Held>, me: &Task, site: Site) {
    let record = held.record();
    record.slot.await_pins();
    let word = record.slot.look();
    let error = record.error(ErrorKind::Unclaimed, word, me, site, None);
    record.registry.violated(&error, record);
    record.note(Event::Finalized, Some(me), None, site);
    if let Err(error) = held.finalize(me, site) {
        report_finalizer(&**held, &error);
    }
    record.slot.closed();
}

/// Cancels and awaits the children that are left. Answers the forgotten ones: those that a promise
/// stood for, and those that still ran.
fn end_children(task: &Arc<Task>) -> Vec<TaskLabel> {
    let mut forgotten = task.take_children();
    forgotten.retain(|(child, care)| *care == Care::Promise || !child.has_ended());
    // All are asked before the first is waited for: one may wait for another.
    for (child, _) in &forgotten {
        child.request_cancel();
    }
    for (child, _) in &forgotten {
        task.wait_until(|| child.has_ended(), None);
    }
    forgotten.into_iter().map(|(child, _)| child.label()).collect()
}

/// Drops something of the user's, whose destructor may panic.
fn drop_quietly<T>(task: &Task, value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::warn!(
            task = %task.label(),
            "a destructor panicked: {}",
            escape::text(super::outcome::message(&*payload))
        );
        std::mem::forget(payload);
    }
}

/// Runs a finalizer of the user's and turns its panic into an error's text.
pub(crate) fn run_finalizer(
    finalizer: impl FnOnce() -> std::io::Result<()>,
) -> Result<(), (ErrorKind, String)> {
    match catch_unwind(AssertUnwindSafe(finalizer)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err((ErrorKind::FinalizerFailed, error.to_string())),
        Err(payload) => {
            let text = super::outcome::message(&*payload).to_owned();
            // The payload's own destructor could panic again.
            std::mem::forget(payload);
            Err((ErrorKind::FinalizerPanicked, text))
        }
    }
}

/// Makes a child of the current task, entered into its family, with what it is given.
///
/// # Errors
/// The current task takes no children any more, or something cannot be given; then there is no
/// child and nothing has moved.
pub(crate) fn make_child(
    registry: &Registry,
    name: &str,
    give: &[Arc<dyn Held>],
    care: Care,
    site: Site,
) -> Result<Arc<Task>, Error> {
    let parent = task::current(registry);
    let closed = Task::closed_because(&parent.account());
    if let Some(kind) = closed {
        return Err(parent.refusal(kind, None, site));
    }
    let child =
        Task::new(name.into(), Origin::Child, registry.id(), Some(Arc::clone(&parent)), site);
    task::give(&parent, &child, give, Event::Given, site)?;
    parent.adopt(&child, care);
    Ok(child)
}

/// Undoes [`make_child`] for a child that cannot be started.
pub(crate) fn unmake_child(
    registry: &Registry,
    child: &Arc<Task>,
    given: &[Arc<dyn Held>],
    site: Site,
) {
    let parent = task::current(registry);
    parent.forget(child);
    drop(child.take_job());
    task::return_all(child, &parent, given, site);
    child.account().phase = Phase::Ended;
}
