//! The attribute in place of `#[test]` in the whole crate. A test with `unchecked` in its name is not
//! checked: its attribute expands to the compiler's own `#[test]`. `echown unchecked` lists exactly these.

#[macro_use]
extern crate echown_test;

use stacking::{leak, leak_if};

#[test]
fn plain_leaks() {
    leak();
}

#[rstest::rstest]
#[case::leaks(true)]
#[case::also_leaks(true)]
#[case::clean(false)]
fn rstest_case(#[case] leaks: bool) {
    leak_if(leaks);
}

#[serial_test::serial]
#[test]
fn serial_leaks() {
    leak();
}

#[test]
#[tracing_test::traced_test]
fn traced_leaks() {
    leak();
}

#[quickcheck_macros::quickcheck]
fn quickcheck_leaks(_number: u8) -> bool {
    leak();
    true
}

proptest::proptest! {
    #[test]
    fn proptest_leaks(_number in 0..5) {
        leak();
    }
}

mod below {
    use super::*;

    #[test]
    fn plain_leaks() {
        leak();
    }

    #[rstest::rstest]
    #[case::leaks(true)]
    #[case::clean(false)]
    #[echown_test::test]
    #[tokio::test]
    async fn rstest_tokio(#[case] leaks: bool) {
        leak_if(leaks);
    }
}

#[rstest::rstest]
#[case::unchecked(true)]
#[tokio::test]
async fn rstest_tokio(#[case] leaks: bool) {
    leak_if(leaks);
}

#[test_case::test_case(true; "unchecked")]
fn cases(leaks: bool) {
    leak_if(leaks);
}

#[tokio::test]
async fn tokio_unchecked() {
    leak();
}

#[async_std::test]
async fn async_std_unchecked() {
    leak();
}

#[test_log::test]
fn test_log_unchecked() {
    leak();
}
