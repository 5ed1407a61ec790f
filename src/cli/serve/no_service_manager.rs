//! In place of `service_manager.rs` where there is no systemd: nothing is read and nothing is sent.

use crate::bind::ReceivedListener;
use crate::net::Stream;
use crate::ownership::Registry;
use crate::server::{Reserved, Server, ServerSettings};

/// No service manager.
pub(super) struct ServiceManager;

impl ServiceManager {
    pub(super) fn connect(_: &Registry) -> Result<ServiceManager, String> {
        Ok(ServiceManager)
    }

    pub(super) fn take_connection(&mut self, _: &ServerSettings) -> Result<Option<Stream>, String> {
        Ok(None)
    }

    pub(super) fn take_listeners(&mut self) -> Result<Vec<ReceivedListener>, String> {
        Ok(Vec::new())
    }

    pub(super) fn reserved(&self) -> Reserved {
        Reserved::default()
    }

    pub(super) fn start(self, _: &Server) -> Result<RunningManager, String> {
        Ok(RunningManager)
    }
}

/// No service manager.
pub(super) struct RunningManager;

impl RunningManager {
    pub(super) fn notifier(&self) -> Notifier {
        Notifier
    }

    pub(super) fn is_main(&self) {}

    pub(super) fn ready(&mut self) {}

    pub(super) fn end_probes(&mut self) {}

    pub(super) fn stop(self) {}
}

/// Tells nothing to no manager.
pub(super) struct Notifier;

impl Notifier {
    pub(super) fn stopping(&self) {}

    pub(super) fn reload(&self, work: impl FnOnce()) {
        work();
    }
}
