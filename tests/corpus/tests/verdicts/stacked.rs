//! Tests that stack the attribute with those of other crates. `ci/stacking` tries more crates.

use std::fs::File;
use std::mem::forget;

//~ passes
#[echown::test]
#[tokio::test]
async fn an_async_test_below() {
    drop(File::open("/etc/passwd"));
}

//~ fails | leak: test `stacked::a_leaking_async_test_below` left 1 descriptor open | file fd | @tests/verdicts/stacked.rs:
#[echown::test]
#[tokio::test]
async fn a_leaking_async_test_below() {
    forget(File::open("/etc/passwd"));
}

//~ passes
#[tokio::test]
#[echown::test]
async fn an_async_test_above() {
    drop(File::open("/etc/passwd"));
}

//~ fails | leak: test `stacked::a_leaking_async_test_above` left 1 descriptor open | file fd | @tests/verdicts/stacked.rs:
#[tokio::test]
#[echown::test]
async fn a_leaking_async_test_above() {
    forget(File::open("/etc/passwd"));
}

//~ fails | leak: test `stacked::a_leaking_async_test_in_the_options` left 1 descriptor open | file fd
#[echown::test(tokio::test(flavor = "current_thread"), timeout_ms = 60_000)]
async fn a_leaking_async_test_in_the_options() {
    forget(File::open("/etc/passwd"));
}

//~ passes
#[echown::test]
#[should_panic]
#[allow(clippy::unused_unit)]
fn a_result_of_nothing() -> () {
    panic!("on purpose");
}

//~ fails | left 1 descriptor open | file fd
#[echown::test]
extern "C" fn another_abi()
where
    u8: Copy,
{
    forget(File::open("/etc/passwd"));
}

proptest::proptest! {
    //~ fails | leak: test `stacked::a_leaking_property` left
    #[echown::test]
    fn a_leaking_property(_number in 0..3) {
        forget(File::open("/etc/passwd"));
    }
}
