//! Tasks: who can own, and which one this thread is running.
//!
//! A task has an id that is never reused, a name, a parent and an account. A thread runs one task
//! at a time; a sub-task that runs inline takes its parent's place until it ends. A thread that
//! nobody started as a task becomes one when it first touches a registry, with the root as its
//! parent. The root is the main thread.
//!
//! Locks: a task's account and its family. Two accounts are locked in ascending order of ids, and
//! no user code runs under either.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex as StdMutex, MutexGuard as StdGuard, PoisonError, Weak};
use std::time::Instant;

use echown_fd::escape;
use echown_report::{Site, TaskId, TaskLabel};
use once_cell::sync::Lazy;

mod children;
mod in_place;
mod transfer;
mod unjoined;

pub(crate) use children::{make_child, undo_make_child};
use in_place::InPlace;
pub(crate) use in_place::ThreadLoan;
pub(crate) use transfer::{begin_close, claim, give, pass_offers_on, return_all, transfer};
use unjoined::UnjoinedNames;

use super::account::{Account, Phase};
use super::error::{Error, ErrorData, ErrorKind};
use super::int_map::{self, IntMap};
use super::record::Managed;
use super::registry::Registry;
use super::slot::OWNER_MAX;
use super::task_exit;
use crate::sync::{Mutex, lock};
use crate::sys;

/// An id that no other task of this process has or had.
fn next_id() -> TaskId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // ord: Relaxed; only uniqueness matters, and that is the increment's own.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(id <= OWNER_MAX, "task ids are exhausted after {OWNER_MAX} tasks");
    TaskId::new(NonZeroU64::new(id).expect("ids are counted from 1"))
}

/// How a task came into being.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The main thread.
    Root,
    /// `Registry::run`: a root of its own.
    LocalRoot,
    /// A thread that nobody started as a task.
    Adopted,
    /// Spawned with a thread to come, or inline.
    Child,
}

/// What answers to a parent for its child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinDuty {
    /// A promise: to be joined or cancelled, or the child is forgotten.
    Promise,
    /// No one: the promise was dropped, and the child is forgotten.
    Dropped,
    /// An `Orphans`, or the root after its parent thread ended: forgotten only while it runs.
    Reaped,
}

struct Child {
    task: Arc<Task>,
    duty: JoinDuty,
}

/// What happens at the very end of a task.
type EndHook = Box<dyn FnOnce() + Send>;

/// A task that a job may still be waiting in.
type TaskJob = Box<dyn FnOnce(&Arc<Task>) + Send>;

pub(crate) struct Task {
    id: TaskId,
    name: Arc<str>,
    origin: Origin,
    /// The registry it was spawned for, or that its thread touched first.
    registry_id: u64,
    /// Of the process that made it; see [`sys::fork`].
    generation: u32,
    created_at: Instant,
    /// Where it was spawned: the place that its end is put down to.
    spawned: Site,
    parent: StdMutex<Option<Arc<Task>>>,
    account: Mutex<Account<Arc<dyn Managed>>>,
    children: StdMutex<IntMap<TaskId, Child>>,
    /// Changes under the lock of `children`.
    unjoined: StdMutex<UnjoinedNames>,
    /// Rung when a child ends and when this task is cancelled.
    wakeup: Condvar,
    /// How many listen for the bell; changes under the lock of `children`. Ringing is a system
    /// call, and most children end while their parent does something else.
    waiters: AtomicUsize,
    /// Follows the account's flag; true for an actor while its lender is cancelled, too.
    cancelled: AtomicBool,
    ended: AtomicBool,
    /// Its result is being dropped in its name.
    discards: AtomicBool,
    /// Name and kernel id of the thread it runs on.
    thread: StdMutex<Option<(Arc<str>, u32)>>,
    /// Taken by the thread that runs it, or by whoever cancels it before.
    job: StdMutex<Option<TaskJob>>,
    on_end: StdMutex<Option<EndHook>>,
    /// What this task's thread runs in its place right now.
    in_place: Mutex<Option<InPlace>>,
    /// For an actor: the task whose thread plays its part.
    lender: StdMutex<Option<Arc<Task>>>,
}

fn guard<T>(mutex: &StdMutex<T>) -> StdGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Tasks {
    /// Those that somebody still refers to.
    by_id: IntMap<u64, Weak<Task>>,
    /// Counted as they come into the table, which need not be in the order of their ids.
    created: u64,
}

static TASKS: Lazy<StdMutex<Tasks>> = Lazy::new(StdMutex::default);

static ROOT: Lazy<Arc<Task>> = Lazy::new(|| {
    sys::fork::watch();
    Task::new("main".into(), Origin::Root, 0, None, Site::here())
});

/// The main thread's task.
pub(crate) fn root() -> Arc<Task> {
    Arc::clone(&ROOT)
}

/// The task with this id, while anybody still refers to it. None in a forked child, which has no table.
pub(crate) fn find(id: u64) -> Option<Arc<Task>> {
    if sys::fork::in_forked_child() {
        return None;
    }
    guard(&TASKS).by_id.get(&id)?.upgrade()
}

