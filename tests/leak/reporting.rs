//! The content of reports, the levels of checking, and the policies for findings.

use std::io::{Read, Write};
use std::mem;
use std::os::unix::process::ExitStatusExt;
use std::process::exit;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use echown::ownership::{self, ErrorKind, Event, Level, Policy, Registry, Report, Suppression};
use echown::report::Code;

use crate::common::{
    self, Fixture, assert_cancelled, assert_success, failure, in_own_process, leaked, refusal,
    without_ages,
};
use crate::{events, test_name};

// The content of a report.

#[test]
fn a_leak_report_has_kind_owner_site_age_and_custody() {
    let fixture = Fixture::new();
    let (report, [acquired, spawned], thread) = fixture.root(|| {
        let (stream, _peer) = fixture.connection();
        let described = stream.describe();
        let (to_test, from_child) = channel();
        let child = fixture.spawn("worker", [stream.resource()], move || {
            (&stream).write_all(b"hello").expect("the task owns it");
            to_test.send(common::thread_id()).expect("the test receives it");
            mem::forget(stream);
        });
        let (_, report) = leaked(child.join());
        assert_eq!(report.resources[0].local, described.local);
        assert_eq!(report.resources[0].peer, described.peer);
        let sites =
            [described.acquired.to_string(), report.spawned.expect("it was spawned").to_string()];
        (report, sites, from_child.recv().expect("it was sent"))
    });
    let socket = &report.resources[0];
    let (worker, root) = (&report.task, socket.custody[0].to.as_ref().expect("it was acquired"));
    let number = socket.number.expect("it is a descriptor");
    let (id, identity) = (socket.id, socket.identity.expect("it is a descriptor"));
    let (local, peer) =
        (socket.local.as_ref().expect("known"), socket.peer.as_ref().expect("known"));
    assert_eq!(
        without_ages(&report.to_string()),
        format!(
            "leak: {worker} ended and still owned 1 resource\n  \
               thread: `echown` (kernel id {thread})\n  \
               task spawned at {spawned}\n  \
               tcp stream fd {number}, {local} <-> {peer}\n    \
                 acquired at {acquired}\n    \
                 resource {id}, {identity}, closing, owner {worker}, 0 bytes in, 5 bytes out\n    \
                 acquired by {root} at {acquired}\n    \
                 given {root} -> {worker} at {spawned}\n  \
               help: release it, disown it, or transfer it before the task ends"
        )
    );
    let delivered = fixture.reports();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0].code(), Code::Leak);
    #[cfg(feature = "json")]
    assert_json(&delivered[0].to_json(), &acquired);
    fixture.assert_all_closed();
}

#[cfg(feature = "json")]
fn assert_json(json: &str, acquired: &str) {
    for part in [
        r#"{"verdict":"leak","schema_version":1,"#,
        r#""name":"worker""#,
        r#""kind":"tcp stream""#,
        &format!(r#""acquired":"{acquired}""#),
        r#""event":"given""#,
    ] {
        assert!(json.contains(part), "expected {part} in {json}");
    }
}

#[test]
fn a_report_is_delivered_to_the_sink_once_and_kept() {
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("leaking", || mem::forget(fixture.own("leaked")));
    assert!(failure(outcome).leaks().is_some());
    assert_eq!(fixture.reports().len(), 1);
    let kept = fixture.registry.reports();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].to_string(), fixture.reports()[0].to_string());
}

#[test]
fn without_a_subscriber_reports_go_to_stderr_and_finish_returns_the_summary() {
    let output = in_own_process(test_name!(), || {
        let leaked = ownership::own(String::from("leaked")).expect("the task is running");
        mem::forget(leaked);
        assert_eq!(ownership::snapshot().resources.len(), 1);
        let verdict = ownership::finish();
        assert_eq!(
            verdict.to_string(),
            "1 leak, 0 violations, 0 replaced fds, 0 failed finalizers, 0 still open"
        );
        exit(verdict.exit_code.into());
    });
    assert_success(&output);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("ended and still owned 1 resource\n  thread: "), "{errors}");
    assert!(errors.contains("\n    acquired at tests/leak/reporting.rs:"), "{errors}");
}

