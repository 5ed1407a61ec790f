//! Lots: resources that wait on the account of one task, and the workers that unpark them.

use std::io::Read as _;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};
use std::thread;

use echown::ownership::{ErrorKind, Event, Lot, Owned, TaskError, Unparked};
use echown::test;

use crate::common::{Fixture, leaked, refusal};
use crate::events;

#[test]
fn a_parked_resource_is_the_lots_until_a_worker_unparks_it() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (lot, root) = (Lot::new(), fixture.registry.current_task());
        let (here, _there) = fixture.connection();
        let here = Arc::new(here);
        let (its, its_lot) = (Arc::clone(&here), lot.clone());
        let worker = fixture.spawn("worker", [here.resource()], move || {
            assert!(its.park(&its_lot).expect("this task owns it"));
            assert_eq!(refusal(its.check()).kind(), ErrorKind::NotOwner);
            assert_eq!(its.unpark(&its_lot).expect("it runs"), Unparked::Claimed);
            its.check().expect("this task owns it");
            assert!(its.park(&its_lot).expect("this task owns it"));
        });
        worker.join().expect("it owns nothing");
        let described = here.resource().describe();
        assert_eq!((described.state, &described.owner), ("parked", &Some(root)));
        assert!(described.peer.is_some(), "the number of a parked descriptor can be read");
        let expected =
            [Event::Acquired, Event::Given, Event::Parked, Event::Unparked, Event::Parked];
        assert_eq!(events(&described), expected);
        let refused = refusal(here.check());
        assert_eq!(refused.kind(), ErrorKind::NotOwner, "the lot's task does not hold it");
        assert!(refused.to_string().ends_with(": it is parked"), "{refused}");
        assert_eq!(refusal(here.release()).kind(), ErrorKind::NotOwner);
        assert_eq!(here.unpark(&lot).expect("it runs"), Unparked::Claimed);
        here.release().expect("this task owns it");
        assert_eq!(here.unpark(&lot).expect("it runs"), Unparked::Gone);
    });
    assert_eq!(fixture.codes(), ["not-owner"; 3]);
    fixture.assert_all_closed();
}

#[test]
fn a_resource_that_becomes_ready_while_it_is_held_is_not_parked() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let lot = Lot::new();
        let string = fixture.own("string");
        let mark = || assert_eq!(string.unpark(&lot).expect("it runs"), Unparked::Marked);
        let park = || string.park(&lot).expect("this task owns it");
        mark();
        assert!(!park(), "it became ready");
        assert!(park(), "the mark is gone");
        assert_eq!(string.unpark(&lot).expect("it runs"), Unparked::Claimed);
        string.with(|_| mark()).expect("this task owns it");
        assert!(!park(), "it became ready during `with`");
        mark();
        mark();
        string.check().expect("a mark changes nothing else");
        assert!(!park());
        assert!(park(), "two marks are one");
        assert_eq!(string.unpark(&lot).expect("it runs"), Unparked::Claimed);
        assert_eq!(events(&string.describe())[1..], [Event::Parked, Event::Unparked].repeat(2));
    });
    fixture.assert_clean();
}

#[test]
fn a_mark_stays_when_the_resource_is_given_to_a_child() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (lot, string) = (Lot::new(), Arc::new(fixture.own("string")));
        assert_eq!(string.unpark(&lot).expect("it runs"), Unparked::Marked);
        let (its, its_lot) = (Arc::clone(&string), lot.clone());
        let writer = fixture.spawn("writer", [string.resource()], move || {
            let first = its.park(&its_lot).expect("this task owns it");
            (first, its.park(&its_lot).expect("this task owns it"))
        });
        assert_eq!(writer.join().expect("it owns nothing"), (false, true));
        assert_eq!(string.unpark(&lot).expect("it runs"), Unparked::Claimed);
    });
    fixture.assert_clean();
}

