//! `RegistryBuilder`: the settings of a new registry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use echown_events::Subscribers;
use echown_report::{Report, Suppression};
use once_cell::sync::OnceCell;

use super::{BaselinePredicate, Counts, Registry, RegistryInner, ReportSink};
use crate::faults::FaultInjector;
use crate::ownership::policy::{Level, Policy};
use crate::ownership::task;
use crate::sys::fork;

/// Builds a [`Registry`].
#[derive(Default)]
#[must_use = "a builder does nothing until `build`"]
pub struct RegistryBuilder {
    level: Level,
    on_leak: Policy,
    on_violation: Policy,
    suppressions: Vec<Suppression>,
    sink: Option<ReportSink>,
    is_baseline: Option<BaselinePredicate>,
    fault_injector: Option<Arc<FaultInjector>>,
}

impl RegistryBuilder {
    /// The level of checking. Default: [`Level::On`].
    pub fn level(mut self, level: Level) -> RegistryBuilder {
        self.level = level;
        self
    }

    /// The policy for leaks. Default: [`Policy::Warn`].
    pub fn on_leak(mut self, policy: Policy) -> RegistryBuilder {
        self.on_leak = policy;
        self
    }

    /// The policy for violations. Default: [`Policy::Warn`].
    pub fn on_violation(mut self, policy: Policy) -> RegistryBuilder {
        self.on_violation = policy;
        self
    }

    /// Adds a suppression for leaks that are not to be reported.
    pub fn suppress(mut self, suppression: Suppression) -> RegistryBuilder {
        self.suppressions.push(suppression);
        self
    }

    /// The function that gets the reports. Without a sink they become `tracing` events, or lines on
    /// standard error if there is no subscriber.
    ///
    /// The sink runs on the thread that made the report, without any lock held. Reports that a thread makes
    /// inside a sink, a [`baseline`](RegistryBuilder::baseline) predicate or a subscriber are counted and
    /// kept, but not delivered: a sink that breaks a rule would call itself until the stack overflows.
    pub fn sink(mut self, sink: impl Fn(&Report) + Send + Sync + 'static) -> RegistryBuilder {
        self.sink = Some(Box::new(sink));
        self
    }

    /// The predicate for reports that are part of a baseline. They are counted and delivered, but they
    /// neither fail nor abort the process. It is called like the sink, and before it.
    pub fn baseline(
        mut self,
        is_known: impl Fn(&Report) -> bool + Send + Sync + 'static,
    ) -> RegistryBuilder {
        self.is_baseline = Some(Box::new(is_known));
        self
    }

    /// The fault injector of system calls. Default: none. It injects nothing before its
    /// [`begin`](FaultInjector::begin).
    pub fn inject_faults(mut self, fault_injector: &Arc<FaultInjector>) -> RegistryBuilder {
        self.fault_injector = Some(Arc::clone(fault_injector));
        self
    }

    /// Builds the registry.
    #[must_use]
    pub fn build(self) -> Registry {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // The root task first: it has the smallest id, and it installs the detection of forks.
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
            fault_injector: self.fault_injector,
            declared: Default::default(),
            reports: Default::default(),
            counts: Counts::default(),
            reported: Default::default(),
            must_fail: AtomicBool::new(false),
            references: OnceCell::new(),
            subscribers: Subscribers::default(),
        }))
    }
}
