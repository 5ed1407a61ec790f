//! Rules 4, 5 and 14: give, transfer, offer and claim.

use std::mem;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use echown::ownership::{ErrorKind, Event, RunInlineError, TaskError};
use echown::pool::Pool;
use echown::test;

use crate::common::{Fixture, assert_cancelled, failure, leaked, panic_message, refusal};
use crate::events;

// Rule 4: `give` moves ownership at the spawn.

#[test]
fn give_moves_a_resource_at_the_spawn_and_not_when_the_child_starts() {
    let fixture = Fixture::new();
    let pool = Pool::builder().registry(&fixture.registry).limit(1).queue(1).build();
    fixture.root(|| {
        let (go, gone) = channel::<()>();
        let busy = pool.spawn([], move || gone.recv().is_err()).expect("there is a thread");
        let socket = Arc::new(fixture.listener());
        let its = Arc::clone(&socket);
        let waiting = pool.spawn([socket.resource()], move || its.release());
        let waiting = waiting.expect("there is a queue");
        assert_eq!(pool.queued(), 1, "it has not begun");
        let rejected = refusal(socket.check());
        assert_eq!(rejected.kind(), ErrorKind::NotOwner);
        assert_eq!(rejected.owner(), Some(&waiting.task()));
        drop(go);
        assert!(busy.join().expect("it succeeds"));
        waiting.join().expect("it owns nothing").expect("the owner called it");
    });
    fixture.assert_all_closed();
}

#[test]
fn a_spawn_without_a_thread_makes_no_child_and_returns_everything() {
    let fixture = Fixture::new();
    let pool = Pool::builder().registry(&fixture.registry).limit(0).build();
    fixture.root(|| {
        let (string, socket) = (fixture.own("given"), fixture.listener());
        let give = [string.resource(), socket.resource()];
        let rejected = pool.spawn(give, || "the job").expect_err("the limit is 0");
        assert!(rejected.is_exhausted(), "{rejected}");
        assert_eq!(rejected.into_job().expect("it is returned")(), "the job");
        socket.check().expect("it is returned");
        assert_eq!(events(&socket.describe()), [Event::Acquired, Event::Given, Event::Returned]);
        string.release().expect("it is returned");
    });
    fixture.assert_clean();
}

#[test]
fn a_child_that_never_starts_because_its_pool_is_dropped_finalizes_its_resources() {
    let fixture = Fixture::new();
    let pool = Pool::builder().registry(&fixture.registry).limit(1).queue(1).build();
    fixture.root(|| {
        let (go, gone) = channel::<()>();
        let busy = pool.spawn([], move || gone.recv().is_err()).expect("there is a thread");
        let (string, socket) = (fixture.own("given"), fixture.listener());
        let give = [string.resource(), socket.resource()];
        let job = move || mem::forget((string, socket));
        let waiting = pool.spawn(give, job).expect("there is a queue");
        drop(pool);
        assert_cancelled(waiting.join());
        fixture.assert_all_closed();
        assert_eq!(fixture.finalized_on("given"), thread::current().id());
        drop(go);
        assert!(busy.join().expect("it goes on"));
    });
    fixture.assert_clean();
}

#[test]
fn resources_can_be_given_to_a_plain_thread() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let socket = fixture.listener();
        let give = [socket.resource()];
        let child = echown::thread::spawn_named("plain", give, move || {
            socket.check().map(|()| mem::forget(socket))
        });
        let (checked, report) = leaked(child.expect("a thread is available").join());
        checked.expect("the owner called it");
        assert_eq!(&*report.thread, "plain");
    });
    fixture.assert_all_closed();
}

#[test]
fn an_inline_child_is_a_separate_task() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (given, kept) = (fixture.own("given"), fixture.own("kept"));
        let outcome = fixture.registry.run_inline("inline", [given.resource()], || {
            given.check().expect("it was given");
            refusal(kept.check()).kind()
        });
        match outcome {
            Err(RunInlineError::Failed(ended)) => {
                let (kept, report) = leaked(Err(ended));
                assert_eq!(kept, ErrorKind::NotOwner);
                assert_eq!(&*report.task.name, "inline");
            }
            other => panic!("expected a leak, got {other:?}"),
        }
        assert_eq!(fixture.finalized(), ["given"]);
        kept.check().expect("the parent owns it");
        match fixture.registry.run_inline("never", [given.resource()], || ()) {
            Err(RunInlineError::Refused(refused)) => {
                assert_eq!(refused.error().kind(), ErrorKind::UseAfterRelease)
            }
            other => panic!("expected an error, got {other:?}"),
        }
    });
}

// Rule 5: `transfer` moves ownership to the parent.

