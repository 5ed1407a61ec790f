//! Rule 7: a task exits even if user code panics during the exit. Each test panics in one place
//! where user code runs, and asserts that the exit completes.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

use echown::ownership::{ErrorKind, TaskError};
use echown::pool::{self, Orphans, Pool};
use echown::test;

use crate::common::{
    Fixture, assert_cancelled, fd_misuse, panic_message, refusal, thread_id, wait_until_blocked,
};
use crate::sinks::OnEvent;

/// Panics when it is dropped.
struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        panic!("a destructor's own panic");
    }
}

/// Waits for the other side, and then returns something whose destructor panics.
fn returns_panic_on_drop(barrier: &Barrier) -> PanicOnDrop {
    barrier.wait();
    PanicOnDrop
}

#[test]
fn a_panic_of_a_discarded_result_does_not_block_the_parent() {
    let fixture = Fixture::new();
    let barrier = Arc::new(Barrier::new(2));
    let outcome = fixture.registry.run("parent", || {
        let theirs = Arc::clone(&barrier);
        drop(fixture.spawn("child", [], move || returns_panic_on_drop(&theirs)));
        barrier.wait();
    });
    assert!(matches!(outcome, Err(TaskError::UnjoinedChildren(_))), "{outcome:?}");
}

#[test]
fn a_panic_of_a_result_discarded_after_exit_does_not_reach_the_parent() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let child = fixture.spawn("child", [], || PanicOnDrop);
        while !child.has_ended() {
            std::thread::yield_now();
        }
        Orphans::new(&fixture.registry).adopt(child).expect("it is a child of this task");
    });
    fixture.root(|| {
        let orphans = Orphans::new(&fixture.registry);
        for _ in 0..3 {
            orphans
                .adopt(fixture.spawn("child", [], || PanicOnDrop))
                .expect("it is a child of this task");
        }
        let far = std::time::Instant::now() + std::time::Duration::from_secs(60);
        assert!(orphans.wait_until(far).expect("this task owns it"));
        drop(orphans);
    });
    fixture.assert_clean();
}

#[test]
fn a_result_that_is_never_taken_is_dropped_as_its_own_task() {
    struct Name(&'static Fixture, std::sync::mpsc::Sender<String>);
    impl Drop for Name {
        fn drop(&mut self) {
            let task = self.0.registry.current_task().name.to_string();
            self.1.send(task).expect("the test receives it");
        }
    }
    let fixture = Fixture::new();
    let (to_test, from_child) = channel();
    let barrier = Arc::new(Barrier::new(2));
    let outcome = fixture.registry.run("parent", || {
        let theirs = Arc::clone(&barrier);
        let child = fixture.spawn("child", [], move || {
            theirs.wait();
            Name(fixture, to_test)
        });
        drop(child);
        barrier.wait();
        // Before this task exits, which cancels the child.
        from_child.recv().expect("it was dropped")
    });
    // The child was not joined.
    assert_eq!(outcome.unwrap_err().into_value().expect("it is returned"), "child");
}

#[test]
fn a_panic_of_a_reapers_captures_does_not_block_the_parent() {
    let fixture = Fixture::new();
    let barrier = Arc::new(Barrier::new(2));
    let outcome = fixture.registry.run("parent", || {
        let theirs = Arc::clone(&barrier);
        let bomb = PanicOnDrop;
        let reaper = move |_: &_, _| {
            let _captured = &bomb;
            theirs.wait();
            theirs.wait();
        };
        let orphans = Orphans::reaped_by(&fixture.registry, reaper);
        let parent = thread_id();
        let child = fixture.spawn("child", [], move || wait_until_blocked(parent, true));
        orphans.adopt(child).expect("it is a child of this task");
        std::thread::spawn(move || {
            barrier.wait();
            // The reaper now holds the last reference.
            drop(orphans);
            barrier.wait();
        });
    });
    assert!(matches!(outcome, Err(TaskError::UnjoinedChildren(_))), "{outcome:?}");
}

#[test]
fn a_panicking_log_subscriber_prevents_neither_finalizers_nor_the_exit() {
    let fixture = Fixture::new();
    let pool = Pool::builder().registry(&fixture.registry).limit(1).queue(1).build();
    fixture.root(|| {
        let (go, gone) = channel::<()>();
        let busy = pool.spawn([], move || gone.recv().is_ok()).expect("it is the first");
        let text = fixture.own("given");
        let (give, bomb) = ([text.resource()], PanicOnDrop);
        let waiting = pool.spawn(give, move || {
            let _captured = (&text, &bomb);
        });
        let waiting = waiting.expect("there is space in the queue");
        let broken = OnEvent(|| panic!("a subscriber's own panic"));
        let cancelled = tracing::subscriber::with_default(broken, || waiting.cancel());
        assert_cancelled(cancelled);
        assert_eq!(fixture.finalized(), ["given"]);
        go.send(()).expect("it waits");
        assert!(busy.join().expect("it succeeds"));
    });
    fixture.assert_clean();
}

#[test]
fn a_panic_of_a_losers_result_does_not_prevent_the_others_exit() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let ended = |name| {
            let child = fixture.spawn(name, [], || PanicOnDrop);
            while !child.has_ended() {
                std::thread::yield_now();
            }
            child
        };
        let winner = pool::first([ended("a"), ended("b"), ended("c"), ended("d")]);
        mem::forget(winner);
    });
    fixture.assert_clean();
}

