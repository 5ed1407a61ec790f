//! `Registry`: records owners, sets the level of checking, and delivers reports.
//!
//! Registries are independent instances with separate resources. [`Registry::global`] is the default.
//! Tasks belong to the process: a thread runs one task, whichever registries it uses.

mod builder;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use echown_events::{Queue, Subscribers, What};
use echown_fd::escape;
use echown_report::{
    Code, Declared, LeakReport, RegistrySummary, Report, ResourceData, SCHEMA_VERSION, Site,
    Suppression,
};
use once_cell::sync::{Lazy, OnceCell};

use super::graph::ReferenceGraph;
use super::moment::Moment;
use super::policy::{Level, Policy};
use super::report_log::{self, ReportLog};
use crate::faults::FaultInjector;
use crate::sys::fork;
pub use builder::RegistryBuilder;

/// The exit code for leaks and violations under [`Policy::Fail`]: the one LeakSanitizer uses.
pub const EXIT_CODE_FINDINGS: u8 = 23;

/// A registry of resources and their owners. Cheap to clone: all clones are the same registry.
///
/// # Examples
/// ```
/// use echown::ownership::{Policy, Registry, Suppression};
///
/// let registry = Registry::builder()
///     .on_leak(Policy::Fail)
///     .suppress(Suppression::because("a cache lives as long as the process").kind("Vec<u8>"))
///     .sink(|report| println!("{report}"))
///     .build();
/// let task = registry.run("forgetful", || {
///     std::mem::forget(registry.own(String::from("forgotten")));
/// });
/// assert_eq!(task.unwrap_err().leaks().unwrap().resources.len(), 1);
/// assert_eq!(registry.finish().exit_code, 23);
/// ```
#[derive(Clone)]
pub struct Registry(Arc<RegistryInner>);

struct RegistryInner {
    id: u64,
    level: Level,
    on_leak: Policy,
    on_violation: Policy,
    suppressions: Vec<(Suppression, AtomicU64)>,
    sink: Option<ReportSink>,
    is_baseline: Option<BaselinePredicate>,
    fault_injector: Option<Arc<FaultInjector>>,
    /// By descriptor number: a load generator declares thousands.
    declared: Mutex<BTreeMap<i32, Declared>>,
    reports: Mutex<ReportLog>,
    counts: Counts,
    /// How often each code was reported.
    reported: Mutex<BTreeMap<Code, u64>>,
    must_fail: AtomicBool,
    /// Created when the first reference is recorded.
    references: OnceCell<Arc<ReferenceGraph>>,
    subscribers: Subscribers,
}

type ReportSink = Box<dyn Fn(&Report) + Send + Sync>;
type BaselinePredicate = Box<dyn Fn(&Report) -> bool + Send + Sync>;

#[derive(Default)]
struct Counts {
    leaks: AtomicU64,
    violations: AtomicU64,
    replaced: AtomicU64,
    finalizers: AtomicU64,
    suppressed: AtomicU64,
    known: AtomicU64,
    cycles: AtomicU64,
}

static GLOBAL: Lazy<Registry> = Lazy::new(Registry::new);

thread_local! {
    /// Whether this thread is inside a sink, a baseline predicate or a log subscriber that gets a report.
    /// Needs no destructor: reports are made until the end of a thread.
    static IS_DELIVERING: Cell<bool> = const { Cell::new(false) };
}

/// The delivery of a report to user code, until this is dropped.
struct Delivery;

impl Delivery {
    /// `None` inside another delivery on this thread: a sink that breaks a rule would get the report about
    /// that, break it again, and so on until the stack overflows.
    fn begin() -> Option<Delivery> {
        (!IS_DELIVERING.replace(true)).then_some(Delivery)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        IS_DELIVERING.set(false);
    }
}

impl Registry {
    /// A registry with the default settings.
    #[must_use]
    pub fn new() -> Registry {
        Registry::builder().build()
    }

    /// A builder for a new registry.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// The process-wide registry.
    #[must_use]
    pub fn global() -> &'static Registry {
        &GLOBAL
    }

    /// The level of checking.
    #[inline]
    #[must_use]
    pub fn level(&self) -> Level {
        self.0.level
    }

    /// Declares a descriptor that a library opened for itself. It is not owned, and it is not a leak.
    #[track_caller]
    pub fn declare_external(
        &self,
        number: i32,
        name: impl Into<String>,
        reason: impl Into<String>,
    ) {
        let escaped = |text: String| escape::text(&text).into_owned();
        let (name, reason) = (escaped(name.into()), escaped(reason.into()));
        let declared = Declared { number, name, reason, site: Site::here() };
        if !fork::in_forked_child() {
            guard(&self.0.declared).insert(number, declared.clone());
            if self.is_watched() {
                self.publish_now(What::Declared(declared.into()));
            }
        }
    }

    /// Removes a declaration, after the library has closed the descriptor.
    pub fn forget_external(&self, number: i32) {
        if !fork::in_forked_child() {
            guard(&self.0.declared).remove(&number);
        }
    }

    /// The latest reports, oldest first, at most [`REPORTS_KEPT`](super::REPORTS_KEPT) and about 4 MiB
    /// of them. A large leak is kept by its first resources; see [`LeakReport::resources_omitted`].
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        if fork::in_forked_child() {
            return Vec::new();
        }
        guard(&self.0.reports).reports()
    }
}

