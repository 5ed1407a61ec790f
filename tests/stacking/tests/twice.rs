//! Attributes that put a `#[test]` in front of what is below them, which no macro below can see: the
//! test is registered twice, and says so.

#[async_std::test]
#[echown_test::test]
async fn async_std_twice() {}

#[test_case::test_case(1; "twice")]
#[echown_test::test]
fn cases(_number: u8) {}
