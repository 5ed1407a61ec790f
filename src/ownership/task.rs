//! Tasks: who can own. Which one this thread is running; giving to a child, transferring to the
//! parent, cancelling.
//!
//! A task has an id that is never reused, a name, a parent and an account. A thread runs one task
//! at a time; a sub-task that runs inline takes its parent's place until it ends. A thread that
//! nobody started as a task becomes one when it first touches a registry, with the root as its
//! parent. The root is the main thread.
//!
//! Locks: a task's account and its family. Two accounts are locked in ascending order of ids, and
//! no user code runs under either.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex as StdMutex, MutexGuard as StdGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use once_cell::sync::Lazy;

use super::account::{Account, Phase};
use super::custody::{Event, Site};
use super::ending;
use super::record::Held;
use super::registry::Registry;
use super::slot::{OWNER_MAX, Purpose, State, Word};
use super::violation::{Error, ErrorKind, Facts};
use crate::sync::{Mutex, lock};
use crate::sys;

/// Identifies a task for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct TaskId(NonZeroU64);

impl TaskId {
    fn next() -> TaskId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // ord: Relaxed; only uniqueness matters, and that is the increment's own.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(
            id <= OWNER_MAX,
            "task ids are exhausted after {OWNER_MAX} tasks"
        );
        TaskId(NonZeroU64::new(id).expect("ids are counted from 1"))
    }

    /// The number, counted from 1, which is the root's.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}

/// A task's id and name: ``task 3 `reader` ``.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct TaskLabel {
    /// Never reused.
    pub id: TaskId,
    /// What the spawner called it.
    pub name: Arc<str>,
}

impl fmt::Display for TaskLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} `{}`", self.id, self.name)
    }
}

impl fmt::Debug for TaskLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a task came into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The main thread.
    Root,
    /// `Registry::run`: a root of its own.
    LocalRoot,
    /// A thread that nobody started as a task.
    Foreign,
    /// Spawned with a thread to come, or inline.
    Child,
}

/// What answers to a parent for its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// A promise: to be joined or cancelled, or the child is forgotten.
    Promise,
    /// An `Orphans`, or the root after its parent thread ended: forgotten only while it runs.
    Reaped,
}

struct Child {
    task: Arc<Task>,
    care: Care,
}

/// A task that a job may still be waiting in.
type Job = Box<dyn FnOnce(&Arc<Task>) + Send>;

pub(crate) struct Task {
    id: TaskId,
    name: Arc<str>,
    origin: Origin,
    /// The registry it was spawned for, or that its thread touched first.
    home: u64,
    born: Instant,
    /// Where it was spawned: the place that its end is put down to.
    spawned: Site,
    parent: StdMutex<Option<Arc<Task>>>,
    account: Mutex<Account<Arc<dyn Held>>>,
    children: StdMutex<BTreeMap<TaskId, Child>>,
    /// Rung when a child ends and when this task is cancelled.
    bell: Condvar,
    cancelled: AtomicBool,
    ended: AtomicBool,
    /// Name and kernel id of the thread it runs on.
    thread: StdMutex<Option<(Arc<str>, u32)>>,
    /// Taken by the thread that runs it, or by whoever cancels it before.
    job: StdMutex<Option<Job>>,
    on_end: StdMutex<Option<Box<dyn FnOnce() + Send>>>,
}

fn guard<T>(mutex: &StdMutex<T>) -> StdGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

static TASKS: Lazy<StdMutex<BTreeMap<u64, Weak<Task>>>> = Lazy::new(StdMutex::default);

static ROOT: Lazy<Arc<Task>> = Lazy::new(|| {
    sys::fork::watch();
    Task::new("main".into(), Origin::Root, 0, None, Site::here())
});

/// The main thread's task.
pub(crate) fn root() -> Arc<Task> {
    Arc::clone(&ROOT)
}

/// The task with this id, while anybody still refers to it.
pub(crate) fn find(id: u64) -> Option<Arc<Task>> {
    guard(&TASKS).get(&id)?.upgrade()
}

/// The id of the youngest task that somebody still refers to; zero before the first.
pub(crate) fn youngest() -> u64 {
    guard(&TASKS).last_key_value().map_or(0, |(id, _)| *id)
}

