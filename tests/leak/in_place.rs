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
    fixture: &'static Fixture,
    by_a_thread: bool,
    work: impl FnOnce(Sender<i32>) -> T + Send + 'static,
) -> Promise<T> {
    let (begin, begun) = channel();
    let child = fixture.spawn("outer", [], move || work(begin));
    wait_until_blocked(begun.recv().expect("the child runs"), by_a_thread);
    child
}

/// Reads from a connection whose peer sends nothing. Returns the result of the read.
fn read_from_a_silent_peer(
    fixture: &'static Fixture,
    begin: &Sender<i32>,
) -> Result<usize, echown::ownership::Error> {
    let (stream, _peer) = fixture.connection();
    begin.send(thread_id()).expect("the test receives it");
    (&stream).read(&mut [0]).map_err(|error| refusal::<(), _>(Err(error)))
}

/// Asserts that an inner task, which may be cancelled, did not panic.
#[track_caller]
fn assert_fails_without_panic<T, E: std::fmt::Display>(ended: Result<T, E>) {
    if let Err(failure) = ended {
        assert!(!failure.to_string().contains("panicked"), "{failure}");
    }
}

/// A child that ends when it is cancelled, also before it has a stream to wait on.
fn sleeper(pool: &Pool) -> Promise<()> {
    try_sleeper(pool).expect("the child starts")
}

/// Waits for a sleeper. A task that is cancelled first has none to wait for.
fn wait_for_a_sleeper(pool: &Pool) {
    match try_sleeper(pool) {
        Ok(child) => drop(child.join()),
        Err(kind) => assert_eq!(kind, ErrorKind::Cancelled),
    }
}

fn try_sleeper(pool: &Pool) -> Result<Promise<()>, ErrorKind> {
    let block = move || match Stream::pair() {
        Ok((stream, _peer)) => drop((&stream).read(&mut [0])),
        Err(error) => assert_eq!(refusal::<(), _>(Err(error)).kind(), ErrorKind::Cancelled),
    };
    pool.spawn([], block).map_err(|error| error.refusal().expect("refused").kind())
}

#[test]
fn cancel_reaches_a_read_in_an_inline_child() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = blocked(fixture, false, |begin| {
            let read = || read_from_a_silent_peer(fixture, &begin);
            let ended = fixture.registry.run_inline("inline", [], read);
            assert!(ended.is_err(), "the inline child is cancelled with its outer task");
        });
        assert_cancelled(child.cancel());
    });
    fixture.assert_clean();
}

#[test]
fn cancel_reaches_a_read_in_a_local_root_two_levels_down() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = blocked(fixture, false, |begin| {
            let read = || {
                let read = read_from_a_silent_peer(fixture, &begin);
                assert_eq!(read.unwrap_err().kind(), ErrorKind::Cancelled);
            };
            let local_root =
                || assert_fails_without_panic(fixture.registry.run("local root", read));
            assert_fails_without_panic(fixture.registry.run_inline("inline", [], local_root));
        });
        assert_cancelled(child.cancel());
    });
    fixture.assert_clean();
}

#[test]
fn drain_reaches_a_read_two_levels_down_and_nothing_is_cancelled() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = blocked(fixture, false, |begin| {
            let read = || read_from_a_silent_peer(fixture, &begin);
            let local_root = || fixture.registry.run("local root", read).expect("it returns");
            fixture.registry.run_inline("inline", [], local_root).expect("it returns")
        });
        child.drain().expect("it is a child");
        assert_eq!(child.join().expect("it returns").expect("the stream ends"), 0);
    });
    fixture.assert_clean();
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
            orphans.adopt(sleeper(pool)).expect("it is a child");
            assert_eq!(refusal(orphans.get()).kind(), ErrorKind::Cancelled);
        },
        |pool| {
            let scope = pool.scope(|scope| {
                let pool = pool.clone();
                let wait = move || wait_for_a_sleeper(&pool);
                scope.spawn([], wait).expect("the child starts");
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
            for outcome in ended.expect("the children start") {
                assert!(matches!(outcome, Err(TaskError::Cancelled)));
            }
        },
    ];
    let fixture =
        Fixture::with(|settings| settings.on_violation(echown::ownership::Policy::Ignore));
    fixture.root(|| {
        for way in ways {
            let child = blocked(fixture, true, move |begin| {
                let pool = fixture.pool();
                assert_fails_without_panic(fixture.registry.run_inline("inline", [], || {
                    begin.send(thread_id()).expect("the test receives it");
                    way(&pool);
                }));
            });
            assert_cancelled(child.cancel());
        }
    });
}

