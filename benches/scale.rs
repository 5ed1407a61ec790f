//! Benchmark of the checker at scale: two threads at once, and a million live resources.
//!
//! `cargo bench --bench scale`. One thread and two threads take turns, and the factor is the median
//! over the turns. Two threads share the registry and nothing else. Memory is what the process has
//! more of, with the handles and the allocator's own part.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use echown::ownership::{Owned, Registry};

/// Turns of each variant, and lives of each thread per turn.
const TURNS: usize = 15;
const LIVES: usize = 200_000;

/// Live resources, and how often they are made, checked and released.
const LIVE: usize = 1_000_000;
const ROUNDS: usize = 7;

fn main() {
    // `cargo test --benches` only checks that it works.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let (turns, lives) = if is_test { (1, 1000) } else { (TURNS, LIVES) };
    let (live, rounds) = if is_test { (1000, 1) } else { (LIVE, ROUNDS) };
    threads(turns, lives);
    population(live, rounds);
}

fn own(registry: &Registry) -> Owned<u64> {
    registry.own(black_box(7)).expect("a running task can own")
}

fn threads(turns: usize, lives: usize) {
    let registry = Registry::new();
    let (mut one, mut two, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..turns {
        let alone = lives_per_second(&registry, 1, lives);
        let both = lives_per_second(&registry, 2, lives);
        one.push(alone / 1e6);
        two.push(both / 1e6);
        factors.push(both / alone);
    }
    println!(
        "own, drop: {:.2} million a second with one thread, {:.2} with two; factor {:.2} ({:.2} to \
         {:.2})",
        median(&mut one),
        median(&mut two),
        median(&mut factors),
        factors[0],
        factors[factors.len() - 1]
    );
}

fn lives_per_second(registry: &Registry, threads: usize, lives: usize) -> f64 {
    let start = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let run = || {
            drop(own(registry));
            start.wait();
            (0..lives).for_each(|_| drop(own(registry)));
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        start.wait();
        let begin = Instant::now();
        workers.into_iter().for_each(|worker| worker.join().expect("nothing panics"));
        (threads * lives) as f64 / begin.elapsed().as_secs_f64()
    })
}

fn population(live: usize, rounds: usize) {
    let registry = Registry::new();
    let (mut owning, mut checking, mut releasing) = (Vec::new(), Vec::new(), Vec::new());
    let mut bytes = None;
    // Later rounds find memory that the allocator has kept. It returns to the system what is free at the
    // end of the heap, and whether that is all or nothing depends on the size of a resource. So the last
    // resource of the first round stays.
    let mut last = None;
    for _ in 0..rounds {
        let before = resident();
        let mut all = Vec::with_capacity(live);
        owning.push(nanoseconds(live, || all.extend((0..live).map(|_| own(&registry)))));
        bytes.get_or_insert(resident().saturating_sub(before) / live as u64);
        checking.push(nanoseconds(live, || {
            all.iter().for_each(|owned| owned.check().expect("it is ours"));
        }));
        last.get_or_insert_with(|| own(&registry));
        releasing.push(nanoseconds(live, || {
            all.iter().for_each(|owned| owned.release().expect("it is ours"));
        }));
    }
    println!(
        "{live} live: own {:.0} ns, check {:.1} ns, release {:.0} ns, {} bytes each",
        median(&mut owning),
        median(&mut checking),
        median(&mut releasing),
        bytes.unwrap_or_default()
    );
}

/// Time of `f` for each of `count`.
fn nanoseconds(count: usize, f: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    f();
    begin.elapsed().as_secs_f64() * 1e9 / count as f64
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("its second field is a number") * rustix::param::page_size() as u64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