/// Every task that somebody still refers to, in ascending order of ids.
pub(crate) fn all() -> Vec<Arc<Task>> {
    guard(&TASKS).values().filter_map(Weak::upgrade).collect()
}

thread_local! {
    /// Zero: this thread is no task yet. Needs no destructor, so that reading it is one load.
    static CURRENT_ID: Cell<u64> = const { Cell::new(0) };
    static CURRENT: Thread = const { Thread { task: RefCell::new(None) } };
}

/// What a thread is running. Its destructor is the end of a foreign thread's task.
struct Thread {
    task: RefCell<Option<Arc<Task>>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        if task.origin == Origin::Foreign {
            ending::end_of_foreign_thread(&task);
            CURRENT_ID.set(0);
        }
    }
}

/// The current task's id; zero when this thread is no task yet.
#[inline]
pub(crate) fn current_id() -> u64 {
    CURRENT_ID.get()
}

/// The current task. A thread that is none becomes one, at home in `registry`.
pub(crate) fn current(registry: &Registry) -> Arc<Task> {
    let known = CURRENT.try_with(|thread| thread.task.borrow().clone());
    match known {
        Ok(Some(task)) => task,
        Ok(None) => adopt_this_thread(registry),
        // The thread's own record is gone already: its destructor is finalizing what was left, or
        // a thread-local that was made before it is being dropped.
        Err(_) => find(current_id()).unwrap_or_else(|| departed(registry)),
    }
}

fn adopt_this_thread(registry: &Registry) -> Arc<Task> {
    let task = if sys::thread::is_main() {
        root()
    } else {
        let name = std::thread::current()
            .name()
            .unwrap_or("unnamed thread")
            .into();
        Task::new(
            name,
            Origin::Foreign,
            registry.id(),
            Some(root()),
            Site::here(),
        )
    };
    task.is_on_this_thread();
    CURRENT_ID.set(task.id.get());
    // Fails only in a thread-local destructor; then `find` above finds the task by its id, and
    // nothing ends it but the process.
    let _ = CURRENT.try_with(|thread| thread.task.replace(Some(Arc::clone(&task))));
    task
}

/// Stands for a thread whose task has ended while its last thread-locals are being dropped: it owns
/// nothing and can own nothing.
fn departed(registry: &Registry) -> Arc<Task> {
    let task = Task::new(
        "departed thread".into(),
        Origin::Foreign,
        registry.id(),
        Some(root()),
        Site::here(),
    );
    lock(&task.account).phase = Phase::Ended;
    task
}

/// Makes a task the current one of this thread until dropped.
pub(crate) struct Entered {
    before: Option<Arc<Task>>,
    /// Kept apart: at the end of a thread its task is known by its id alone.
    before_id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT_ID.set(self.before_id);
        let before = self.before.take();
        let _ = CURRENT.try_with(|thread| thread.task.replace(before));
    }
}

