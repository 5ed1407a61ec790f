//! Test support: connects the registry to the tests of `echown-test`.
//!
//! The attribute [`#[echown::test]`](macro@crate::test) is that of `echown-test`, and also runs the
//! body as a task: resources that the task still owns at its end and its unjoined children are part
//! of the verdict. See [`echown_test`] for how a test is run.

use std::process::Termination;

use echown_test::__private::{Case, Observed, Observer, Outcome, run_observed};

use crate::ownership::{Registry, ResourceData, TaskError, UnjoinedChildren, snapshot};

/// Runs a test for [`#[echown::test]`](macro@crate::test).
///
/// # Panics
/// The test panicked, or left a resource, descriptor or child.
pub fn run<R: Termination + 'static>(case: &Case, body: fn() -> R) {
    run_observed(case, body, &Registries);
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
