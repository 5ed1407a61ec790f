//! `ClientActions`: performs the actions of the client's machines. Nothing here waits.

use echown_fd::escape;

use super::session::{HelperJob, Session};
use super::tables::{self, Action};
use super::{Settings, StopHandle, Summary};
use crate::net::LineStatus;
use crate::stage::{Actions, Event, MachineId, Machines, Signal, Sink, TraceEvent, Turn};

/// What the machines of the client share.
pub(super) struct ClientActions {
    settings: Settings,
    /// The server, as the trace names it.
    server: String,
    stop: StopHandle,
    terminator: Option<MachineId>,
    /// The signal that is being delivered.
    signal: Option<Signal>,
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
        signal: None,
        summary: Summary::default(),
    };
    let mut machines = Machines::new(actions, sink);
    machines.actions.terminator = Some(machines.add(&tables::TERMINATOR, 1));
    for machine_type in [&tables::RX, &tables::TX] {
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
    machines.actions.signal = Some(signal);
    if let Some(terminator) = machines.actions.terminator {
        machines.deliver(terminator, signal.event());
    }
}

impl ClientActions {
    fn request_send(&mut self, turn: &mut Turn<'_, Action>, session: &mut Session) {
        session.sequence += 1;
        session.request = format!("{}-{}\n", turn.name(), session.sequence).into_bytes();
        session.line.set(&session.request);
        self.summary.requests += 1;
        request_tx(turn, session, HelperJob::Send);
    }

    fn compare(&mut self, turn: &mut Turn<'_, Action>, session: &Session) {
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

    fn receive(&self, turn: &mut Turn<'_, Action>, session: &mut Session) {
        match session.receive() {
            Some(LineStatus::Complete | LineStatus::TooLong) => turn.reply(Event::DONE),
            Some(LineStatus::Partial) => session.wait_for_reply(self.settings.reply_timeout),
            Some(LineStatus::Ended) | None => turn.reply(Event::FAILED),
        }
    }
}

fn request_tx(turn: &mut Turn<'_, Action>, session: &mut Session, job: HelperJob) {
    session.job = job;
    let has_helper = turn.request(&tables::TX);
    assert!(has_helper, "there are as many TX as WORKERs, and each helps one");
}

impl Actions for ClientActions {
    type Action = Action;
    type Payload = Session;

    fn perform(
        &mut self,
        turn: &mut Turn<'_, Action>,
        action: Action,
        session: Option<&mut Session>,
    ) {
        match (action, session) {
            (Action::ReportSignal, _) => {
                if let Some(Signal { number, pid }) = self.signal.take() {
                    turn.trace(&TraceEvent::Signal { number, pid });
                }
            }
            (Action::GoOn, _) => turn.go_on(),
            (Action::Rest, _) => turn.rest(),
            (Action::RequestConnect, Some(session)) => {
                request_tx(turn, session, HelperJob::Connect);
            }
            (Action::Connected, _) => {
                turn.trace(&TraceEvent::Connected { worker: turn.name(), to: &self.server });
                self.summary.connections += 1;
                turn.go_on();
            }
            (Action::NotConnected, Some(session)) => {
                turn.trace(&TraceEvent::CannotConnect { worker: turn.name(), to: &self.server });
                if let Some(error) = &session.error {
                    tracing::debug!("{}: {error}", turn.name());
                }
                self.summary.failed_attempts += 1;
                turn.send_self(tables::RECONNECT);
            }
            (Action::RequestSend, Some(session)) => self.request_send(turn, session),
            (Action::RequestReply, _) => {
                let has_helper = turn.request(&tables::RX);
                assert!(has_helper, "there are as many RX as WORKERs, and each helps one");
            }
            (Action::Compare, Some(session)) => self.compare(turn, session),
            (Action::Reconnect, Some(session)) => {
                if let Some(error) = &session.error {
                    tracing::warn!("{} lost its connection: {error}", turn.name());
                }
                self.summary.lost += 1;
                turn.send_self(tables::RECONNECT);
            }
            (Action::Pause, Some(session)) => session.pause(self.settings.pause),
            (Action::HangUp, Some(session)) => {
                session.hang_up();
                session.pause(self.settings.retry);
            }
            (Action::WaitForReply, Some(session)) => {
                session.wait_for_reply(self.settings.reply_timeout);
            }
            (Action::StopTimer, Some(session)) => session.stop_timer(),
            (Action::Receive, Some(session)) => self.receive(turn, session),
            (Action::WaitForSpace, Some(session)) => session.wait_for_space(),
            (Action::Send, Some(session)) => match session.send() {
                Some(true) => turn.reply(Event::DONE),
                Some(false) => session.wait_for_space(),
                None => turn.reply(Event::FAILED),
            },
            (Action::Fail, _) => turn.reply(Event::FAILED),
            (_, None) => unreachable!("{}: {action:?} without a session", turn.name()),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }
}
