//! Stress test: real descriptors whose numbers are reused all the time.
//!
//! Every connection carries its own secret. Many tasks open pairs, pass them on in every
//! possible way, leak them, drop them in other tasks, panic with them and are cancelled with them.
//! Numbers are reused immediately, so one use of a number after its close would show the secret of
//! another connection, or a gap in the count of finalizers.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use echown::net::Stream;
use echown::ownership::{Error, ErrorKind, Registry, TaskError};
use echown::pool::Pool;
use echown::test;

/// The number of tasks, of connections, and the time limit.
const WORKERS: u64 = 6;
const ROUNDS: u64 = 3000;
const DEADLINE: Duration = Duration::from_secs(60);

/// The result of using a pair: the task's own secret, or an ordinary error of the registry.
fn exchange_secret(one: &Stream, other: &Stream, secret: u64) -> Result<(), Error> {
    let refusal = |error: std::io::Error| match Error::in_io(&error) {
        Some(error) => error.clone(),
        None => panic!("an I/O error on an owned pair: {error}"),
    };
    (&*one).write_all(&secret.to_le_bytes()).map_err(refusal)?;
    let mut back = [0; 8];
    (&*other).read_exact(&mut back).map_err(refusal)?;
    assert_eq!(u64::from_le_bytes(back), secret, "bytes of another task");
    Ok(())
}

/// The life of one connection, in one of several ways.
fn live(pool: &Pool, secret: u64, way: u64) {
    let _entered = pool.registry().enter();
    let (one, other) = Stream::pair().expect("descriptors are left");
    let give = [one.resource(), other.resource()];
    match way {
        // Given, used, dropped by the child.
        0 => {
            let child = pool.spawn(give, move || exchange_secret(&one, &other, secret)).unwrap();
            child.join_flat().unwrap();
        }
        // Given and forgotten: a leak, closed by the exit of the child.
        1 => {
            let child = pool.spawn(give, move || {
                let proof = exchange_secret(&one, &other, secret);
                std::mem::forget((one, other));
                proof
            });
            match child.unwrap().join() {
                Err(TaskError::Leaked(proof, report)) => {
                    proof.unwrap();
                    assert_eq!(report.resources.len(), 2);
                }
                outcome => panic!("{outcome:?}"),
            }
        }
        // Given, and the child panics.
        2 => {
            let child = pool.spawn(give, move || {
                exchange_secret(&one, &other, secret).unwrap();
                std::panic::resume_unwind(Box::new((one, other)));
            });
            let outcome: Result<(), _> = child.unwrap().join();
            assert!(matches!(outcome, Err(TaskError::Panicked(_))), "{outcome:?}");
        }
        // Given, blocked in a read, cancelled.
        3 => {
            let child = pool.spawn(give, move || {
                exchange_secret(&one, &other, secret)?;
                let blocked = (&other).read(&mut [0]).unwrap_err();
                Err(Error::in_io(&blocked).expect("not a false end of file").clone())
            });
            let outcome: Result<Result<(), Error>, _> = child.unwrap().cancel();
            assert!(matches!(outcome, Err(TaskError::Cancelled)), "{outcome:?}");
        }
        // Offered and claimed by a sibling; split and rejoined.
        4 => {
            let (one, other) = (one.offer().unwrap(), other.offer().unwrap());
            let child = pool.spawn([], move || {
                let (one, other) = (one.claim().unwrap(), other.claim().unwrap());
                let (reading, writing) = one.split().unwrap();
                let one = reading.rejoin(writing).unwrap();
                exchange_secret(&one, &other, secret)
            });
            child.unwrap().join().unwrap().unwrap();
        }
        // Given, and dropped by the parent: a violation that still releases; the child observes it.
        5 => {
            let child = pool.spawn(give, || ());
            drop(one);
            // If the child exits first, these are leaks of the child.
            drop(other);
            let _ = child.unwrap().join();
        }
        // Transferred back, and the peer reads the end of the stream after the release.
        _ => {
            let child = pool.spawn(give, move || {
                exchange_secret(&one, &other, secret).unwrap();
                one.transfer().unwrap();
                other.transfer().unwrap();
                (one, other)
            });
            let (one, mut other) = child.unwrap().join().unwrap();
            exchange_secret(&one, &other, secret).unwrap();
            one.shutdown(Shutdown::Write).unwrap();
            one.release().unwrap();
            assert_eq!(other.read(&mut [0]).unwrap(), 0);
            let again = one.release().unwrap_err();
            assert_eq!(again.kind(), ErrorKind::DoubleRelease);
        }
    }
}

#[test]
fn reused_numbers_never_carry_another_tasks_bytes_and_nothing_leaks() {
    let registry = Registry::builder().sink(|_| {}).build();
    let secrets = Arc::new(AtomicU64::new(1));
    let pool = Pool::builder().registry(&registry).keep_idle(4).build();
    let deadline = Instant::now() + DEADLINE;
    registry
        .run("stress", || {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let (of_worker, secrets) = (pool.clone(), Arc::clone(&secrets));
                    let work = move || {
                        for round in 0..ROUNDS {
                            if Instant::now() > deadline {
                                return round;
                            }
                            let secret = secrets.fetch_add(1, Ordering::Relaxed);
                            live(&of_worker, secret, (worker + round) % 7);
                        }
                        ROUNDS
                    };
                    pool.spawn_named("stress worker", [], work).unwrap()
                })
                .collect();
            for worker in workers {
                let rounds = worker.join().unwrap();
                assert!(rounds >= 7, "the machine ran only {rounds} rounds");
            }
        })
        .unwrap();
    let left = registry.snapshot();
    assert!(left.resources.is_empty(), "{left}");
    let verdict = registry.summary();
    assert_eq!(verdict.replaced, 0, "{verdict}");
    assert_eq!(verdict.failed_finalizers, 0, "{verdict}");
}