// Levels.

#[test]
fn level_off_reports_nothing_and_still_finalizes_and_cancels() {
    let fixture = Fixture::with(|settings| settings.level(Level::Off));
    fixture.root(|| {
        let child = fixture.spawn("forgetful", [], || {
            for name in ["r1", "r2", "r3"] {
                mem::forget(fixture.own(name));
            }
            mem::forget(fixture.listener());
            "its value"
        });
        assert_eq!(child.join().expect("leaks are not checked"), "its value");
        assert_eq!(fixture.finalized(), ["r3", "r2", "r1"]);
        fixture.assert_all_closed();
        let listener = fixture.listener();
        let child = fixture.spawn("accepting", [listener.resource()], move || {
            assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
            mem::forget(listener);
        });
        assert_cancelled(child.cancel());
        let (twice, line) = (fixture.own("twice"), line!() + 1);
        twice.release().expect("this task owns it");
        let second = refusal(twice.release());
        assert_eq!(second.kind(), ErrorKind::DoubleRelease);
        assert_eq!(second.earlier_site().map(|site| site.line()), Some(line));
        assert_eq!(events(&twice.describe()), [Event::Released], "no custody but the end");
    });
    fixture.assert_clean();
}

#[test]
fn level_off_does_not_look_up_the_current_task() {
    let fixture = Fixture::with(|settings| settings.level(Level::Off));
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        thread::scope(|threads| {
            let other_task = threads.spawn(|| (&stream).write(b"x"));
            let written = other_task.join().expect("it does not panic");
            assert_eq!(written.expect("this level has the backtrace"), 1);
        });
        peer.read_exact(&mut [0]).expect("it arrives");
    });
    fixture.assert_clean();
}

#[test]
fn level_full_keeps_a_backtrace_per_custody_step_and_level_on_none() {
    let custody_at = |level| {
        let fixture = Fixture::with(|settings| settings.level(level));
        fixture.root(|| {
            let listener = fixture.listener();
            let child =
                fixture.spawn("child", [listener.resource()], move || mem::forget(listener));
            leaked(child.join()).1.resources[0].custody.clone()
        })
    };
    let full = custody_at(Level::Full);
    assert_eq!(full.len(), 2);
    for step in full {
        let backtrace = step.backtrace.expect("at this level there is one");
        assert!(backtrace.contains("leak::reporting::level_full_keeps"), "{backtrace}");
    }
    assert!(custody_at(Level::On).iter().all(|step| step.backtrace.is_none()));
}

// Policies.

#[test]
fn an_ignored_leak_is_counted_and_is_the_task_outcome_but_not_reported() {
    let fixture = Fixture::with(|settings| settings.on_leak(Policy::Ignore));
    fixture.root(|| {
        let child = fixture.spawn("leaking", [], || mem::forget(fixture.own("leaked")));
        leaked(child.join());
    });
    assert_eq!(fixture.finalized(), ["leaked"]);
    assert!(fixture.reports().is_empty());
    assert_eq!(fixture.registry.summary().leaks, 1);
}

#[test]
fn a_suppressed_leak_is_finalized_and_counted_and_is_not_the_task_outcome() {
    let fixture = Fixture::with(|settings| {
        let known = Suppression::because("the listener stays until exit").kind("socket");
        let known = known.path("127.0.0.1:");
        settings.on_leak(Policy::Fail).suppress(known.site("tests/common/fixture.rs"))
    });
    fixture.root(|| {
        let known = || mem::forget(fixture.registry.own_fd(fixture.track(common::listener())));
        let elsewhere = fixture.spawn("elsewhere", [], known);
        leaked(elsewhere.join());
        let child = fixture.spawn("known", [], || fixture.leak_a_listener());
        child.join().expect("the check is registered");
    });
    fixture.assert_all_closed();
    let verdict = fixture.registry.finish();
    assert_eq!((verdict.leaks, verdict.suppressed, verdict.exit_code), (1, 1, 23));
    let text = verdict.to_string();
    assert!(text.ends_with("\nsuppressed 1 time: the listener stays until exit"), "{text}");
}