#[test]
fn what_is_parked_at_the_end_of_the_lots_task_is_finalized_and_is_a_leak() {
    let fixture = Fixture::new();
    fixture.root(|| {
        for is_normal in [true, false] {
            let child = fixture.spawn("lot", [], move || {
                let (lot, string) = (Lot::new(), fixture.own("parked"));
                assert!(string.park(&lot).expect("this task owns it"));
                mem::forget(string);
                assert!(is_normal, "a panic");
            });
            match child.join() {
                outcome if is_normal => {
                    let (_, report) = leaked(outcome);
                    let [left] = &*report.resources else { panic!("{report}") };
                    assert_eq!(events(left), [Event::Acquired, Event::Parked]);
                }
                Err(TaskError::Panicked(_)) => {}
                other => panic!("expected a panic, got {other:?}"),
            }
        }
    });
    assert_eq!(fixture.finalized(), ["parked"; 2]);
    assert_eq!(fixture.codes(), ["leak"], "after a panic it is no leak");
}

#[test]
fn the_cancellation_of_the_lots_task_shuts_down_what_is_parked() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (here, mut there) = fixture.connection();
        let here = Arc::new(here);
        let (its, (to_test, from_lot)) = (Arc::clone(&here), channel());
        let (end, ended) = channel::<()>();
        let parker = fixture.spawn("lot", [here.resource()], move || {
            let lot = Lot::new();
            assert!(its.park(&lot).expect("this task owns it"));
            to_test.send(lot.clone()).expect("the test receives it");
            assert!(ended.recv().is_err());
            refusal(its.unpark(&lot)).kind()
        });
        let lot = from_lot.recv().expect("it was sent");
        parker.request_cancel().expect("this task owns it");
        assert_eq!(there.read(&mut [0; 1]).expect("it is shut down"), 0);
        assert_eq!(here.unpark(&lot).expect("it runs"), Unparked::Gone);
        assert_eq!(here.resource().describe().state, "parked");
        drop(end);
        crate::common::assert_cancelled(parker.join());
        assert_eq!(here.unpark(&lot).expect("it runs"), Unparked::Gone);
        assert_eq!(here.resource().describe().state, "released");
    });
    fixture.assert_all_closed();
}

#[test]
fn a_cancelled_worker_claims_nothing_and_the_resource_stays_parked() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (lot, parked) = (Lot::new(), Arc::new(fixture.own("parked")));
        let held = Arc::new(fixture.own("held"));
        assert!(parked.park(&lot).expect("this task owns it"));
        let (its, its_held, its_lot) = (Arc::clone(&parked), Arc::clone(&held), lot.clone());
        let (to_test, from_worker) = channel();
        let (end, ended) = channel::<()>();
        let (begin, begun) = channel::<()>();
        let worker = fixture.spawn("worker", [], move || {
            begin.send(()).expect("the test receives it");
            assert!(ended.recv().is_err());
            let refused = its.unpark(&its_lot).map_err(|refused| refused.kind());
            to_test.send((refused, its_held.unpark(&its_lot))).expect("the test receives it");
        });
        begun.recv().expect("it starts");
        worker.request_cancel().expect("this task owns it");
        drop(end);
        crate::common::assert_cancelled(worker.join());
        let (refused, marked) = from_worker.recv().expect("it was sent");
        assert_eq!(refused, Err(ErrorKind::Cancelled));
        assert_eq!(marked.expect("a mark needs no account"), Unparked::Marked);
        assert!(!held.park(&lot).expect("this task owns it"), "the event is not lost");
        assert_eq!(parked.unpark(&lot).expect("it runs"), Unparked::Claimed);
    });
    fixture.assert_clean();
}

#[test]
fn a_lot_whose_task_has_ended_accepts_nothing() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let lot = fixture.spawn("lot", [], Lot::new).join().expect("it owns nothing");
        let string = fixture.own("string");
        let refused = refusal(string.park(&lot));
        assert_eq!(refused.kind(), ErrorKind::ParentExiting);
        assert!(refused.to_string().contains("the lot is that of task "), "{refused}");
        assert_eq!(string.disown().expect("it stays"), "string");
    });
    fixture.assert_clean();
}

