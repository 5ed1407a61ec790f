//! Actors: tasks without a thread of their own.

use std::io::{Read, Write};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use echown::ownership::{ErrorKind, Event, TaskError};
use echown::test;

use crate::common::{Fixture, assert_cancelled, leaked, refusal, thread_id, wait_until_blocked};

#[test]
fn what_is_acquired_in_an_actors_part_is_the_actors_and_not_the_lenders() {
    let lab = Fixture::new();
    lab.root(|| {
        let mut actor = lab.registry.actor("archive").expect("we are alive");
        let (stream, mut peer) = actor.act(|| lab.connection()).expect("it is alive");
        let refused = refusal(stream.check());
        assert_eq!(refused.kind(), ErrorKind::NotOwner);
        assert!(refused.to_string().contains("`archive`"), "{refused}");
        actor
            .act(|| {
                (&stream).write_all(b"x").expect("it is the actor's own");
                stream.release().expect("it is the actor's own");
            })
            .expect("it is alive");
        peer.read_exact(&mut [0]).expect("it arrives");
        lab.assert_all_closed_except(&peer);
    });
    assert_eq!(lab.codes(), ["not-owner"]);
}

#[test]
fn a_descriptor_goes_from_actor_to_actor_and_its_custody_names_each() {
    let lab = Fixture::new();
    lab.root(|| {
        let mut names = ["LISTENER-1", "WORKER-4", "RX-4", "TX-4"].into_iter();
        let mut actors: Vec<_> =
            names.by_ref().map(|name| lab.registry.actor(name).expect("we are alive")).collect();
        let (stream, peer) = lab.connection();
        let mut passed = stream.offer().expect("it is ours");
        for index in [0, 1, 2, 1, 3, 1] {
            passed = actors[index]
                .act(|| passed.claim().expect("it is offered").offer().expect("it is its own"))
                .expect("it is alive");
        }
        let stream = actors[0].act(|| passed.claim().expect("it is offered")).expect("alive");
        let hands: Vec<String> = stream
            .describe()
            .custody
            .into_iter()
            .filter(|step| step.event == Event::Claimed)
            .map(|step| {
                let name = |task: Option<echown::ownership::TaskLabel>| task.unwrap().name;
                format!("{} -> {}", name(step.from), name(step.to))
            })
            .collect();
        let expected = [
            "test -> LISTENER-1",
            "LISTENER-1 -> WORKER-4",
            "WORKER-4 -> RX-4",
            "RX-4 -> WORKER-4",
            "WORKER-4 -> TX-4",
            "TX-4 -> WORKER-4",
            "WORKER-4 -> LISTENER-1",
        ];
        assert_eq!(hands[1..], expected[1..]);
        assert!(hands[0].ends_with("-> LISTENER-1"), "{hands:?}");
        actors[0].act(|| stream.release().expect("it is its own")).expect("it is alive");
        lab.assert_all_closed_except(&peer);
    });
    lab.assert_clean();
}

#[test]
fn an_actor_that_ends_with_something_in_its_hands_is_a_leak_that_names_it() {
    let lab = Fixture::new();
    lab.root(|| {
        let mut actor = lab.registry.actor("RX-4").expect("we are alive");
        let (stream, peer) = actor.act(|| lab.connection()).expect("it is alive");
        mem::forget(stream);
        let ((), report) = leaked(actor.end());
        assert_eq!(&*report.task.name, "RX-4");
        lab.assert_all_closed_except(&peer);
    });
    assert_eq!(lab.codes(), ["leak"]);
}

#[test]
fn an_actor_that_is_dropped_ends_and_one_that_owns_nothing_ends_clean() {
    let lab = Fixture::new();
    lab.root(|| {
        let mut actor = lab.registry.actor("dropped").expect("we are alive");
        let (stream, peer) = actor.act(|| lab.connection()).expect("it is alive");
        mem::forget(stream);
        drop(actor);
        lab.assert_all_closed_except(&peer);
        let clean = lab.registry.actor("clean").expect("we are alive");
        clean.end().expect("it owns nothing");
    });
    assert_eq!(lab.codes(), ["leak"]);
}

#[test]
fn an_actor_ends_with_its_parent_and_cannot_act_afterwards() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, peer) = lab.connection();
        let parent = lab.spawn("parent", [stream.resource()], move || {
            let mut actor = lab.registry.actor("child").expect("we are alive");
            let offer = stream.offer().expect("it is ours");
            mem::forget(actor.act(|| offer.claim().expect("it is offered")).expect("alive"));
            actor
        });
        // It ran when its parent ended: it counts as forgotten.
        let Err(TaskError::UnjoinedChildren(forgotten)) = parent.join() else {
            panic!("the parent had a child left")
        };
        let mut actor = forgotten.value;
        lab.assert_all_closed_except(&peer);
        assert_eq!(refusal(actor.act(|| ())).kind(), ErrorKind::Cancelled);
        assert_cancelled(actor.end());
    });
}

