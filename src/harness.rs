//! Test support: connects the registry to the tests of `echown-test`.
//!
//! The attribute [`#[echown::test]`](macro@crate::test) is that of `echown-test`, and in addition runs
//! the body as a task: what the task still owns at its end, and which of its children are unjoined, is
//! part of the verdict. See [`echown_test`] for how a test is run.

use std::process::Termination;

pub use echown_test::{Binary, Case, Ignore};
use echown_test::{Observed, Observer, Outcome};

use crate::ownership::{Registry, ResourceData, TaskError, UnjoinedChildren, snapshot};

/// Runs a test as [`#[echown::test]`](macro@crate::test) has it.
///
/// # Panics
/// As the test did, or because of what it left.
pub fn run<R: Termination + 'static>(case: &Case, body: fn() -> R) {
    echown_test::run_observed(case, body, &Registries);
}

/// All registries of the process.
struct Registries;

impl Observer for Registries {
    fn run(&self, body: Box<dyn FnOnce() -> bool + Send>) -> Observed {
        match Registry::global().run("test", body) {
            Ok(success) => Observed::returned(success),
            Err(TaskError::Panicked(panic)) => Observed::panicked(&*panic.into_payload()),
            Err(TaskError::Leaked(success, report)) => {
                Observed { owned: report.resources, ..Observed::returned(success) }
            }
            Err(TaskError::UnjoinedChildren(UnjoinedChildren {
                value, children, leaks, ..
            })) => Observed {
                owned: leaks.map(|report| report.resources).unwrap_or_default(),
                unjoined: children.iter().map(ToString::to_string).collect(),
                ..Observed::returned(value)
            },
            Err(TaskError::Cancelled | TaskError::Refused(..)) => {
                let why = String::from("the test's task was cancelled");
                Observed { outcome: Outcome::Panicked(Some(why)), ..Observed::default() }
            }
        }
    }

    fn resources(&self) -> Vec<ResourceData> {
        snapshot::of_all_registries()
    }
}
