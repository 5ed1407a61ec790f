//! The attribute as `test` in scope: what others expand to `#[test]` is checked.

use echown_test::test;
use stacking::{clean, leak};

#[test]
fn plain_leaks() {
    leak();
}

#[quickcheck_macros::quickcheck]
fn quickcheck_clean(_number: u8) -> bool {
    clean();
    true
}

#[quickcheck_macros::quickcheck]
fn quickcheck_leaks(_number: u8) -> bool {
    leak();
    true
}

#[rstest::rstest]
fn rstest_leaks() {
    leak();
}

proptest::proptest! {
    #[test]
    fn proptest_leaks(_number in 0..5) {
        leak();
    }
}
