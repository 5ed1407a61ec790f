//! The guarantees that Miou tests, with echown's test for each. Tests that no other file contains
//! are here.
//!
//! | Miou's guarantee | test |
//! |---|---|
//! | a child must not be forgotten | `an_unjoined_child_is_cancelled_finalized_and_reported_by_its_parent` |
//! | a promise is awaited once | `a_joined_child_cannot_be_joined_a_second_time` |
//! | cancelling a task with infinite children returns | `cancelling_a_task_that_keeps_spawning_children_returns` |
//! | a race returns the winner, and the loser is cancelled early | `first_returns_the_first_outcome_after_all_others_have_exited` |
//! | the promise of a sibling is not a child | `only_the_parent_may_join_or_cancel_a_child_and_others_get_the_promise_back` |
//! | a parent that fails while a child sleeps returns its error immediately, and the child is cancelled | `a_failing_task_returns_its_error_and_its_sleeping_child_is_cancelled` |
//! | a sleeper is cancelled fast | `a_sleeping_task_is_cancelled_immediately` |
//! | a finalizer has run when cancel returns | `when_cancel_returns_the_finalizer_has_run` |
//! | only their owner controls orphans | `only_the_owner_may_use_an_orphans` |
//! | 42 orphans, taken and cancelled, leave nothing | `forty_two_orphans_are_taken_and_cancelled_without_leaks` |
//! | draining two successes and one failure | `draining_two_successes_and_one_failure_returns_them` |
//! | a task that waits for an orphan can be cancelled | `a_task_blocked_on_an_orphan_is_woken` |
//! | end of stream is returned before a timeout | `end_of_stream_is_returned_before_the_timeout` |
//! | a failed connect is reported, and does not time out | `a_rejected_connect_fails_immediately_and_not_at_the_timeout` |

use std::io::{self, Read};
use std::mem;
use std::sync::mpsc::channel;
use std::time::Duration;

use echown::net::Stream;
use echown::ownership::{Promise, TaskError};
use echown::pool::{self, Orphans};
use echown::test;

use crate::common::reserved::Reserved;
use crate::common::{self, Fixture, assert_cancelled, panic_message};

/// No test waits this long: the fixture's watchdog ends it before.
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn every_row_of_the_table_has_a_test() {
    let sources = [
        include_str!("reference.rs"),
        include_str!("../leak.rs"),
        include_str!("cancelling.rs"),
        include_str!("ending.rs"),
        include_str!("families.rs"),
    ];
    let rows = sources[0].lines().filter_map(|line| line.strip_prefix("//! | ")?.split('|').nth(1));
    let tests: Vec<&str> = rows.map(|cell| cell.trim().trim_matches('`')).skip(1).collect();
    assert_eq!(tests.len(), 14);
    for test in tests {
        let head = format!("#[test]\nfn {test}() {{");
        assert!(sources.iter().any(|source| source.contains(&head)), "no test `{test}`");
    }
}

/// A child that sleeps by blocking in its own socket, where its cancellation wakes it.
fn sleeper(fixture: &'static Fixture, begun: std::sync::mpsc::Sender<i32>) -> Promise<bool> {
    let (stream, peer) = Stream::pair().expect("there are descriptors");
    fixture.spawn("sleeper", [stream.resource(), peer.resource()], move || {
        let _ = begun.send(common::thread_id());
        let woken = stream.wait_readable(Some(LONG));
        let _own = (stream, peer);
        woken.is_ok()
    })
}

#[test]
fn a_joined_child_cannot_be_joined_a_second_time() {
    let fixture = Fixture::new();
    fixture.root(|| {
        // The type prevents it: `join` consumes the promise (a doc test shows the compile error).
        // The outcome of an orphan is also taken only once.
        let orphans = Orphans::new(&fixture.registry);
        orphans.adopt(fixture.spawn("child", [], || 7)).expect("this task owns it");
        assert_eq!(
            orphans.get().expect("this task owns it").map(|end| end.expect("it succeeds")),
            Some(7)
        );
        assert!(orphans.get().expect("this task owns it").is_none());
        assert!(orphans.take().expect("this task owns it").is_none());
        assert!(orphans.is_empty());
    });
    fixture.assert_clean();
}

