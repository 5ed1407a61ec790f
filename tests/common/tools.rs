//! Requirements of tests on the system: other programs, root privileges, kernel features.
//!
//! A test that lacks one prints a line that begins with `skipped: ` and passes. Where
//! `ECHOWN_REQUIRE_TOOLS` is set, as in CI, a missing program fails the test: otherwise a test
//! could be skipped for years without notice.

/// The variable that makes a missing tool an error.
const REQUIRE: &str = "ECHOWN_REQUIRE_TOOLS";

/// Returns whether a tool is available, by the result of a probe. If it is missing, fails where
/// tools are required, and otherwise prints that the test is skipped.
#[track_caller]
pub fn require_tool(tool: &str, is_there: bool) -> bool {
    let is_required = std::env::var_os(REQUIRE).is_some_and(|value| !value.is_empty());
    assert!(is_there || !is_required, "{tool} is missing, and {REQUIRE} is set");
    if !is_there {
        eprintln!("skipped: {tool} is missing");
    }
    is_there
}
