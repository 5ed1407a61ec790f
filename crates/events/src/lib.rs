//! Events in the life of descriptors: who acquired one, who handed it to whom, who closed it, and what
//! was found wrong.
//!
//! ```text
//! program ── event ──> queue of each subscriber ── encoder ──> lines ──> file, live page
//!                                                                │
//!                                                             reader ──> timeline ──> picture
//! ```
pub mod line;
#[cfg(feature = "json")]
pub mod reader;

pub use line::{Kind, Line, SCHEMA_VERSION, TaskName};
