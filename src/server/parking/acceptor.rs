//! The acceptor of a lot: accepts connections, ends idle ones, and drains the lot. Without other workers it
//! also serves.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::accept::{Acceptor, ConnectionResult, connection, record_outcome};
use super::super::drain::{FINISH_TIME, SLICE};
use super::super::end_counts::count;
use super::WaitResources;
use super::lot::{ConnectionLot, is_cancelled};
use super::worker::{LISTENER, STOP, Worker};
use crate::echo::{Begin, EndReason};
use crate::net::{AcceptBackoff, Address, Poller, Stream, Trigger, is_exhaustion};
use crate::ownership::Unparked;
use crate::pool::Orphans;
use crate::rate_limited_log::RateLimited;
use crate::report::Plural;

/// How many connections are accepted between two rounds.
const ACCEPTED_PER_ROUND: usize = 16;

/// The acceptor of a lot.
struct LotAcceptor {
    acceptor: Acceptor,
    worker: Worker,
    /// Empty, if the acceptor is the only worker.
    workers: Orphans<()>,
    /// Connections with tasks of their own.
    tasks: Orphans<ConnectionResult>,
    refusal_log: RateLimited,
    backoff: AcceptBackoff,
    /// Nothing is accepted until then.
    pause_until: Option<Instant>,
}

/// Accepts and serves until the acceptor is stopped, then drains.
pub(in super::super) fn run(mut acceptor: Acceptor, workers: NonZeroUsize) {
    let Some(wait) = acceptor.resources.wait.take() else {
        unreachable!("with parking, every acceptor has what it waits with")
    };
    match LotAcceptor::start(acceptor, wait, workers) {
        Ok(lot) => lot.run(),
        Err(error) => tracing::error!("failed to start the workers: {error}"),
    }
}

impl LotAcceptor {
    fn start(
        mut acceptor: Acceptor,
        wait: WaitResources,
        workers: NonZeroUsize,
    ) -> io::Result<LotAcceptor> {
        let Acceptor { pool, limiter, handler, settings, .. } = &acceptor;
        let lot = Arc::new(ConnectionLot::new(pool.registry(), limiter, handler, settings));
        wait.poller.add(&acceptor.resources.stop, STOP, Trigger::Level)?;
        let others = Orphans::new(pool.registry());
        let mut connections = None;
        if workers.get() > 1 {
            let poller = Poller::new()?;
            for number in 1..=workers.get() {
                let (lot, name) = (Arc::clone(&lot), format!("{} worker {number}", handler.name()));
                let run = move |wait| match Worker::new(lot, wait, None) {
                    Ok(worker) => worker.run(),
                    Err(error) => tracing::error!("failed to start a worker: {error}"),
                };
                let wait = WaitResources::with(poller.duplicate()?)?;
                let promise = pool.spawn_named_with(&name, wait, run);
                let promise = promise.map_err(|error| io::Error::other(error.to_string()))?;
                others.adopt(promise).map_err(io::Error::from)?;
            }
            connections = Some(poller);
        }
        let counting = Arc::clone(limiter);
        let tasks = Orphans::reaped_by(pool.registry(), move |task, outcome| {
            record_outcome(&counting.counters.ends, task, outcome);
        });
        let mut worker = Worker::new(lot, wait, connections)?;
        if let Some(probe) = acceptor.resources.probe.take() {
            worker.admit(worker.lot.add_probe(probe));
        }
        acceptor.gate.wait();
        acceptor.take_over_options();
        worker.wait.poller.add(&acceptor.resources.listener, LISTENER, Trigger::Level)?;
        Ok(LotAcceptor {
            acceptor,
            worker,
            workers: others,
            tasks,
            refusal_log: RateLimited::default(),
            backoff: AcceptBackoff::default(),
            pause_until: None,
        })
    }

    fn run(mut self) {
        match self.serve().and_then(|()| self.drain()) {
            Ok(()) => {}
            // The server aborts.
            Err(error) if is_cancelled(&error) => {}
            Err(error) => tracing::error!("the acceptor stops: {error}"),
        }
        self.abort_rest();
    }

