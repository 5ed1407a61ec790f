//! Rule 10, for what a task's thread runs in the task's place: inline children and local roots. Cancel
//! and drain reach the end of that chain, and so does what comes back to a task that was cancelled or
//! drained meanwhile.

use std::io::{Read, Write};
use std::mem;
use std::sync::Barrier;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use echown::net::Stream;
use echown::ownership::{ErrorKind, Promise, Registry, RunInlineError, TaskError};
use echown::pool::{self, Orphans, Pool};
use echown::test;

use crate::common::{
    Fixture, assert_cancelled, panic_message, refusal, thread_id, wait_until, wait_until_blocked,
};

/// Spawns a child and waits until `work` blocks in a system call, or for another thread.
#[track_caller]
fn blocked<T: Send + 'static>(
    lab: &'static Fixture,
    by_a_thread: bool,
    work: impl FnOnce(Sender<i32>) -> T + Send + 'static,
) -> Promise<T> {
    let (begin, begun) = channel();
    let child = lab.spawn("outer", [], move || work(begin));
    wait_until_blocked(begun.recv().expect("the child runs"), by_a_thread);
    child
}

/// Reads from a connection whose peer sends nothing. What the read returned.
fn read_from_a_silent_peer(
    lab: &'static Fixture,
    begin: &Sender<i32>,
) -> Result<usize, echown::ownership::Error> {
    let (stream, _peer) = lab.connection();
    begin.send(thread_id()).expect("the test listens");
    (&stream).read(&mut [0]).map_err(|error| refusal::<(), _>(Err(error)))
}

/// An inner task may be cancelled; what it asserts must hold.
#[track_caller]
fn assert_fails_without_panic<T, E: std::fmt::Display>(ended: Result<T, E>) {
    if let Err(failure) = ended {
        assert!(!failure.to_string().contains("panicked"), "{failure}");
    }
}

/// A child that ends when it is cancelled, be it before it has a stream to sleep on.
fn sleeper(pool: &Pool) -> Promise<()> {
    try_sleeper(pool).expect("a thread can be had")
}

/// Waits for a sleeper. A task that is cancelled first has none to wait for.
fn wait_for_a_sleeper(pool: &Pool) {
    match try_sleeper(pool) {
        Ok(child) => drop(child.join()),
        Err(kind) => assert_eq!(kind, ErrorKind::Cancelled),
    }
}

fn try_sleeper(pool: &Pool) -> Result<Promise<()>, ErrorKind> {
    let registry = pool.registry().clone();
    let block = move || match Stream::pair_in(&registry) {
        Ok((stream, _peer)) => drop((&stream).read(&mut [0])),
        Err(error) => assert_eq!(refusal::<(), _>(Err(error)).kind(), ErrorKind::Cancelled),
    };
    pool.spawn([], block).map_err(|error| error.refusal().expect("refused").kind())
}

#[test]
fn cancel_reaches_a_read_in_an_inline_child() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = blocked(lab, false, |begin| {
            let read = || read_from_a_silent_peer(lab, &begin);
            let ended = lab.registry.run_inline("inline", [], read);
            assert!(ended.is_err(), "the inline child is cancelled with its outer task");
        });
        assert_cancelled(child.cancel());
    });
    lab.assert_clean();
}

#[test]
fn cancel_reaches_a_read_in_a_local_root_two_levels_down() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = blocked(lab, false, |begin| {
            let read = || {
                let read = read_from_a_silent_peer(lab, &begin);
                assert_eq!(read.unwrap_err().kind(), ErrorKind::Cancelled);
            };
            let local_root = || assert_fails_without_panic(lab.registry.run("local root", read));
            assert_fails_without_panic(lab.registry.run_inline("inline", [], local_root));
        });
        assert_cancelled(child.cancel());
    });
    lab.assert_clean();
}

#[test]
fn drain_reaches_a_read_two_levels_down_and_nothing_is_cancelled() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = blocked(lab, false, |begin| {
            let read = || read_from_a_silent_peer(lab, &begin);
            let local_root = || lab.registry.run("local root", read).expect("it ends well");
            lab.registry.run_inline("inline", [], local_root).expect("it ends well")
        });
        child.drain().expect("it is our child");
        assert_eq!(child.join().expect("it ends well").expect("the stream ends"), 0);
    });
    lab.assert_clean();
}

