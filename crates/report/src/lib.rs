//! Findings about descriptors: plain data, and the only code that formats it.
//!
//! A finding is a value ([`Report`] of a registry, [`TestReport`] of a test, [`RunReport`] of a traced
//! program) and has three formats
//! with the same facts: `Display` writes plain lines; with the feature `annotated`,
//! `Report::render` prints like rustc, with underlined source lines; with the feature `json`,
//! `Report::to_json` returns one line. [`explain`] has the text of `echown explain`.
//!
//! For CI systems a finding of either kind is an [`Entry`]: an annotation ([`github`]), and with the
//! feature `ci` part of a `Document` (JUnit, SARIF) and of a `Baseline`.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

#[cfg_attr(not(feature = "ci"), allow(dead_code, reason = "without documents it is only tried"))]
pub mod atomic_file;
mod code;
mod entry;
mod event;
pub mod explain;
pub mod format;
pub mod github;
pub mod graph;
mod ids;
mod input_error;
mod paths;
mod plural;
mod registry_summary;
mod report;
mod run_report;
mod site;
mod snapshot;
mod sources;
mod suppression;
mod test_report;
mod text;

pub use code::Code;
pub use entry::{Entry, Location, Step, TestName};
pub use event::Event;
pub use format::{Destination, Format};
pub use ids::{ResourceId, TaskId, TaskLabel};
pub use input_error::InputError;
pub use plural::Plural;
pub use registry_summary::RegistrySummary;
pub use report::{LeakReport, Report, ViolationReport};
pub use run_report::{
    Coverage, CoverageGap, GapKind, HistoryStep, Omitted, RunFinding, RunProcess, RunReport,
    RunStatus, Severity,
};
pub use site::Site;
pub use snapshot::{CustodyStep, Declared, ResourceData, Snapshot, TaskData};
pub use sources::Sources;
pub use suppression::Suppression;
pub use test_report::{Descriptor, Place, StackFrame, TestFinding, TestReport, TestVerdict};

#[cfg(feature = "annotated")]
mod annotated;
#[cfg(feature = "ci")]
mod baseline;
#[cfg(feature = "ci")]
mod document;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "ci")]
pub mod suppressions;

#[cfg(feature = "annotated")]
pub use annotated::Colours;
#[cfg(feature = "ci")]
pub use baseline::Baseline;
#[cfg(feature = "ci")]
pub use document::{BaselineState, Document};

/// The version of the JSON form of reports, snapshots and summaries. It increases when a field changes
/// its meaning or is removed; fields can be added at any time.
pub const SCHEMA_VERSION: u32 = 1;