impl Task {
    pub(crate) fn new(
        name: Arc<str>,
        origin: Origin,
        home: u64,
        parent: Option<Arc<Task>>,
        spawned: Site,
    ) -> Arc<Task> {
        let task = Arc::new(Task {
            id: TaskId::next(),
            name,
            origin,
            home,
            born: Instant::now(),
            spawned,
            parent: StdMutex::new(parent),
            account: Mutex::new(Account::new()),
            children: StdMutex::default(),
            bell: Condvar::new(),
            cancelled: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            thread: StdMutex::default(),
            job: StdMutex::default(),
            on_end: StdMutex::default(),
        });
        guard(&TASKS).insert(task.id.get(), Arc::downgrade(&task));
        task
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    pub(crate) fn label(&self) -> TaskLabel {
        TaskLabel {
            id: self.id,
            name: Arc::clone(&self.name),
        }
    }

    pub(crate) fn home(&self) -> u64 {
        self.home
    }

    pub(crate) fn born(&self) -> Instant {
        self.born
    }

    pub(crate) fn spawned(&self) -> Site {
        self.spawned
    }

    /// The same for people: `None` for a thread that nobody started as a task.
    pub(crate) fn was_spawned_at(&self) -> Option<Site> {
        (!matches!(self.origin, Origin::Root | Origin::Foreign)).then_some(self.spawned)
    }

    pub(crate) fn parent(&self) -> Option<Arc<Task>> {
        guard(&self.parent).clone()
    }

    pub(crate) fn thread(&self) -> Option<(Arc<str>, u32)> {
        guard(&self.thread).clone()
    }

    pub(crate) fn account(&self) -> crate::sync::MutexGuard<'_, Account<Arc<dyn Held>>> {
        lock(&self.account)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        // ord: Acquire; partner: the Release in `request_cancel`. Advice for code that is about to
        // wait; what counts is decided under the account's lock.
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn has_ended(&self) -> bool {
        // ord: Acquire; partner: the Release in `finish`. Whoever sees the end sees the outcome
        // that was stored before it.
        self.ended.load(Ordering::Acquire)
    }

    fn is_on_this_thread(&self) {
        let name = std::thread::current()
            .name()
            .unwrap_or("unnamed thread")
            .into();
        *guard(&self.thread) = Some((name, sys::thread::kernel_id()));
    }

    /// Makes this the current task of this thread.
    pub(crate) fn enter(self: &Arc<Task>) -> Entered {
        self.is_on_this_thread();
        let before_id = CURRENT_ID.replace(self.id.get());
        let before = CURRENT
            .try_with(|thread| thread.task.replace(Some(Arc::clone(self))))
            .unwrap_or_default();
        Entered { before, before_id }
    }

    /// A plain refusal that is about this task and no particular resource.
    pub(crate) fn refusal(&self, kind: ErrorKind, owner: Option<TaskLabel>, site: Site) -> Error {
        Error::new(Facts {
            kind,
            subject: None,
            actor: self.label(),
            owner,
            earlier: None,
            end: None,
            site,
            detail: None,
        })
    }

    /// A refusal with further words.
    pub(crate) fn refusal_with(&self, kind: ErrorKind, detail: String, site: Site) -> Error {
        Error::new(Facts {
            kind,
            subject: None,
            actor: self.label(),
            owner: None,
            earlier: None,
            end: None,
            site,
            detail: Some(detail),
        })
    }

    /// Why this task's account takes nothing, if so.
    pub(crate) fn closed_because(account: &Account<Arc<dyn Held>>) -> Option<ErrorKind> {
        match account.phase {
            _ if account.cancelled => Some(ErrorKind::Cancelled),
            Phase::Open => None,
            Phase::Ending | Phase::Ended => Some(ErrorKind::Ending),
        }
    }
}

// Moving resources between accounts.

/// The parent's way of handing things to a child that does not run yet: all of them, or none.
///
/// # Errors
/// The parent doesn't own one of them, or it stands in the list twice.
pub(crate) fn give(
    parent: &Arc<Task>,
    child: &Arc<Task>,
    give: &[Arc<dyn Held>],
    event: Event,
    site: Site,
) -> Result<(), Error> {
    let (mine, theirs) = (parent.id.get(), child.id.get());
    let refused = {
        // Ascending ids: a child is younger than its parent.
        let (mut from, mut to) = lock_both(parent, child);
        let refused = give.iter().enumerate().find_map(|(index, held)| {
            let word = held.record().slot.hand_over(mine, theirs).err()?;
            Some((index, held, word))
        });
        // The entries move when all is decided: a refusal leaves the order of the account alone.
        for held in &give[..refused.map_or(give.len(), |(index, ..)| index)] {
            if refused.is_some() {
                let undone = held.record().slot.hand_back(theirs, mine);
                debug_assert!(undone.is_ok(), "nobody else knows the child: {undone:?}");
            } else {
                move_entry(held, &mut from, &mut to);
            }
        }
        refused
    };
    if let Some((_, held, word)) = refused {
        let record = held.record();
        if word.owner() == child.id.get() {
            let error = record.error(ErrorKind::GivenTwice, word, parent, site, None);
            record.registry.violated(&error, record);
            return Err(error);
        }
        return Err(record.refuse(word, parent, site));
    }
    for held in give {
        held.record()
            .note(event, Some(parent.label()), Some(child.label()), site);
    }
    Ok(())
}

/// Hands everything back that a child was given which cannot be started.
pub(crate) fn return_all(
    child: &Arc<Task>,
    parent: &Arc<Task>,
    given: &[Arc<dyn Held>],
    site: Site,
) {
    {
        let (mut to, mut from) = lock_both(parent, child);
        for held in given {
            let returned = held
                .record()
                .slot
                .hand_back(child.id.get(), parent.id.get());
            debug_assert!(
                returned.is_ok(),
                "nobody else knows the child: {returned:?}"
            );
            move_entry(held, &mut from, &mut to);
        }
    }
    for held in given {
        held.record().note(
            Event::Returned,
            Some(child.label()),
            Some(parent.label()),
            site,
        );
    }
}

/// A child's way of handing something to its parent.
///
/// # Errors
/// The child doesn't own it, is a root, or the parent takes nothing any more.
pub(crate) fn transfer(me: &Arc<Task>, held: &Arc<dyn Held>, site: Site) -> Result<(), Error> {
    let record = held.record();
    let Some(parent) = me.parent() else {
        let word = record.slot.look();
        if word.owner() != me.id.get() {
            return Err(record.refuse(word, me, site));
        }
        let error = record.error(ErrorKind::NoParent, word, me, site, None);
        record.registry.violated(&error, record);
        return Err(error);
    };
    let outcome = {
        let (mut to, mut from) = lock_both(&parent, me);
        if to.is_open() {
            let handed = record.slot.hand_over(me.id.get(), parent.id.get());
            if handed.is_ok() {
                move_entry(held, &mut from, &mut to);
            }
            handed.map_err(Some)
        } else {
            Err(None)
        }
    };
    match outcome {
        Ok(()) => {
            record.note(
                Event::Transferred,
                Some(me.label()),
                Some(parent.label()),
                site,
            );
            Ok(())
        }
        Err(Some(word)) => Err(record.refuse(word, me, site)),
        Err(None) => {
            let word = record.slot.look();
            if word.owner() != me.id.get() {
                return Err(record.refuse(word, me, site));
            }
            Err(record.error(ErrorKind::ParentEnding, word, me, site, None))
        }
    }
}

/// Takes an offer: from whoever's account it stands on, to the current task's.
///
/// # Errors
/// The offer is gone (finalized with the root), or the claimer takes nothing any more.
pub(crate) fn claim(me: &Arc<Task>, held: &Arc<dyn Held>, site: Site) -> Result<(), Error> {
    let record = held.record();
    loop {
        let word = record.slot.look();
        if word.state() != State::Offered {
            return Err(record.refuse(word, me, site));
        }
        let account = word.owner();
        if account == me.id.get() {
            let mut mine = me.account();
            if let Some(kind) = Task::closed_because(&mine) {
                drop(mine);
                return Err(record.error(kind, word, me, site, None));
            }
            if record.slot.claim(account, account).is_err() {
                continue;
            }
            // It counts from now: last in, first out.
            if let Some(entry) = mine.remove(record.position()) {
                record.set_position(mine.push(entry));
            }
        } else {
            let Some(offerer) = find(account) else {
                continue;
            };
            let (mut from, mut to) = lock_in_order(&offerer, me);
            if let Some(kind) = Task::closed_because(&to) {
                drop((from, to));
                return Err(record.error(kind, word, me, site, None));
            }
            if record.slot.claim(account, me.id.get()).is_err() {
                continue;
            }
            move_entry(held, &mut from, &mut to);
        }
        record.note(Event::Claimed, None, Some(me.label()), site);
        return Ok(());
    }
}

/// Passes an ending task's unclaimed offers to the nearest ancestor that still takes something.
/// What nobody takes is left on the account.
pub(crate) fn pass_offers_on(task: &Arc<Task>, site: Site) {
    let mut heir = task.parent();
    while let Some(ancestor) = heir {
        let mut passed = Vec::new();
        let done = {
            let (mut to, mut from) = lock_both(&ancestor, task);
            if to.is_open() {
                while let Some(held) = from.take_last(|held| {
                    let slot = &held.record().slot;
                    slot.pass_offer(task.id.get(), ancestor.id.get()).is_ok()
                }) {
                    passed.push(held);
                }
                // Oldest first, so that the heir, too, finalizes the latest first.
                passed.reverse();
                for held in &passed {
                    held.record().set_position(to.push(Arc::clone(held)));
                }
                true
            } else {
                false
            }
        };
        for held in passed {
            held.record().note(
                Event::Inherited,
                Some(task.label()),
                Some(ancestor.label()),
                site,
            );
        }
        if done {
            return;
        }
        heir = ancestor.parent();
    }
}

type AccountGuard<'a> = crate::sync::MutexGuard<'a, Account<Arc<dyn Held>>>;

/// Locks two accounts; `elder` has the smaller id.
fn lock_both<'a>(elder: &'a Task, younger: &'a Task) -> (AccountGuard<'a>, AccountGuard<'a>) {
    debug_assert!(
        elder.id < younger.id,
        "locks are taken in ascending order of ids"
    );
    (elder.account(), younger.account())
}

