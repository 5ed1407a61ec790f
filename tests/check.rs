//! `echown::check`: reports what a closure's tasks and owned resources left, before it returns.

use std::io::Read;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use echown::net::{Listener, Stream};
use echown::ownership::{self, Registry};
use echown::pool::{Orphans, Pool};
use echown::test;
use echown::{Check, check};

#[path = "common/mod.rs"]
mod common;

use common::{stall, wait_until};

/// The message with which a check fails.
#[track_caller]
fn fault(check: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(check)).expect_err("the check fails");
    *payload.downcast::<String>().expect("with a text")
}

fn leak_a_listener() {
    forget(Listener::bind("127.0.0.1:0").expect("loopback has a free port"));
}

#[test]
fn a_clean_closure_returns_its_value() {
    let sum = check(|| {
        let numbers = ownership::own(vec![1, 2, 3]).expect("the task is running");
        numbers.with(|numbers| numbers.iter().sum::<i32>()).expect("this task owns it")
    });
    assert_eq!(sum, 6);
}

#[test]
fn a_leaked_resource_is_reported_with_its_site_and_closed() {
    let line = line!() + 1;
    let text = fault(|| check(|| forget(Listener::bind("127.0.0.1:0"))));
    assert!(text.contains("ended and still owned 1 resource"), "{text}");
    assert!(text.contains("tcp listener fd"), "{text}");
    assert!(text.contains(&format!("acquired at {}:{line}:", file!())), "{text}");
    // The attribute above would find the listener if it were still open.
}

#[test]
fn resources_of_every_registry_are_checked() {
    let registry = Registry::builder().sink(|_| {}).build();
    let text = fault(|| {
        check(|| {
            let _entered = registry.enter();
            forget(Stream::pair());
        });
    });
    assert!(text.contains("ended and still owned 2 resources"), "{text}");
}

#[test]
fn an_unjoined_task_is_reported_cancelled_and_joined() {
    let (to_test, from_child) = channel();
    let text = fault(|| {
        check(|| {
            let listener = Listener::bind("127.0.0.1:0").expect("loopback has a free port");
            let give = [listener.resource()];
            let child = echown::thread::spawn(give, move || {
                let rejected = listener.accept().is_err();
                to_test.send(rejected).expect("the test receives it");
            });
            drop(child);
        });
    });
    assert!(text.starts_with("unjoined-task: the check left 1 task: task "), "{text}");
    assert_eq!(from_child.recv(), Ok(true), "it was woken and completed");
}

#[test]
fn children_that_are_about_to_exit_are_waited_for() {
    let pool = Pool::new();
    check(|| {
        let orphans = Orphans::new(Registry::global());
        let child = pool.spawn([], || stall(Duration::from_millis(30)));
        orphans.adopt(child.expect("there is a thread")).expect("it is a child of this task");
        forget(orphans);
    });
}

#[test]
fn a_panic_of_the_closure_is_propagated() {
    let payload = catch_unwind(|| check(|| panic!("its own"))).expect_err("it panicked");
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"its own"));
}

#[test]
fn ignored_leaks_pass_and_other_leaks_still_fail() {
    Check::new().ignore_kind("tcp listener", "for the example").run(leak_a_listener);
    Check::new().ignore_path("127.0.0.1", "for the example").run(leak_a_listener);
    Check::new().ignore_site("tests/check.rs", "for the example").run(leak_a_listener);
    for other in [
        Check::new().ignore_kind("udp socket", "for the example"),
        Check::new().ignore_path("127.0.0.2", "for the example"),
        Check::new().ignore_site("tests/net.rs", "for the example"),
    ] {
        let text = fault(|| other.run(leak_a_listener));
        assert!(text.contains("tcp listener fd"), "{text}");
    }
}

#[test]
fn the_expected_number_of_leaks_passes_and_any_other_number_fails() {
    Check::new().expect_leaks(1, "issue 12").run(leak_a_listener);
    let none = fault(|| Check::new().expect_leaks(1, "issue 12").run(|| ()));
    assert_eq!(none, "leak-count: the check left 0 resources, expected 1 (issue 12)");
    let more = fault(|| {
        Check::new().expect_leaks(1, "issue 12").run(|| {
            leak_a_listener();
            leak_a_listener();
        });
    });
    assert_eq!(more, "leak-count: the check left 2 resources, expected 1 (issue 12)");
}

#[test]
fn parallel_checks_see_only_their_own_resources() {
    std::thread::scope(|scope| {
        for index in 0..16 {
            scope.spawn(move || match index % 2 {
                0 => check(|| {
                    let (mut here, there) = Stream::pair().expect("two descriptors are free");
                    there.close().expect("this task owns it");
                    assert_eq!(here.read(&mut [0]).expect("end of stream"), 0);
                }),
                _ => assert!(fault(|| check(leak_a_listener)).contains("owned 1 resource")),
            });
        }
    });
}

#[test]
fn a_check_that_finds_nothing_does_not_wait() {
    // Far less than a hundred times the shortest wait. A loaded machine may need a second attempt.
    wait_until("a hundred checks to take less than ten seconds", || {
        let begun = Instant::now();
        (0..100).for_each(|_| check(|| ()));
        begun.elapsed() < Duration::from_secs(10)
    });
}