#[test]
fn a_transfer_to_an_exiting_parent_fails_and_the_child_keeps_the_value() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel();
        let parent = fixture.spawn("parent", [], move || {
            let (tell_ending, ending) = channel::<()>();
            let (go, gone) = channel::<()>();
            // The parent's exit lasts until the child has observed it.
            let hold = fixture.registry.own_with("hold", move |_| {
                drop(tell_ending);
                assert!(gone.recv().is_err());
                Ok(())
            });
            mem::forget(hold);
            let child = fixture.spawn("child", [], move || {
                let (string, me) = (fixture.own("stays"), fixture.registry.current_task());
                assert!(ending.recv().is_err(), "the parent's end has begun");
                let error = refusal(string.transfer());
                string.check().expect("the child still owns it");
                let expected = format!(
                    "resource {} (&str) kept by {me}: its parent is exiting and cannot acquire resources",
                    string.id()
                );
                to_test.send((error, expected)).expect("the test receives it");
                drop(go);
            });
            drop(child);
        });
        let (error, expected) = from_child.recv().expect("the child existed");
        assert_eq!(error.kind(), ErrorKind::ParentExiting);
        assert_eq!(error.to_string(), expected);
        assert!(matches!(failure(parent.join()), TaskError::UnjoinedChildren(_)));
    });
    assert_eq!(fixture.finalized(), ["stays"]);
    assert_eq!(
        fixture.codes(),
        ["leak"],
        "a transfer rejected by the exit of the parent is not a violation"
    );
}

#[test]
fn a_transfer_to_a_cancelled_parent_fails_and_the_child_finalizes() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel();
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let parent = fixture.spawn("parent", [], move || {
            let child = fixture.spawn("child", [], move || {
                let string = fixture.own("stays");
                begin.send(()).expect("the test receives it");
                assert!(gone.recv().is_err());
                to_test.send(refusal(string.transfer()).kind()).expect("the test receives it");
                mem::forget(string);
                panic!("its own error");
            });
            let joined: Result<(), _> = child.join();
            drop(joined);
        });
        begun.recv().expect("the child starts");
        parent.request_cancel().expect("this task owns it");
        drop(go);
        let from_child = from_child.recv();
        assert_cancelled(parent.join());
        // The child itself may be cancelled by then.
        let rejected = [ErrorKind::ParentExiting, ErrorKind::Cancelled];
        assert!(from_child.is_ok_and(|kind| rejected.contains(&kind)));
    });
    assert_eq!(fixture.finalized(), ["stays"]);
}

#[test]
fn a_transferred_and_forgotten_resource_is_finalized_at_the_parents_exit() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn("parent", [], || {
            mem::forget(fixture.own("the parent's own"));
            let child = fixture.spawn("child", [], || {
                let (string, socket) = (fixture.own("transferred"), fixture.listener());
                string.transfer().and(socket.transfer()).expect("the parent is running");
                mem::forget((string, socket));
            });
            child.join().expect("it owns nothing");
            mem::forget(fixture.own("later"));
        });
        let (_, report) = leaked(parent.join());
        assert_eq!(report.resources.len(), 4);
        fixture.assert_all_closed();
    });
    assert_eq!(fixture.finalized(), ["later", "transferred", "the parent's own"]);
}

#[test]
fn only_the_owner_may_transfer() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mine = fixture.own("mine");
        let its = Arc::new(mine);
        let shared = Arc::clone(&its);
        let child = fixture.spawn("child", [], move || refusal(shared.transfer()).kind());
        assert_eq!(child.join().expect("it owns nothing"), ErrorKind::NotOwner);
        its.check().expect("this task owns it");
    });
}

// Rule 14: offers.

#[test]
fn an_offer_is_claimed_by_any_thread_through_any_channel() {
    let fixture = Fixture::new();
    let custody = fixture.root(|| {
        let (to_worker, offers) = channel();
        let socket = fixture.listener();
        let resource = socket.resource();
        to_worker.send(socket.offer().expect("this task owns it")).expect("the worker receives it");
        assert_eq!(resource.describe().state, "offered");
        assert_eq!(resource.describe().owner, Some(fixture.registry.current_task()));
        let worker = thread::Builder::new().name("foreign".into()).spawn(move || {
            let offer = offers.recv().expect("it was sent");
            let socket = offer.claim().expect("it was offered");
            socket.check().expect("this thread owns it now");
            let owner = socket.describe().owner.expect("it is owned");
            assert_eq!(owner, fixture.registry.current_task());
            socket.release().expect("this thread owns it now");
            assert_eq!(&*owner.name, "foreign");
        });
        worker.expect("a thread is available").join().expect("the worker's assertions hold");
        events(&resource.describe())
    });
    assert_eq!(custody, [Event::Acquired, Event::Offered, Event::Claimed, Event::Released]);
    fixture.assert_clean();
}

#[test]
fn a_claimed_and_forgotten_resource_leaks_from_the_claimer() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (string, socket) = (fixture.own("claimed"), fixture.listener());
        let offers = (
            string.offer().expect("this task owns it"),
            socket.offer().expect("this task owns it"),
        );
        let child = fixture.spawn("claimer", [], move || {
            mem::forget(offers.0.claim().expect("it was offered"));
            mem::forget(offers.1.claim().expect("it was offered"));
        });
        let (_, report) = leaked(child.join());
        let expected = [Event::Acquired, Event::Offered, Event::Claimed];
        assert!(report.resources.iter().all(|resource| events(resource) == expected), "{report}");
        assert_eq!(fixture.finalized(), ["claimed"]);
        fixture.assert_all_closed();
    });
}

