//! Descriptors that a dependency opens.

use std::fs::File;

/// The file is opened by `tempfile`, with its own system call.
pub fn temporary() -> File {
    tempfile::tempfile().unwrap()
}

/// Closed by the compiler's drop glue.
pub struct Holder {
    pub file: File,
}

pub fn call(job: Box<dyn FnOnce()>) {
    job();
}
