//! What a stranger gets who adds `#[echown::test]`: their crate is built as they would build it, their
//! tests are run as they would run them, and every verdict is compared with the expected one.
//!
//! The stranger's crate is `tests/corpus`. It is copied, so that nothing is written among the sources,
//! and takes the versions in this project's lock file, so that nothing is fetched.

#[path = "common/mod.rs"]
mod common;

#[path = "adopting/stranger.rs"]
mod stranger;

#[path = "adopting/mailer.rs"]
mod mailer;

#[path = "adopting/verdicts.rs"]
mod verdicts;

#[path = "adopting/mistakes.rs"]
mod mistakes;

#[path = "adopting/allocator.rs"]
mod allocator;

#[path = "adopting/light.rs"]
mod light;
