//! The descriptors that were open when the program started.

use crate::ownership::Registry;

/// Declares the descriptors that were open at startup: the standard streams, and others that the parent
/// left open.
pub(super) fn declare_inherited(registry: &Registry) {
    for number in echown_fd::fd::open_numbers() {
        let name = match number {
            0 => "standard input",
            1 => "standard output",
            2 => "standard error",
            _ => "inherited",
        };
        registry.declare_external(number, name, "opened by the parent process");
    }
}
