//! `ClientActions`: performs the actions of the client's machines. Nothing here waits.

use std::time::{Duration, Instant};

use echown_fd::escape;

use super::session::{HelperJob, Session};
use super::tables::{self, ClientAction};
use super::{Settings, StopHandle, Summary};
use crate::net::LineStatus;
use crate::stage::{
    Actions, MachineId, MachineType, Machines, Signal, Sink, TraceEvent, Turn, WaitFor,
};

/// What the machines of the client share.
pub(super) struct ClientActions {
    settings: Settings,
    /// The server, as the trace names it.
    server: String,
    stop: StopHandle,
    terminator: Option<MachineId>,
    pub(super) summary: Summary,
}

/// The machines, without the WORKERs: their threads add them.
pub(super) fn open(
    settings: &Settings,
    sink: Option<Sink>,
    stop: &StopHandle,
) -> Machines<ClientActions> {
    let actions = ClientActions {
        settings: settings.clone(),
        server: settings.server.to_string(),
        stop: stop.clone(),
        terminator: None,
        summary: Summary::default(),
    };
    let mut machines = Machines::new(actions, sink);
    machines.actions.terminator = Some(machines.add(&tables::TERMINATOR, 1));
    for machine_type in [MachineType::RX, MachineType::TX] {
        for number in 1..=settings.workers.get() {
            machines.add(machine_type, number);
        }
    }
    machines.run(None);
    machines
}

/// Delivers a signal to TERMINATOR.
pub(super) fn deliver_signal(machines: &mut Machines<ClientActions>, signal: Signal) {
    machines.actions.summary.is_stopped = true;
    if let Some(terminator) = machines.actions.terminator {
        machines.deliver_signal(terminator, signal);
    }
}

impl ClientActions {
    fn request_send(&mut self, turn: &mut Turn<'_, ClientAction>, session: &mut Session) {
        session.sequence += 1;
        session.request = format!("{}-{}\n", turn.name(), session.sequence).into_bytes();
        session.line.set(&session.request);
        self.summary.requests += 1;
        request_tx(turn, session, HelperJob::Send);
    }

    fn compare(&mut self, turn: &mut Turn<'_, ClientAction>, session: &Session) {
        let line = session.line.bytes();
        let reply = escape::bytes(line.strip_suffix(b"\n").unwrap_or(line));
        if line == session.request {
            turn.trace(&TraceEvent::Reply { text: &reply });
            self.summary.replies += 1;
            turn.go_on();
        } else {
            let request = session.request.strip_suffix(b"\n").unwrap_or(&session.request);
            let (name, request) = (turn.name(), escape::bytes(request));
            tracing::error!("{name} asked \"{request}\" and got \"{reply}\"");
            self.summary.wrong += 1;
            turn.send_self(tables::RECONNECT);
        }
    }
}

fn request_tx(turn: &mut Turn<'_, ClientAction>, session: &mut Session, job: HelperJob) {
    session.job = job;
    turn.request_helper(MachineType::TX);
}

/// Has a WORKER pause, unless it is done.
fn pause(turn: &mut Turn<'_, ClientAction>, session: &mut Session, pause: Duration) {
    if !session.is_done() {
        turn.wait(WaitFor::Moment(Instant::now() + pause));
    }
}

impl Actions for ClientActions {
    type Own = ClientAction;
    type Payload = Session;

    fn perform(
        &mut self,
        turn: &mut Turn<'_, ClientAction>,
        action: ClientAction,
        session: Option<&mut Session>,
    ) {
        let Some(session) = session else {
            unreachable!("{}: {action:?} without a session", turn.name());
        };
        match action {
            ClientAction::RequestConnect => request_tx(turn, session, HelperJob::Connect),
            ClientAction::Connected => {
                turn.trace(&TraceEvent::Connected { worker: turn.name(), to: &self.server });
                self.summary.connections += 1;
                turn.go_on();
            }
            ClientAction::NotConnected => {
                turn.trace(&TraceEvent::CannotConnect { worker: turn.name(), to: &self.server });
                if let Some(error) = &session.error {
                    tracing::debug!("{}: {error}", turn.name());
                }
                self.summary.failed_attempts += 1;
                turn.send_self(tables::RECONNECT);
            }
            ClientAction::RequestSend => self.request_send(turn, session),
            ClientAction::Compare => self.compare(turn, session),
            ClientAction::Reconnect => {
                if let Some(error) = &session.error {
                    tracing::warn!("{} lost its connection: {error}", turn.name());
                }
                self.summary.lost += 1;
                turn.send_self(tables::RECONNECT);
            }
            ClientAction::Pause => pause(turn, session, self.settings.pause),
            ClientAction::HangUp => {
                session.hang_up();
                pause(turn, session, self.settings.retry);
            }
        }
    }

    fn receive_timeout(&self) -> Duration {
        self.settings.reply_timeout
    }

    fn receive(&mut self, _: &Turn<'_, ClientAction>, session: &mut Session) -> Option<bool> {
        match session.receive()? {
            LineStatus::Complete | LineStatus::TooLong => Some(true),
            LineStatus::Partial => Some(false),
            LineStatus::Ended => None,
        }
    }

    fn send(&mut self, session: &mut Session) -> Option<bool> {
        session.send()
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }
}
