//! What the program does at the turning points of its server.

use super::service_manager::RunningManager;
use super::upgrade::{BoundUpgrade, RunningUpgrade};
use crate::net::PipeWriter;
use crate::server::ServerHooks;
use crate::signals::Signals;
use crate::status::RunningStatus;

/// The other parts of the program, which start before the server and end after it.
pub(super) struct Hooks {
    pub(super) signals: Option<Signals>,
    pub(super) status: Option<RunningStatus>,
    pub(super) manager: Option<RunningManager>,
    pub(super) upgrade: Option<BoundUpgrade>,
    /// Set when it accepts.
    pub(super) running_upgrade: Option<RunningUpgrade>,
}

impl Hooks {
    /// Ends what outlives the server.
    pub(super) fn end(&mut self) {
        if let Some(manager) = self.manager.take() {
            manager.stop();
        }
    }
}

impl ServerHooks for Hooks {
    fn before_accepting(&mut self) -> Result<Vec<PipeWriter>, String> {
        let Some(upgrade) = self.upgrade.take() else { return Ok(Vec::new()) };
        let replaces = upgrade.replaces();
        let running = upgrade.start()?;
        if replaces && let Some(manager) = &self.manager {
            manager.is_main();
        }
        let Some((running, stop)) = running else { return Ok(Vec::new()) };
        self.running_upgrade = Some(running);
        Ok(vec![stop])
    }

    fn accepting(&mut self) {
        if let Some(manager) = &mut self.manager {
            manager.ready();
        }
    }

    fn not_accepting(&mut self) {
        if let Some(upgrade) = self.upgrade.take() {
            upgrade.give_up();
        }
    }

    fn handed_over(&mut self) {
        // The new process serves the status, so viewers connect to it.
        if let Some(status) = self.status.take() {
            status.stop();
        }
        // It is the main process of the service, too, so this one says nothing more.
        self.end();
    }

    fn at_end(&mut self) {
        if let Some(manager) = &mut self.manager {
            manager.end_probes();
        }
        // Late, so that viewers see the drain to its end.
        if let Some(status) = self.status.take() {
            status.stop();
        }
        if let Some(upgrade) = self.running_upgrade.take() {
            upgrade.join();
        }
        // The watcher may still have a signal to log, if the drain was quick.
        if let Some(signals) = self.signals.take() {
            signals.stop();
        }
    }
}
