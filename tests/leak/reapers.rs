//! The reaper of an `Orphans` runs before the owner of the `Orphans` has exited.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use echown::pool::Orphans;
use echown::test;

use crate::common::{Fixture, lock, wait_until};

/// The state of a task in a snapshot; none when it has exited.
fn state_of(fixture: &Fixture, name: &str) -> Option<&'static str> {
    let tasks = fixture.registry.snapshot().tasks;
    tasks.iter().find(|task| &*task.task.name == name).map(|task| task.state)
}

#[test]
fn an_exiting_parent_waits_for_the_reaper_of_its_exited_child() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let is_reaped = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&is_reaped);
        let parent = fixture.spawn("parent", [], move || {
            let (begin, begun) = channel();
            let begin = Mutex::new(begin);
            let orphans = Orphans::reaped_by(&fixture.registry, move |_, outcome| {
                outcome.expect("it leaves no resource");
                lock(&begin).send(()).expect("the parent receives it");
                let is_running = || state_of(fixture, "parent") == Some("running");
                wait_until("the parent to begin its end", || !is_running());
                // Its exit has begun and waits for this.
                for _ in 0..200 {
                    assert_eq!(state_of(fixture, "parent"), Some("exiting"));
                    thread::yield_now();
                }
                theirs.store(true, Ordering::Relaxed);
            });
            // It exits after its adoption, and so on its own thread.
            let (end, ended) = channel::<()>();
            let child = fixture.spawn("child", [], move || assert!(ended.recv().is_err()));
            orphans.adopt(child).expect("it is a child");
            drop(end);
            begun.recv().expect("the child is reaped");
        });
        parent.join().expect("a child whose reaper runs is not forgotten");
        assert!(is_reaped.load(Ordering::Relaxed), "the parent ended before the reaper");
    });
    fixture.assert_clean();
}