#[test]
fn cancel_wakes_every_way_of_waiting_in_an_inline_child() {
    type Wait = fn(&Pool);
    let ways: [Wait; 6] = [
        |pool| assert!(matches!(sleeper(pool).join(), Err(TaskError::Refused(..)))),
        |pool| {
            let far = Instant::now() + Duration::from_secs(3600);
            assert_eq!(refusal(sleeper(pool).wait_until(far)).kind(), ErrorKind::Cancelled);
        },
        |pool| {
            let orphans = Orphans::new(pool.registry());
            orphans.adopt(sleeper(pool)).expect("it is our child");
            assert_eq!(refusal(orphans.get()).kind(), ErrorKind::Cancelled);
        },
        |pool| {
            let scope = pool.scope(|scope| {
                let pool = pool.clone();
                let wait = move || wait_for_a_sleeper(&pool);
                scope.spawn([], wait).expect("a thread can be had");
            });
            assert!(scope.expect_err("it was cancelled").is_cancelled());
        },
        |pool| {
            let refused = pool::first([sleeper(pool), sleeper(pool)]);
            assert!(matches!(refused, Err(TaskError::Refused(..))));
        },
        |pool| {
            let theirs = pool.clone();
            let ended = pool.parallel(2, move |_| wait_for_a_sleeper(&theirs));
            for outcome in ended.expect("threads can be had") {
                assert!(matches!(outcome, Err(TaskError::Cancelled)));
            }
        },
    ];
    let lab = Fixture::with(|settings| settings.on_violation(echown::ownership::Policy::Ignore));
    lab.root(|| {
        for way in ways {
            let child = blocked(lab, true, move |begin| {
                let pool = lab.pool();
                assert_fails_without_panic(lab.registry.run_inline("inline", [], || {
                    begin.send(thread_id()).expect("the test listens");
                    way(&pool);
                }));
            });
            assert_cancelled(child.cancel());
        }
    });
}

#[test]
fn cancel_reaches_what_every_task_on_the_thread_owns() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = blocked(lab, false, |begin| {
            let (outer, _outer_peer) = lab.connection();
            let read = || {
                let read = read_from_a_silent_peer(lab, &begin);
                assert_eq!(read.unwrap_err().kind(), ErrorKind::Cancelled);
            };
            assert_fails_without_panic(lab.registry.run_inline("inline", [], read));
            let refused = refusal((&outer).read(&mut [0]));
            assert_eq!(refused.kind(), ErrorKind::Cancelled);
        });
        assert_cancelled(child.cancel());
    });
    lab.assert_clean();
}

#[test]
fn an_inline_child_of_a_cancelled_task_gets_nothing_more() {
    let lab = Fixture::new();
    lab.root(|| {
        let (offered, _peer) = lab.connection();
        let offered = offered.offer().expect("it is ours");
        let (go, gone) = channel::<()>();
        let child = blocked(lab, true, move |begin| {
            let acquire = || {
                let inner = lab.spawn("sender", [], move || {
                    let text = lab.own("text");
                    let _ = gone.recv();
                    refusal(text.transfer()).kind()
                });
                begin.send(thread_id()).expect("the test listens");
                let Err(TaskError::Refused(inner, _)) = inner.join() else {
                    panic!("the outer task was cancelled")
                };
                drop(go);
                while !inner.has_ended() {
                    std::thread::yield_now();
                }
                assert_eq!(inner.cancel().expect("it had ended"), ErrorKind::Cancelled);
                assert_eq!(refusal(offered.claim()).kind(), ErrorKind::Cancelled);
                assert_eq!(refusal(lab.registry.own(())).kind(), ErrorKind::Cancelled);
                let spawned = lab.pool().spawn([], || ()).expect_err("it is cancelled");
                assert_eq!(spawned.refusal().expect("refused").kind(), ErrorKind::Cancelled);
            };
            assert_fails_without_panic(lab.registry.run_inline("inline", [], acquire));
        });
        assert_cancelled(child.cancel());
    });
}

