//! `ServerActions`: performs the actions of the server's machines. Nothing here waits.

use super::client::Client;
use super::tables::{self, Action};
use crate::echo::Signal;
use crate::net::LineStatus;
use crate::rate_limited_log::RateLimited;
use crate::stage::{Actions, Event, MachineId, Machines, TraceEvent, Turn};

/// What the machines of the server share.
#[derive(Default)]
pub(super) struct ServerActions {
    /// `None` before the server opens and after it closed.
    pub(super) listener: Option<MachineId>,
    /// The bound addresses, as the trace names them.
    places: Vec<String>,
    /// The signal that is being delivered.
    signal: Option<Signal>,
    too_long: RateLimited,
}

/// Adds the machines, `connections` of each helper type, and has them go on until they are idle.
pub(super) fn open(
    machines: &mut Machines<ServerActions>,
    addresses: &[String],
    connections: usize,
) {
    machines.actions.places = addresses.iter().map(|address| place(address)).collect();
    for machine_type in [&tables::RX, &tables::TX, &tables::WORKER] {
        for number in 1..=connections {
            machines.add(machine_type, number);
        }
    }
    // The last one: it reports that the server is open.
    machines.actions.listener = Some(machines.add(&tables::LISTENER, 1));
    machines.run(None);
}

/// Delivers a signal to LISTENER, unless the server is not open.
pub(super) fn deliver_signal(machines: &mut Machines<ServerActions>, signal: Signal) {
    if let Some(listener) = machines.actions.listener {
        machines.actions.signal = Some(signal);
        machines.deliver(listener, signal.event());
    }
}

/// `port 3333` for `127.0.0.1:3333`; a path unchanged.
fn place(address: &str) -> String {
    match address.rsplit_once(':') {
        Some((_, port)) if !address.starts_with("unix:") => format!("port {port}"),
        _ => address.to_owned(),
    }
}

impl ServerActions {
    fn receive(&self, turn: &mut Turn<'_, Action>, client: &mut Client) {
        let (bytes, status) = client.receive();
        if !bytes.is_empty() {
            turn.trace(&TraceEvent::Received { bytes });
        }
        match status {
            Some(LineStatus::Complete) => turn.reply(Event::DONE),
            Some(LineStatus::Partial) => client.wait_for_request(),
            Some(LineStatus::TooLong) => {
                self.too_long.warn(format_args!(
                    "{} was closed: its request is longer than {} bytes (--max-request)",
                    client.peer, client.limits.bytes_max
                ));
                turn.reply(Event::FAILED);
            }
            Some(LineStatus::Ended) | None => turn.reply(Event::FAILED),
        }
    }
}

impl Actions for ServerActions {
    type Action = Action;
    type Payload = Client;

    fn perform(
        &mut self,
        turn: &mut Turn<'_, Action>,
        action: Action,
        client: Option<&mut Client>,
    ) {
        match (action, client) {
            (Action::Greet, _) => {
                for place in &self.places {
                    turn.trace(&TraceEvent::Hello { machine: turn.name(), place });
                }
            }
            (Action::ReportSignal, _) => {
                if let Some(Signal { number, pid }) = self.signal.take() {
                    turn.trace(&TraceEvent::Signal { number, pid });
                }
            }
            (Action::Leave, _) => turn.trace(&TraceEvent::Bye { machine: turn.name() }),
            (Action::Rest, _) => turn.rest(),
            (Action::GoOn, _) => turn.go_on(),
            (Action::Admit, client) => {
                if client.is_none() || !turn.request(&tables::WORKER) {
                    turn.go_on();
                }
            }
            (Action::Close, None) => {}
            (Action::Close, Some(client)) => client.close(),
            (Action::GiveUp, _) => turn.reply(Event::GO_ON),
            (Action::RequestRx | Action::RequestTx, _) => {
                let helpers = if action == Action::RequestRx { &tables::RX } else { &tables::TX };
                let has_helper = turn.request(helpers);
                assert!(has_helper, "there are as many RX and TX as WORKERs, and each helps one");
            }
            (Action::WaitForRequest, Some(client)) => client.wait_for_request(),
            (Action::StopTimer, Some(client)) => client.stop_timer(),
            (Action::Receive, Some(client)) => self.receive(turn, client),
            (Action::WaitForSpace, Some(client)) => client.wait_for_space(),
            (Action::Send, Some(client)) => match client.send() {
                Some(true) => turn.reply(Event::DONE),
                Some(false) => client.wait_for_space(),
                None => turn.reply(Event::FAILED),
            },
            (Action::Fail, _) => turn.reply(Event::FAILED),
            (_, None) => unreachable!("{}: {action:?} without a client", turn.name()),
        }
    }
}
