//! Leaks that the attribute does not detect, as `docs/adopting.md` states. If a verdict here
//! improves, update the page.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::Duration;

//~ passes
#[echown::test]
fn a_leak_by_a_thread_after_the_test_returned() {
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(500));
        std::mem::forget(File::open("/etc/passwd"));
    });
}

static FIRST: Once = Once::new();

//~ passes | it does not count as a leak of the test
#[echown::test]
fn a_leak_in_the_first_run_only() {
    FIRST.call_once(|| std::mem::forget(File::open("/etc/passwd")));
}

//~ fails | left 1 descriptor open | tcp listener fd | @opened by socket at tests/verdicts/limits.rs:
#[echown::test]
fn a_test_that_cannot_run_twice_is_judged_by_its_first_run() {
    static WAS_RUN: AtomicBool = AtomicBool::new(false);
    assert!(!WAS_RUN.swap(true, Ordering::Relaxed), "it was run before");
    std::mem::forget(std::net::TcpListener::bind("127.0.0.1:0"));
}

//~ fails | left 1 descriptor open | /etc/passwd
#[echown::test]
fn a_static_that_every_test_replaces() {
    static LAST: Mutex<Option<File>> = Mutex::new(None);
    *LAST.lock().unwrap() = File::open("/etc/passwd").ok();
}
