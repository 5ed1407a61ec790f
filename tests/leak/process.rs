//! Rules 16 and 17: thread exit, process exit, and the descriptors of libraries.

use std::cell::RefCell;
use std::mem;
use std::os::fd::AsRawFd;
use std::process::exit;
use std::sync::mpsc::channel;
use std::thread;

use echown::ownership::{ErrorKind, Owned, Report};
use echown::pool::Pool;

use crate::common::{
    self, Fixture, assert_connected, assert_success, fd_misuse, in_own_process, refusal,
};
use crate::test_name;

// Rule 16: the exit of an adopted thread.

#[test]
fn the_exit_of_an_adopted_thread_finalizes_and_reports_without_a_panic() {
    let fixture = Fixture::new();
    let thread = thread::Builder::new().name("foreign".into()).spawn(|| {
        mem::forget((fixture.own("left"), fixture.listener()));
        mem::forget(fixture.registry.own_with((), |()| panic!("a finalizer's panic")));
        (common::thread_id(), thread::current().id())
    });
    let (kernel_id, id) = thread.expect("there is a thread").join().expect("it does not panic");
    assert_eq!(fixture.finalized_on("left"), id);
    fixture.assert_all_closed();
    assert_eq!(fixture.codes(), ["finalizer-panicked", "leak"]);
    let Some(Report::Leak(report)) = fixture.reports().pop() else { panic!("expected a leak") };
    assert_eq!((&*report.task.name, &*report.thread), ("foreign", "foreign"));
    assert_eq!(i64::from(report.thread_id), i64::from(kernel_id));
    assert_eq!(report.resources.len(), 3);
}

#[test]
fn a_handle_in_a_thread_local_is_released_by_its_thread_in_any_drop_order() {
    thread_local! {
        static KEPT: RefCell<Option<Owned<&'static str>>> = const { RefCell::new(None) };
    }
    let fixture = Fixture::new();
    // Thread-locals are dropped in reverse order of first use.
    let local_first = thread::spawn(|| {
        KEPT.with_borrow(|kept| assert!(kept.is_none()));
        KEPT.set(Some(fixture.own("local first")));
    });
    local_first.join().expect("it does not panic");
    let task_first = thread::spawn(|| KEPT.set(Some(fixture.own("task first"))));
    task_first.join().expect("it does not panic");
    assert_eq!(fixture.finalized(), ["local first", "task first"]);
    fixture.assert_clean();
}

#[test]
fn resources_left_by_an_adopted_thread_and_its_thread_locals_are_leaks() {
    thread_local! {
        static FORGETS: RefCell<Option<Forgets>> = const { RefCell::new(None) };
    }
    struct Forgets(Option<Owned<&'static str>>);
    impl Drop for Forgets {
        fn drop(&mut self) {
            mem::forget(self.0.take());
        }
    }
    let fixture = Fixture::new();
    let thread = thread::spawn(|| {
        FORGETS.with_borrow(|kept| assert!(kept.is_none()));
        FORGETS.set(Some(Forgets(Some(fixture.own("forgotten by a local")))));
        mem::forget(fixture.own("forgotten"));
    });
    thread.join().expect("it does not panic");
    assert_eq!(fixture.finalized(), ["forgotten", "forgotten by a local"]);
    assert_eq!(fixture.the_leak().resources.len(), 2);
}

#[test]
fn children_of_an_adopted_thread_pass_to_the_root_cancelled_and_unjoined() {
    let fixture = Fixture::new();
    let (begin, begun) = channel();
    let (go, gone) = channel::<()>();
    let (to_test, from_child) = channel();
    let thread = thread::spawn(move || {
        let listener = fixture.listener();
        let child = fixture.spawn("child", [listener.resource()], move || {
            begin.send(()).expect("the test receives it");
            let kind = refusal(listener.accept()).kind();
            // Cancelling does not wake it here, but its parent's thread must still exit.
            assert!(gone.recv().is_err());
            mem::forget(listener);
            to_test.send(kind).expect("the test receives it");
        });
        let label = child.task();
        begun.recv().expect("the child starts");
        drop(child);
        label
    });
    let child = thread.join().expect("it returns without a panic");
    let snapshot = fixture.registry.snapshot();
    let data = snapshot.tasks.iter().find(|data| data.task == child).expect("it is running");
    assert_eq!(data.parent.map(|parent| parent.get()), Some(1), "the root");
    assert!(data.cancelled);
    drop(go);
    assert_eq!(from_child.recv().expect("it was woken"), ErrorKind::Cancelled);
    while fixture.registry.snapshot().tasks.iter().any(|data| data.task == child) {
        thread::yield_now();
    }
    fixture.assert_all_closed();
}

// Rule 16: process exit.

#[test]
fn finish_finalizes_own_resources_and_lists_those_of_others() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let other = thread::spawn(move || {
            let theirs = fixture.listener();
            begin.send(theirs.id()).expect("the test receives it");
            assert!(gone.recv().is_err());
            theirs.release()
        });
        let theirs = begun.recv().expect("the other starts");
        mem::forget(fixture.own("mine"));
        let verdict = fixture.registry.finish();
        assert_eq!(fixture.finalized(), ["mine"]);
        assert_eq!((verdict.leaks, verdict.still_open.len()), (1, 1));
        assert_eq!((verdict.still_open[0].id, verdict.still_open[0].state), (theirs, "held"));
        drop(go);
        other.join().expect("it does not panic").expect("it is open");
    });
    fixture.assert_all_closed();
}

