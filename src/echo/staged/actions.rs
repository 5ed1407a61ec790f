//! `ServerActions`: performs the actions of the server's machines. Nothing here waits.

use std::time::Duration;

use super::client::{Client, RequestLimits};
use super::tables::{self, ServerAction};
use crate::net::LineStatus;
use crate::rate_limited_log::RateLimited;
use crate::stage::{Actions, Event, MachineId, MachineType, Machines, TraceEvent, Turn};

/// What the machines of the server share.
pub(super) struct ServerActions {
    limits: RequestLimits,
    /// `None` before the server opens and after it closed.
    pub(super) listener: Option<MachineId>,
    /// The bound addresses, as the trace names them.
    places: Vec<String>,
    too_long: RateLimited,
}

/// Adds the machines, `connections` of each helper type, and has them go on until they are idle.
pub(super) fn open(
    machines: &mut Machines<ServerActions>,
    addresses: &[String],
    connections: usize,
) {
    machines.actions.places = addresses.iter().map(|address| place(address)).collect();
    for machine_type in [MachineType::RX, MachineType::TX, &tables::WORKER] {
        for number in 1..=connections {
            machines.add(machine_type, number);
        }
    }
    // The last one: it reports that the server is open.
    machines.actions.listener = Some(machines.add(&tables::LISTENER, 1));
    machines.run(None);
}

/// `port 3333` for `127.0.0.1:3333`; a path unchanged.
fn place(address: &str) -> String {
    match address.rsplit_once(':') {
        Some((_, port)) if !address.starts_with("unix:") => format!("port {port}"),
        _ => address.to_owned(),
    }
}

impl ServerActions {
    pub(super) fn new(limits: RequestLimits) -> ServerActions {
        let (places, too_long) = (Vec::new(), RateLimited::default());
        ServerActions { limits, listener: None, places, too_long }
    }
}

impl Actions for ServerActions {
    type Own = ServerAction;
    type Payload = Client;

    fn perform(
        &mut self,
        turn: &mut Turn<'_, ServerAction>,
        action: ServerAction,
        client: Option<&mut Client>,
    ) {
        match action {
            ServerAction::Greet => {
                for place in &self.places {
                    turn.trace(&TraceEvent::Hello { machine: turn.name(), place });
                }
            }
            ServerAction::Leave => turn.trace(&TraceEvent::Bye { machine: turn.name() }),
            ServerAction::Admit => {
                if client.is_none() || !turn.request(&tables::WORKER) {
                    turn.go_on();
                }
            }
            ServerAction::Close => {
                if let Some(client) = client {
                    client.close();
                }
            }
            ServerAction::GiveUp => turn.reply(Event::GO_ON),
        }
    }

    fn receive_timeout(&self) -> Duration {
        self.limits.timeout
    }

    fn receive(&mut self, turn: &Turn<'_, ServerAction>, client: &mut Client) -> Option<bool> {
        let bytes_max = self.limits.bytes_max;
        let (bytes, status) = client.receive(bytes_max);
        if !bytes.is_empty() {
            turn.trace(&TraceEvent::Received { bytes });
        }
        match status? {
            LineStatus::Complete => Some(true),
            LineStatus::Partial => Some(false),
            LineStatus::TooLong => {
                self.too_long.warn(format_args!(
                    "{} was closed: its request is longer than {bytes_max} bytes (--max-request)",
                    client.peer
                ));
                None
            }
            LineStatus::Ended => None,
        }
    }

    fn send(&mut self, client: &mut Client) -> Option<bool> {
        client.send()
    }
}