#[test]
fn the_exit_code_is_23_under_policy_fail_and_0_under_policy_warn() {
    let code = |on_leak, on_violation, expected| {
        let fixture =
            Fixture::with(|settings| settings.on_leak(on_leak).on_violation(on_violation));
        fixture.root(|| {
            let child = fixture.spawn("leaking", [], || mem::forget(fixture.own("leaked")));
            leaked(child.join());
        });
        assert_eq!(fixture.registry.finish().exit_code, expected);
    };
    code(Policy::Warn, Policy::Fail, 0);
    code(Policy::Fail, Policy::Warn, ownership::EXIT_CODE_FINDINGS);
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::with(|settings| settings.on_violation(Policy::Fail));
        let twice = fixture.own("twice");
        twice.release().expect("this task owns it");
        assert_eq!(refusal(twice.release()).kind(), ErrorKind::DoubleRelease);
        exit(fixture.registry.finish().exit_code.into());
    });
    assert_eq!(output.status.code(), Some(23));
}

#[test]
fn a_leak_under_policy_abort_is_reported_and_aborts_the_process() {
    let output = in_own_process(test_name!(), || {
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Core, none)
            .expect("the limit can be lowered");
        let registry = Registry::builder().on_leak(Policy::Abort).build();
        let _ = registry.run("leaking", || mem::forget(registry.own("leaked")));
    });
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("echown: leak: task "), "{errors}");
}

// Reports kept by a registry.

#[test]
fn kept_reports_are_bounded_in_size_and_state_what_is_omitted() {
    const LEFT: usize = 5_000;
    let delivered: &'static Mutex<Vec<usize>> = Box::leak(Box::default());
    let count = |report: &Report| match report {
        Report::Leak(leak) => {
            assert_eq!(leak.resources_omitted, 0, "a delivered report is complete");
            delivered.lock().expect("no sink panics").push(leak.resources.len());
        }
        other => panic!("expected a leak, got {other}"),
    };
    let registry = Registry::builder().sink(count).build();
    for _ in 0..6 {
        let outcome = registry.run("leaking", || {
            (0..LEFT).for_each(|_| mem::forget(registry.own(()).expect("the task is running")));
        });
        assert_eq!(leaked(outcome).1.resources.len(), LEFT, "so is the outcome");
    }
    assert_eq!(*delivered.lock().expect("no sink panics"), [LEFT; 6]);
    assert_eq!(registry.summary().leaks, 6 * LEFT as u64);
    let mut kept = 0;
    for report in registry.reports() {
        let Report::Leak(leak) = &report else { panic!("expected a leak, got {report}") };
        kept += leak.resources.len();
        assert!(!leak.resources.is_empty());
        assert_eq!(leak.resources.len() as u64 + leak.resources_omitted, LEFT as u64);
        let text = report.to_string();
        assert!(text.contains(&format!("still owned {LEFT} resources")), "{text}");
        assert!(text.contains(&format!("\n  ({} more omitted)", leak.resources_omitted)));
    }
    // A resource takes about 700 bytes, and 4 MiB are kept.
    assert!((2_000..10_000).contains(&kept), "{kept} resources are kept");
}

#[test]
fn the_message_of_a_kept_report_is_bounded_and_states_what_is_omitted() {
    let registry = Registry::builder().sink(|_| ()).build();
    let outcome = registry.run("failing", || {
        let finalizer = |()| Err(std::io::Error::other("ä".repeat(1 << 20)));
        mem::forget(registry.own_with((), finalizer).expect("the task is running"));
    });
    drop(outcome);
    let kept = registry.reports();
    let Some(Report::Finalizer(report)) = kept.first() else { panic!("expected one: {kept:?}") };
    assert!(report.message.len() < 20_000, "{} bytes", report.message.len());
    assert!(report.message.ends_with(" more bytes omitted)"), "{}", report.message);
}