#[test]
fn a_drained_inline_child_reads_what_has_arrived_before_the_end() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, mut peer) = lab.connection();
        peer.write_all(b"arrived").expect("it is connected");
        let give = [stream.resource()];
        let (begin, begun) = channel();
        let child = lab.spawn("outer", give, move || {
            let read = || {
                let mut text = String::new();
                (&stream).read_exact(&mut [0]).expect("it has arrived");
                begin.send(thread_id()).expect("the test listens");
                (&stream).read_to_string(&mut text).expect("it comes to the end");
                assert!(lab.registry.is_draining());
                stream.transfer().expect("the outer task accepts it");
                text
            };
            lab.registry.run_inline("inline", [stream.resource()], read).expect("it ends well")
        });
        wait_until_blocked(begun.recv().expect("the child runs"), false);
        child.drain().expect("it is our child");
        assert_eq!(child.join().expect("it ends well"), "rrived");
        lab.assert_all_closed_except(&peer);
    });
    lab.assert_clean();
}

#[test]
fn a_descriptor_goes_down_and_up_through_inline_children_and_its_custody_names_each() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, peer) = lab.connection();
        let run = |name, f: &dyn Fn()| {
            let inline = || {
                f();
                stream.transfer().expect("the outer task accepts it");
            };
            lab.registry.run_inline(name, [stream.resource()], inline).expect("it ends well");
        };
        run("LISTENER-1", &|| {
            run("WORKER-4", &|| {
                run("RX-4", &|| ());
                run("TX-4", &|| ());
            });
        });
        let custody = stream.describe().custody.into_iter().skip(1);
        let hands: Vec<String> = custody
            .map(|step| format!("{} {}", step.event, step.to.expect("a task").name))
            .collect();
        let expected = [
            "given LISTENER-1",
            "given WORKER-4",
            "given RX-4",
            "transferred WORKER-4",
            "given TX-4",
            "transferred WORKER-4",
            "transferred LISTENER-1",
        ];
        assert_eq!(hands[..7], expected);
        assert!(hands[7].starts_with("transferred "), "{hands:?}");
        stream.release().expect("it is ours again");
        lab.assert_all_closed_except(&peer);
    });
    lab.assert_clean();
}

#[test]
fn a_panic_in_an_inline_child_leaves_the_outer_task_ready_for_the_next() {
    let lab = Fixture::new();
    lab.root(|| {
        let (stream, peer) = lab.connection();
        let panics = || panic!("in the child");
        let ended = lab.registry.run_inline("panics", [stream.resource()], panics);
        let Err(RunInlineError::Failed(ended)) = ended else { panic!("{ended:?}") };
        assert_eq!(panic_message::<()>(Err(ended)), "in the child");
        lab.assert_all_closed_except(&peer);
        lab.registry.run_inline("next", [], || drop(lab.connection())).expect("it ends well");
    });
    lab.assert_clean();
}

#[test]
fn what_is_spawned_into_a_scope_is_the_scopes_whatever_runs_in_its_place() {
    let lab = Fixture::new();
    lab.root(|| {
        let (tell, told) = channel();
        let pool = lab.pool();
        let scope = pool.scope(|scope| {
            let inline = || {
                let text = lab.own("given by the inline child");
                let give = [text.resource()];
                let job = move || tell.send(text.check().is_ok()).expect("the test listens");
                scope.spawn(give, job).expect("a thread can be had");
            };
            lab.registry.run_inline("inline", [], inline).expect("the child is the scope's");
            let root = || scope.spawn([], || ()).expect("a thread can be had");
            lab.registry.run("local root", root).expect("the child is the scope's");
        });
        scope.expect("all children ended well");
        assert!(told.recv().expect("the child ran"));
    });
    lab.assert_clean();
}

/// How often a race is tried. The order that fails is rare; with these numbers a fault shows in
/// most runs.
const ROUNDS: u32 = 1_000;

/// How often something moves in a round.
const MOVES: u32 = 50;

/// Lets a part of the moves of a round pass.
fn wait_for_some_moves(round: u32) {
    (0..round % 500 * 100).for_each(|_| std::hint::spin_loop());
}

