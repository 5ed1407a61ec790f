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

use super::account::{Phase, Position};
use super::closing::{conclude_reporting, contain, drop_contained, log_contained};
use super::custody::{Event, Site};
use super::finding::LeakReport;
use super::outcome::{Failure, Forgotten, Panic};
use super::record::Held;
use super::registry::Registry;
use super::slot::State;
use super::snapshot::ResourceData;
use super::task::{self, Care, Entered, Origin, Task, TaskLabel};
use super::violation::{Error, ErrorKind};
use crate::sys::fork;

/// Runs `f` as `task` on this thread, through to the task's end. `deliver` gets the outcome while
/// the task is still the current one; then the task has ended for those that wait.
pub(crate) fn run<T, R>(
    task: &Arc<Task>,
    f: impl FnOnce() -> T,
    deliver: impl FnOnce(Result<T, Failure<T>>) -> R,
) -> R {
    let mut ending = Ending::of(task);
    let entered = task.enter();
    let result = catch_unwind(AssertUnwindSafe(f));
    let outcome = end(task, &entered, result);
    ending.is_settled = true;
    deliver(outcome)
}

/// The end of a task, which comes whatever unwinds: its parent waits for it.
struct Ending<'a> {
    task: &'a Arc<Task>,
    /// Whether everything that the task had was given back.
    is_settled: bool,
}

impl Ending<'_> {
    fn of(task: &Arc<Task>) -> Ending<'_> {
        Ending { task, is_settled: false }
    }
}

impl Drop for Ending<'_> {
    #[inline(never)]
    fn drop(&mut self) {
        if !self.is_settled {
            let settled = contain(|| {
                let _entered = self.task.enter();
                settle(self.task, Manner::Abrupt);
            });
            if let Err(panic) = settled {
                let task = self.task.label();
                log_contained(
                    || tracing::error!(%task, "the end of a task failed: {}", escape::text(&panic)),
                );
            }
        }
        self.task.finish();
    }
}

/// How the closure came back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Normal,
    /// By panic or cancellation: what is left is expected, not leaked.
    Abrupt,
}

// Not inlined: what it needs of the stack is not kept while the task runs, and inline tasks nest.
#[inline(never)]
fn end<T>(
    task: &Arc<Task>,
    entered: &Entered,
    result: std::thread::Result<T>,
) -> Result<T, Failure<T>> {
    if !task.is_of_this_process() {
        // It ends in the parent process. Here its locks may be held by threads that are not there.
        return result.map_err(|payload| Failure::Panicked(Panic::new(task.label(), payload)));
    }
    if entered.outer().is_some_and(|outer| outer.passes_cancel_on()) {
        // The canceller may not have come to this task yet. What it leaves is no leak.
        task.request_cancel();
    }
    let was_cancelled = close_account(task, result.is_ok());
    let result = match result {
        // A cancelled task's value goes nowhere; its handles are released like captured ones.
        Ok(value) if was_cancelled => {
            task.discard_result(value);
            Err(Failure::Cancelled)
        }
        Ok(value) => Ok(value),
        Err(payload) => Err(Failure::Panicked(Panic::new(task.label(), payload))),
    };
    let manner = if result.is_ok() { Manner::Normal } else { Manner::Abrupt };
    let (leaks, (forgotten, omitted)) = settle(task, manner);
    match result {
        Err(failure) => Err(failure),
        Ok(value) if !forgotten.is_empty() => {
            let children = forgotten.into_boxed_slice();
            let children_omitted = omitted;
            Err(Failure::StillHasChildren(Forgotten { value, children, children_omitted, leaks }))
        }
        Ok(value) => match leaks {
            Some(report) => Err(Failure::Leaked(value, report)),
            None => Ok(value),
        },
    }
}

/// Gives back everything that a task has: resources, offers, children. What a first call was kept
/// from by a panic, a second one does.
fn settle(task: &Arc<Task>, manner: Manner) -> (Option<LeakReport>, (Vec<TaskLabel>, u32)) {
    if !task.is_of_this_process() {
        return (None, (Vec::new(), 0));
    }
    let leaks = give_back(task, manner);
    (leaks, end_children(task))
}

/// Closes the account and empties it.
fn give_back(task: &Arc<Task>, manner: Manner) -> Option<LeakReport> {
    task.account().phase = Phase::Ending;
    let leaks = finalize_all(task, manner, |_| true);
    task::pass_offers_on(task, task.spawned());
    finalize_unclaimed(task, |_| true);
    leaks
}

