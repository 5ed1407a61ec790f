//! `--upgrade-socket`: taking over from a running server, and handing over to the next one.

use std::path::PathBuf;

use clap::Args;

use super::ServeArguments;
use crate::bind::{
    BoundPlace, Listening, Planned, Purpose, ReceivedListener, SocketFile, matching,
};
use crate::net::{Endpoint, PipeWriter};
use crate::ownership::{Process, Registry};
use crate::server::{ControlHandle, Reserved, Server};
use crate::status::StatusServer;
pub(super) use crate::upgrade::RunningUpgrade;
use crate::upgrade::{self, Claimed, Predecessor, UpgradeServer};

/// Options of upgrades.
#[derive(Args)]
#[command(next_help_heading = "Upgrade")]
pub(super) struct UpgradeArguments {
    /// Replace a running server without losing a connection: if a server with the same option listens at
    /// this path, this process takes over its listening sockets when it has started, and the other one
    /// finishes its connections within its --drain-timeout and exits. Otherwise it starts as usual, and
    /// waits here for its own successor. The options of the new process count: an address that it does not
    /// have is served no longer, and one that only it has is bound. Both must run as the same user, and
    /// the folder must be one in which no other user can write. If the new process fails to start within
    /// 10 s, the old one goes on serving. Both append to a common --log-file; a common --record or
    /// --summary has what the newer process writes. Under systemd the unit needs `NotifyAccess=all`,
    /// because the new process tells the manager that it is the main one.
    #[arg(long, value_name = "PATH")]
    upgrade_socket: Option<PathBuf>,
}

const OPTION: &str = "--upgrade-socket";

impl UpgradeArguments {
    /// What the upgrade server needs in addition to the echo server.
    pub(super) fn reserved(&self) -> Reserved {
        match self.upgrade_socket {
            Some(_) => {
                Reserved { descriptors: upgrade::DESCRIPTORS, threads: upgrade::THREADS, probes: 0 }
            }
            None => Reserved::default(),
        }
    }

    /// Claims the sockets of a running server, if there is one, and appends them to `received`.
    ///
    /// # Errors
    /// The message for the user. A running server goes on serving.
    pub(super) fn claim(
        &self,
        arguments: &ServeArguments,
        registry: &Registry,
        received: &mut Vec<ReceivedListener>,
    ) -> Result<Option<Upgrade>, String> {
        let Some(path) = &self.upgrade_socket else { return Ok(None) };
        let _entered = registry.enter();
        let mut claimed = None;
        if let Some(predecessor) = Predecessor::find(path)? {
            let places = predecessor.places()?;
            let wanted = arguments.wanted(path, &places)?;
            if let Some((confirmation, listeners)) = predecessor.claim(&wanted, &places)? {
                claimed = Some(confirmation);
                received.extend(listeners);
            }
        }
        let endpoint = Endpoint::Unix(path.clone());
        let planned = Planned::take(Purpose::Upgrade, endpoint, received).map_err(|error| {
            format!("failed to listen on {} ({OPTION}): {error}", path.display())
        })?;
        Ok(Some(Upgrade { path: path.clone(), planned, claimed }))
    }
}

impl ServeArguments {
    /// Which of the places that a running server offers this one listens on, by index.
    fn wanted(
        &self,
        upgrade: &std::path::Path,
        places: &[BoundPlace],
    ) -> Result<Vec<usize>, String> {
        let status = self.status.status.iter().map(|endpoint| (Purpose::Status, endpoint.clone()));
        let listen = self.endpoints().into_iter().map(|endpoint| (Purpose::Echo, endpoint));
        let upgrade = (Purpose::Upgrade, Endpoint::Unix(upgrade.into()));
        let mut wanted: Vec<usize> = Vec::new();
        for (purpose, endpoint) in status.chain(listen).chain([upgrade]) {
            let left = places.iter().enumerate().filter(|(index, _)| !wanted.contains(index));
            let left: Vec<(usize, &BoundPlace)> = left.collect();
            let found = matching(left.iter().map(|(_, place)| *place), purpose, &endpoint)
                .map_err(|error| format!("failed to listen on {endpoint}: {error}"))?;
            let found =
                found.and_then(|found| left.iter().find(|(_, it)| std::ptr::eq(*it, found)));
            wanted.extend(found.map(|(index, _)| *index));
        }
        Ok(wanted)
    }
}

/// The sockets of a running server, claimed and not yet taken over.
pub(super) struct Upgrade {
    path: PathBuf,
    planned: Planned,
    claimed: Option<Claimed>,
}

impl Upgrade {
    /// Listens for the next upgrade. `others` are the addresses of the rest of the program.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn bind(
        self,
        registry: &Registry,
        server: &Server,
        status: Option<&StatusServer>,
    ) -> Result<BoundUpgrade, String> {
        let Upgrade { path, planned, claimed } = self;
        let mut bound = server.bound();
        bound.extend(status.map(StatusServer::bound));
        let upgrade = UpgradeServer::bind(registry, &path, planned, &bound, OPTION)?;
        let mut addresses = server.listening();
        addresses.extend(status.map(StatusServer::listening));
        Ok(BoundUpgrade { upgrade, addresses, claimed, control: server.control() })
    }
}

/// An upgrade server that does not accept yet, and what it can hand over.
pub(super) struct BoundUpgrade {
    upgrade: UpgradeServer,
    addresses: Vec<Listening>,
    claimed: Option<Claimed>,
    control: ControlHandle,
}

impl BoundUpgrade {
    /// The file that is removed at exit.
    pub(super) fn socket_file(&self) -> Option<&SocketFile> {
        self.upgrade.socket_file()
    }

    /// Whether it is to replace a running server.
    pub(super) fn replaces(&self) -> bool {
        self.claimed.is_some()
    }

    /// Takes over from the running server, and then waits for the next one. The pipe stops that; without a
    /// thread for it there is none.
    ///
    /// # Errors
    /// The message for the user. The other server goes on serving, and this one has handed everything back.
    pub(super) fn start(self) -> Result<Option<(RunningUpgrade, PipeWriter)>, String> {
        let BoundUpgrade { upgrade, addresses, claimed, control } = self;
        if let Some(claimed) = claimed {
            let process = claimed.process();
            // A signal that has come before is not meant for the other server, which would end, too.
            let confirmed = if control.is_stopping() {
                Err(format!("stopped before it took over; process {process} goes on serving"))
            } else {
                claimed.confirm()
            };
            if let Err(message) = confirmed {
                hand_back(process, &addresses);
                return Err(message);
            }
            addresses.iter().chain([upgrade.listening()]).for_each(Listening::take_over);
        }
        let stop = control.clone();
        let has_begun = Box::new(move || stop.has_begun());
        match upgrade.start(addresses, Box::new(move |mark| control.hand_over(mark)), has_begun) {
            Ok(running) => Ok(Some(running)),
            Err(error) => {
                // This process is the one that serves now.
                tracing::error!("{error}");
                Ok(None)
            }
        }
    }

    /// Leaves everything to the running server, because this one cannot serve.
    pub(super) fn give_up(self) {
        if let Some(claimed) = self.claimed {
            hand_back(claimed.process(), &self.addresses);
        }
    }
}

/// Marks received sockets as the other process's, so that their queues are left to it.
fn hand_back(process: u32, addresses: &[Listening]) {
    let process = Process::new(process);
    addresses.iter().filter(|it| it.is_shared()).for_each(|it| it.hand_over_to(&process));
}
