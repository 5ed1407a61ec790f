//! A plain test, without a check: on systems whose open descriptors cannot be listed, and under Miri.

use std::process::{ExitCode, Termination};

/// Runs the body in this process, as the standard runner does.
///
/// # Panics
/// The body panicked, or returned an error.
pub(crate) fn run<R: Termination>(body: fn() -> R) {
    // The error is printed by `report`.
    assert!(body().report() == ExitCode::SUCCESS, "the test returned an error");
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn a_body_that_returns_passes() {
        run(|| Ok::<(), String>(()));
    }

    #[test]
    #[should_panic(expected = "the test returned an error")]
    fn a_body_that_returns_an_error_fails() {
        run(|| Err::<(), _>("no"));
    }
}