/// Ends a task whose closure never ran: it is dropped here, in the task's name.
pub(crate) fn end_unstarted(task: &Arc<Task>, job: impl Any) {
    let mut ending = Ending::of(task);
    let entered = task.enter();
    drop_contained(&task.label(), job);
    settle(task, Manner::Abrupt);
    drop(entered);
    ending.is_settled = true;
}

/// The end of a thread that was not started as a task: it must neither panic nor wait.
pub(crate) fn end_of_foreign_thread(task: &Arc<Task>) {
    if fork::in_forked_child() {
        return;
    }
    let ended = contain(|| {
        give_back(task, Manner::Normal);
        let root = task::root();
        for (child, _) in task.take_children() {
            child.move_to(&root);
            child.request_cancel();
        }
    });
    if let Err(panic) = ended {
        // Unwinding out of a thread-local's destructor would abort the process.
        let task = task.label();
        log_contained(
            || tracing::error!(%task, "the end of a thread failed: {}", escape::text(&panic)),
        );
    }
    task.finish();
}

/// How long the end of the process waits for forgotten children that do not end.
const FINISH_PATIENCE: Duration = Duration::from_secs(10);

/// Ends what the current task has in one registry, at the end of the process: its remaining
/// resources and unclaimed offers, and its forgotten children.
pub(crate) fn settle_process(registry: &Registry) -> (Option<LeakReport>, Vec<TaskLabel>) {
    if fork::in_forked_child() {
        return (None, Vec::new());
    }
    let me = task::current(registry);
    let here = |held: &dyn Held| held.record().registry == *registry;
    let leaks = finalize_all(&me, Manner::Normal, here);
    finalize_unclaimed(&me, here);
    let (mut left, (mut forgotten, _)) = (Vec::new(), me.take_forgotten(Some(registry.id())));
    for (child, care) in me.take_children() {
        if child.home() != registry.id() {
            me.adopt(&child, care);
            continue;
        }
        if is_forgotten(&child, care) {
            forgotten.push(child.label());
        }
        child.request_cancel();
        left.push(child);
    }
    let deadline = Instant::now() + FINISH_PATIENCE;
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
    manner: Manner,
    wanted: impl Fn(&dyn Held) -> bool,
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
            wanted(&**held) && slot.look().state() == State::Held && slot.begin_close(me).is_ok()
        });
        let Some(held) = next else { break };
        if manner == Manner::Normal {
            // Described while the descriptor is still open: the kernel knows its addresses.
            leaks.extend(leaked(&*held).map(|data| (held.record().registry.clone(), data)));
        }
        conclude_reporting(&*held, task, Event::Finalized, task.spawned());
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

/// Finalizes and reports the offers that no ancestor's account could take.
fn finalize_unclaimed(task: &Arc<Task>, wanted: impl Fn(&dyn Held) -> bool) {
    if fork::in_forked_child() {
        return;
    }
    let me = task.id().get();
    let mut before = Position::MAX;
    loop {
        let next = task.account().take_last(&mut before, |held| {
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
    let word = record.slot.look();
    let error = record.error(ErrorKind::Unclaimed, word, me, site, None);
    record.registry.violated(&error, record);
    conclude_reporting(&**held, me, Event::Finalized, site);
}

/// Cancels and awaits the children that are left. Answers the forgotten ones: those that a promise
/// stood for, and those that still ran.
fn end_children(task: &Arc<Task>) -> (Vec<TaskLabel>, u32) {
    let mut children = task.take_children();
    let (mut forgotten, omitted) = task.take_forgotten(None);
    children.retain(|(child, care)| *care != Care::Reaped || !child.has_ended());
    let left = children.iter().filter(|(child, care)| is_forgotten(child, *care));
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
fn is_forgotten(child: &Task, care: Care) -> bool {
    care != Care::Reaped || child.account().phase != Phase::Ended
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
    give: &[Arc<dyn Held>],
    care: Care,
    site: Site,
) -> Result<Arc<Task>, Error> {
    let me = task::current(registry);
    let parent = parent.unwrap_or(&me);
    for task in [&me, parent] {
        let closed = Task::closed_because(&task.account());
        // An actor whose lender was cancelled starts nothing either.
        let closed = closed.or(task.is_cancelled().then_some(ErrorKind::Cancelled));
        if let Some(kind) = closed {
            return Err(me.refusal(kind, None, site));
        }
    }
    let child =
        Task::new(name.into(), Origin::Child, registry.id(), Some(Arc::clone(parent)), site);
    task::give(&me, &child, give, Event::Given, site)?;
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
    if let Some(parent) = child.parent() {
        parent.forget(child);
    }
    drop(child.take_job());
    task::return_all(child, &task::current(registry), given, site);
    child.account().phase = Phase::Ended;
}
