//! The interface of a resource registry that takes part in tests.

use std::any::Any;

use echown_report::ResourceData;

pub use super::message::Outcome;

/// A registry that tracks more resources of a test than the descriptors of its process.
///
/// `echown` implements it: its attribute runs the body as a task, and reports what the task still owns
/// and which of its children are unjoined.
pub trait Observer: Sync {
    /// Runs the test's body, in the child process on a separate thread. The body returns whether
    /// the test succeeded. A panic of the body may propagate.
    fn run(&self, body: Box<dyn FnOnce() -> bool + Send>) -> Observed;

    /// All resources that the registry contains now.
    fn resources(&self) -> Vec<ResourceData>;
}

/// The outcome of a test's body, and the resources that it left.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The outcome of the body.
    pub outcome: Outcome,
    /// Resources that it still owned. They have been closed.
    pub owned: Vec<ResourceData>,
    /// Its unjoined tasks.
    pub unjoined: Vec<String>,
}

impl Observed {
    /// A body that returned successfully or with an error.
    #[must_use]
    pub fn returned(success: bool) -> Observed {
        let outcome = if success { Outcome::Returned } else { Outcome::ReturnedErr };
        Observed { outcome, ..Observed::default() }
    }

    /// A body that panicked.
    #[must_use]
    pub fn panicked(payload: &(dyn Any + Send)) -> Observed {
        Observed { outcome: Outcome::Panicked(panic_message(payload)), ..Observed::default() }
    }
}

/// The message of a panic.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> Option<String> {
    let literal = payload.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
    literal.or_else(|| payload.downcast_ref::<String>().cloned())
}

/// No registry: only descriptors are checked.
pub(crate) struct NoRegistry;

impl Observer for NoRegistry {
    fn run(&self, body: Box<dyn FnOnce() -> bool + Send>) -> Observed {
        Observed::returned(body())
    }

    fn resources(&self) -> Vec<ResourceData> {
        Vec::new()
    }
}