/// Locks two different accounts in ascending order of ids; answers them in the order asked for.
fn lock_in_order<'a>(a: &'a Task, b: &'a Task) -> (AccountGuard<'a>, AccountGuard<'a>) {
    if a.id < b.id {
        lock_both(a, b)
    } else {
        let (b, a) = lock_both(b, a);
        (a, b)
    }
}

fn move_entry(
    held: &Arc<dyn Held>,
    from: &mut Account<Arc<dyn Held>>,
    to: &mut Account<Arc<dyn Held>>,
) {
    let record = held.record();
    if let Some(entry) = from.remove(record.position()) {
        record.set_position(to.push(entry));
    }
}

/// Wins the right to finalize, for the owner's thread or for the exclusive holder of a handle or an
/// offer, and takes the resource off its account. Answers the word before.
///
/// # Errors
/// The word of a resource that cannot be closed now: released, split, or in use.
pub(crate) fn begin_close(held: &Arc<dyn Held>, wanted: Option<State>) -> Result<Word, Word> {
    let record = held.record();
    loop {
        let word = record.slot.look();
        if !matches!(word.state(), State::Held | State::Offered)
            || wanted.is_some_and(|wanted| wanted != word.state())
        {
            return Err(word);
        }
        // An owner that cannot be found has just ended; its account was emptied or passed on.
        let Some(owner) = find(word.owner()) else {
            continue;
        };
        let mut account = owner.account();
        match record.slot.begin_close(word.owner()) {
            Ok(before) => {
                account.remove(record.position());
                return Ok(before);
            }
            Err(_) => continue,
        }
    }
}

