//! Connections that are held open beside those that ask: each is asked once before and once after.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use super::pattern::Pattern;
use super::plan::{Dialect, Plan, Target};
use super::run::{LoadError, Watch};
use super::talk::Talk;
use super::tally::{self, Tally};
use crate::net::Stream;
use crate::ownership::Registry;

/// How long an idle connection's answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that an idle connection asks with.
const MESSAGE_BYTES: usize = 16;

pub(super) struct Idle {
    held: Vec<(Stream, Talk)>,
}

impl Idle {
    /// Connects and asks each of them.
    pub(super) fn open(
        registry: &Registry,
        plan: &Plan,
        target: &Target,
        watch: &Watch,
        progress: &mut impl FnMut(&str),
    ) -> Result<Idle, LoadError> {
        let dialect = if plan.dialect == Dialect::Lines { Dialect::Lines } else { Dialect::Bytes };
        let pattern = Arc::new(Pattern::new(dialect, MESSAGE_BYTES, plan.seed));
        let mut held = Vec::with_capacity(plan.idle);
        for index in 0..plan.idle {
            if index % 500 == 0 {
                progress(&format!("idle connections: {index} of {}", plan.idle));
                if watch.is_stopped() {
                    break;
                }
            }
            let mut talk = Talk::new(&pattern, MESSAGE_BYTES, index);
            let asked = target
                .connect(registry, plan.source(plan.connections + index))
                .map_err(|error| (tally::name(&error), Some(error)))
                .and_then(|stream| ask(&stream, &mut talk).map(|()| stream));
            match asked {
                Ok(stream) => held.push((stream, talk)),
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
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Asks each of them once more.
    pub(super) fn check(&mut self, tally: &mut Tally) {
        for (stream, talk) in &mut self.held {
            if ask(stream, talk).is_err() {
                tally.failed(tally::IDLE_LOST);
            }
        }
    }
}

fn ask(mut stream: &Stream, talk: &mut Talk) -> Result<(), (&'static str, Option<io::Error>)> {
    let failed = |error: io::Error| (tally::name(&error), Some(error));
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
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
