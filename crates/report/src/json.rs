//! Findings as JSON; the schema is the shape of the types in [`ownership`](crate::ownership).

use serde::{Serialize, Serializer};

use super::{RunReport, TestReport};
use crate::graph::Graph;
use crate::{RegistrySummary, Report, Site, Snapshot};

impl Serialize for Site {
    /// Serializes as `file:line:column`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

macro_rules! to_json {
    ($($type:ty),+) => {$(
        impl $type {
            /// One line of JSON, with a `schema_version`.
            #[must_use]
            pub fn to_json(&self) -> String {
                match serde_json::to_string(self) {
                    Ok(json) => json,
                    Err(error) => unreachable!("plain data always serializes: {error}"),
                }
            }
        }
    )+};
}

to_json!(Graph, Report, Snapshot, TestReport, RunReport, RegistrySummary);