#[test]
fn an_unclaimed_offer_is_finalized_where_it_is_dropped_and_reported() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (string, id) = (fixture.own("lost"), fixture.own("other").id());
        let named = string.resource();
        assert_ne!(named.id(), id);
        let offer = string.offer().expect("this task owns it");
        let dropped = thread::spawn(move || {
            drop(offer);
            thread::current().id()
        });
        let dropped = dropped.join().expect("dropping an offer does not panic");
        assert_eq!(fixture.finalized_on("lost"), dropped);
        let acquired = named.describe().acquired;
        assert_eq!(
            fixture.the_message("unclaimed"),
            format!(
                "resource {} (&str) offered, but never claimed (owned at {acquired})",
                named.id()
            )
        );
    });
    assert_eq!(fixture.finalized(), ["other", "lost"]);
}

#[test]
fn an_unclaimed_offer_passes_to_the_parent_when_its_offerer_exits() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (to_test, from_child) = channel();
        let child = fixture.spawn::<()>("offerer", [], move || {
            let socket = fixture.listener();
            let resource = socket.resource();
            let offer = socket.offer().expect("the task owns it");
            to_test.send((offer, resource)).expect("the test receives it");
            panic!("its own error");
        });
        assert_eq!(panic_message(child.join()), "its own error");
        let (offer, resource) = from_child.recv().expect("it was sent");
        let described = resource.describe();
        assert_eq!(described.state, "offered");
        assert_eq!(described.owner, Some(fixture.registry.current_task()), "the parent's account");
        assert_eq!(events(&described), [Event::Acquired, Event::Offered, Event::Inherited]);
        let socket = offer.claim().expect("it is unclaimed");
        socket.local_addr().expect("it is open and owned by this task");
    });
    fixture.assert_clean();
}

#[test]
fn a_forgotten_offer_is_finalized_and_reported_when_the_root_exits() {
    let fixture = Fixture::new();
    let offer = fixture.root(|| {
        let child = fixture.spawn("offerer", [], || {
            mem::forget(fixture.own("forgotten").offer().expect("the task owns it"));
            fixture.listener().offer().expect("the task owns it")
        });
        let offer = child.join().expect("the task no longer owns an offered resource");
        assert!(fixture.finalized().is_empty(), "it passed to the parent");
        offer
    });
    assert_eq!(fixture.finalized(), ["forgotten"]);
    assert_eq!(fixture.codes(), ["unclaimed"; 2]);
    fixture.assert_all_closed();
    let (error, offer) = offer.claim().expect_err("the root ended").into_parts();
    assert_eq!(error.kind(), ErrorKind::UseAfterRelease);
    drop(offer);
    assert_eq!(fixture.finalized(), ["forgotten"], "once");
}

#[test]
fn finish_finalizes_and_reports_a_forgotten_offer() {
    let fixture = Fixture::new();
    fixture.root(|| {
        mem::forget(fixture.own("forgotten").offer().expect("this task owns it"));
        let verdict = fixture.registry.finish();
        assert_eq!(fixture.finalized(), ["forgotten"]);
        assert_eq!((verdict.violations, verdict.still_open.len()), (1, 0));
    });
    assert_eq!(fixture.codes(), ["unclaimed"]);
}

#[test]
fn a_cancelled_task_cannot_claim_and_gets_the_offer_back() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let offer = fixture.own("offered").offer().expect("this task owns it");
        let (to_test, from_child) = channel();
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let child = fixture.spawn("cancelled", [], move || {
            begin.send(()).expect("the test receives it");
            assert!(gone.recv().is_err());
            let (error, offer) = offer.claim().expect_err("it owns nothing any more").into_parts();
            to_test.send((error.kind(), offer)).expect("the test receives it");
        });
        begun.recv().expect("the child starts");
        child.request_cancel().expect("this task owns it");
        drop(go);
        let (kind, offer) = from_child.recv().expect("it was sent");
        assert_cancelled(child.join());
        assert_eq!(kind, ErrorKind::Cancelled);
        let string = offer.expect("it is returned").claim().expect("this task may");
        string.release().expect("this task owns it again");
    });
    assert_eq!(fixture.finalized(), ["offered"]);
    fixture.assert_clean();
}

#[test]
fn only_the_owner_may_offer_and_others_get_the_handle_back() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let mine = fixture.own("mine");
        let child = fixture.spawn("child", [], move || {
            let (error, mine) = mine.offer().expect_err("the task does not own it").into_parts();
            assert_eq!(error.kind(), ErrorKind::NotOwner);
            mine.expect("the handle is returned")
        });
        let mine = child.join().expect("it owns nothing");
        mine.check().expect("this task owns it");
    });
}