/// For other modules of this crate.
impl Registry {
    /// The declared descriptors, by number.
    pub(super) fn declared(&self) -> Vec<Declared> {
        match fork::in_forked_child() {
            true => Vec::new(),
            false => guard(&self.0.declared).values().cloned().collect(),
        }
    }

    /// The counts so far, with what is still open.
    pub(super) fn count_up(&self, still_open: Vec<ResourceData>) -> RegistrySummary {
        let counts = &self.0.counts;
        // ord: Relaxed throughout; statistics. They are exact after the tasks that counted were joined.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RegistrySummary {
            schema_version: SCHEMA_VERSION,
            leaks: count(&counts.leaks),
            violations: count(&counts.violations),
            replaced: count(&counts.replaced),
            failed_finalizers: count(&counts.finalizers),
            suppressed: count(&counts.suppressed),
            known: count(&counts.known),
            cycles: count(&counts.cycles),
            reported: self.reported(),
            used_suppressions: self
                .0
                .suppressions
                .iter()
                .filter(|(_, used)| count(used) > 0)
                .map(|(suppression, used)| (suppression.reason.clone(), count(used)))
                .collect(),
            unused_suppressions: self
                .0
                .suppressions
                .iter()
                .filter(|(_, used)| count(used) == 0)
                .map(|(suppression, _)| suppression.to_string())
                .collect(),
            still_open,
            unjoined_children: Vec::new(),
            // ord: Relaxed, as above.
            exit_code: if self.0.must_fail.load(Ordering::Relaxed) {
                EXIT_CODE_FINDINGS
            } else {
                0
            },
        }
    }

    /// How often each code was reported so far; see [`RegistrySummary::reported`].
    pub(crate) fn reported(&self) -> BTreeMap<Code, u64> {
        match fork::in_forked_child() {
            true => BTreeMap::new(),
            false => guard(&self.0.reported).clone(),
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// The fault injector of system calls, if there is one.
    #[inline]
    pub(crate) fn fault_injector(&self) -> Option<&FaultInjector> {
        self.0.fault_injector.as_deref()
    }

    pub(crate) fn reports_leaks(&self) -> bool {
        self.0.level != Level::Off
    }

    /// Whether a suppression matches this leak. Counts the suppressed leak.
    pub(crate) fn suppresses(&self, data: &ResourceData) -> bool {
        let site = data.acquired.to_string();
        let matching = self
            .0
            .suppressions
            .iter()
            .find(|(known, _)| known.matches(data.kind, &data.places(), &site));
        let Some((_, used)) = matching else {
            return false;
        };
        // ord: Relaxed; statistics.
        used.fetch_add(1, Ordering::Relaxed);
        self.0.counts.suppressed.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts leaks and applies the policy.
    pub(crate) fn report_leak(&self, report: LeakReport) {
        // ord: Relaxed; a statistic.
        self.0.counts.leaks.fetch_add(report.resources.len() as u64, Ordering::Relaxed);
        self.apply_policy(self.0.on_leak, Report::Leak(report));
    }

    /// Locks everything, for tests.
    #[cfg(all(test, not(echown_loom)))]
    pub(crate) fn hold_locks(&self) -> impl Sized {
        let RegistryInner { declared, reports, reported, .. } = &*self.0;
        (guard(declared), guard(reports), guard(reported))
    }

    pub(super) fn reports_violations(&self) -> bool {
        self.0.level != Level::Off && !fork::in_forked_child()
    }

    /// Counts a report other than a leak and applies the policy.
    pub(crate) fn deliver(&self, report: Report) {
        let counter = match &report {
            Report::FdReplaced(_) => &self.0.counts.replaced,
            Report::Finalizer(_) => &self.0.counts.finalizers,
            _ => &self.0.counts.violations,
        };
        // ord: Relaxed; a statistic.
        counter.fetch_add(1, Ordering::Relaxed);
        self.apply_policy(self.0.on_violation, report);
    }

    fn apply_policy(&self, policy: Policy, report: Report) {
        if policy == Policy::Ignore {
            return;
        }
        let delivery = Delivery::begin();
        let is_in_baseline = delivery.is_some() && self.is_in_baseline(&report);
        let policy = if is_in_baseline { Policy::Warn } else { policy };
        if policy == Policy::Fail {
            // ord: Relaxed; read at the end, after the tasks were joined.
            self.0.must_fail.store(true, Ordering::Relaxed);
        }
        self.count_reported(&report);
        let kept = Arc::new(report_log::truncated(&report));
        let at = Moment::now();
        guard(&self.0.reports).push(at, Arc::clone(&kept));
        if self.is_watched() {
            self.publish(event_at(at, What::Finding(kept)));
        }
        match delivery {
            Some(_) => self.deliver_to_sink(&report),
            // Inside another delivery: only counted and kept, except for the last report before an abort.
            None if policy == Policy::Abort => write_on_stderr(&report),
            None => {}
        }
        if policy == Policy::Abort {
            std::process::abort();
        }
    }

    fn deliver_to_sink(&self, report: &Report) {
        // No lock is held here: the sink is user code. Its panic must not skip the finalizers that still
        // have to run; the report itself is kept.
        let delivered = catch_unwind(AssertUnwindSafe(|| match &self.0.sink {
            Some(sink) => sink(report),
            None if tracing::dispatcher::has_been_set() => {
                tracing::warn!(target: "echown::report", code = report.code().as_str(), "{report}");
            }
            None => write_on_stderr(report),
        }));
        if let Err(payload) = delivered {
            // Its own destructor could panic again.
            std::mem::forget(payload);
        }
    }

    fn is_in_baseline(&self, report: &Report) -> bool {
        let Some(is_baseline) = &self.0.is_baseline else { return false };
        // The predicate is user code. A panic counts as false.
        let is_in_baseline =
            catch_unwind(AssertUnwindSafe(|| is_baseline(report))).unwrap_or_else(|payload| {
                std::mem::forget(payload);
                false
            });
        // ord: Relaxed; a statistic.
        self.0.counts.known.fetch_add(is_in_baseline.into(), Ordering::Relaxed);
        is_in_baseline
    }

    fn count_reported(&self, report: &Report) {
        let times = match report {
            Report::Leak(leak) => {
                let in_cycles = leak.resources.iter().filter(|it| it.kept_alive_by.is_some());
                // ord: Relaxed; a statistic.
                self.0.counts.cycles.fetch_add(in_cycles.count() as u64, Ordering::Relaxed);
                leak.resources.len() as u64
            }
            _ => 1,
        };
        *guard(&self.0.reported).entry(report.code()).or_default() += times;
    }

    /// Whether events have an observer. Never in a forked child.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.0.subscribers.is_watched() && !fork::in_forked_child()
    }

    /// Pushes an event to the observers' queues. Neither waits nor takes a lock.
    #[cold]
    pub(crate) fn publish(&self, event: echown_events::Event) {
        self.0.subscribers.publish(event);
    }

    /// [`publish`](Registry::publish) with the current time and thread.
    #[cold]
    pub(crate) fn publish_now(&self, what: What) {
        self.publish(event_at(Moment::now(), what));
    }

    /// Adds or removes an observer's queue.
    pub(super) fn observe(&self, queue: &Arc<Queue>, observes: bool) {
        match observes {
            true => self.0.subscribers.add(queue),
            false => self.0.subscribers.remove(queue),
        }
    }

    /// The kept reports, with their times.
    pub(super) fn timed_reports(&self) -> Vec<(Moment, Arc<Report>)> {
        guard(&self.0.reports).timed()
    }

    /// A reference that does not keep the registry alive.
    pub(crate) fn downgrade(&self) -> WeakRegistry {
        WeakRegistry(Arc::downgrade(&self.0))
    }

    /// The graph of recorded references, created if necessary.
    pub(crate) fn make_references(&self) -> Arc<ReferenceGraph> {
        Arc::clone(self.0.references.get_or_init(Arc::default))
    }

    /// The graph of recorded references, if one was ever recorded.
    pub(crate) fn references_if_any(&self) -> Option<&Arc<ReferenceGraph>> {
        self.0.references.get()
    }
}

/// A registry that is not kept alive.
pub(crate) struct WeakRegistry(Weak<RegistryInner>);

/// As for [`Registry`].
impl UnwindSafe for WeakRegistry {}
impl RefUnwindSafe for WeakRegistry {}

impl WeakRegistry {
    pub(crate) fn upgrade(&self) -> Option<Registry> {
        self.0.upgrade().map(Registry)
    }
}

fn event_at(at: Moment, what: What) -> echown_events::Event {
    let thread = crate::sys::thread::kernel_id();
    echown_events::Event { time_ns: at.nanos(), thread, what }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::new()
    }
}

/// A panic cannot leave a registry, or a handle, which contains one, in an inconsistent state: the sink
/// and the baseline predicate are the only user code here, and they run without a lock and with their
/// panics caught.
impl UnwindSafe for Registry {}
impl RefUnwindSafe for Registry {}

impl PartialEq for Registry {
    fn eq(&self, other: &Registry) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Registry {}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({}, level {})", self.0.id, self.0.level)
    }
}

/// Not with `eprintln!`: a closed standard error must not become a panic during a task's exit. In one
/// call, so that reports of several writers are not mixed: in a pipe this holds below 4 KiB.
fn write_on_stderr(report: &Report) {
    let text = format!("echown: {report}\n");
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
