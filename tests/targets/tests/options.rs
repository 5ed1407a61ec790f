//! Each option of the attribute. A test with `leaks` in its name fails where the attribute checks it.

use echown_test::test;

#[test]
fn clean() {
    drop(std::fs::File::open("Cargo.toml"));
}

#[test]
fn leaks() {
    targets::leak();
}

#[test]
extern "C" fn external() {}

#[echown_test::test(
    ignore_path = "/var/log",
    because = "to see that it compiles",
    ignore_kind = "epoll",
    because = "to see that it compiles",
    allow_close_inherited,
    because = "to see that it compiles",
    expect_leaks = 0,
    because = "to see that it compiles",
    report_inherited = false,
    settle_ms = 500,
    timeout_ms = 60_000,
    group = "alone",
    no_trace = false,
    no_rerun
)]
fn every_option() {}
