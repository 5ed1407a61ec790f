//! Rules 4, 7, 9 and 14 combined: which task owns a resource after a failed spawn and in a
//! cancelled task, and which records remain of an exited child.

use std::mem;
use std::sync::mpsc::channel;
use std::sync::{Arc, Weak};
use std::thread;

use echown::ownership::{ErrorKind, Event, Owned, TaskLabel};
use echown::pool::{Orphans, Pool};
use echown::test;

use crate::common::{
    self, Fixture, assert_cancelled, leaked, panic_message, refusal, wait_until, wait_until_blocked,
};
use crate::events;

/// A full pool: every spawn fails and returns the job and its resources.
fn full_pool(fixture: &Fixture) -> Pool {
    Pool::builder().registry(&fixture.registry).limit(0).build()
}

// A spawn that fails.

#[test]
fn a_resource_returned_by_a_failed_spawn_and_forgotten_leaks_from_the_parent() {
    let fixture = Fixture::new();
    let pool = full_pool(fixture);
    fixture.root(|| {
        let parent = fixture.spawn("parent", [], move || {
            let (first, socket, last) =
                (fixture.own("first"), fixture.listener(), fixture.own("last"));
            let give = [first.resource(), socket.resource(), last.resource()];
            let rejected = pool.spawn(give, || ()).expect_err("the limit is 0");
            assert!(rejected.is_exhausted(), "{rejected}");
            mem::forget((first, socket, last));
        });
        let (_, report) = leaked(parent.join());
        assert_eq!(report.resources.len(), 3);
        assert_eq!(fixture.finalized(), ["last", "first"]);
        fixture.assert_all_closed();
    });
}

#[test]
fn a_resource_returned_by_a_failed_spawn_is_finalized_if_the_parent_panics() {
    let fixture = Fixture::new();
    let pool = full_pool(fixture);
    fixture.root(|| {
        let parent = fixture.spawn::<()>("parent", [], move || {
            let string = fixture.own("returned");
            let scope = pool.scope(|scope| scope.spawn([string.resource()], || ()).is_err());
            assert!(scope.expect("it has no children"));
            mem::forget(string);
            panic!("its own error");
        });
        assert_eq!(panic_message(parent.join()), "its own error");
        assert_eq!(fixture.finalized(), ["returned"]);
    });
}

#[test]
fn a_resource_returned_by_a_failed_spawn_wakes_on_the_parents_cancellation() {
    let fixture = Fixture::new();
    let pool = full_pool(fixture);
    fixture.root(|| {
        let (begin, begun) = channel();
        let parent = fixture.spawn("parent", [], move || {
            let socket = fixture.listener();
            pool.spawn([socket.resource()], || ()).expect_err("the limit is 0");
            begin.send(common::thread_id()).expect("the test receives it");
            assert_eq!(refusal(socket.accept()).kind(), ErrorKind::Cancelled);
        });
        wait_until_blocked(begun.recv().expect("it starts"), false);
        assert_cancelled(parent.cancel());
    });
    fixture.assert_clean();
}

// A task that was cancelled.

#[test]
fn a_cancelled_task_cannot_claim_its_own_offer_and_gets_it_back() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel();
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("cancelled", [], move || {
            let offer = fixture.own("offered").offer().expect("the task owns it");
            begin.send(()).expect("the test receives it");
            assert!(gone.recv().is_err());
            let (error, offer) = offer.claim().expect_err("it takes nothing").into_parts();
            to_test.send((error.kind(), offer)).expect("the test receives it");
        });
        begun.recv().expect("it starts");
        child.request_cancel().expect("this task owns it");
        drop(go);
        let (kind, offer) = from_child.recv().expect("it was sent");
        assert_eq!(kind, ErrorKind::Cancelled);
        assert_cancelled(child.join());
        let claimed =
            offer.expect("the offer is returned").claim().expect("this task is not cancelled");
        assert_eq!(claimed.disown().expect("this task owns it"), "offered");
    });
    fixture.assert_clean();
}

#[test]
fn offers_skip_a_cancelled_ancestor_and_pass_to_the_next_one() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (begin, begun) = channel();
        let (to_test, from_child) = channel();
        let (go, gone) = channel::<()>();
        let parent = fixture.spawn("parent", [], move || {
            let (end, ended) = channel::<()>();
            let child = fixture.spawn("offerer", [], move || {
                let string = fixture.own("offered");
                let resource = string.resource();
                assert!(ended.recv().is_err());
                (string.offer().expect("the task owns it"), resource)
            });
            begin.send(end).expect("the test receives it");
            // The child is cancelled by now and continues.
            assert!(gone.recv().is_err());
            wait_until("the child's end", || child.has_ended());
            to_test
                .send(child.join().expect("an offer is not a leak"))
                .expect("the test receives it");
        });
        let end = begun.recv().expect("it starts");
        parent.request_cancel().expect("this task owns it");
        drop((end, go));
        let (offer, resource) = from_child.recv().expect("it was sent");
        let described = resource.describe();
        assert_eq!(
            described.owner,
            Some(fixture.registry.current_task()),
            "the parent was cancelled"
        );
        assert_eq!(events(&described), [Event::Acquired, Event::Offered, Event::Inherited]);
        assert_cancelled(parent.join());
        assert_eq!(resource.describe().state, "offered", "it outlives the exit of the parent");
        let string = offer.claim().expect("it is unclaimed");
        assert_eq!(string.disown().expect("this task owns it"), "offered");
    });
    fixture.assert_clean();
}

