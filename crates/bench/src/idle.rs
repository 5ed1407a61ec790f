//! Idle connections, held open during a run. Each sends one message before and one after it.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error_kind;
use crate::host::Host;
use crate::load_error::{LoadError, no_connection};
use crate::net::ClientSocket;
use crate::payload::Payload;
use crate::plan::{LoadPlan, Target, WireProtocol};
use crate::progress::LoadProgress;
use crate::session::EchoSession;
use crate::stop_handle::LoadStopHandle;
use crate::worker_stats::WorkerStats;

/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a reply may take when the other connections have used up the time.
const REPLY_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Bytes of an idle connection's message.
const MESSAGE_BYTES: usize = 16;

pub(crate) struct IdleConnections {
    held: Vec<(ClientSocket, EchoSession)>,
}

impl IdleConnections {
    /// Connects them, and sends a message on each.
    pub(crate) fn open(
        host: &Arc<dyn Host>,
        plan: &LoadPlan,
        target: &Target,
        stop: &LoadStopHandle,
        progress: &mut impl FnMut(LoadProgress<'_>),
    ) -> Result<IdleConnections, LoadError> {
        let protocol = if plan.protocol == WireProtocol::Lines {
            WireProtocol::Lines
        } else {
            WireProtocol::Bytes
        };
        let payload = Arc::new(Payload::new(protocol, MESSAGE_BYTES, plan.seed));
        let mut held = Vec::with_capacity(plan.idle);
        for index in 0..plan.idle {
            if index % 500 == 0 {
                let text = format!("idle connections: {index} of {}", plan.idle);
                progress(LoadProgress::Running(&text));
            }
            if stop.is_stopped() {
                break;
            }
            let mut session = EchoSession::new(&payload, MESSAGE_BYTES, index);
            let exchanged = target
                .connect(host, plan.source(plan.connections + index))
                .map_err(|error| (error_kind::of(&error), Some(error)))
                .and_then(|stream| exchange(&stream, &mut session, REPLY_TIMEOUT).map(|()| stream));
            match exchanged {
                Ok(stream) => held.push((stream, session)),
                Err((what, _)) if index == 0 => return Err(no_connection(target, what)),
                Err((what, error)) => {
                    let text = format!("idle connection {} of {}: {what}", index + 1, plan.idle);
                    return Err(match error {
                        Some(error) => LoadError::new(format!("{text}: {error}")).caused_by(error),
                        None => LoadError::new(text),
                    });
                }
            }
        }
        Ok(IdleConnections { held })
    }

    /// The number of connections.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Sends another message on each. All of them together may take as long as one.
    pub(crate) fn check(&mut self, stop: &LoadStopHandle, stats: &mut WorkerStats) {
        let deadline = Instant::now() + REPLY_TIMEOUT;
        for (stream, session) in &mut self.held {
            if stop.is_stopped() {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match exchange(stream, session, left.max(REPLY_TIMEOUT_MIN)) {
                Ok(()) => {}
                Err((error_kind::WRONG_BYTES, _)) => stats.record_error(error_kind::WRONG_BYTES),
                Err(_) => stats.record_error(error_kind::IDLE_LOST),
            }
        }
    }
}

fn exchange(
    mut stream: &ClientSocket,
    session: &mut EchoSession,
    timeout: Duration,
) -> Result<(), (&'static str, Option<io::Error>)> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => (error_kind::UNANSWERED, None),
        _ => (error_kind::of(&error), Some(error)),
    };
    stream.set_read_timeout(timeout).map_err(failed)?;
    session.schedule(0);
    stream.write_all(session.unsent()).map_err(failed)?;
    session.mark_sent(MESSAGE_BYTES);
    let mut buffer = [0; MESSAGE_BYTES];
    loop {
        let bytes = stream.read(&mut buffer).map_err(failed)?;
        if bytes == 0 {
            return Err((error_kind::CLOSED, None));
        }
        if session.receive(&buffer[..bytes]).map_err(|_| (error_kind::WRONG_BYTES, None))? > 0 {
            session.take_completed();
            return Ok(());
        }
    }
}
