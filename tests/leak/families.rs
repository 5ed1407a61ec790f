//! Rule 9: only the parent joins or cancels a child or gives it to an `Orphans`; and the ways to
//! wait for several children.

use std::io::{Read, Write};
use std::mem;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Instant;

use echown::ownership::{ErrorKind, TaskError};
use echown::pool::{self, Orphans};
use echown::test;

use crate::common::{
    DEADLINE, Fixture, assert_cancelled, failure, lock, panic_message, refusal, wait_until,
};

#[test]
fn only_the_parent_may_join_or_cancel_a_child_and_others_get_the_promise_back() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("child", [], move || gone.recv().is_err());
        let (root, label) = (fixture.registry.current_task(), child.task());
        let other_task = fixture.spawn("other", [], move || {
            let me = fixture.registry.current_task();
            assert_eq!(refusal(child.request_cancel()).kind(), ErrorKind::NotAChild);
            assert_eq!(refusal(child.drain()).kind(), ErrorKind::NotAChild);
            let Err(TaskError::Refused(child, error)) = child.cancel() else {
                panic!("another task cancelled it");
            };
            assert_eq!(error.kind(), ErrorKind::NotAChild);
            let Err(TaskError::Refused(child, error)) = child.join() else {
                panic!("another task joined it");
            };
            (me, child, error)
        });
        let (other_task, child, error) = other_task.join().expect("it has no children");
        assert_eq!(
            error.to_string(),
            format!("operation joined by {other_task}, expected its parent {root}: {label}")
        );
        drop(go);
        assert!(child.join().expect("it was not cancelled"));
    });
    assert_eq!(fixture.codes(), ["not-a-child"; 4]);
}

#[test]
fn an_unjoined_child_that_succeeded_is_still_reported() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn("parent", [], || {
            let child = fixture.spawn("child", [], || ());
            wait_until("the child to end", || child.has_ended());
            drop(child);
        });
        let TaskError::UnjoinedChildren(forgotten) = failure(parent.join()) else {
            panic!("expected a forgotten child");
        };
        assert_eq!(forgotten.children.len(), 1);
    });
}

#[test]
fn a_parent_with_an_unjoined_child_and_a_leak_reports_both() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn("parent", [], || {
            mem::forget(fixture.own("leaked"));
            drop(fixture.spawn("child", [], || ()));
            "its value"
        });
        let ended = failure(parent.join());
        assert_eq!(ended.leaks().map(|report| report.resources.len()), Some(1));
        assert!(
            ended.to_string().starts_with("the task did not join its children: task "),
            "{ended}"
        );
        assert_eq!(ended.into_value(), Some("its value"));
    });
}

#[test]
fn unjoined_children_are_reported_in_the_order_of_spawning() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn("parent", [], || {
            for number in 0..20 {
                drop(fixture.spawn(&format!("child {number}"), [], || ()));
            }
        });
        let TaskError::UnjoinedChildren(forgotten) = failure(parent.join()) else {
            panic!("expected forgotten children");
        };
        let names: Vec<String> = forgotten.children.iter().map(|it| it.name.to_string()).collect();
        let expected: Vec<String> = (0..20).map(|number| format!("child {number}")).collect();
        assert_eq!(names, expected);
    });
    fixture.assert_clean();
}

#[test]
fn all_unjoined_children_are_cancelled_before_any_is_joined() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn("parent", [], || {
            let (begin, begun) = channel();
            let (to_first, from_second) = channel();
            let listener = fixture.listener();
            // Cancelling does not wake the first, but it wakes the second, whose exit ends the
            // first.
            let first = fixture.spawn("first", [], move || {
                begin.send(()).expect("the parent receives it");
                while from_second.recv().is_ok() {}
            });
            let second = fixture.spawn("second", [listener.resource()], move || {
                to_first.send(()).expect("the first listens");
                let _ = refusal(listener.accept());
                mem::forget(listener);
            });
            begun.recv().expect("the first starts");
            drop((first, second));
        });
        let TaskError::UnjoinedChildren(forgotten) = failure(parent.join()) else {
            panic!("expected forgotten children");
        };
        assert_eq!(forgotten.children.len(), 2);
    });
    fixture.assert_clean();
}

// Orphans.

#[test]
fn an_orphan_is_reaped_when_it_exits_and_not_at_the_next_call() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel();
        let orphans = Orphans::reaped_by(&fixture.registry, move |task, outcome| {
            fixture.assert_all_closed();
            let outcome: Result<&str, TaskError<&str>> = outcome;
            to_test.send((task.clone(), outcome.is_ok())).expect("the test receives it");
        });
        let (stream, peer) = fixture.connection();
        let child = fixture.spawn("orphan", [stream.resource()], move || {
            assert_eq!((&stream).read(&mut [0]).expect("the peer closes"), 0);
            "its value"
        });
        let label = child.task();
        orphans.adopt(child).expect("the child and the Orphans are this task's");
        assert_eq!((orphans.len(), orphans.ready()), (1, 0));
        drop(peer);
        assert_eq!(from_child.recv().expect("it was reaped"), (label, true));
        wait_until("the set to be empty", || orphans.is_empty());
    });
    fixture.assert_clean();
}

