//! The options of parking: connections that wait without a thread.

use std::num::NonZeroUsize;

use clap::Args;

use crate::cli::style::StyleName;
use crate::cli::units::at_least_one;
use crate::report::Plural;
use crate::server::{PARK_BLOCKED_DEFAULT, Server, ServerSettings};

/// Options of parking.
#[derive(Args)]
#[command(next_help_heading = "Parking")]
pub(super) struct ParkingArguments {
    /// Park connections that wait for their client: one `epoll` watches them, and the thread of the
    /// acceptor serves those with input, a read and its echo at a time. A connection that waits for input
    /// then has a descriptor, and neither a thread nor memory for buffers. Choose it for thousands of clients
    /// that are mostly idle, with --max-connections, or for many clients with small messages. Without
    /// it each connection has its own thread, which is as fast for few clients, for short connections
    /// and for bulk data, delays no client because of another, and serves all styles. Only for
    /// `--style echo`. A connection from `Accept=yes` has its own thread in any case.
    #[arg(long)]
    park: bool,

    /// With --park, threads per acceptor that serve connections. More than one helps only if the
    /// clients leave cores free; so it is at most one less than the cores. [default: 1]
    #[arg(long, value_name = "N", value_parser = workers)]
    park_workers: Option<NonZeroUsize>,

    /// With --park, how many connections per acceptor may wait for clients that do not read. Such a
    /// connection keeps up to 64 KiB that it could not send, and delays no other client. With one more, the
    /// one that has waited longest is reset and counted as `displaced`. If they would take more than a quarter
    /// of the available memory, the value is lowered, which is logged. [default: 1024]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    park_blocked: Option<NonZeroUsize>,
}

/// A number of workers that the cores of this machine can run at a time.
fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    workers_on(cores, at_least_one(text)?)
}

fn workers_on(cores: NonZeroUsize, wanted: NonZeroUsize) -> Result<NonZeroUsize, String> {
    let most = (cores.get() - 1).max(1);
    if wanted.get() <= most {
        return Ok(wanted);
    }
    let cores = Plural(cores.get() as u64, "core");
    Err(format!(
        "at most {most} with {cores}, one of which is left to the rest: more workers than free cores \
         only preempt each other"
    ))
}

impl ParkingArguments {
    /// Checks that the style parks connections, and that no option is without effect.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn check(&self, style: StyleName) -> Result<(), String> {
        if self.park {
            return match style {
                StyleName::Echo => Ok(()),
                StyleName::Staged | StyleName::Broadcast | StyleName::Callback => Err(format!(
                    "--park is for --style echo, not --style {style}: its connections wait in the middle \
                     of an exchange, with their state on the stack of their thread"
                )),
            };
        }
        let given = [
            ("--park-workers", self.park_workers.is_some()),
            ("--park-blocked", self.park_blocked.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(format!("{option} needs --park")),
            None => Ok(()),
        }
    }

    /// The settings that these options determine; the others are those of `others`.
    pub(super) fn settings(&self, others: ServerSettings) -> ServerSettings {
        ServerSettings {
            park: self.park.then(|| self.park_workers.unwrap_or(NonZeroUsize::MIN)),
            park_blocked: self.blocked(),
            ..others
        }
    }

    fn blocked(&self) -> NonZeroUsize {
        self.park_blocked.unwrap_or(PARK_BLOCKED_DEFAULT)
    }

    /// Logs that fewer connections than requested may wait for their clients to read.
    pub(super) fn log_lowered(&self, server: &Server) {
        let (requested, fit) = (self.blocked(), server.park_blocked());
        if !self.park || fit >= requested {
            return;
        }
        let why = "they get a quarter of the memory that this process may use";
        if self.park_blocked.is_some() {
            tracing::warn!("--park-blocked {requested} is lowered to {fit}: {why}");
        } else {
            tracing::info!("--park-blocked is {fit} and not the default of {requested}: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_is_left_to_the_rest_and_one_worker_is_always_allowed() {
        let count = |number| NonZeroUsize::new(number).unwrap();
        for (cores, wanted, is_allowed) in
            [(1, 1, true), (1, 2, false), (2, 1, true), (2, 2, false), (8, 7, true), (8, 8, false)]
        {
            let result = workers_on(count(cores), count(wanted));
            assert_eq!(result.is_ok(), is_allowed, "{wanted} on {cores}: {result:?}");
        }
        assert_eq!(
            workers_on(count(2), count(2)).unwrap_err(),
            "at most 1 with 2 cores, one of which is left to the rest: more workers than free cores \
             only preempt each other"
        );
    }
}