/// [`find`], without the table of all tasks if it is the current one, as it mostly is.
fn find_current_first(id: u64) -> Option<Arc<Task>> {
    let mine = CURRENT
        .with(|current| current.borrow().as_ref().filter(|task| task.id.get() == id).cloned());
    mine.or_else(|| find(id))
}

/// Holds the lock of the table, for tests.
#[cfg(all(test, not(echown_loom)))]
pub(crate) fn hold_table() -> impl Sized {
    guard(&TASKS)
}

/// How many tasks have been made so far.
pub(crate) fn created() -> u64 {
    if sys::fork::in_forked_child() {
        return 0;
    }
    guard(&TASKS).created
}

/// Every task that somebody still refers to, in ascending order of ids; and how many had been made
/// then.
pub(crate) fn all() -> (Vec<Arc<Task>>, u64) {
    if sys::fork::in_forked_child() {
        return (Vec::new(), 0);
    }
    let tasks = guard(&TASKS);
    let mut all: Vec<_> = tasks.by_id.values().filter_map(Weak::upgrade).collect();
    let made = tasks.created;
    drop(tasks);
    all.sort_unstable_by_key(|task| task.id);
    (all, made)
}

thread_local! {
    /// Zero: this thread is no task yet. Needs no destructor, so that reading it is one load.
    static CURRENT_ID: Cell<u64> = const { Cell::new(0) };
    /// What this thread is running. Never destroyed: other thread-locals may end after it, and
    /// release what they hold in the thread's own name. [`end_of_thread`] empties it.
    static CURRENT: ManuallyDrop<RefCell<Option<Arc<Task>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
    /// Whether this thread's own task has ended with it.
    static HAS_ENDED: Cell<bool> = const { Cell::new(false) };
}

/// The end of a thread that was not started as a task, after its thread-locals.
fn end_of_thread() {
    let task = CURRENT.with(|current| current.borrow().clone());
    if let Some(task) = task.filter(|task| task.origin == Origin::Adopted) {
        task_exit::exit_adopted_thread(&task);
        CURRENT_ID.set(0);
        HAS_ENDED.set(true);
    }
    CURRENT.with(|current| current.take());
}

/// The current task's id; zero when this thread is no task yet.
#[inline]
pub(crate) fn current_id() -> u64 {
    CURRENT_ID.get()
}

/// The current task. A thread that is none becomes one, at home in `registry`.
pub(crate) fn current(registry: &Registry) -> Arc<Task> {
    match CURRENT.with(|current| current.borrow().clone()) {
        Some(task) if task.is_of_this_process() => task,
        _ if HAS_ENDED.get() => exited_thread(registry),
        _ => adopt_this_thread(registry),
    }
}

fn adopt_this_thread(registry: &Registry) -> Arc<Task> {
    let task = if sys::fork::in_forked_child() {
        // A task of its own, whose locks no thread of the parent's holds.
        Task::new(sys::thread::name(), Origin::Adopted, registry.id(), None, Site::here())
    } else if sys::thread::is_main() {
        root()
    } else {
        Task::new(sys::thread::name(), Origin::Adopted, registry.id(), Some(root()), Site::here())
    };
    task.is_on_this_thread();
    CURRENT_ID.set(task.id.get());
    CURRENT.with(|current| current.replace(Some(Arc::clone(&task))));
    sys::thread_exit::at_thread_exit(end_of_thread);
    task
}

/// Stands for a thread whose task has ended, in a destructor that runs even later: it owns nothing
/// and can own nothing.
fn exited_thread(registry: &Registry) -> Arc<Task> {
    let task = Task::new(
        "departed thread".into(),
        Origin::Adopted,
        registry.id(),
        (!sys::fork::in_forked_child()).then(root),
        Site::here(),
    );
    lock(&task.account).phase = Phase::Ended;
    task
}

/// Makes a task the current one of this thread until dropped.
pub(crate) struct CurrentTaskGuard {
    before: Option<Arc<Task>>,
    /// Kept apart: at the end of a thread its task is known by its id alone.
    before_id: u64,
    /// Whether the task stands in the place of the one before.
    is_in_place: bool,
}

impl CurrentTaskGuard {
    /// The task whose thread this is, unless there was none, or it is the parent process's.
    pub(crate) fn outer(&self) -> Option<&Arc<Task>> {
        self.before.as_ref().filter(|task| task.is_of_this_process())
    }
}

impl Drop for CurrentTaskGuard {
    #[inline(never)]
    fn drop(&mut self) {
        CURRENT_ID.set(self.before_id);
        if let Some(outer) = self.outer().filter(|_| self.is_in_place) {
            outer.end_in_place();
        }
        let before = self.before.take();
        CURRENT.with(|current| current.replace(before));
    }
}

