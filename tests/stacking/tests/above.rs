//! The attribute above all others, where it works with each of them.

use std::fs::File;
use std::mem::forget;

use stacking::{clean, leak, leak_if, open};

#[echown_test::test]
#[tokio::test]
async fn tokio_clean() {
    clean();
}

#[echown_test::test]
#[tokio::test]
async fn tokio_leaks() {
    leak();
}

#[echown_test::test(ignore_kind = "device", because = "to see that options stay")]
#[tokio::test]
async fn tokio_ignored() {
    leak();
}

#[echown_test::test]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_on_threads_clean() {
    tokio::spawn(async { clean() }).await.unwrap();
}

#[echown_test::test]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_on_threads_leaks() -> std::io::Result<()> {
    tokio::spawn(async { leak() }).await?;
    Ok(())
}

#[echown_test::test]
#[tokio::test]
#[should_panic(expected = "on purpose")]
async fn tokio_panics_clean() {
    clean();
    panic!("on purpose");
}

#[echown_test::test(tokio::test)]
async fn tokio_wrapped_clean() {
    clean();
}

#[echown_test::test(tokio::test(flavor = "multi_thread"), timeout_ms = 60_000)]
async fn tokio_wrapped_leaks() {
    leak();
}

#[echown_test::test]
#[async_std::test]
async fn async_std_clean() {
    clean();
}

#[echown_test::test]
#[async_std::test]
async fn async_std_leaks() {
    leak();
}

#[echown_test::test]
#[smol_potat::test]
async fn smol_potat_clean() {
    clean();
}

#[echown_test::test]
#[smol_potat::test]
async fn smol_potat_leaks() {
    leak();
}

#[echown_test::test]
#[macro_rules_attribute::apply(smol_macros::test!)]
async fn smol_macros_clean() {
    clean();
}

#[echown_test::test]
#[macro_rules_attribute::apply(smol_macros::test!)]
async fn smol_macros_leaks() {
    leak();
}

#[echown_test::test]
#[macro_rules_attribute::apply(smol_macros::test!)]
async fn smol_macros_executor_leaks(executor: &smol_macros::Executor<'_>) {
    executor.spawn(async { leak() }).await;
}

#[echown_test::test]
#[actix_rt::test]
async fn actix_clean() {
    clean();
}

#[echown_test::test]
#[actix_rt::test]
async fn actix_leaks() {
    leak();
}

#[echown_test::test]
#[test_log::test]
fn test_log_clean() {
    clean();
}

#[echown_test::test]
#[test_log::test]
fn test_log_leaks() {
    leak();
}

#[echown_test::test]
#[test_log::test(tokio::test)]
async fn test_log_tokio_clean() {
    clean();
}

#[echown_test::test]
#[test_log::test(tokio::test)]
async fn test_log_tokio_leaks() {
    leak();
}

#[echown_test::test]
#[rstest::rstest]
fn rstest_leaks() {
    leak();
}

#[echown_test::test]
#[rstest::rstest]
#[case::clean(false)]
#[case::leaks(true)]
fn rstest_case(#[case] leaks: bool) {
    leak_if(leaks);
}

#[echown_test::test]
#[rstest::rstest]
#[case::clean(false)]
#[case::leaks(true)]
#[tokio::test]
async fn rstest_tokio(#[case] leaks: bool) {
    leak_if(leaks);
}

#[rstest::fixture]
fn file() -> File {
    open()
}

#[echown_test::test]
#[rstest::rstest]
fn rstest_fixture_clean(file: File) {
    drop(file);
}

#[echown_test::test]
#[rstest::rstest]
fn rstest_fixture_leaks(file: File) {
    forget(file);
}

#[echown_test::test]
#[test_case::test_case(false; "clean")]
#[test_case::test_case(true; "leaks")]
fn cases(leaks: bool) {
    leak_if(leaks);
}

#[echown_test::test]
#[test_case::test_case(false => 1; "clean")]
#[test_case::test_case(true => 1; "leaks")]
fn test_case_with_result(leaks: bool) -> u32 {
    leak_if(leaks);
    1
}

#[echown_test::test]
#[test_case::test_case(0 => panics "on purpose"; "clean")]
fn test_case_that_panics(_number: u32) {
    clean();
    panic!("on purpose");
}

#[echown_test::test]
#[test_case::test_matrix([false])]
fn test_matrix_clean(leaks: bool) {
    leak_if(leaks);
}

#[echown_test::test]
#[test_case::test_case(false; "clean")]
#[test_case::test_case(true; "leaks")]
#[tokio::test]
async fn test_case_tokio(leaks: bool) {
    leak_if(leaks);
}

#[echown_test::test]
#[serial_test::serial]
fn serial_clean() {
    clean();
}

#[echown_test::test]
#[serial_test::serial]
fn serial_leaks() {
    leak();
}

#[echown_test::test]
#[serial_test::serial]
#[tokio::test]
async fn serial_tokio_leaks() {
    leak();
}

#[echown_test::test]
#[tracing_test::traced_test]
fn traced_clean() {
    clean();
}

#[echown_test::test]
#[tracing_test::traced_test]
fn traced_leaks() {
    leak();
}

#[echown_test::test]
#[tokio::test]
#[tracing_test::traced_test]
async fn traced_tokio_leaks() {
    leak();
}

#[echown_test::test]
#[quickcheck_macros::quickcheck]
fn quickcheck_clean(_number: u8) -> bool {
    clean();
    true
}

#[echown_test::test]
#[quickcheck_macros::quickcheck]
fn quickcheck_leaks(_number: u8) -> bool {
    leak();
    true
}

proptest::proptest! {
    #[echown_test::test]
    fn proptest_clean(_number in 0..5) {
        clean();
    }

    #[echown_test::test]
    fn proptest_leaks(_number in 0..5) {
        leak();
    }
}
