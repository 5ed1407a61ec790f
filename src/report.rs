//! What people and machines read: the only room that formats findings.
//!
//! A finding is a value ([`Report`](crate::ownership::Report)) and has three forms with the same
//! facts: `Display`, plain lines that need nothing; with the feature `report`,
//! `Report::render`, like rustc's, with the source lines underlined where the sources are at hand;
//! with the feature `json`, `Report::to_json`, one line. [`explain`] says more about each verdict.
//!
//! For the machines of a CI a finding is an [`Entry`], whether a server's or a test's: an annotation
//! ([`github`]), and with the feature `ci` part of a `Document` (JUnit, SARIF) and of a `Baseline`.

mod count;
mod entry;
pub mod explain;
pub(crate) mod format;
pub mod github;
mod graph;
mod paths;
mod sources;
mod tested;
mod text;

pub use count::Count;
pub use entry::{Entry, Spot, Step, TestName};
pub use format::{Destination, Format};
pub use sources::Sources;
pub use tested::{Descriptor, Frame, Place, TestFinding, TestReport, TestVerdict};

#[cfg(any(feature = "cli", feature = "macros"))]
#[cfg_attr(not(feature = "ci"), allow(dead_code, reason = "without documents it is only tried"))]
pub(crate) mod atomic_file;
#[cfg(feature = "ci")]
mod baseline;
#[cfg(feature = "ci")]
mod document;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "ci")]
mod junit;
#[cfg(feature = "report")]
mod rich;
#[cfg(feature = "ci")]
mod sarif;
#[cfg(feature = "ci")]
pub mod suppressions;

#[cfg(feature = "ci")]
pub use baseline::Baseline;
#[cfg(feature = "ci")]
pub use document::{Document, Novelty};
#[cfg(feature = "report")]
pub use rich::Colours;
