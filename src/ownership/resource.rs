//! `Resource`: a reference to a resource, without access to its value.

use std::fmt;
use std::sync::Arc;

use echown_report::{ResourceData, ResourceId};

use super::record::Managed;
use super::registry::Registry;
use super::snapshot;

/// A reference to a resource, to give it to a child or to describe it. Gives no access to its value.
#[derive(Clone)]
pub struct Resource(Arc<dyn Managed>);

impl Resource {
    pub(crate) fn new(held: Arc<dyn Managed>) -> Resource {
        Resource(held)
    }

    pub(crate) fn into_managed(self) -> Arc<dyn Managed> {
        self.0
    }

    pub(super) fn managed(&self) -> &dyn Managed {
        &*self.0
    }

    /// Whether both are descriptors of one open file, such as a socket and its duplicate.
    #[cfg_attr(not(all(feature = "serve", target_os = "linux")), allow(dead_code))]
    pub(crate) fn is_same_file(&self, other: &Resource) -> bool {
        match (self.0.record().descriptor, other.0.record().descriptor) {
            (Some(one), Some(other)) => !one.identity.differs_from(other.identity),
            _ => false,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        self.0.record().id
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.record().registry
    }

    /// Its name in messages: `fd 7 (tcp stream)`.
    pub(crate) fn name(&self) -> String {
        self.0.record().label().to_string()
    }

    /// Describes it: owner, state, addresses, custody. Any task may call this.
    #[must_use]
    pub fn describe(&self) -> ResourceData {
        snapshot::of_record(self.0.record())
    }

    /// Nanoseconds since it was acquired.
    pub(crate) fn age_nanos(&self) -> u64 {
        self.0.record().created_at.elapsed_nanos()
    }

    /// The bytes received and sent through it so far, also after its end. Any task may call this.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        self.0.record().traffic()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0.record();
        write!(f, "{} {:?}", record.label(), record.slot)
    }
}
