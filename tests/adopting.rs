//! `#[echown::test]` in a downstream crate: the crate is built and its tests are run as its authors
//! would, and every verdict is compared with the expected one.
//!
//! The downstream crate is `tests/corpus`. It is copied, so that the sources do not change, and
//! uses the versions of this project's lock file, so that nothing is downloaded.

#[path = "common/mod.rs"]
mod common;

#[path = "adopting/downstream.rs"]
mod downstream;

#[path = "adopting/mailer.rs"]
mod mailer;

#[path = "adopting/verdicts.rs"]
mod verdicts;

#[path = "adopting/mistakes.rs"]
mod mistakes;

#[path = "adopting/allocator.rs"]
mod allocator;

#[path = "adopting/alone.rs"]
mod alone;

#[path = "adopting/light.rs"]
mod light;

#[path = "adopting/places.rs"]
mod places;

#[path = "adopting/real.rs"]
mod real;

#[path = "adopting/suites.rs"]
mod suites;

#[path = "adopting/whole_crate.rs"]
mod whole_crate;
