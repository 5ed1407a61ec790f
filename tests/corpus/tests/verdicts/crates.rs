//! Descriptors that a dependency opened or closed: the report names the dependency, and the lines of
//! this crate below it. And descriptors in its statics, which are no leaks.

use std::fs::File;
use std::mem::forget;
use std::os::fd::AsRawFd;

use downstream::crates;

//~ passes | @opened under `once_cell`
#[echown::test]
fn a_static_of_once_cell() {
    static FILE: once_cell::sync::Lazy<File> = once_cell::sync::Lazy::new(crates::temporary);
    assert!(FILE.metadata().is_ok());
}

//~ passes | @opened under `tokio::sync::OnceCell`
#[echown::test]
#[tokio::test]
async fn a_static_of_tokio() {
    static FILE: tokio::sync::OnceCell<File> = tokio::sync::OnceCell::const_new();
    let file = FILE.get_or_init(|| async { crates::temporary() }).await;
    assert!(file.metadata().is_ok());
}

//~ fails | left 1 descriptor open | @opened by openat at tempfile 3. | @ frames of tempfile 3. | @in downstream::crates::temporary (src/crates.rs:
#[echown::test]
fn a_file_that_a_dependency_opened() {
    forget(crates::temporary());
}

//~ fails | @opened by openat at tempfile 3. | @ (src/crates.rs: | @in downstream::crates::call (src/crates.rs: | @(tests/verdicts/crates.rs:
#[echown::test]
fn a_file_opened_in_a_boxed_closure() {
    crates::call(Box::new(|| forget(crates::temporary())));
}

//~ fails | @opened by openat at tempfile 3. | @in downstream::crates::temporary (src/crates.rs: | @ frames of tokio 1.
#[echown::test]
#[tokio::test]
async fn a_file_opened_in_a_task_of_a_runtime() {
    tokio::spawn(async { forget(crates::temporary()) }).await.unwrap();
}

//~ fails | left 2 descriptors open | @opened by openat at tempfile 3. | @, on several threads | @in downstream::crates::temporary (src/crates.rs:
#[echown::test]
fn two_files_opened_at_one_place_by_two_threads() {
    for name in ["first", "second"] {
        let thread = std::thread::Builder::new().name(name.into());
        thread.spawn(|| forget(crates::temporary())).unwrap().join().unwrap();
    }
}

//~ fails | double-close: | @opened by openat at tempfile 3. | @closed first by close at tests/verdicts/crates.rs: | @in the drop of downstream::crates::Holder | @closed again by close at src/closes.rs:
#[echown::test]
fn a_file_that_drop_glue_closed_first() {
    let holders = vec![crates::Holder { file: crates::temporary() }];
    let number = holders[0].file.as_raw_fd();
    drop(holders);
    downstream::closes::close(number);
}