    /// Accepts and serves until the stop.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let seen = self.worker.round(self.timeout())?;
            if seen.stop {
                return Ok(());
            }
            match self.pause_until {
                None if seen.listener => self.accept_some()?,
                Some(until) if Instant::now() >= until => self.end_pause()?,
                _ => {}
            }
        }
    }

    /// How long a round may wait for events.
    fn timeout(&self) -> Option<Duration> {
        self.pause_until.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Accepts what is queued, up to a limit.
    fn accept_some(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTED_PER_ROUND {
            let pause = match self.acceptor.resources.listener.try_accept() {
                Ok(Some((stream, peer))) => match self.admit(stream, peer) {
                    Ok(()) => {
                        self.backoff.record_success();
                        continue;
                    }
                    Err(limit) => self.backoff.record_exhaustion(limit),
                },
                Ok(None) => return Ok(()),
                Err(error) if is_cancelled(&error) => return Err(error),
                Err(error) => self.pause_after(&error),
            };
            // Level-triggered: while it is registered, every wait returns at once.
            self.worker.wait.poller.remove(&self.acceptor.resources.listener)?;
            self.pause_until = Some(Instant::now() + pause);
            return Ok(());
        }
        Ok(())
    }

    /// How long to accept nothing after a failed accept.
    fn pause_after(&mut self, error: &io::Error) -> Duration {
        if is_exhaustion(error) {
            self.acceptor.refuse_one();
        }
        self.backoff.record_failure(error)
    }

    fn end_pause(&mut self) -> io::Result<()> {
        self.pause_until = None;
        let listener = &self.acceptor.resources.listener;
        self.worker.wait.poller.add(listener, LISTENER, Trigger::Level)
    }

    /// Parks a new connection until its first input, or closes it at once.
    ///
    /// # Errors
    /// It needs a task, and no thread could be started: the limit that was reached.
    fn admit(&mut self, stream: Stream, peer: Address) -> Result<(), String> {
        let Some(permit) = self.acceptor.permit(&peer, &self.refusal_log) else { return Ok(()) };
        match self.worker.lot.turns().begin() {
            Begin::InTask(serve) => {
                let job = connection(permit, serve, &self.acceptor.settings);
                self.acceptor.spawn(&self.tasks, stream, &peer, job)
            }
            Begin::InTurns => {
                count(&self.acceptor.limiter.counters.connections, 1);
                let connection = self.worker.lot.add(stream, peer, permit);
                self.worker.watch_idle(&connection);
                self.worker.admit(connection);
                Ok(())
            }
        }
    }

    /// Accepts what is queued, closes the listener, and serves until every connection has ended, or until the
    /// deadline.
    fn drain(&mut self) -> io::Result<()> {
        let listener = &self.acceptor.resources.listener;
        let poller = &self.worker.wait.poller;
        poller.remove(&self.acceptor.resources.stop)?;
        if self.pause_until.take().is_none() {
            poller.remove(listener)?;
        }
        let mut deadline = self.acceptor.deadline().unwrap_or_else(Instant::now);
        if listener.is_handed_over() {
            // Closed and not shut down: the socket and its queue are the other process's.
            listener.close()?;
            self.serve_until(deadline, |lot| lot.acceptor.control.is_hurried())?;
            deadline = deadline.max(Instant::now()) + FINISH_TIME;
        } else {
            self.accept_queued()?;
            self.acceptor.resources.listener.close()?;
        }
        self.worker.lot.begin_drain();
        self.tasks.drain()?;
        for connection in self.worker.lot.all() {
            // One that a worker has is marked: it reads again, and finds the drain.
            if let Unparked::Claimed = connection.stream.unpark(&self.worker.lot.lot)? {
                self.worker.enqueue(connection);
            }
        }
        self.serve_until(deadline, |_| false)
    }

    /// Accepts the connections that are queued: their clients believe that they are connected.
    fn accept_queued(&mut self) -> io::Result<()> {
        let mut accepted = 0;
        while !self.acceptor.is_over() {
            accepted += 1;
            if accepted % ACCEPTED_PER_ROUND == 0 {
                let _ = self.worker.round(Some(Duration::ZERO))?;
            }
            let Acceptor { resources, .. } = &self.acceptor;
            // Does not wait, because the stop is set.
            let pause = match resources.listener.accept_or_stop(&resources.stop) {
                Ok(Some((stream, peer))) => match self.admit(stream, peer) {
                    Ok(()) => continue,
                    Err(limit) => self.backoff.record_exhaustion(limit),
                },
                Ok(None) => break,
                Err(error) if is_cancelled(&error) => return Err(error),
                Err(error) => self.pause_after(&error),
            };
            let _ = self.worker.round(Some(pause))?;
        }
        Ok(())
    }

    /// Serves until nothing is left, until the deadline, or until `is_over`.
    fn serve_until(
        &mut self,
        deadline: Instant,
        is_over: impl Fn(&LotAcceptor) -> bool,
    ) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_empty() || left.is_zero() || is_over(self) {
                return Ok(());
            }
            // No event tells that another worker or a task has ended the last one.
            self.worker.round(Some(left.min(SLICE)))?;
        }
    }

    fn is_empty(&self) -> bool {
        self.worker.lot.is_empty() && self.tasks.is_empty()
    }

    /// Ends the workers, and cancels what is left.
    fn abort_rest(mut self) {
        let mut late = self.worker.lot.all();
        late.retain(|connection| !connection.is_probe());
        let tasks = self.tasks.tasks();
        let count = late.len() + tasks.len();
        if count > 0 {
            tracing::warn!("aborting what is left: {}", Plural(count as u64, "connection"));
            late.iter().for_each(|connection| tracing::info!(task = %connection, "aborted"));
            tasks.iter().for_each(|task| tracing::info!(%task, "aborted"));
        }
        for cancelled in [self.tasks.cancel(), self.workers.cancel()] {
            if let Err(error) = cancelled {
                tracing::error!("{error}");
            }
        }
        self.worker.abort_held();
        let lot = Arc::clone(&self.worker.lot);
        for connection in lot.all() {
            // After a cancellation the registry closes it, at the end of this task.
            if let Ok(Unparked::Claimed) = connection.stream.unpark(&lot.lot) {
                self.worker.count_unparked(&connection);
                self.worker.abort(&connection);
            }
            lot.end_silently(&connection, EndReason::Aborted);
        }
        self.worker.publish();
    }
}