// Families: children, waiting for them, cancelling them.

impl Task {
    /// Enters a child into the family.
    pub(crate) fn adopt(&self, child: &Arc<Task>, care: Care) {
        let child = Child {
            task: Arc::clone(child),
            care,
        };
        guard(&self.children).insert(child.task.id, child);
    }

    /// Changes who answers for a child; an ended one that is to be reaped is gone at once.
    pub(crate) fn entrust(&self, child: &Task, care: Care) {
        let mut children = guard(&self.children);
        if child.has_ended() && care == Care::Reaped {
            children.remove(&child.id);
        } else if let Some(entry) = children.get_mut(&child.id) {
            entry.care = care;
        }
    }

    /// Strikes a child that was joined, cancelled or never started.
    pub(crate) fn forget(&self, child: &Task) {
        guard(&self.children).remove(&child.id);
    }

    /// The family as it is: for the end of the task.
    pub(crate) fn take_children(&self) -> Vec<(Arc<Task>, Care)> {
        std::mem::take(&mut *guard(&self.children))
            .into_values()
            .map(|child| (child.task, child.care))
            .collect()
    }

    /// Lets `heir` answer for a child from now on.
    pub(crate) fn move_to(self: &Arc<Task>, heir: &Arc<Task>) {
        *guard(&self.parent) = Some(Arc::clone(heir));
        heir.adopt(self, Care::Reaped);
        if self.has_ended() {
            heir.forget(self);
        }
    }

