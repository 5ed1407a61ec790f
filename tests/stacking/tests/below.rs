//! The attribute below all others, where it works with each that passes on what is below it, and adds
//! its own `#[test]` after that: the convention that tokio and test-log follow.

use stacking::{clean, leak, leak_if};

#[tokio::test]
#[echown_test::test]
async fn tokio_clean() {
    clean();
}

#[tokio::test]
#[echown_test::test]
async fn tokio_leaks() {
    leak();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[echown_test::test]
async fn tokio_on_threads_leaks() {
    tokio::spawn(async { leak() }).await.unwrap();
}

#[test_log::test]
#[echown_test::test]
fn test_log_clean() {
    clean();
}

#[test_log::test]
#[echown_test::test]
fn test_log_leaks() {
    leak();
}

#[test_log::test(tokio::test)]
#[echown_test::test]
async fn test_log_tokio_leaks() {
    leak();
}

#[rstest::rstest]
#[case::clean(false)]
#[case::leaks(true)]
#[echown_test::test]
fn rstest_case(#[case] leaks: bool) {
    leak_if(leaks);
}

#[rstest::rstest]
#[case::clean(false)]
#[case::leaks(true)]
#[tokio::test]
#[echown_test::test]
async fn rstest_tokio(#[case] leaks: bool) {
    leak_if(leaks);
}

#[test_case::test_case(false; "clean")]
#[test_case::test_case(true; "leaks")]
#[tokio::test]
#[echown_test::test]
async fn test_case_tokio(leaks: bool) {
    leak_if(leaks);
}

#[serial_test::serial]
#[echown_test::test]
fn serial_clean() {
    clean();
}

#[serial_test::serial]
#[echown_test::test]
fn serial_leaks() {
    leak();
}

#[serial_test::file_serial]
#[echown_test::test]
fn file_serial_clean() {
    clean();
}

#[tracing_test::traced_test]
#[echown_test::test]
fn traced_leaks() {
    leak();
}