#[test]
fn finish_cancels_and_lists_unjoined_children() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let listener = fixture.listener();
        let child = fixture.spawn("forgotten", [listener.resource()], move || {
            let _ = refusal(listener.accept());
            mem::forget(listener);
        });
        drop(child);
        let verdict = fixture.registry.finish();
        let names: Vec<&str> = verdict.unjoined_children.iter().map(|it| &*it.name).collect();
        assert_eq!(names, ["forgotten"]);
        assert!(!verdict.is_clean());
        fixture.assert_all_closed();
    });
}

#[test]
fn process_exit_runs_no_finalizer_of_another_thread() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        let (begin, begun) = channel();
        thread::spawn(move || {
            let _owned = fixture.registry.own_with((), |()| {
                println!("finalized");
                Ok(())
            });
            begin.send(()).expect("the test receives it");
            loop {
                thread::park();
            }
        });
        begun.recv().expect("the thread starts");
        exit(7);
    });
    assert_eq!(output.status.code(), Some(7));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("finalized"), "the limit of this rule: {text}");
}

#[test]
fn a_forked_child_has_no_registry_and_the_parents_connection_survives() {
    let output = in_own_process(test_name!(), || {
        let fixture = Fixture::new();
        fixture.root(|| {
            let (mut stream, mut peer) = fixture.connection();
            let string = fixture.own("the parent's");
            if fd_misuse::is_forked_child() {
                drop((string, stream));
                // A task of the forked child, on its own thread.
                let pool = Pool::builder().registry(&fixture.registry).build();
                let sum = pool.spawn([], || 3 + 4).expect("there is a thread").join();
                assert_eq!(sum.expect("it leaves no resource"), 7);
                let untouched = fixture.finalized().is_empty() && fixture.reports().is_empty();
                fd_misuse::end_forked_child(if untouched { 0 } else { 1 });
            }
            let options = rustix::process::WaitOptions::empty();
            let ended = rustix::process::wait(options).expect("there is one child");
            let (_, status) = ended.expect("it has ended");
            assert_eq!(status.exit_status(), Some(0));
            assert_connected(&mut stream, &mut peer);
            string.release().expect("this task owns it");
        });
        assert_eq!(fixture.finalized(), ["the parent's"]);
        fixture.assert_clean();
    });
    assert_success(&output);
}

// Rule 17: the descriptors of libraries.

#[test]
fn a_declared_descriptor_is_listed_with_its_reason_and_is_not_a_leak() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let theirs = fixture.track(common::listener());
        let number = theirs.as_raw_fd();
        fixture.registry.declare_external(number, "a library", "wakes its handler");
        let snapshot = fixture.registry.snapshot();
        assert_eq!(snapshot.numbers(), [number]);
        assert_eq!((&*snapshot.declared[0].name, snapshot.resources.len()), ("a library", 0));
        let text = snapshot.to_string();
        let line = format!("fd {number} declared: a library, wakes its handler");
        assert!(text.ends_with(&line), "{text}");
        assert!(fixture.registry.finish().is_clean());
        theirs.local_addr().expect("it is open");
        fixture.registry.forget_external(number);
        assert!(fixture.registry.snapshot().declared.is_empty());
    });
    fixture.assert_clean();
}