    /// Gives the task its work.
    pub(crate) fn set_job(&self, job: impl FnOnce(&Arc<Task>) + Send + 'static) {
        *guard(&self.job) = Some(Box::new(job));
    }

    /// Sets what is to happen once the task has ended, on the thread that ends it, before its
    /// parent is told; or here and now when it has ended already.
    pub(crate) fn set_on_end(self: &Arc<Task>, hook: impl FnOnce() + Send + 'static) {
        *guard(&self.on_end) = Some(Box::new(hook));
        // Whoever takes the hook runs it: `finish` looks for it after it has set the end.
        if self.has_ended() {
            self.run_end_hook();
        }
    }

    pub(crate) fn take_job(&self) -> Option<Job> {
        guard(&self.job).take()
    }

    /// Runs the task's job here and now, if nobody has run or abandoned it.
    pub(crate) fn execute(self: &Arc<Task>) {
        let Some(job) = self.take_job() else { return };
        job(self);
        self.finish();
    }

    /// Ends a task that was never started: what it was given is finalized on this thread.
    pub(crate) fn abandon(self: &Arc<Task>) {
        let Some(job) = self.take_job() else { return };
        ending::end_unstarted(self, job);
        self.finish();
    }

    /// Declares the task over, after its outcome was stored, and tells its parent.
    pub(crate) fn finish(self: &Arc<Task>) {
        self.account().phase = Phase::Ended;
        // ord: Release; partner: `has_ended`.
        self.ended.store(true, Ordering::Release);
        self.run_end_hook();
        if let Some(parent) = self.parent() {
            let mut children = guard(&parent.children);
            if children
                .get(&self.id)
                .is_some_and(|child| child.care == Care::Reaped)
            {
                children.remove(&self.id);
            }
            drop(children);
            parent.bell.notify_all();
        }
    }

    fn run_end_hook(self: &Arc<Task>) {
        // Taken in a statement of its own: no lock is held while the hook runs.
        let hook = guard(&self.on_end).take();
        if let Some(hook) = hook {
            // In the ended task's name: what the hook drops is not put down to a stranger.
            let _entered = self.enter();
            hook();
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
        loop {
            if done() {
                return true;
            }
            children = match deadline {
                None => self
                    .bell
                    .wait(children)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return false;
                    }
                    self.bell
                        .wait_timeout(children, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Wakes whatever waits in this task.
    pub(crate) fn ring(&self) {
        // Taking the lock orders this after a waiter's look at its condition.
        drop(guard(&self.children));
        self.bell.notify_all();
    }

    /// Asks the task to end: the flag first, then every descriptor it owns is shut down, so that a
    /// call blocked in one returns. Answers at once; a task at its end is left alone.
    pub(crate) fn request_cancel(self: &Arc<Task>) {
        let pinned: Vec<Arc<dyn Held>> = {
            let mut account = self.account();
            if !account.is_open() {
                return;
            }
            account.cancelled = true;
            let me = self.id.get();
            let pin = |held: &&Arc<dyn Held>| held.record().slot.pin(me, Purpose::Cancel).is_ok();
            account.entries().filter(pin).cloned().collect()
        };
        // ord: Release; partner: `is_cancelled`.
        self.cancelled.store(true, Ordering::Release);
        for held in pinned {
            held.record().shut();
            held.record().slot.unpin();
        }
        self.ring();
        self.abandon();
    }

    /// Asks the task to come to its end by itself: every connection it owns reads what has
    /// arrived, and then the end of the stream.
    pub(crate) fn request_drain(self: &Arc<Task>) {
        let me = self.id.get();
        let pinned: Vec<Arc<dyn Held>> = {
            let account = self.account();
            let pin = |held: &&Arc<dyn Held>| held.record().slot.pin(me, Purpose::Look).is_ok();
            account.entries().filter(pin).cloned().collect()
        };
        for held in pinned {
            held.record().shut_reading();
            held.record().slot.unpin();
        }
    }

    /// Cancels the task and waits until all of it is over.
    pub(crate) fn cancel_and_wait(self: &Arc<Task>, me: &Task) {
        self.request_cancel();
        me.wait_until(|| self.has_ended(), None);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        guard(&TASKS).remove(&self.id.get());
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.label(), self.origin)
    }
}