#[test]
fn cancel_reaches_what_every_task_on_the_thread_owns() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = blocked(fixture, false, |begin| {
            let (outer, _outer_peer) = fixture.connection();
            let read = || {
                let read = read_from_a_silent_peer(fixture, &begin);
                assert_eq!(read.unwrap_err().kind(), ErrorKind::Cancelled);
            };
            assert_fails_without_panic(fixture.registry.run_inline("inline", [], read));
            let refused = refusal((&outer).read(&mut [0]));
            assert_eq!(refused.kind(), ErrorKind::Cancelled);
        });
        assert_cancelled(child.cancel());
    });
    fixture.assert_clean();
}

#[test]
fn an_inline_child_of_a_cancelled_task_gets_nothing_more() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (offered, _peer) = fixture.connection();
        let offered = offered.offer().expect("this task owns it");
        let (go, gone) = channel::<()>();
        let child = blocked(fixture, true, move |begin| {
            let acquire = || {
                let inner = fixture.spawn("sender", [], move || {
                    let text = fixture.own("text");
                    let _ = gone.recv();
                    refusal(text.transfer()).kind()
                });
                begin.send(thread_id()).expect("the test receives it");
                let Err(TaskError::Refused(inner, _)) = inner.join() else {
                    panic!("the outer task was cancelled")
                };
                drop(go);
                while !inner.has_ended() {
                    std::thread::yield_now();
                }
                assert_eq!(inner.cancel().expect("it had ended"), ErrorKind::Cancelled);
                assert_eq!(refusal(offered.claim()).kind(), ErrorKind::Cancelled);
                assert_eq!(refusal(fixture.registry.own(())).kind(), ErrorKind::Cancelled);
                let spawned = fixture.pool().spawn([], || ()).expect_err("it is cancelled");
                assert_eq!(spawned.refusal().expect("refused").kind(), ErrorKind::Cancelled);
            };
            assert_fails_without_panic(fixture.registry.run_inline("inline", [], acquire));
        });
        assert_cancelled(child.cancel());
    });
}

#[test]
fn a_drained_inline_child_reads_what_has_arrived_before_the_end() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, mut peer) = fixture.connection();
        peer.write_all(b"arrived").expect("it is connected");
        let give = [stream.resource()];
        let (begin, begun) = channel();
        let child = fixture.spawn("outer", give, move || {
            let read = || {
                let mut text = String::new();
                (&stream).read_exact(&mut [0]).expect("it has arrived");
                begin.send(thread_id()).expect("the test receives it");
                (&stream).read_to_string(&mut text).expect("it comes to the end");
                assert!(fixture.registry.is_draining());
                stream.transfer().expect("the outer task accepts it");
                text
            };
            fixture.registry.run_inline("inline", [stream.resource()], read).expect("it returns")
        });
        wait_until_blocked(begun.recv().expect("the child runs"), false);
        child.drain().expect("it is a child");
        assert_eq!(child.join().expect("it returns"), "rrived");
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn a_descriptor_goes_down_and_up_through_inline_children_and_its_custody_names_each() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let run = |name, f: &dyn Fn()| {
            let inline = || {
                f();
                stream.transfer().expect("the outer task accepts it");
            };
            fixture.registry.run_inline(name, [stream.resource()], inline).expect("it returns");
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
        stream.release().expect("this task owns it");
        fixture.assert_all_closed_except(&peer);
    });
    fixture.assert_clean();
}