/// In each round, `inline` runs in a child with a stream of the child's own while `interrupt` comes
/// at the same time; the child must end.
fn storm(
    lab: &'static Fixture,
    interrupt: fn(&Promise<()>),
    work: fn(&'static Fixture, &Stream) -> std::io::Result<usize>,
) {
    lab.root(|| {
        for round in 0..ROUNDS {
            let start: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
            let child = lab.spawn("outer", [], move || {
                let (stream, _peer) = Stream::pair_in(&lab.registry).expect("a pair can be had");
                start.wait();
                if let Ok(bytes) = work(lab, &stream) {
                    assert_eq!(bytes, 0, "round {round}");
                }
            });
            start.wait();
            wait_for_some_moves(round);
            interrupt(&child);
            ends(child);
        }
    });
    lab.assert_clean();
}

/// However it ends, it does not panic.
#[track_caller]
fn ends(child: Promise<()>) {
    if let Err(TaskError::Panicked(panic)) = child.join() {
        panic!("{}", panic.message());
    }
}

fn cancel(child: &Promise<()>) {
    child.request_cancel().expect("it is our child");
}

fn drain(child: &Promise<()>) {
    child.drain().expect("it is our child");
}

fn read_in_an_inline_child(lab: &'static Fixture, mut stream: &Stream) -> std::io::Result<usize> {
    let given = [stream.resource()];
    let read = || {
        let read = stream.read(&mut [0]);
        // Refused where it was cancelled.
        let _ = stream.transfer();
        read
    };
    match lab.registry.run_inline("inline", given, read) {
        Ok(read) => read,
        Err(_) => Err(std::io::ErrorKind::Other.into()),
    }
}

fn read_what_an_inline_child_transferred(
    lab: &'static Fixture,
    mut stream: &Stream,
) -> std::io::Result<usize> {
    for _ in 0..MOVES {
        let up = || stream.transfer();
        assert_fails_without_panic(lab.registry.run_inline("inline", [stream.resource()], up));
    }
    stream.read(&mut [0])
}

#[test]
fn a_cancel_while_an_inline_child_begins_reaches_it() {
    storm(Fixture::new(), cancel, read_in_an_inline_child);
}

#[test]
fn a_drain_while_an_inline_child_begins_reaches_it() {
    storm(Fixture::new(), drain, read_in_an_inline_child);
}

#[test]
fn a_cancel_while_an_inline_child_transfers_is_cancelled_and_no_violation() {
    storm(Fixture::new(), cancel, read_what_an_inline_child_transferred);
}

#[test]
fn a_drain_while_an_inline_child_transfers_reaches_what_moves() {
    storm(Fixture::new(), drain, read_what_an_inline_child_transferred);
}

#[test]
fn a_cancelled_task_that_uses_what_its_inline_child_finalized_gets_cancelled() {
    let lab = Fixture::new();
    lab.root(|| {
        let child = blocked(lab, false, |begin| {
            let (stream, _peer) = lab.connection();
            let read = || {
                begin.send(thread_id()).expect("the test listens");
                drop((&stream).read(&mut [0]));
            };
            assert_fails_without_panic(lab.registry.run_inline(
                "inline",
                [stream.resource()],
                read,
            ));
            let refused = refusal((&stream).read(&mut [0]));
            assert_eq!(refused.kind(), ErrorKind::Cancelled);
            mem::forget(stream);
        });
        assert_cancelled(child.cancel());
    });
    lab.assert_clean();
}

#[test]
fn a_transfer_to_a_cancelled_parent_gets_cancelled() {
    let lab = Fixture::new();
    lab.root(|| {
        let (go, gone) = channel::<()>();
        let child = blocked(lab, true, move |begin| {
            let inner = lab.spawn("inner", [], move || {
                let text = lab.own("text");
                begin.send(thread_id()).expect("the test listens");
                let _ = gone.recv();
                refusal(text.transfer()).kind()
            });
            let refused = inner.join();
            let Err(TaskError::Refused(inner, _)) = refused else { panic!("{refused:?}") };
            drop(go);
            while !inner.has_ended() {
                std::thread::yield_now();
            }
            assert_eq!(inner.cancel().expect("it had ended"), ErrorKind::Cancelled);
        });
        assert_cancelled(child.cancel());
    });
    lab.assert_clean();
}

/// A registry whose pool never has a thread: every spawn comes back.
fn without_threads(registry: &Registry) -> Pool {
    Pool::builder().registry(registry).limit(0).build()
}

#[test]
fn what_a_failed_spawn_hands_back_to_a_cancelled_task_is_flagged() {
    let lab = Fixture::new();
    let pool: &'static Pool = Box::leak(Box::new(without_threads(&lab.registry)));
    storm_of_failed_spawns(lab, pool, cancel);
}

#[test]
fn what_a_failed_spawn_hands_back_to_a_drained_task_comes_to_its_end() {
    let lab = Fixture::new();
    let pool: &'static Pool = Box::leak(Box::new(without_threads(&lab.registry)));
    storm_of_failed_spawns(lab, pool, drain);
}

fn storm_of_failed_spawns(lab: &'static Fixture, pool: &'static Pool, interrupt: fn(&Promise<()>)) {
    lab.root(|| {
        for round in 0..ROUNDS {
            let start: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
            let child = lab.spawn("outer", [], move || {
                let (stream, _peer) = Stream::pair_in(&lab.registry).expect("a pair can be had");
                // Many of them, so that they are on the way for most of the time.
                let others = || lab.registry.own(()).expect("the task is running");
                let others: Vec<_> = (0..100).map(|_| others()).collect();
                start.wait();
                for _ in 0..MOVES / 10 {
                    let give = others.iter().map(echown::ownership::Owned::resource);
                    let spawned = pool.spawn(give.chain([stream.resource()]), || ());
                    assert!(spawned.is_err(), "there is no thread");
                }
                // Blocks where the cancel or drain did not reach the stream.
                let read = (&stream).read(&mut [0]);
                if let Err(error) = read {
                    assert_eq!(refusal::<(), _>(Err(error)).kind(), ErrorKind::Cancelled);
                } else {
                    assert!(lab.registry.is_draining(), "a false end of the stream");
                }
            });
            start.wait();
            wait_for_some_moves(round);
            interrupt(&child);
            ends(child);
        }
    });
    lab.assert_clean();
}

#[test]
fn what_is_dropped_elsewhere_during_a_failed_spawn_is_closed_once() {
    let lab = Fixture::new();
    let pool = without_threads(&lab.registry);
    lab.root(|| {
        for _ in 0..ROUNDS {
            let text = lab.registry.own(String::from("text")).expect("the task is running");
            let give = [text.resource()];
            let start = Barrier::new(2);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    start.wait();
                    drop(text);
                });
                start.wait();
                let spawned = pool.spawn(give, || ());
                assert!(spawned.is_err());
            });
        }
        assert_eq!(lab.registry.snapshot().resources.len(), 0);
    });
}

