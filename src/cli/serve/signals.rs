//! What the server does when a signal arrives.

use std::sync::Arc;

use super::service_manager::Notifier;
use crate::cli::log_arguments::OutputFormat;
use crate::cli::output::Output;
use crate::cli::stderr_line::stderr_line;
use crate::echo::{SharedHandler, Signal};
use crate::ownership::Registry;
use crate::server::{Control, ControlHandle, CountsReader};
use crate::signals::SignalHandler;

/// The signal handler of the server.
pub(super) struct ServeSignals {
    pub(super) format: OutputFormat,
    pub(super) output: Arc<Output>,
    pub(super) style: SharedHandler,
    pub(super) control: ControlHandle,
    pub(super) counts: CountsReader,
    pub(super) manager: Notifier,
}

impl SignalHandler for ServeSignals {
    fn drain(&self) {
        self.control.send(Control::Drain);
    }

    fn abort(&self) {
        self.manager.stopping();
        self.control.send(Control::Abort);
    }

    fn show_custody(&self, registry: &Registry) {
        let custody = registry.snapshot();
        let references = registry.graph();
        let connections = self.counts.read();
        let has_references = !references.edges.is_empty();
        match self.format {
            OutputFormat::Json => {
                stderr_line(custody.to_json());
                stderr_line(connections.to_json());
                if has_references {
                    stderr_line(references.to_json());
                }
            }
            OutputFormat::Text => {
                stderr_line(custody);
                stderr_line(connections);
                if has_references {
                    stderr_line(format_args!("references: {}", references.to_mermaid()));
                }
            }
        }
    }

    fn reopen_files(&self) {
        self.manager.reload(|| {
            self.output.reopen();
            // The end of the reload means that the old files are closed. A stalled output is not
            // waited for.
            self.output.flush();
        });
    }

    fn drain_began(&self, signal: Signal) {
        self.manager.stopping();
        self.style.signal_received(signal);
    }

    fn before_exit(&self) {
        self.output.flush();
    }
}