#[test]
fn cancelling_the_lender_wakes_the_actors_call_and_the_actor_goes_on() {
    let lab = Fixture::new();
    lab.root(|| {
        let (send, receive) = channel();
        let (tell, told) = channel();
        let (stream, peer) = lab.connection();
        let mut actor = lab.registry.actor("RX").expect("we are alive");
        let offer = stream.offer().expect("it is ours");
        let stream = actor.act(|| offer.claim().expect("it is offered")).expect("it is alive");
        let lender = lab.spawn("lender", [], move || {
            tell.send(thread_id()).expect("somebody listens");
            let read = actor.act(|| (&stream).read(&mut [0])).expect("it is alive");
            // What was interrupted can only be given up; what comes next can be used.
            actor.act(|| stream.release().expect("it is its own")).expect("it is alive");
            send.send((actor, read)).expect("somebody listens");
        });
        wait_until_blocked(told.recv().expect("it begins"), false);
        assert_cancelled(lender.cancel());
        let (mut actor, read) = receive.recv().expect("it was sent");
        let refused = echown::ownership::Error::in_io(&read.unwrap_err()).map(|error| error.kind());
        assert_eq!(refused, Some(ErrorKind::Cancelled));
        lab.assert_all_closed_except(&peer);
        actor
            .act(|| {
                let (stream, _peer) = lab.connection();
                (&stream).write_all(b"next").expect("the actor was not cancelled");
            })
            .expect("it is alive");
        actor.end().expect("it owns nothing");
    });
    lab.assert_clean();
}

#[test]
fn an_actor_played_by_a_cancelled_task_is_interrupted_before_it_blocks() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, peer) = lab.connection();
        let mut actor = lab.registry.actor("RX").expect("we are alive");
        let offer = stream.offer().expect("it is ours");
        let stream = actor.act(|| offer.claim().expect("it is offered")).expect("it is alive");
        let (go, gone) = channel();
        let (answer, answered) = channel();
        let (begin, begun) = channel();
        let lender = lab.spawn("lender", [], move || {
            begin.send(()).expect("somebody listens");
            gone.recv().expect("we are told");
            let read = actor.act(|| (&stream).read(&mut [0])).expect("it is alive");
            answer.send(read.is_err()).expect("somebody listens");
            actor.act(|| drop(stream)).expect("it is alive");
            // It ends in the place of a cancelled task.
            assert!(matches!(actor.end(), Err(TaskError::Cancelled)));
        });
        begun.recv().expect("it begins");
        lender.request_cancel().expect("it is our child");
        go.send(()).expect("it listens");
        assert!(answered.recv().expect("it answers"), "it read from a connection that was cut");
        assert_cancelled(lender.cancel());
        lab.assert_all_closed_except(&peer);
    });
    lab.assert_clean();
}

#[test]
fn what_an_actor_comes_to_own_after_its_lender_was_cancelled_is_interrupted_too() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, peer) = lab.connection();
        let offered = stream.offer().expect("it is ours");
        let mut actor = lab.registry.actor("RX").expect("we are alive");
        let (begin, begun) = channel();
        let (go, gone) = channel::<()>();
        let lender = lab.spawn("lender", [], move || {
            actor
                .act(|| {
                    begin.send(()).expect("somebody listens");
                    gone.recv().expect("we are told");
                    let mut claimed = offered.claim().expect("the actor is not cancelled");
                    claimed.read(&mut [0]).expect_err("it would block for ever");
                    let (mut own, _own_peer) = lab.connection();
                    own.read(&mut [0]).expect_err("so would this");
                })
                .expect("it is alive");
        });
        begun.recv().expect("it begins");
        lender.request_cancel().expect("it is our child");
        go.send(()).expect("it listens");
        assert_cancelled(lender.cancel());
        lab.assert_all_closed_except(&peer);
    });
    lab.assert_clean();
}