#[test]
fn a_discarded_result_whose_handle_was_transferred_is_no_drop_elsewhere() {
    let lab = Fixture::new();
    lab.root(|| {
        // Cancelled between its transfer and its end: the value goes nowhere.
        let (begin, begun) = channel();
        let (go, gone) = channel();
        let child = lab.spawn("cancelled", [], move || {
            let text = lab.own("transferred");
            text.transfer().expect("the parent is alive");
            begin.send(()).expect("the test listens");
            gone.recv().expect("the test sends");
            text
        });
        begun.recv().expect("the child runs");
        child.request_cancel().expect("it is our child");
        go.send(()).expect("the child listens");
        assert_cancelled(child.join());
        assert_eq!(lab.finalized(), ["transferred"]);
    });
    // Ended after its promise was dropped.
    let (begin, begun) = channel::<()>();
    let outcome = lab.registry.run("parent", || {
        let child = lab.spawn("forgotten", [], move || {
            let text = lab.own("result");
            text.transfer().expect("the parent is alive");
            let _ = begun.recv();
            text
        });
        drop(child);
        drop(begin);
        wait_until("both finalizers to run", || lab.finalized().len() == 2);
    });
    assert!(matches!(outcome, Err(TaskError::UnjoinedChildren(_))), "{outcome:?}");
    assert_eq!(lab.finalized(), ["transferred", "result"]);
    assert_eq!(lab.codes(), [""; 0]);
}