#[test]
fn a_panic_in_an_inline_child_leaves_the_outer_task_ready_for_the_next() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        let panics = || panic!("in the child");
        let ended = fixture.registry.run_inline("panics", [stream.resource()], panics);
        let Err(RunInlineError::Failed(ended)) = ended else { panic!("{ended:?}") };
        assert_eq!(panic_message::<()>(Err(ended)), "in the child");
        fixture.assert_all_closed_except(&peer);
        fixture.registry.run_inline("next", [], || drop(fixture.connection())).expect("it returns");
    });
    fixture.assert_clean();
}

#[test]
fn what_is_spawned_into_a_scope_is_the_scopes_whatever_runs_in_its_place() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (tell, told) = channel();
        let pool = fixture.pool();
        let scope = pool.scope(|scope| {
            let inline = || {
                let text = fixture.own("given by the inline child");
                let give = [text.resource()];
                let job = move || tell.send(text.check().is_ok()).expect("the test receives it");
                scope.spawn(give, job).expect("the child starts");
            };
            fixture.registry.run_inline("inline", [], inline).expect("the child is the scope's");
            let root = || scope.spawn([], || ()).expect("the child starts");
            fixture.registry.run("local root", root).expect("the child is the scope's");
        });
        scope.expect("all children ended well");
        assert!(told.recv().expect("the child ran"));
    });
    fixture.assert_clean();
}

/// How often a race is tried. The order that fails is rare; with these numbers, most runs find a
/// fault.
const ROUNDS: u32 = 1_000;

/// How many moves a round has.
const MOVES: u32 = 50;

/// Waits for about as long as some of the moves of a round take.
fn wait_for_some_moves(round: u32) {
    (0..round % 500 * 100).for_each(|_| std::hint::spin_loop());
}

