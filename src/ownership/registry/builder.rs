//! Settings of a registry that is to be made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use echown_report::{Report, Suppression};
use once_cell::sync::OnceCell;

use super::{BaselinePredicate, Counts, Registry, RegistryInner, Sink};
use crate::faults::Saboteur;
use crate::ownership::policy::{Level, Policy};
use crate::ownership::task;
use crate::sys::fork;

/// Settings of a new registry.
#[derive(Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct RegistryBuilder {
    level: Level,
    on_leak: Policy,
    on_violation: Policy,
    suppressions: Vec<Suppression>,
    sink: Option<Sink>,
    is_baseline: Option<BaselinePredicate>,
    saboteur: Option<Arc<Saboteur>>,
}

impl RegistryBuilder {
    /// How much is checked; [`Level::On`] unless set.
    pub fn level(mut self, level: Level) -> RegistryBuilder {
        self.level = level;
        self
    }

    /// What follows from a leak; [`Policy::Warn`] unless set.
    pub fn on_leak(mut self, policy: Policy) -> RegistryBuilder {
        self.on_leak = policy;
        self
    }

    /// What follows from a violation; [`Policy::Warn`] unless set.
    pub fn on_violation(mut self, policy: Policy) -> RegistryBuilder {
        self.on_violation = policy;
        self
    }

    /// Adds a known leak that is not to be reported.
    pub fn suppress(mut self, suppression: Suppression) -> RegistryBuilder {
        self.suppressions.push(suppression);
        self
    }

    /// Where reports go. Without a sink they become events of `tracing`, or lines on standard error
    /// where no subscriber listens.
    ///
    /// The sink runs on the thread that made the finding, without any lock held. What a thread finds
    /// while it is inside of a sink, of [`baseline`](RegistryBuilder::baseline) or of a subscriber is counted and
    /// kept, and not delivered: a sink that breaks a rule would call itself until the stack overflows.
    pub fn sink(mut self, sink: impl Fn(&Report) + Send + Sync + 'static) -> RegistryBuilder {
        self.sink = Some(Box::new(sink));
        self
    }

    /// Which findings were there before and may stay for now: they are counted and delivered as others,
    /// and neither fail nor abort the process. It is asked as the sink is, and before.
    pub fn baseline(
        mut self,
        is_known: impl Fn(&Report) -> bool + Send + Sync + 'static,
    ) -> RegistryBuilder {
        self.is_baseline = Some(Box::new(is_known));
        self
    }

    /// Who makes system calls fail on purpose; nobody unless set. It does nothing before its
    /// [`begin`](Saboteur::begin).
    pub fn sabotage(mut self, saboteur: &Arc<Saboteur>) -> RegistryBuilder {
        self.saboteur = Some(Arc::clone(saboteur));
        self
    }

    /// The registry.
    #[must_use]
    pub fn build(self) -> Registry {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // The root comes first: it has the smallest id, and it starts the watch for forks.
        if !fork::in_forked_child() {
            drop(task::root());
        }
        Registry(Arc::new(RegistryInner {
            // ord: Relaxed; only uniqueness matters.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            level: self.level,
            on_leak: self.on_leak,
            on_violation: self.on_violation,
            suppressions: self
                .suppressions
                .into_iter()
                .map(|suppression| (suppression, AtomicU64::new(0)))
                .collect(),
            sink: self.sink,
            is_baseline: self.is_baseline,
            saboteur: self.saboteur,
            numbers: Default::default(),
            declared: Default::default(),
            reports: Default::default(),
            counts: Counts::default(),
            reported: Default::default(),
            must_fail: AtomicBool::new(false),
            references: OnceCell::new(),
        }))
    }
}