/// An error that panics in `Display` or in `Drop`.
struct Broken {
    text_panics: bool,
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.text_panics, "a text's own panic");
        f.write_str("the device is gone")
    }
}

impl std::error::Error for Broken {}

impl Drop for Broken {
    fn drop(&mut self) {
        assert!(self.text_panics, "an error's own panic");
    }
}

#[test]
fn an_error_whose_display_or_drop_panics_prevents_no_finalizer() {
    let fixture = Fixture::new();
    let outcome = fixture.registry.run("failing", || -> () {
        mem::forget(fixture.own("first"));
        for text_panics in [true, false] {
            let finalizer = move |_| Err(io::Error::other(Broken { text_panics }));
            mem::forget(fixture.registry.own_with("broken", finalizer).expect("it is running"));
        }
        mem::forget(fixture.own("last"));
        panic!("the task's own error");
    });
    assert_eq!(panic_message(outcome), "the task's own error");
    assert_eq!(fixture.finalized(), ["last", "first"]);
    assert_eq!(fixture.codes(), ["finalizer-failed", "finalizer-failed"]);
    assert_eq!(fixture.registry.snapshot().resources.len(), 0);
}

#[test]
fn a_release_whose_error_panics_returns_the_error() {
    let fixture = Fixture::new();
    fixture.root(|| {
        let finalizer = |_| Err(io::Error::other(Broken { text_panics: true }));
        let owned = fixture.registry.own_with("broken", finalizer).expect("it is running");
        let error = refusal(owned.release());
        assert_eq!(error.kind(), ErrorKind::FinalizerFailed);
        assert!(error.to_string().contains("a text's own panic"), "{error}");
        assert_eq!(refusal(owned.release()).kind(), ErrorKind::DoubleRelease);
    });
}

#[test]
fn a_replaced_fd_whose_finalizer_panics_on_drop_prevents_no_finalizer() {
    let fixture = Fixture::new();
    let new_file = std::fs::File::open("/dev/null").expect("it can be opened");
    let number = Cell::new(None);
    let outcome = fixture.registry.run("failing", || -> () {
        mem::forget(fixture.own("first"));
        let bomb = PanicOnDrop;
        let finalizer = move |_| {
            let _captured = &bomb;
            Ok(())
        };
        let (ours, _theirs) = UnixStream::pair().expect("a pair can be made");
        let victim = fixture.registry.own_fd_with(OwnedFd::from(ours), finalizer);
        let victim = victim.expect("it is open");
        let replaced = victim.with(|victim| rustix::io::dup2(&new_file, victim));
        replaced.expect("this task owns it").expect("both are open");
        number.set(victim.describe().number);
        mem::forget(victim);
        panic!("the task's own error");
    });
    assert_eq!(panic_message(outcome), "the task's own error");
    assert_eq!(fixture.finalized(), ["first"]);
    assert_eq!(fixture.codes(), ["fd-replaced"]);
    drop(fd_misuse::second_owner(number.get().expect("it is a descriptor")));
}
