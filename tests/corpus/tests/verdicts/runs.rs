//! How often a test body runs: each run appends a byte to a file, if one is set.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::mem::forget;
use std::sync::atomic::{AtomicBool, Ordering};

fn count() {
    if let Ok(path) = std::env::var("DOWNSTREAM_COUNT") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(b"x").unwrap();
    }
}

//~ passes
#[echown::test]
fn once_when_clean() {
    count();
}

// It has no thread, so the harness does not wait for the settle time.
//~ fails | left 1 descriptor open | /etc/passwd
#[echown::test(settle_ms = 30_000)]
fn twice_when_it_leaks() {
    count();
    forget(File::open("/etc/passwd"));
}

//~ fails | left 1 descriptor open | /etc/passwd
#[echown::test]
fn twice_when_it_leaks_and_ends_its_process_the_second_time() {
    static WAS_RUN: AtomicBool = AtomicBool::new(false);

    count();
    if WAS_RUN.swap(true, Ordering::Relaxed) {
        std::process::exit(1);
    }
    forget(File::open("/etc/passwd"));
}

//~ fails | left 1 descriptor open | /etc/passwd
#[echown::test(no_rerun)]
fn once_with_no_rerun() {
    count();
    forget(File::open("/etc/passwd"));
}
