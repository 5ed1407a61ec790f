//! Identities of tasks and resources.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Identifies a task for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct TaskId(NonZeroU64);

impl TaskId {
    /// The id with this number.
    #[must_use]
    pub fn new(number: NonZeroU64) -> TaskId {
        TaskId(number)
    }

    /// The number, counted from 1, which is the root's.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({})", self.0)
    }
}

/// A task's id and name: ``task 3 `reader` ``.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct TaskLabel {
    /// Never reused.
    pub id: TaskId,
    /// The name that the spawner gave it. Control characters and invisible characters are escaped
    /// (`\n`, `\u{202e}`).
    pub name: Arc<str>,
}

impl fmt::Display for TaskLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} `{}`", self.id, self.name)
    }
}

impl fmt::Debug for TaskLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Identifies a resource for the life of the process. Unlike descriptor numbers, ids are never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
pub struct ResourceId(NonZeroU64);

impl ResourceId {
    /// The id with this number.
    #[must_use]
    pub fn new(number: NonZeroU64) -> ResourceId {
        ResourceId(number)
    }

    /// The number, counted from 1.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceId({})", self.0)
    }
}
