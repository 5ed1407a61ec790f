//! Runs a test in its own process: for code that ends its process, and for code that depends on the
//! number that the kernel assigns next.

use std::process::{Command, Output, exit};

/// Set in the process of a test, to the name of the test.
const OWN_PROCESS: &str = "ECHOWN_TEST_OWN_PROCESS";

/// The path of the test that calls this, as the test binary knows it.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        let path = path.strip_suffix("::here").expect("it ends with this");
        path.split_once("::").expect("it begins with the crate").1
    }};
}

/// Runs `body` in a process of its own: this binary again, with this one test.
///
/// The process exits with code 0 when `body` returns.
pub fn in_own_process(test: &str, body: impl FnOnce()) -> Output {
    if std::env::var_os(OWN_PROCESS).is_some_and(|name| name == test) {
        body();
        exit(0);
    }
    let binary = std::env::current_exe().expect("this test runs from a file");
    // As the attribute does: under an emulator the kernel cannot execute this binary.
    let runner = std::env::var("ECHOWN_RUNNER").unwrap_or_default();
    let binary = binary.to_str().expect("the path of a test is UTF-8");
    let mut words = runner.split_whitespace().chain([binary]);
    Command::new(words.next().expect("one is the binary"))
        .args(words)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(OWN_PROCESS, test)
        .output()
        .expect("this binary can be run again")
}

/// Asserts that the process of a test exited with code 0.
#[track_caller]
pub fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "in a process of its own, it ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
