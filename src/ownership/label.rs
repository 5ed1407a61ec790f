//! The name of a resource in messages.

use std::fmt;

use echown_report::ResourceId;

/// A resource's name in messages: ``fd 7 (tcp stream)``, ``resource 12 (String)``.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResourceLabel {
    pub(crate) id: ResourceId,
    pub(crate) number: Option<i32>,
    pub(crate) kind: &'static str,
}

impl fmt::Display for ResourceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "fd {number} ({})", self.kind),
            None => write!(f, "resource {} ({})", self.id, self.kind),
        }
    }
}

impl fmt::Debug for ResourceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