impl Task {
    pub(crate) fn new(
        name: Arc<str>,
        origin: Origin,
        registry_id: u64,
        parent: Option<Arc<Task>>,
        spawned: Site,
    ) -> Arc<Task> {
        // An address may be a part of the name, and every report and log line has it.
        let name = escape::name(name);
        let task = Arc::new(Task {
            id: next_id(),
            name,
            origin,
            registry_id,
            generation: sys::fork::generation(),
            created_at: Instant::now(),
            spawned,
            parent: StdMutex::new(parent),
            account: Mutex::new(Account::new()),
            children: StdMutex::default(),
            unjoined: StdMutex::default(),
            wakeup: Condvar::new(),
            waiters: AtomicUsize::new(0),
            cancelled: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            discards: AtomicBool::new(false),
            thread: StdMutex::default(),
            job: StdMutex::default(),
            on_end: StdMutex::default(),
            in_place: Mutex::new(None),
            lender: StdMutex::default(),
        });
        if sys::fork::in_forked_child() {
            return task;
        }
        let mut tasks = guard(&TASKS);
        tasks.by_id.insert(task.id.get(), Arc::downgrade(&task));
        tasks.created += 1;
        drop(tasks);
        task
    }

    pub(crate) fn id(&self) -> TaskId {
        self.id
    }

    /// Whether it was made since the last fork that led here: only then may its locks be waited for.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == sys::fork::generation()
    }

    pub(crate) fn label(&self) -> TaskLabel {
        TaskLabel { id: self.id, name: Arc::clone(&self.name) }
    }

    pub(crate) fn registry_id(&self) -> u64 {
        self.registry_id
    }

    pub(crate) fn created_at(&self) -> Instant {
        self.created_at
    }

    pub(crate) fn spawn_site(&self) -> Site {
        self.spawned
    }

    /// The same for people: `None` for a thread that nobody started as a task.
    pub(crate) fn explicit_spawn_site(&self) -> Option<Site> {
        (!matches!(self.origin, Origin::Root | Origin::Adopted)).then_some(self.spawned)
    }

    pub(crate) fn parent(&self) -> Option<Arc<Task>> {
        guard(&self.parent).clone()
    }

    pub(crate) fn thread(&self) -> Option<(Arc<str>, u32)> {
        guard(&self.thread).clone()
    }

    pub(crate) fn account(&self) -> crate::sync::MutexGuard<'_, Account<Arc<dyn Managed>>> {
        lock(&self.account)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        // ord: Acquire; partner: the Release in `cancel_self`. Advice for code that is about to
        // wait; what counts is decided under the account's lock.
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.account().draining
    }

    pub(crate) fn has_ended(&self) -> bool {
        // ord: Acquire; partner: the Release in `finish`. Whoever sees the end sees the outcome
        // that was stored before it.
        self.ended.load(Ordering::Acquire)
    }

    /// Holds the task's locks, for tests.
    #[cfg(all(test, not(echown_loom)))]
    pub(crate) fn hold_locks(&self) -> impl Sized {
        let family = (guard(&self.parent), guard(&self.children), guard(&self.thread));
        (self.account(), family, guard(&self.job), guard(&self.on_end), lock(&self.in_place))
    }

    fn is_on_this_thread(&self) {
        *guard(&self.thread) = Some((sys::thread::name(), sys::thread::kernel_id()));
    }

    /// Makes this the current task of this thread, in the place of the one that was.
    #[inline(never)]
    pub(crate) fn enter(self: &Arc<Task>) -> CurrentTaskGuard {
        let mut entered = self.enter_detached();
        if let Some(outer) = entered.outer().filter(|outer| !Arc::ptr_eq(outer, self)).cloned() {
            entered.is_in_place = true;
            outer.begin_in_place(self);
        }
        entered
    }

    /// [`enter`](Task::enter) for an actor, which is linked to its lender in another way.
    fn enter_detached(self: &Arc<Task>) -> CurrentTaskGuard {
        self.is_on_this_thread();
        let before_id = CURRENT_ID.replace(self.id.get());
        let before = CURRENT.with(|current| current.replace(Some(Arc::clone(self))));
        CurrentTaskGuard { before, before_id, is_in_place: false }
    }

    /// A plain refusal that is about this task and no particular resource.
    pub(crate) fn refusal(&self, kind: ErrorKind, owner: Option<TaskLabel>, site: Site) -> Error {
        Error::new(ErrorData {
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
        Error::new(ErrorData {
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
    pub(crate) fn closed_reason(account: &Account<Arc<dyn Managed>>) -> Option<ErrorKind> {
        match account.phase {
            _ if account.cancelled => Some(ErrorKind::Cancelled),
            Phase::Open => None,
            Phase::Ending | Phase::Ended => Some(ErrorKind::TaskExiting),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if sys::fork::in_forked_child() {
            return;
        }
        int_map::remove(&mut guard(&TASKS).by_id, &self.id.get());
        // A task may be the last to refer to its parent, and so on. One after the other: dropping
        // them from within each other would take a stack as deep as the family.
        let mut parent = self.parent.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        while let Some(mut task) = parent.and_then(Arc::into_inner) {
            parent = task.parent.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.label(), self.origin)
    }
}