/// Reports where it is dropped: the task, its state, and whether using the handle inside fails.
struct DropProbe {
    fixture: &'static Fixture,
    held: Owned<&'static str>,
    to_test: std::sync::mpsc::Sender<Seen>,
}

struct Seen {
    task: TaskLabel,
    state: &'static str,
    refusal: ErrorKind,
    thread: thread::ThreadId,
}

impl Drop for DropProbe {
    fn drop(&mut self) {
        let registry = &self.fixture.registry;
        let task = registry.current_task();
        let tasks = registry.snapshot().tasks;
        let state = tasks.iter().find(|it| it.task == task).map_or("gone", |it| it.state);
        let refusal = refusal(self.held.check()).kind();
        self.fixture.log("the result");
        let thread = thread::current().id();
        self.to_test.send(Seen { task, state, refusal, thread }).expect("the test receives it");
    }
}

#[test]
fn the_result_of_a_cancelled_task_is_dropped_in_it_before_it_exits() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel();
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("cancelled", [], move || {
            mem::forget(fixture.own("forgotten"));
            let held = fixture.own("in the result");
            begin.send((thread::current().id(), held.resource())).expect("the test receives it");
            assert!(gone.recv().is_err());
            DropProbe { fixture, held, to_test }
        });
        let (thread, resource) = begun.recv().expect("it starts");
        let label = child.task();
        child.request_cancel().expect("this task owns it");
        drop(go);
        assert_cancelled(child.join());
        let seen = from_child.recv().expect("the result was dropped");
        assert_eq!((seen.task, seen.thread), (label, thread));
        assert_eq!(seen.state, "running", "the task has not exited yet");
        assert_eq!(seen.refusal, ErrorKind::Cancelled, "it is not finalized yet");
        assert_eq!(events(&resource.describe()), [Event::Acquired, Event::Dropped]);
    });
    assert_eq!(fixture.finalized(), ["the result", "in the result", "forgotten"]);
    fixture.assert_clean();
}

// A child that has exited.

#[test]
fn orphans_adopt_a_child_that_has_already_exited() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("ended", [], || "its value");
        wait_until("its end", || child.has_ended());
        let orphans = Orphans::new(&fixture.registry);
        orphans.adopt(child).expect("this task owns it");
        assert_eq!(orphans.ready(), 1);
        let outcome = orphans.take().expect("this task owns it").expect("there is one");
        assert_eq!(outcome.expect("it succeeds"), "its value");

        let child = fixture.spawn("ended", [], || ());
        wait_until("its end", || child.has_ended());
        let reaped = Orphans::reaped_by(&fixture.registry, |_, _| fixture.log("reaped"));
        reaped.adopt(child).expect("this task owns it");
        assert_eq!(fixture.finalized(), ["reaped"]);
        assert!(reaped.is_empty());
    });
    fixture.assert_clean();
}

/// The record of a task, observed through the task's name, which nothing else holds.
struct Record(Weak<str>);

impl Record {
    fn of(task: TaskLabel) -> Record {
        Record(Arc::downgrade(&task.name))
    }

    /// Asserts that the record is dropped while its parent still runs. The thread that the task ran
    /// on drops it last.
    #[track_caller]
    fn assert_forgotten(self, which: &str) {
        wait_until(which, || self.0.upgrade().is_none());
    }
}

#[test]
fn no_record_remains_of_a_child_that_was_joined_cancelled_or_reaped() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("joined", [], || ());
        let record = Record::of(child.task());
        child.join().expect("it succeeds");
        record.assert_forgotten("joined");

        let (go, gone) = channel::<()>();
        let child = fixture.spawn("cancelled", [], move || assert!(gone.recv().is_err()));
        let record = Record::of(child.task());
        drop(go);
        let _ = child.cancel();
        record.assert_forgotten("cancelled");

        let orphans = Orphans::reaped_by(&fixture.registry, |_, _| ());
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("reaped at its end", [], move || assert!(gone.recv().is_err()));
        let record = Record::of(child.task());
        orphans.adopt(child).expect("this task owns it");
        drop(go);
        record.assert_forgotten("reaped at its end");

        let child = fixture.spawn("ended before it was adopted", [], || ());
        let record = Record::of(child.task());
        wait_until("its end", || child.has_ended());
        orphans.adopt(child).expect("this task owns it");
        record.assert_forgotten("ended before it was adopted");
    });
    fixture.assert_clean();
}

#[test]
fn no_record_remains_of_an_inline_child_or_a_child_that_failed_to_start() {
    let fixture = Fixture::new();
    let pool = full_pool(fixture);
    fixture.root(|| {
        let inline = fixture.registry.run_inline("inline", [], || {
            // The snapshot is dropped at the end of the line.
            Record::of(fixture.registry.current_task())
        });
        inline.expect("it succeeds").assert_forgotten("inline");

        let string = fixture.own("given");
        pool.spawn_named("unstarted", [string.resource()], || ()).expect_err("the limit is 0");
        let custody = string.describe().custody;
        let name = custody.iter().rev().find_map(|step| step.from.clone()).expect("it is returned");
        assert_eq!(&*name.name, "unstarted");
        let record = Record::of(name);
        drop(custody);
        drop(string);
        record.assert_forgotten("unstarted");
    });
    fixture.assert_clean();
}