#[test]
fn forty_two_orphans_are_taken_and_cancelled_without_leaks() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let orphans = Orphans::new(&fixture.registry);
        let mut peers: Vec<_> = (0..42)
            .map(|_| {
                let (stream, peer) = fixture.connection();
                let child = fixture.spawn("orphan", [stream.resource()], move || {
                    let mut byte = [0];
                    (&stream).read_exact(&mut byte)?;
                    (&stream).write_all(&byte)?;
                    let end = (&stream).read(&mut byte);
                    mem::forget(stream);
                    end
                });
                orphans.adopt(child).expect("the child and the Orphans are this task's");
                peer
            })
            .collect();
        for peer in &mut peers {
            peer.write_all(b"x").expect("it is connected");
            peer.read_exact(&mut [0]).expect("each of them is at work");
        }
        assert_eq!((orphans.len(), orphans.ready()), (42, 0));
        orphans.cancel().expect("this task owns it");
        assert_eq!((orphans.len(), orphans.ready()), (42, 42));
        for _ in 0..42 {
            assert_cancelled(orphans.get().expect("this task owns it").expect("one for each"));
        }
        assert!(orphans.get().expect("this task owns it").is_none());
        assert!(orphans.is_empty());
    });
    fixture.assert_clean();
}

#[test]
fn get_misses_no_outcome_of_orphans_that_exit_immediately() {
    let fixture = Fixture::new();
    fixture.root(|| {
        for _ in 0..200 {
            let orphans = Orphans::new(&fixture.registry);
            for number in 0..4 {
                orphans
                    .adopt(fixture.spawn("quick", [], move || number))
                    .expect("this task owns it");
            }
            let mut numbers = Vec::new();
            while let Some(number) = orphans.get().expect("this task owns it") {
                numbers.push(number.expect("it succeeds"));
            }
            numbers.sort_unstable();
            assert_eq!(numbers, [0, 1, 2, 3]);
        }
    });
    fixture.assert_clean();
}

#[test]
fn an_orphan_counts_as_running_until_it_is_reaped() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let gone = Mutex::new(gone);
        let orphans = Orphans::reaped_by(&fixture.registry, move |_, _| {
            begin.send(()).expect("the test receives it");
            assert!(lock(&gone).recv().is_err());
            fixture.log("reaped");
        });
        let (end, ended) = channel::<()>();
        let child = fixture.spawn("orphan", [], move || assert!(ended.recv().is_err()));
        orphans.adopt(child).expect("this task owns it");
        drop(end);
        begun.recv().expect("the reaper starts");
        assert_eq!((orphans.len(), orphans.ready()), (1, 0));
        assert!(!orphans.wait_until(Instant::now()).expect("this task owns it"), "it is not over");
        drop(go);
        orphans.cancel().expect("this task owns it");
        assert_eq!(fixture.finalized(), ["reaped"]);
    });
    fixture.assert_clean();
}

#[test]
fn only_the_owner_may_use_an_orphans() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let orphans = Orphans::new(&fixture.registry);
        orphans.adopt(fixture.spawn("orphan", [], || "its value")).expect("this task owns it");
        let other_task = fixture.spawn("other", [], move || {
            assert_eq!(refusal(orphans.get()).kind(), ErrorKind::NotAChild);
            assert_eq!(refusal(orphans.take()).kind(), ErrorKind::NotAChild);
            assert_eq!(refusal(orphans.cancel()).kind(), ErrorKind::NotAChild);
            assert_eq!(refusal(orphans.drain()).kind(), ErrorKind::NotAChild);
            let child = fixture.spawn("its own child", [], || "another");
            let rejected = orphans.adopt(child).expect_err("another task owns them");
            assert_eq!(rejected.error().kind(), ErrorKind::NotAChild);
            let child = rejected.into_value().expect("the promise is returned");
            assert_eq!(child.join().expect("the task owns it"), "another");
            orphans
        });
        let orphans = other_task.join().expect("it joined its child");
        let outcome = orphans.get().expect("this task owns it").expect("no other task took it");
        assert_eq!(outcome.expect("it was not cancelled"), "its value");
    });
    assert_eq!(fixture.codes(), ["not-a-child"; 5]);
}

