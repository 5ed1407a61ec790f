//! What people and machines read: the only room that formats findings.
//!
//! A finding is a value ([`Report`](crate::ownership::Report)) and has three forms with the same
//! facts: `Display`, plain lines that need nothing; with the feature `report`,
//! `Report::render`, like rustc's, with the source lines underlined where the sources are at hand;
//! with the feature `json`, `Report::to_json`, one line. [`explain`] says more about each verdict.

mod count;
pub mod explain;
mod graph;
mod tested;
mod text;

pub use count::Count;
pub use tested::{Descriptor, Frame, Place, TestFinding, TestReport, TestVerdict};

#[cfg(feature = "json")]
mod json;
#[cfg(feature = "report")]
mod rich;
#[cfg(feature = "report")]
mod sources;

#[cfg(feature = "report")]
pub use rich::Colours;
#[cfg(feature = "report")]
pub use sources::Sources;