/// In each round, a child runs `work` with a stream of its own, while `interrupt` is called for it. The
/// child must end.
fn storm(
    fixture: &'static Fixture,
    interrupt: fn(&Promise<()>),
    work: fn(&'static Fixture, &Stream) -> std::io::Result<usize>,
) {
    fixture.root(|| {
        for round in 0..ROUNDS {
            let start: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
            let child = fixture.spawn("outer", [], move || {
                let (stream, _peer) = Stream::pair().expect("a pair is made");
                start.wait();
                if let Ok(bytes) = work(fixture, &stream) {
                    assert_eq!(bytes, 0, "round {round}");
                }
            });
            start.wait();
            wait_for_some_moves(round);
            interrupt(&child);
            ends(child);
        }
    });
    fixture.assert_clean();
}

/// Waits for the child and asserts that it did not panic.
#[track_caller]
fn ends(child: Promise<()>) {
    if let Err(TaskError::Panicked(panic)) = child.join() {
        panic!("{}", panic.message());
    }
}

fn cancel(child: &Promise<()>) {
    child.request_cancel().expect("it is a child");
}

fn drain(child: &Promise<()>) {
    child.drain().expect("it is a child");
}

fn read_in_an_inline_child(
    fixture: &'static Fixture,
    mut stream: &Stream,
) -> std::io::Result<usize> {
    let given = [stream.resource()];
    let read = || {
        let read = stream.read(&mut [0]);
        // Rejected if the task was cancelled.
        let _ = stream.transfer();
        read
    };
    match fixture.registry.run_inline("inline", given, read) {
        Ok(read) => read,
        Err(_) => Err(std::io::ErrorKind::Other.into()),
    }
}

fn read_what_an_inline_child_transferred(
    fixture: &'static Fixture,
    mut stream: &Stream,
) -> std::io::Result<usize> {
    for _ in 0..MOVES {
        let up = || stream.transfer();
        assert_fails_without_panic(fixture.registry.run_inline("inline", [stream.resource()], up));
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
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = blocked(fixture, false, |begin| {
            let (stream, _peer) = fixture.connection();
            let read = || {
                begin.send(thread_id()).expect("the test receives it");
                drop((&stream).read(&mut [0]));
            };
            assert_fails_without_panic(fixture.registry.run_inline(
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
    fixture.assert_clean();
}

#[test]
fn a_transfer_to_a_cancelled_parent_gets_cancelled() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (go, gone) = channel::<()>();
        let child = blocked(fixture, true, move |begin| {
            let inner = fixture.spawn("inner", [], move || {
                let text = fixture.own("text");
                begin.send(thread_id()).expect("the test receives it");
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
    fixture.assert_clean();
}

/// A pool without threads: every spawn fails and returns what it was given.
fn without_threads(registry: &Registry) -> Pool {
    Pool::builder().registry(registry).limit(0).build()
}

#[test]
fn what_a_failed_spawn_hands_back_to_a_cancelled_task_is_flagged() {
    let fixture = Fixture::new();
    let pool: &'static Pool = Box::leak(Box::new(without_threads(&fixture.registry)));
    storm_of_failed_spawns(fixture, pool, cancel);
}

#[test]
fn what_a_failed_spawn_hands_back_to_a_drained_task_comes_to_its_end() {
    let fixture = Fixture::new();
    let pool: &'static Pool = Box::leak(Box::new(without_threads(&fixture.registry)));
    storm_of_failed_spawns(fixture, pool, drain);
}

fn storm_of_failed_spawns(
    fixture: &'static Fixture,
    pool: &'static Pool,
    interrupt: fn(&Promise<()>),
) {
    fixture.root(|| {
        for round in 0..ROUNDS {
            let start: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
            let child = fixture.spawn("outer", [], move || {
                let (stream, _peer) = Stream::pair().expect("a pair is made");
                // Many of them, so that a move is in progress for most of the time.
                let others = || fixture.registry.own(()).expect("the task is running");
                let others: Vec<_> = (0..100).map(|_| others()).collect();
                start.wait();
                for _ in 0..MOVES / 10 {
                    let give = others.iter().map(echown::ownership::Owned::resource);
                    let spawned = pool.spawn(give.chain([stream.resource()]), || ());
                    assert!(spawned.is_err(), "there is no thread");
                }
                // Blocks if the cancel or drain did not reach the stream.
                let read = (&stream).read(&mut [0]);
                if let Err(error) = read {
                    assert_eq!(refusal::<(), _>(Err(error)).kind(), ErrorKind::Cancelled);
                } else {
                    assert!(fixture.registry.is_draining(), "a false end of the stream");
                }
            });
            start.wait();
            wait_for_some_moves(round);
            interrupt(&child);
            ends(child);
        }
    });
    fixture.assert_clean();
}

#[test]
fn what_is_dropped_elsewhere_during_a_failed_spawn_is_closed_once() {
    let fixture = Fixture::new();
    let pool = without_threads(&fixture.registry);
    fixture.root(|| {
        for _ in 0..ROUNDS {
            let text = fixture.registry.own(String::from("text")).expect("the task is running");
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
        assert_eq!(fixture.registry.snapshot().resources.len(), 0);
    });
}

#[test]
fn a_discarded_result_whose_handle_was_transferred_is_no_drop_elsewhere() {
    let fixture = Fixture::new();
    fixture.root(|| {
        // Cancelled between its transfer and its end: no task gets the value.
        let (begin, begun) = channel();
        let (go, gone) = channel();
        let child = fixture.spawn("cancelled", [], move || {
            let text = fixture.own("transferred");
            text.transfer().expect("the parent is alive");
            begin.send(()).expect("the test receives it");
            gone.recv().expect("the test sends");
            text
        });
        begun.recv().expect("the child runs");
        child.request_cancel().expect("it is a child");
        go.send(()).expect("the child receives it");
        assert_cancelled(child.join());
        assert_eq!(fixture.finalized(), ["transferred"]);
    });
    // Ended after its promise was dropped.
    let (begin, begun) = channel::<()>();
    let outcome = fixture.registry.run("parent", || {
        let child = fixture.spawn("forgotten", [], move || {
            let text = fixture.own("result");
            text.transfer().expect("the parent is alive");
            let _ = begun.recv();
            text
        });
        drop(child);
        drop(begin);
        wait_until("both finalizers to run", || fixture.finalized().len() == 2);
    });
    assert!(matches!(outcome, Err(TaskError::UnjoinedChildren(_))), "{outcome:?}");
    assert_eq!(fixture.finalized(), ["transferred", "result"]);
    assert_eq!(fixture.codes(), [""; 0]);
}
