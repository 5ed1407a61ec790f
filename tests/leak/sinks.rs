//! User code that receives a finding and causes another: a sink, a `known` predicate, a log
//! subscriber. Its findings are counted and kept, and not delivered to it again.

use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use echown::ownership::{Owned, Policy, Registry, Report};
use echown::report::Code;
use echown::test;

use crate::common::{in_own_process, lock};
use crate::test_name;

/// A resource of the main thread that other threads misuse.
type Victim = Arc<OnceLock<Owned<&'static str>>>;

fn break_a_rule(victim: &Victim) {
    if let Some(victim) = victim.get() {
        victim.check().expect_err("this thread is not the owner");
    }
}

/// The registry's sinks refer to the registry: without this, nothing would drop it.
fn release(victim: &Victim) {
    victim.get().expect("it was set").release().expect("this thread owns it");
}

/// Has another thread break a rule `times` times. Returns the kept reports.
fn break_a_rule_elsewhere(registry: &Registry, victim: &Victim, times: usize) -> Vec<Report> {
    victim.set(registry.own("theirs").expect("the task is running")).expect("it is set once");
    let theirs = Arc::clone(victim);
    let thread = thread::spawn(move || (0..times).for_each(|_| break_a_rule(&theirs)));
    thread.join().expect("it does not panic");
    release(victim);
    registry.reports()
}

#[test]
fn a_violation_by_a_sink_is_recorded_and_not_sent_to_it() {
    let victim = Victim::default();
    let delivered: Arc<Mutex<Vec<&str>>> = Arc::default();
    let (log, theirs) = (Arc::clone(&delivered), Arc::clone(&victim));
    let sink = move |report: &Report| {
        lock(&log).push(report.code().as_str());
        break_a_rule(&theirs);
        assert!(lock(&log).len() > 1, "the first delivery ends in a panic");
    };
    let registry = Registry::builder().sink(sink).build();
    let kept = break_a_rule_elsewhere(&registry, &victim, 2);
    assert_eq!(*lock(&delivered), ["not-owner"; 2], "one for each use outside of the sink");
    assert_eq!(kept.len(), 4);
    let verdict = registry.summary();
    assert_eq!((verdict.violations, verdict.reported[&Code::NotOwner]), (4, 4));
}

#[test]
fn a_violation_by_a_sink_in_another_registry_is_not_sent_to_that_sink() {
    let (victim, other_victim) = (Victim::default(), Victim::default());
    let theirs = Arc::clone(&victim);
    let other = Registry::builder().sink(move |_| break_a_rule(&theirs)).build();
    other_victim.set(other.own("other").expect("the task is running")).expect("it is set once");
    let theirs = Arc::clone(&other_victim);
    let registry = Registry::builder().sink(move |_| break_a_rule(&theirs)).build();
    assert_eq!(break_a_rule_elsewhere(&registry, &victim, 1).len(), 1);
    assert_eq!(other.reports().len(), 1);
    release(&other_victim);
}

#[test]
fn a_baseline_predicate_is_not_called_for_its_own_violation() {
    let victim = Victim::default();
    let theirs = Arc::clone(&victim);
    let known = move |_: &Report| {
        break_a_rule(&theirs);
        true
    };
    let registry =
        Registry::builder().sink(|_| ()).baseline(known).on_violation(Policy::Fail).build();
    assert_eq!(break_a_rule_elsewhere(&registry, &victim, 1).len(), 2);
    let verdict = registry.summary();
    assert_eq!((verdict.violations, verdict.known), (2, 1));
    assert_ne!(verdict.exit_code, 0, "findings outside the baseline fail");
}

/// A log subscriber that runs a closure at each event.
pub(crate) struct OnEvent(pub(crate) fn());

impl tracing::Subscriber for OnEvent {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        (self.0)();
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_violation_by_a_log_subscriber_is_not_sent_to_it() {
    static VICTIM: OnceLock<Victim> = OnceLock::new();

    tracing::subscriber::set_global_default(OnEvent(|| {
        VICTIM.get().into_iter().for_each(break_a_rule)
    }))
    .expect("the process is the test's own");
    let victim = VICTIM.get_or_init(Victim::default);
    assert_eq!(break_a_rule_elsewhere(&Registry::new(), victim, 1).len(), 2);
}

/// A plain test, because the process that it starts exits abnormally on purpose.
#[std::prelude::v1::test]
fn a_report_that_aborts_the_process_inside_a_sink_is_printed_to_stderr() {
    let output = in_own_process(test_name!(), || {
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Core, none)
            .expect("the limit can be lowered");
        let (victim, other_victim) = (Victim::default(), Victim::default());
        let other = Registry::builder().on_violation(Policy::Abort).sink(|_| ()).build();
        other_victim.set(other.own("other").expect("the task is running")).expect("it is set once");
        let registry = Registry::builder().sink(move |_| break_a_rule(&other_victim)).build();
        break_a_rule_elsewhere(&registry, &victim, 1);
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("echown: not-owner: ") && stderr.contains("(&str)"), "{stderr}");
}
