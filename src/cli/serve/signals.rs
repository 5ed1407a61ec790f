//! What the server does when a signal arrives.

use std::fmt;
use std::sync::Arc;

use super::service_manager::Notifier;
use crate::cli::output::Output;
use crate::cli::stderr_line::{Line, stderr_line};
use crate::echo::{SharedHandler, Signal};
use crate::ownership::Registry;
use crate::server::{Control, ControlHandle, CountsReader};
use crate::signals::SignalHandler;

/// The signal handler of the server.
pub(super) struct ServeSignals {
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
        let references = registry.graph();
        let connections = self.counts.read();
        stderr_line(Line::custody(&registry.snapshot()));
        let text = connections.to_string();
        stderr_line(Line::with_data("connections", &text, &text, || connections.to_json()));
        let mut totals = self.counts.totals(registry, self.style.injector());
        totals.dropped_output = self.output.dropped();
        let headline = totals.totals().to_string().replace('\n', "; ");
        let line = || totals.to_json();
        stderr_line(Line::with_data("totals", &headline, totals.totals(), line));
        if !references.edges.is_empty() {
            let headline = format!("references: {}", references.edges.len());
            let text = fmt::from_fn(|f| write!(f, "references: {}", references.to_mermaid()));
            stderr_line(Line::with_data("references", &headline, text, || references.to_json()));
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
