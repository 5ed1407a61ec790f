//! In place of `upgrade.rs` where sockets cannot be handed over: there is no option, and nothing happens.

use std::convert::Infallible;

use clap::Args;

use super::ServeArguments;
use crate::bind::{ReceivedListener, SocketFile};
use crate::net::PipeWriter;
use crate::ownership::Registry;
use crate::server::{Reserved, Server};
use crate::status::StatusServer;

/// No options.
#[derive(Args)]
pub(super) struct UpgradeArguments {}

impl UpgradeArguments {
    pub(super) fn reserved(&self) -> Reserved {
        Reserved::default()
    }

    pub(super) fn claim(
        &self,
        _: &ServeArguments,
        _: &Registry,
        _: &mut Vec<ReceivedListener>,
    ) -> Result<Option<Upgrade>, String> {
        Ok(None)
    }
}

/// There is none.
pub(super) struct Upgrade(Infallible);

impl Upgrade {
    pub(super) fn bind(
        self,
        _: &Registry,
        _: &Server,
        _: Option<&StatusServer>,
    ) -> Result<BoundUpgrade, String> {
        match self.0 {}
    }
}

/// There is none.
pub(super) struct BoundUpgrade(Infallible);

impl BoundUpgrade {
    pub(super) fn socket_file(&self) -> Option<&SocketFile> {
        match self.0 {}
    }

    pub(super) fn replaces(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn start(self) -> Result<Option<(RunningUpgrade, PipeWriter)>, String> {
        match self.0 {}
    }

    pub(super) fn give_up(self) {
        match self.0 {}
    }
}

/// There is none.
pub(super) struct RunningUpgrade(Infallible);

impl RunningUpgrade {
    pub(super) fn join(self) {
        match self.0 {}
    }
}