#[test]
fn a_parked_resource_whose_handle_is_dropped_is_closed() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let lot = Lot::new();
        let parked = |name| {
            let string = fixture.own(name);
            assert!(string.park(&lot).expect("this task owns it"));
            string
        };
        drop(parked("by the lot's task"));
        assert_eq!(fixture.codes(), [""; 0]);
        let other = parked("by another task");
        thread::spawn(move || drop(other)).join().expect("it does not panic");
    });
    assert_eq!(fixture.finalized(), ["by the lot's task", "by another task"]);
    assert_eq!(fixture.codes(), ["dropped-by-non-owner"]);
}

#[test]
fn parking_in_turn_is_counted_in_the_custody_and_shown_as_one_step_of_each_kind() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (lot, string) = (Lot::new(), fixture.own("string"));
        for _ in 0..1000 {
            assert!(string.park(&lot).expect("this task owns it"));
            assert_eq!(string.unpark(&lot).expect("it runs"), Unparked::Claimed);
        }
        let described = string.describe();
        let steps: Vec<_> = described.custody.iter().map(|step| (step.event, step.times)).collect();
        let expected = [
            (Event::Acquired, 1),
            (Event::Parked, 1),
            (Event::Unparked, 1),
            (Event::Parked, 999),
            (Event::Unparked, 999),
        ];
        assert_eq!(steps, expected);
        let root = fixture.registry.current_task();
        let last = described.custody[3].to_string();
        assert!(last.starts_with(&format!("parked 999 times, last by {root} at ")), "{last}");
        let live = fixture.registry.subscribe(10).next_lines(100);
        let replayed: Vec<_> = live.iter().map(|line| (line.event.as_str(), line.times)).collect();
        assert!(replayed.contains(&("parked", Some(999))), "{replayed:?}");
        assert!(replayed.contains(&("parked", None)), "{replayed:?}");
    });
    fixture.assert_clean();
}

/// Every event is served, however events, claims and parking meet: an event for a resource that a worker
/// is about to park is found by that worker. A later event would hide a lost one, so each round waits until
/// all of its events are served.
#[test]
fn no_event_is_lost_between_workers_that_claim_and_park() {
    const WORKERS: usize = 4;
    const ROUNDS: usize = 2_000;

    struct Connection {
        owned: Owned<&'static str>,
        unread: AtomicUsize,
        /// Changed by the owner only, in two steps, so that two owners at a time would lose a count.
        read: AtomicUsize,
        round: Barrier,
    }

    fn work(lot: &Lot, Connection { owned, unread, read, round }: &Connection) {
        for number in 1..=ROUNDS {
            round.wait();
            unread.fetch_add(1, Ordering::Relaxed);
            if owned.unpark(lot).expect("it runs") == Unparked::Claimed {
                loop {
                    let before = read.load(Ordering::Relaxed);
                    let more = unread.swap(0, Ordering::Relaxed);
                    read.store(before + more, Ordering::Relaxed);
                    // The moment of the late event.
                    thread::yield_now();
                    if owned.park(lot).expect("this task owns it") {
                        break;
                    }
                }
            }
            round.wait();
            assert_eq!(unread.load(Ordering::Relaxed), 0, "round {number}");
            assert_eq!(read.load(Ordering::Relaxed), number * WORKERS);
        }
    }

    let fixture = Fixture::new();
    fixture.root(|| {
        let lot = Lot::new();
        let connection = Arc::new(Connection {
            owned: fixture.own("connection"),
            unread: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
            round: Barrier::new(WORKERS),
        });
        assert!(connection.owned.park(&lot).expect("this task owns it"));
        let spawn = |_| {
            let (lot, connection) = (lot.clone(), Arc::clone(&connection));
            fixture.spawn("worker", [], move || work(&lot, &connection))
        };
        let workers: Vec<_> = (1..WORKERS).map(spawn).collect();
        work(&lot, &connection);
        workers.into_iter().for_each(|worker| worker.join().expect("it owns nothing"));
        assert_eq!(connection.owned.describe().state, "parked");
    });
    fixture.assert_clean();
}
