//! Bugs of published crates, each with the smallest test that reaches it.
//!
//! Above each test stand its expected verdict in the package `buggy`, in the form of
//! `tests/corpus/tests/verdicts.rs`, and the crate, the versions and the public report. In the
//! package `fixed` each test passes. A bug without a fixed version is tested in `buggy` alone.
//! `ci/real` runs both packages and compares.

#[path = "verdicts/leaks.rs"]
mod leaks;

#[path = "verdicts/closes.rs"]
mod closes;

#[path = "verdicts/exec.rs"]
mod exec;
