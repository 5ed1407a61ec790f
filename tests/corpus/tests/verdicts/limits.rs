//! What the attribute does not see, as `docs/adopting.md` says it. A verdict here that changes is good
//! news, and a page to be corrected.

use std::fs::File;
use std::sync::Once;
use std::time::Duration;

//~ passes
#[echown::test]
fn what_a_thread_opens_after_the_test_came_back() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        std::mem::forget(File::open("/etc/passwd"));
    });
}

static FIRST: Once = Once::new();

//~ passes | it is the process's and not the test's
#[echown::test]
fn what_leaks_the_first_time_only() {
    FIRST.call_once(|| std::mem::forget(File::open("/etc/passwd")));
}

//~ fails | left 1 descriptor open
#[echown::test(once)]
fn what_leaks_the_first_time_only_judged_by_one_run() {
    FIRST.call_once(|| std::mem::forget(File::open("/etc/passwd")));
}

//~ fails | left 1 descriptor open | tcp listener fd | @opened by socket at tests/verdicts/limits.rs:
#[echown::test]
fn what_cannot_be_run_twice_is_judged_by_its_first_run() {
    use std::sync::atomic::{AtomicBool, Ordering};

    static WAS_RUN: AtomicBool = AtomicBool::new(false);
    assert!(!WAS_RUN.swap(true, Ordering::Relaxed), "it was run before");
    std::mem::forget(std::net::TcpListener::bind("127.0.0.1:0"));
}

//~ fails | left 1 descriptor open | /etc/passwd
#[echown::test]
fn what_a_static_holds_that_every_test_replaces() {
    static LAST: std::sync::Mutex<Option<File>> = std::sync::Mutex::new(None);
    *LAST.lock().unwrap() = File::open("/etc/passwd").ok();
}
