//! Benchmark of a thread switch: N threads on one processor, each of which only yields to the
//! others (`sched_yield(2)`).
//!
//! A server with a thread per connection pays this for each message under load; an event loop does
//! not (`docs/performance.md`). The first row, one thread alone, is the cost of the system call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The numbers of threads that take turns.
const THREADS: [usize; 5] = [1, 2, 16, 64, 1000];

/// Rounds per number of threads; the median is printed.
const ROUNDS: usize = 7;

/// The stack size of the threads, equal to the server's.
const STACK_BYTES: usize = 256 * 1024;

fn main() {
    // `cargo test --benches` only checks that it works.
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let (rounds, duration) = match is_measured {
        true => (ROUNDS, Duration::from_millis(500)),
        false => (1, Duration::from_millis(10)),
    };
    let here = first_processor().expect("the system tells where this may run");
    echown_bench::pin_to(&[here]).expect("this may run there");
    let mut nanos = THREADS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (threads, nanos) in THREADS.iter().zip(&mut nanos) {
            nanos.push(nanos_a_turn(*threads, duration));
        }
    }
    println!("| threads | ns a turn | lowest to highest |\n|---|---|---|");
    for (threads, mut nanos) in THREADS.iter().zip(nanos) {
        nanos.sort_by(f64::total_cmp);
        let (lowest, highest) = (nanos[0], nanos[nanos.len() - 1]);
        println!("| {threads} | {:.0} | {lowest:.0} to {highest:.0} |", nanos[nanos.len() / 2]);
    }
}

/// Nanoseconds per turn of one thread.
fn nanos_a_turn(threads: usize, duration: Duration) -> f64 {
    let (is_on, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let turns = || {
            let mut turns = 0_u64;
            while !is_on.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            while !is_over.load(Ordering::Relaxed) {
                thread::yield_now();
                turns += 1;
            }
            turns
        };
        let start = |_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, turns);
        let all: Result<Vec<_>, _> = (0..threads).map(start).collect();
        // The started threads end even if not all threads could be started.
        is_over.store(all.is_err(), Ordering::Relaxed);
        is_on.store(true, Ordering::Relaxed);
        let all = all.expect("there is room for so many threads");
        let began = Instant::now();
        thread::sleep(duration);
        is_over.store(true, Ordering::Relaxed);
        let elapsed = began.elapsed();
        let turns: u64 = all.into_iter().map(|one| one.join().expect("it only counts")).sum();
        elapsed.as_nanos() as f64 / turns.max(1) as f64
    })
}

/// The first processor that this process may run on.
fn first_processor() -> Option<usize> {
    let may = rustix::thread::sched_getaffinity(None).ok()?;
    (0..rustix::thread::CpuSet::MAX_CPU).find(|processor| may.is_set(*processor))
}
