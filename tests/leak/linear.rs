//! A task exit is linear in the number of resources left, and its stack use is constant.
//!
//! The test compares counts of instructions (`valgrind --tool=callgrind`), not times. Without
//! valgrind it prints that it is skipped and passes; CI installs valgrind.

use std::mem;
use std::process::Command;

use crate::common::require_tool;
use echown::ownership::{Policy, Registry};
use echown::pool::Orphans;

/// How many resources of each kind the task of [`a_task_leaves_many_resources_at_exit`] leaves.
const SIZE: &str = "ECHOWN_TEST_SIZE";

#[test]
fn a_task_leaves_many_resources_at_exit() {
    let size = std::env::var(SIZE).map_or(Ok(10), |size| size.parse()).expect("it is a number");
    let registry = Registry::builder().on_leak(Policy::Ignore).build();
    let ended = registry.run("parent", || {
        let child = registry.run_inline("child", [], || {
            for number in 0..size {
                mem::forget(registry.own(number).expect("it is running"));
            }
            for number in 0..size {
                let offer = registry.own(number).expect("it is running").offer();
                mem::forget(offer.expect("this task owns it"));
            }
        });
        assert_eq!(child.is_err(), size > 0, "it leaves what it forgot");
        assert_eq!(registry.snapshot().resources.len(), size, "the offers pass to the parent");
    });
    assert!(ended.is_ok(), "unclaimed offers are not leaks: {ended:?}");
    assert_eq!(registry.snapshot().resources.len(), 0);
}

/// The instructions of `a_task_leaves_many_resources_at_exit`; `None` without valgrind.
fn instructions(size: usize) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this task is running"))
        .args([
            "--exact",
            "ending::linear::a_task_leaves_many_resources_at_exit",
            "--test-threads=1",
        ])
        .env(SIZE, size.to_string())
        .output()
        .ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let collected =
        stderr.lines().find_map(|line| line.split_once("Collected : ")).expect("a count");
    Some(collected.1.trim().parse().expect("it is a number"))
}

#[test]
fn four_times_the_resources_take_at_most_five_times_the_instructions() {
    let nothing = instructions(0);
    require_tool("valgrind", nothing.is_some());
    let Some(nothing) = nothing else { return };
    let [one, four] = [1_000, 4_000].map(|size| instructions(size).expect("it ran before"));
    let ratio = (four - nothing) as f64 / (one - nothing) as f64;
    assert!(ratio <= 5.0, "{nothing}, {one} and {four} instructions: {ratio:.1} times as many");
}

const LEVELS: usize = 500;

/// Nests inline tasks, and returns the result of the innermost through all of them.
fn nest<T>(registry: &Registry, levels: usize, innermost: &mut dyn FnMut() -> T) -> T {
    if levels == 0 {
        return innermost();
    }
    let nested = registry.run_inline("nested", [], || nest(registry, levels - 1, innermost));
    nested.unwrap_or_else(|failure| panic!("{failure}"))
}

fn on_a_stack_of<T: Send>(kib: usize, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let thread = std::thread::Builder::new().stack_size(kib * 1024);
        thread.spawn_scoped(threads, f).expect("a thread is available").join().expect("it succeeds")
    })
}

/// Without optimization each level of the test itself takes more stack.
const STACK_KIB: usize = if cfg!(debug_assertions) { 1024 } else { 256 };

#[test]
fn five_hundred_nested_inline_tasks_exit_on_a_small_stack() {
    let registry = Registry::new();
    let theirs = registry.clone();
    on_a_stack_of(STACK_KIB, move || {
        let innermost = &mut || theirs.own(()).expect("it is running").release();
        nest(&theirs, LEVELS, innermost).expect("this task owns it");
    });
    assert_eq!(registry.snapshot().resources.len(), 0);
}

#[test]
fn a_deep_task_tree_is_cancelled_and_dropped_on_a_small_stack() {
    let registry = Registry::new();
    let (begin, begun) = std::sync::mpsc::channel();
    let theirs = registry.clone();
    // Its `Orphans` refers to the innermost task, which refers to its parent, and so on.
    let builder = std::thread::Builder::new().stack_size(4 * STACK_KIB * 1024);
    let deep = builder.spawn(move || {
        let keeper =
            theirs.run("root", || nest(&theirs, LEVELS, &mut || Orphans::<()>::new(&theirs)));
        begin.send(keeper.expect("it succeeds")).expect("the test receives it");
    });
    deep.expect("a thread is available").join().expect("it succeeds");
    let keeper = begun.recv().expect("it was sent");
    on_a_stack_of(64, move || drop(keeper));

    let (begin, begun) = std::sync::mpsc::channel();
    let pool =
        echown::pool::Pool::builder().registry(&registry).stack_bytes(4 * STACK_KIB * 1024).build();
    on_a_stack_of(256, move || {
        let theirs = registry.clone();
        let child = pool.spawn([], move || {
            let innermost = &mut || {
                let (stream, _peer) = echown::net::Stream::pair().expect("a pair");
                begin.send(()).expect("the test receives it");
                std::io::Read::read(&mut &stream, &mut [0]).is_err()
            };
            nest(&theirs, LEVELS, innermost)
        });
        let child = child.expect("a thread is available");
        begun.recv().expect("it starts");
        assert!(child.cancel().is_err());
    });
}
