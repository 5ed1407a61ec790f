//! Tasks: the owners of resources, and the current task of each thread.
//!
//! A task has an id that is never reused, a name, a parent and an account. A thread runs one task
//! at a time. A child that runs inline is the current task of its parent's thread until it ends. A
//! thread that was not started as a task is adopted when it first uses a registry: it becomes a task
//! whose parent is the root. The root is the main thread's task.
//!
//! Locks: each task has one for its account and one for its children. Two accounts are locked in
//! ascending order of ids, and no user code runs under either.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex as StdMutex, MutexGuard as StdGuard, PoisonError, Weak};

use echown_events::What;
use echown_fd::escape;
use echown_report::{Site, TaskId, TaskLabel};
use once_cell::sync::Lazy;

mod children;
pub(crate) mod exit;
mod in_place;
mod parking;
mod transfer;
mod unjoined;

pub(crate) use children::{make_child, undo_make_child};
pub(crate) use parking::{park, park_in_own_lot, unpark, unpark_in_own_lot};
pub(crate) use transfer::{begin_close, claim, give, pass_offers_on, return_all, transfer};
use unjoined::UnjoinedNames;

use super::account::{Account, TaskPhase};
use super::error::{Error, ErrorData, ErrorKind};
use super::int_map::{self, IntMap};
use super::moment::Moment;
use super::record::{Labelled, Managed};
use super::registry::{Registry, WeakRegistry};
use super::slot::OWNER_MAX;
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

/// The label of something that is named like a task in custodies and is none.
pub(crate) fn unused_label(name: &str) -> TaskLabel {
    TaskLabel { id: next_id(), name: name.into() }
}

/// How a task was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The main thread.
    Root,
    /// By `Registry::run`, without a parent.
    LocalRoot,
    /// From a thread that was not started as a task.
    Adopted,
    /// Spawned by its parent, on another thread or inline.
    Child,
}

/// Which duty to join a child its parent still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinDuty {
    /// The promise must be joined or cancelled; otherwise the child is unjoined.
    Promise,
    /// The promise was dropped: the child is unjoined.
    Dropped,
    /// An `Orphans` reaps it, or the root after the parent's thread ended: unjoined only while it runs.
    Reaped,
}

struct Child {
    task: Arc<Task>,
    duty: JoinDuty,
}

/// A function that runs as the last step of a task.
type EndHook = Box<dyn FnOnce() + Send>;

/// The job of a task that has not started.
type TaskJob = Box<dyn FnOnce(&Arc<Task>) + Send>;

pub(crate) struct Task {
    id: TaskId,
    /// Shared with the custody steps that name this task.
    label: Arc<TaskLabel>,
    origin: Origin,
    /// The registry that it was spawned for, or that its thread used first.
    registry_id: u64,
    /// The registry that it was started in; `None` for an adopted thread.
    home: Option<Registry>,
    /// For an adopted thread: the registry that it used first.
    adopted_for: Option<WeakRegistry>,
    /// The fork generation of the process that created it; see [`sys::fork`].
    generation: u32,
    created_at: Moment,
    /// Where it was spawned: the site that custody steps of its exit name.
    spawned: Site,
    parent: StdMutex<Option<Arc<Task>>>,
    account: Mutex<Account<Arc<dyn Managed>>>,
    children: StdMutex<IntMap<TaskId, Child>>,
    /// Changes under the lock of `children`.
    unjoined: StdMutex<UnjoinedNames>,
    /// Notified when a child ends and when this task is cancelled. Its mutex is `children`.
    wakeup: Condvar,
    /// How many threads wait on `wakeup`; changes under the lock of `children`. Notifying is a system
    /// call, and most children end while their parent is not waiting.
    waiters: AtomicUsize,
    /// Follows the account's flag.
    cancelled: AtomicBool,
    ended: AtomicBool,
    /// Whether its result is being dropped, with this task as the current one.
    discards: AtomicBool,
    /// Name and kernel id of the thread that it runs on.
    thread: StdMutex<Option<(Arc<str>, u32)>>,
    /// Taken by the thread that runs it, or by the thread that cancels it before.
    job: StdMutex<Option<TaskJob>>,
    on_end: StdMutex<Option<EndHook>>,
    /// The task that currently runs on this task's thread, in its place.
    in_place: Mutex<Option<Arc<Task>>>,
}