#[test]
fn draining_the_lender_ends_the_actors_reading_after_what_has_arrived() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, mut peer) = lab.connection();
        let mut actor = lab.registry.actor("RX").expect("we are alive");
        let offer = stream.offer().expect("it is ours");
        let stream = actor.act(|| offer.claim().expect("it is offered")).expect("it is alive");
        let (tell, told) = channel();
        peer.write_all(b"arrived").expect("it is connected");
        let lender = lab.spawn("lender", [], move || {
            let text = actor
                .act(|| {
                    (&stream).read_exact(&mut [0]).expect("it has arrived");
                    tell.send(thread_id()).expect("somebody listens");
                    let mut text = String::new();
                    (&stream).read_to_string(&mut text).expect("it comes to the end");
                    assert!(lab.registry.is_draining(), "its lender is drained");
                    text
                })
                .expect("it is alive");
            actor.act(|| drop(stream)).expect("it is alive");
            text
        });
        wait_until_blocked(told.recv().expect("it begins"), false);
        lender.drain().expect("it is our child");
        assert_eq!(lender.join().expect("it leaves nothing"), "rrived");
        lab.assert_all_closed_except(&peer);
    });
    lab.assert_clean();
}

#[test]
fn cancelling_reaches_every_part_that_is_played_within_another() {
    let lab = Fixture::new();
    lab.root(|| {
        let (outer_stream, outer_peer) = lab.connection();
        let (inner_stream, _inner_peer) = lab.connection();
        let give = [outer_stream.resource(), inner_stream.resource()];
        let (tell, told) = channel();
        let lender = lab.spawn("lender", give, move || {
            let mut outer = lab.registry.actor("outer").expect("we are alive");
            let mut inner = lab.registry.actor("inner").expect("we are alive");
            let (offered_outer, offered_inner) =
                (outer_stream.offer().expect("ours"), inner_stream.offer().expect("ours"));
            outer
                .act(|| {
                    let mut outer_stream = offered_outer.claim().expect("it is offered");
                    inner
                        .act(|| {
                            let mut inner_stream = offered_inner.claim().expect("it is offered");
                            tell.send(thread_id()).expect("somebody listens");
                            inner_stream.read(&mut [0]).expect_err("it is cancelled");
                        })
                        .expect("it is alive");
                    outer_stream.read(&mut [0]).expect_err("so is this");
                })
                .expect("it is alive");
        });
        wait_until_blocked(told.recv().expect("it begins"), false);
        assert_cancelled(lender.cancel());
        drop(outer_peer);
    });
    lab.assert_clean();
}

#[test]
fn a_panic_in_an_actors_part_leaves_the_actor_ready_for_the_next_thread() {
    let lab = Fixture::new();
    lab.root(|| {
        let actor = lab.registry.actor("shaken").expect("we are alive");
        let shaken = lab.spawn("panics", [], {
            let actor = Arc::new(Mutex::new(Some(actor)));
            let kept = Arc::clone(&actor);
            let child = lab.spawn("shakes", [], move || {
                let mut actor = kept.lock().unwrap().take().expect("it is there");
                let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    actor.act(|| panic!("in the middle of a part"))
                }));
                assert!(unwound.is_err());
                actor.act(|| ()).expect("it goes on");
                *kept.lock().unwrap() = Some(actor);
            });
            child.join().expect("the panic was caught");
            move || actor.lock().unwrap().take().expect("it came back").end()
        });
        shaken.join().expect("no leak").expect("it owns nothing");
    });
    lab.assert_clean();
}

#[test]
fn cancelling_one_lender_leaves_the_next_lenders_time_alone() {
    let lab = Fixture::new();
    lab.root(|| {
        let actor = Arc::new(Mutex::new(lab.registry.actor("LISTENER").expect("we are alive")));
        let halt = Arc::new(AtomicBool::new(false));
        let (shared, halted) = (Arc::clone(&actor), Arc::clone(&halt));
        let innocent = lab.spawn("innocent", [], move || {
            while !halted.load(Ordering::Relaxed) {
                let mut actor = shared.lock().unwrap_or_else(PoisonError::into_inner);
                actor
                    .act(|| {
                        let (mut ours, mut peer) = lab.connection();
                        for _ in 0..5 {
                            ours.write_all(b"x").expect("nobody has cancelled this task");
                            peer.read_exact(&mut [0]).expect("nor shut its connection down");
                        }
                    })
                    .expect("it is alive");
            }
        });
        // Bounded in time: on a loaded machine each round takes long.
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            let shared = Arc::clone(&actor);
            let (begin, begun) = channel();
            let guilty = lab.spawn("guilty", [], move || {
                begin.send(()).expect("somebody listens");
                for _ in 0..2000 {
                    let mut actor = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    actor.act(|| ()).expect("it is alive");
                }
            });
            begun.recv().expect("it begins");
            // On a slow machine it may be done before.
            drop(guilty.cancel());
        }
        halt.store(true, Ordering::Relaxed);
        innocent.join().expect("it leaves nothing");
    });
    lab.assert_clean();
}
