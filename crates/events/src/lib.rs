//! Events in the life of descriptors: who acquired one, who handed it to whom, who closed it, and what
//! was found wrong.
//!
//! ```text
//! program ── event ──> queue of each subscriber ── encoder ──> lines ──> file, live page
//!                                                                │
//!                                                             reader ──> timeline ──> picture
//! ```
mod columns;
mod encoder;
mod event;
pub mod line;
pub mod mermaid;
mod queue;
#[cfg(feature = "json")]
pub mod reader;
pub mod svg;
#[cfg(test)]
mod test_lines;
pub mod text;
pub mod timeline;

pub use encoder::{Addresses, Encoder, Program};
pub use event::{Event, Outcome, ResourceName, What};
pub use line::{Kind, Line, SCHEMA_VERSION, TaskName};
pub use queue::{Queue, Subscribers};