fn guard<T>(mutex: &StdMutex<T>) -> StdGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Tasks {
    /// The tasks that are still referenced.
    by_id: IntMap<u64, Weak<Task>>,
    /// The number of tasks added so far. They may be added in another order than that of their ids.
    created: u64,
}

static TASKS: Lazy<StdMutex<Tasks>> = Lazy::new(StdMutex::default);

static ROOT: Lazy<Arc<Task>> = Lazy::new(|| {
    sys::fork::watch();
    Task::new("main".into(), Origin::Root, None, None, Site::here())
});

/// The main thread's task.
pub(crate) fn root() -> Arc<Task> {
    Arc::clone(&ROOT)
}

/// The task with this id, while it is still referenced. `None` in a forked child, which has no table.
pub(crate) fn find(id: u64) -> Option<Arc<Task>> {
    if sys::fork::in_forked_child() {
        return None;
    }
    guard(&TASKS).by_id.get(&id)?.upgrade()
}

/// [`find`] that first checks the current task, which avoids the table in most cases.
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

/// How many tasks have been created so far.
pub(crate) fn created() -> u64 {
    if sys::fork::in_forked_child() {
        return 0;
    }
    guard(&TASKS).created
}

/// Every task that is still referenced, in ascending order of ids, and how many had been created by
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
    /// The id of the current task; zero while the thread has none. Needs no destructor, so that reading
    /// it is one load.
    static CURRENT_ID: Cell<u64> = const { Cell::new(0) };
    /// The current task. Never destroyed: other thread-locals may be dropped after it, and release what
    /// they hold as this task. [`end_of_thread`] empties it.
    static CURRENT: ManuallyDrop<RefCell<Option<Arc<Task>>>> =
        const { ManuallyDrop::new(RefCell::new(None)) };
    /// Whether this thread's own task has ended with it.
    static HAS_ENDED: Cell<bool> = const { Cell::new(false) };
}

/// The end of a thread that was not started as a task, after its thread-locals.
fn end_of_thread() {
    let task = CURRENT.with(|current| current.borrow().clone());
    if let Some(task) = task.filter(|task| task.origin == Origin::Adopted) {
        exit::exit_adopted_thread(&task);
        CURRENT_ID.set(0);
        HAS_ENDED.set(true);
    }
    CURRENT.with(|current| current.take());
}

/// The current task's id; zero while this thread has no task.
#[inline]
pub(crate) fn current_id() -> u64 {
    CURRENT_ID.get()
}

/// The current task. A thread without a task is adopted, for `registry`.
pub(crate) fn current(registry: &Registry) -> Arc<Task> {
    match CURRENT.with(|current| current.borrow().clone()) {
        Some(task) if task.is_of_this_process() => task,
        _ if HAS_ENDED.get() => exited_thread(registry),
        _ => adopt_this_thread(registry),
    }
}

/// The registry that the current task was started in. `None`: a thread without a task, or an adopted one.
pub(crate) fn home() -> Option<Registry> {
    CURRENT.with(|current| current.borrow().as_ref().and_then(|task| task.home.clone()))
}

fn adopt_this_thread(registry: &Registry) -> Arc<Task> {
    let task = if sys::fork::in_forked_child() {
        // A new task, whose locks no thread of the parent process holds.
        Task::new(sys::thread::name(), Origin::Adopted, Some(registry), None, Site::here())
    } else if sys::thread::is_main() {
        root()
    } else {
        Task::new(sys::thread::name(), Origin::Adopted, Some(registry), Some(root()), Site::here())
    };
    task.is_on_this_thread();
    CURRENT_ID.set(task.id.get());
    CURRENT.with(|current| current.replace(Some(Arc::clone(&task))));
    sys::thread_exit::at_thread_exit(end_of_thread);
    if registry.is_watched() {
        registry.publish_now(task.started());
    }
    task
}

/// A task for a thread whose own task has ended, for destructors that run even later. It owns nothing
/// and can own nothing.
fn exited_thread(registry: &Registry) -> Arc<Task> {
    let task = Task::new(
        "departed thread".into(),
        Origin::Adopted,
        Some(registry),
        (!sys::fork::in_forked_child()).then(root),
        Site::here(),
    );
    lock(&task.account).phase = TaskPhase::Ended;
    task
}