#[test]
fn cancelling_a_task_that_keeps_spawning_children_returns() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (begun, begins) = channel();
        let endless = fixture.spawn("endless", [], move || {
            let mut kept = Vec::new();
            for n in 0_u64.. {
                let Ok(child) = fixture.pool().spawn([], move || n) else {
                    break;
                };
                // Some are joined; some are adopted and never joined.
                if n % 3 == 0 {
                    kept.push(child);
                } else if let Err(failure) = child.join() {
                    assert!(matches!(failure, TaskError::Refused(..)), "{failure}");
                    break;
                }
                if n == 100 {
                    let _ = begun.send(());
                }
            }
        });
        begins.recv().expect("it has many children");
        assert_cancelled(endless.cancel());
    });
    fixture.assert_clean();
}

#[test]
fn a_failing_task_returns_its_error_and_its_sleeping_child_is_cancelled() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let parent = fixture.spawn::<()>("parent", [], || {
            let (begun, begins) = channel();
            let child = sleeper(fixture, begun);
            common::wait_until_blocked(begins.recv().expect("it starts"), false);
            mem::forget((fixture.own("the parent's"), child));
            panic!("its own error");
        });
        assert_eq!(panic_message(parent.join()), "its own error");
        assert_eq!(fixture.finalized(), ["the parent's"]);
        let tasks = fixture.registry.snapshot().tasks;
        assert!(!tasks.iter().any(|task| &*task.task.name == "sleeper"), "{tasks:?}");
    });
    fixture.assert_clean();
}

#[test]
fn a_sleeping_task_is_cancelled_immediately() {
    let fixture = Fixture::new();
    fixture.root(|| {
        for is_asleep in [true, false] {
            let (begun, begins) = channel();
            let child = sleeper(fixture, begun);
            if is_asleep {
                common::wait_until_blocked(begins.recv().expect("it starts"), false);
            }
            assert_cancelled(child.cancel());
        }
    });
    fixture.assert_clean();
}

#[test]
fn when_cancel_returns_the_finalizer_has_run() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (begun, begins) = channel();
        let (stream, peer) = Stream::pair().expect("there are descriptors");
        let child = fixture.spawn("child", [stream.resource(), peer.resource()], move || {
            let slow = fixture.registry.own_with("slow", |name| {
                common::stall(Duration::from_millis(50));
                fixture.log(name);
                Ok(())
            });
            mem::forget(slow.expect("the task is running"));
            let _ = begun.send(());
            let _ = stream.wait_readable(None);
            drop(peer);
        });
        begins.recv().expect("it owns it");
        assert_cancelled(child.cancel());
        assert_eq!(fixture.finalized(), ["slow"]);
    });
    fixture.assert_clean();
}

#[test]
fn draining_two_successes_and_one_failure_returns_them() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let orphans: Orphans<u32> = Orphans::new(&fixture.registry);
        for n in 0..3 {
            let child = fixture.spawn("child", [], move || {
                assert_ne!(n, 1, "the bad one");
                n
            });
            orphans.adopt(child).expect("this task owns it");
        }
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        while let Some(outcome) = orphans.get().expect("this task owns it") {
            match outcome {
                Ok(n) => good.push(n),
                Err(failure) => bad.push(failure.to_string()),
            }
        }
        good.sort_unstable();
        assert_eq!(good, [0, 2]);
        assert!(matches!(&bad[..], [one] if one.contains("the bad one")), "{bad:?}");
        assert!(orphans.is_empty());
    });
    fixture.assert_clean();
}

#[test]
fn end_of_stream_is_returned_before_the_timeout() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let (stream, peer) = fixture.connection();
        stream.set_read_timeout(Some(LONG)).expect("it is open");
        let reader = fixture.spawn("reader", [stream.resource()], move || {
            let read = (&stream).read(&mut [0]);
            read.map_err(|error| error.kind())
        });
        let (alarm, silence) = Stream::pair().expect("there are descriptors");
        let give = [alarm.resource(), silence.resource()];
        let timeout = fixture.spawn("timeout", give, move || {
            let rung = alarm.wait_readable(Some(LONG));
            let _own = (alarm, silence);
            rung.map(|_| 0).map_err(|_| io::ErrorKind::TimedOut)
        });
        drop(peer);
        let first = pool::first([reader, timeout]).expect("it succeeds");
        assert_eq!(first, Ok(0), "the end of the stream");
    });
    fixture.assert_clean();
}

#[test]
fn a_rejected_connect_fails_immediately_and_not_at_the_timeout() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let reserved_address = Reserved::new();
        let rejected = Stream::connect_timeout(&reserved_address.address(), LONG);
        assert_eq!(
            rejected.expect_err("nothing listens there").kind(),
            io::ErrorKind::ConnectionRefused
        );
    });
    fixture.assert_clean();
}