#[test]
fn only_orphans_running_at_their_parents_exit_are_reported_as_unjoined() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let running = fixture.spawn("parent", [], || {
            let orphans = Orphans::new(&fixture.registry);
            let listener = fixture.listener();
            let child = fixture.spawn("orphan", [listener.resource()], move || {
                let rejected = refusal(listener.accept()).kind();
                mem::forget(listener);
                rejected
            });
            orphans.adopt(child).expect("this task owns it");
        });
        assert!(matches!(failure(running.join()), TaskError::UnjoinedChildren(_)));
        fixture.assert_all_closed();
        let ended = fixture.spawn("parent", [], || {
            let orphans = Orphans::new(&fixture.registry);
            orphans.adopt(fixture.spawn("orphan", [], || ())).expect("this task owns it");
            orphans.wait_until(Instant::now() + DEADLINE).expect("this task owns it")
        });
        assert!(ended.join().expect("its orphans had ended"));
    });
}

// Several at once.

#[test]
fn first_returns_the_first_outcome_after_all_others_have_exited() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let slow = || {
            let listener = fixture.listener();
            fixture.spawn("slow", [listener.resource()], move || {
                let rejected = refusal(listener.accept()).kind();
                mem::forget(listener);
                format!("{rejected:?}")
            })
        };
        let quick = fixture.spawn("quick", [], || String::from("quick"));
        assert_eq!(pool::first([slow(), quick, slow()]).expect("it succeeds"), "quick");
        fixture.assert_all_closed();
    });
    fixture.assert_clean();
}

#[test]
fn first_rejects_a_child_of_another_task() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || ());
        let other_task = fixture.spawn("other", [], move || {
            let Err(TaskError::Refused(child, error)) = pool::first([child]) else {
                panic!("another task joined it");
            };
            (child, error.kind())
        });
        let (child, kind) = other_task.join().expect("it has no children");
        assert_eq!(kind, ErrorKind::NotAChild);
        child.join().expect("this task owns it");
    });
}

#[test]
fn a_scope_returns_after_all_its_children_have_exited() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let scope = fixture.pool().scope(|scope| {
            for _ in 0..3 {
                let mine = fixture.own("child's");
                scope.spawn([mine.resource()], move || drop(mine)).expect("there is a thread");
            }
            "the body's value"
        });
        assert_eq!(scope.expect("all succeed"), "the body's value");
        assert_eq!(fixture.finalized(), ["child's"; 3]);
    });
    fixture.assert_clean();
}

#[test]
fn a_failing_child_in_a_scope_cancels_its_siblings() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let scope = fixture.pool().scope(|scope| {
            let listener = fixture.listener();
            let sibling = scope.spawn([listener.resource()], move || {
                assert_eq!(refusal(listener.accept()).kind(), ErrorKind::Cancelled);
                mem::forget(listener);
            });
            sibling.expect("there is a thread");
            scope.spawn([], || panic!("its own error")).expect("there is a thread");
            "the body's value"
        });
        let ended = scope.expect_err("a child failed");
        assert_eq!(ended.value, "the body's value");
        let (_, TaskError::Panicked(panic)) = ended.child().expect("it was a child") else {
            panic!("expected a panic: {ended}");
        };
        assert_eq!(panic.message(), "its own error");
        fixture.assert_all_closed();
    });
    fixture.assert_clean();
}

#[test]
fn a_panic_in_a_scope_body_propagates_after_the_children_have_exited() {
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("root", || {
        let scope = fixture.pool().scope(|scope| -> () {
            let listener = fixture.listener();
            let child = scope.spawn([listener.resource()], move || {
                let _ = refusal(listener.accept());
                mem::forget(listener);
            });
            child.expect("there is a thread");
            panic!("the body's error");
        });
        scope.is_ok()
    });
    assert_eq!(panic_message(outcome), "the body's error");
    fixture.assert_clean();
}

#[test]
fn parallel_returns_outcomes_in_argument_order_and_one_failure_affects_one() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let outcomes = fixture.pool().parallel(4, |index| {
            let mine = fixture.own("each one's");
            assert_ne!(index, 2, "the third fails");
            mine.release().expect("the task owns it");
            index * 10
        });
        let outcomes = outcomes.expect("there are threads");
        let values: Vec<_> =
            outcomes.iter().map(|outcome| outcome.as_ref().ok().copied()).collect();
        assert_eq!(values, [Some(0), Some(10), None, Some(30)]);
        assert_eq!(fixture.finalized().len(), 4);
    });
    fixture.assert_clean();
}

#[test]
fn many_exited_unjoined_children_are_partly_listed_and_not_kept() {
    const CHILDREN: usize = 300;
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("parent", || {
        let running = || fixture.pool().running();
        for number in 0..CHILDREN {
            let child = fixture.spawn("child", [], || ());
            // Promises are dropped both before and after the child's exit.
            wait_until("the child to end", || number % 2 == 0 || child.has_ended());
            drop(child);
        }
        wait_until("all children to end", || running() == 0);
    });
    let Err(TaskError::UnjoinedChildren(forgotten)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(forgotten.children.len(), 256);
    assert_eq!(forgotten.children_omitted, 44);
    assert!(forgotten.children.is_sorted_by_key(|child| child.id));
}