/// Makes a task the current one of this thread until dropped.
pub(crate) struct CurrentTaskGuard {
    before: Option<Arc<Task>>,
    /// Stored separately: at the end of a thread only the id of its task is left.
    before_id: u64,
    /// Whether the task runs in place of the one before.
    is_in_place: bool,
}

impl CurrentTaskGuard {
    /// The task that was current before, unless there was none, or it is a task of the parent process.
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
        registry: Option<&Registry>,
        parent: Option<Arc<Task>>,
        spawned: Site,
    ) -> Arc<Task> {
        // The name may contain input, such as an address, and appears in every report and log line.
        let name = escape::name(name);
        let id = next_id();
        let task = Arc::new(Task {
            id,
            label: Arc::new(TaskLabel { id, name }),
            origin,
            registry_id: registry.map_or(0, Registry::id),
            home: registry.filter(|_| origin != Origin::Adopted).cloned(),
            adopted_for: registry.filter(|_| origin == Origin::Adopted).map(Registry::downgrade),
            generation: sys::fork::generation(),
            created_at: Moment::now(),
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

    /// Whether it was created in this process, and not before a fork. Only then may its locks be waited
    /// for.
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.generation == sys::fork::generation()
    }

    pub(crate) fn label(&self) -> TaskLabel {
        (*self.label).clone()
    }

    pub(crate) fn registry_id(&self) -> u64 {
        self.registry_id
    }

    pub(crate) fn created_at(&self) -> Moment {
        self.created_at
    }

    pub(crate) fn spawn_site(&self) -> Site {
        self.spawned
    }

    /// The spawn site for reports: `None` for the root and for adopted threads.
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
        // ord: Acquire; partner: the Release in `cancel_self`. A hint for code that is about to wait;
        // the decision is made under the account's lock.
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.account().draining
    }

    pub(crate) fn has_ended(&self) -> bool {
        // ord: Acquire; partner: the Release in `hook_or_end`. A thread that sees the end also sees the
        // result that was stored before it.
        self.ended.load(Ordering::Acquire)
    }

    /// Publishes an event about this task to the observers of its registry.
    fn publish(&self, what: impl FnOnce(&Task) -> What) {
        let adopted_for = self.adopted_for.as_ref().and_then(WeakRegistry::upgrade);
        if let Some(registry) = self.home.as_ref().or(adopted_for.as_ref())
            && registry.is_watched()
        {
            registry.publish_now(what(self));
        }
    }

    /// The event of its start.
    pub(crate) fn started(&self) -> What {
        What::TaskStarted {
            task: Arc::clone(&self.label),
            parent: self.parent().map(|parent| Arc::clone(&parent.label)),
            thread_name: self.thread().map_or_else(|| "".into(), |(name, _)| name),
            site: self.explicit_spawn_site(),
        }
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

    /// Makes this the current task of this thread, in place of the previous one.
    #[inline(never)]
    pub(crate) fn enter(self: &Arc<Task>) -> CurrentTaskGuard {
        self.is_on_this_thread();
        let before_id = CURRENT_ID.replace(self.id.get());
        let before = CURRENT.with(|current| current.replace(Some(Arc::clone(self))));
        let mut entered = CurrentTaskGuard { before, before_id, is_in_place: false };
        if let Some(outer) = entered.outer().filter(|outer| !Arc::ptr_eq(outer, self)).cloned() {
            entered.is_in_place = true;
            outer.begin_in_place(self);
        }
        entered
    }

    /// An error about this task and no particular resource.
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

    /// [`refusal`](Task::refusal) with details.
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

    /// Why this account accepts no entries, if it does not.
    pub(crate) fn closed_reason(account: &Account<Arc<dyn Managed>>) -> Option<ErrorKind> {
        match account.phase {
            _ if account.cancelled => Some(ErrorKind::Cancelled),
            TaskPhase::Open => None,
            TaskPhase::Ending | TaskPhase::Ended => Some(ErrorKind::TaskExiting),
        }
    }
}

impl Labelled for Task {
    fn id(&self) -> TaskId {
        self.id
    }

    fn label(&self) -> TaskLabel {
        Task::label(self)
    }

    fn shared_label(&self) -> Arc<TaskLabel> {
        Arc::clone(&self.label)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if sys::fork::in_forked_child() {
            return;
        }
        int_map::remove(&mut guard(&TASKS).by_id, &self.id.get());
        // A task may hold the last reference to its parent, and so on. Drop them in a loop: nested drops
        // would need a stack as deep as the chain of ancestors.
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
