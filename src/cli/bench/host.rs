//! The load generator's descriptors in the registry's custody table.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::Command;
use std::sync::Arc;

use echown_bench::Host;

use crate::cli::environment;
use crate::ownership::Registry;
use crate::sys::child;

struct RegistryHost(Registry);

/// A host that declares descriptors in `registry`.
pub(super) fn of(registry: &Registry) -> Arc<dyn Host> {
    Arc::new(RegistryHost(registry.clone()))
}

impl Host for RegistryHost {
    fn opened(&self, fd: BorrowedFd<'_>, kind: &'static str) {
        self.0.declare_external(fd.as_raw_fd(), kind, "opened by the load generator");
    }

    fn closing(&self, fd: BorrowedFd<'_>) {
        self.0.forget_external(fd.as_raw_fd());
    }

    fn before_spawn(&self, command: &mut Command) {
        child::kill_with_this_process(command);
        // Servers are measured with the options of their command only.
        for variable in environment::given() {
            command.env_remove(variable);
        }
    }
}
