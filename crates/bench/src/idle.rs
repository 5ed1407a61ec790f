//! Connections that are held open beside those that ask: each is asked once before and once after.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::net::Stream;
use crate::pattern::Pattern;
use crate::plan::{Dialect, Plan, Target};
use crate::run::{LoadError, Progress, no_connection};
use crate::talk::Talk;
use crate::tally::{self, Tally};
use crate::watch::Watch;

/// How long an idle connection's answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take where others have used up the time.
const PATIENCE_MIN: Duration = Duration::from_millis(1);

/// Bytes that an idle connection asks with.
const MESSAGE_BYTES: usize = 16;

pub(crate) struct Idle {
    held: Vec<(Stream, Talk)>,
}

impl Idle {
    /// Connects and asks each of them.
    pub(crate) fn open(
        host: &Arc<dyn Host>,
        plan: &Plan,
        target: &Target,
        watch: &Watch,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<Idle, LoadError> {
        let dialect = if plan.dialect == Dialect::Lines { Dialect::Lines } else { Dialect::Bytes };
        let pattern = Arc::new(Pattern::new(dialect, MESSAGE_BYTES, plan.seed));
        let mut held = Vec::with_capacity(plan.idle);
        for index in 0..plan.idle {
            if index % 500 == 0 {
                let text = format!("idle connections: {index} of {}", plan.idle);
                progress(Progress::Running(&text));
            }
            if watch.is_stopped() {
                break;
            }
            let mut talk = Talk::new(&pattern, MESSAGE_BYTES, index);
            let asked = target
                .connect(host, plan.source(plan.connections + index))
                .map_err(|error| (tally::name(&error), Some(error)))
                .and_then(|stream| ask(&stream, &mut talk, PATIENCE).map(|()| stream));
            match asked {
                Ok(stream) => held.push((stream, talk)),
                Err((what, _)) if index == 0 => return Err(no_connection(target, what)),
                Err((what, error)) => {
                    let error = error.map_or(String::new(), |error| format!(": {error}"));
                    return Err(LoadError::new(format!(
                        "idle connection {} of {}: {what}{error}",
                        index + 1,
                        plan.idle
                    )));
                }
            }
        }
        Ok(Idle { held })
    }

    /// How many there are.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// Asks each of them once more, all of them together for as long as one may take.
    pub(crate) fn check(&mut self, watch: &Watch, tally: &mut Tally) {
        let deadline = Instant::now() + PATIENCE;
        for (stream, talk) in &mut self.held {
            if watch.is_stopped() {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match ask(stream, talk, left.max(PATIENCE_MIN)) {
                Ok(()) => {}
                Err((tally::LIE, _)) => tally.failed(tally::LIE),
                Err(_) => tally.failed(tally::IDLE_LOST),
            }
        }
    }
}

fn ask(
    mut stream: &Stream,
    talk: &mut Talk,
    patience: Duration,
) -> Result<(), (&'static str, Option<io::Error>)> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => (tally::UNANSWERED, None),
        _ => (tally::name(&error), Some(error)),
    };
    stream.set_read_timeout(patience).map_err(failed)?;
    talk.begin(0);
    stream.write_all(talk.unsent()).map_err(failed)?;
    talk.was_sent(MESSAGE_BYTES);
    let mut buffer = [0; MESSAGE_BYTES];
    loop {
        let bytes = stream.read(&mut buffer).map_err(failed)?;
        if bytes == 0 {
            return Err((tally::CLOSED, None));
        }
        if talk.receive(&buffer[..bytes]).map_err(|_| (tally::LIE, None))? > 0 {
            talk.take_completed();
            return Ok(());
        }
    }
}
