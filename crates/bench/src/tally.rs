//! What a worker of the client has seen.

use std::collections::BTreeMap;
use std::io;

use hdrhistogram::Histogram;

use crate::run::Window;

/// The longest latency that is told apart: beyond it they are counted as this.
const LATENCY_MAX_NANOS: u64 = 100_000_000_000;

pub(crate) struct Tally {
    /// In nanoseconds, to three digits.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) messages: u64,
    /// Connections that were made within the time measured.
    pub(crate) connects: u64,
    /// By what they are called.
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Messages of each connection.
    pub(crate) each: Vec<u64>,
    /// Connections that stood when the measuring began.
    pub(crate) established: usize,
    /// Connections that worked until the end: nothing was owed on them, or it was still coming when no
    /// more of it was waited for.
    pub(crate) left: usize,
}

impl Tally {
    pub(crate) fn new(connections: usize) -> Tally {
        Tally {
            latencies: Histogram::new_with_bounds(1, LATENCY_MAX_NANOS, 3)
                .unwrap_or_else(|error| unreachable!("these bounds are possible: {error}")),
            messages: 0,
            connects: 0,
            errors: BTreeMap::new(),
            each: vec![0; connections],
            established: 0,
            left: 0,
        }
    }

    /// A message that was due then has been answered now. It counts for the throughput when it is
    /// answered within the time measured. Its latency counts then, too, where the next one waits for the
    /// answer; at a rate, when it was due within that time: or else a stall at the end would be on
    /// nobody's account.
    pub(crate) fn answered(&mut self, connection: usize, window: &Window, due: u64, now: u64) {
        let is_counted = window.counts(now);
        if is_counted {
            self.messages += 1;
            self.each[connection] += 1;
        }
        if if window.is_of_a_rate { window.counts(due) } else { is_counted } {
            self.latencies.saturating_record((now - due).max(1));
        }
    }

    pub(crate) fn failed(&mut self, what: &'static str) {
        self.failed_times(what, 1);
    }

    pub(crate) fn failed_times(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.errors.entry(what).or_default() += times;
        }
    }

    /// Adds what another worker has seen, of other connections.
    pub(crate) fn add(&mut self, other: Tally) {
        // The bounds are the same.
        let _ = self.latencies.add(&other.latencies);
        self.messages += other.messages;
        self.connects += other.connects;
        self.established += other.established;
        self.left += other.left;
        self.each.extend(other.each);
        for (what, times) in other.errors {
            self.failed_times(what, times);
        }
    }
}

/// What came back was not what was sent.
pub(crate) const LIE: &str = "wrong bytes";
/// Nothing came back, and waiting longer would be no use.
pub(crate) const UNANSWERED: &str = "unanswered";
/// A message was due in time, and there was no time left to ask it.
pub(crate) const UNASKED: &str = "due and never asked";
/// The server has closed a connection on which answers were missing, or more was to be asked.
pub(crate) const CLOSED: &str = "closed by the server";
/// A message was due on a connection that is gone.
pub(crate) const NO_CONNECTION: &str = "due without a connection";
/// No server listens at the address.
pub(crate) const REFUSED: &str = "refused";
/// There is no Unix socket at the path.
pub(crate) const NO_SOCKET: &str = "no such socket";
/// A connection did not stand in time.
pub(crate) const TIMED_OUT: &str = "timed out";
/// An idle connection was not there any more.
pub(crate) const IDLE_LOST: &str = "idle connection lost";

/// What an error is called.
pub(crate) fn name(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => REFUSED,
        io::ErrorKind::NotFound => NO_SOCKET,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset",
        io::ErrorKind::TimedOut => TIMED_OUT,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::AddrNotAvailable => "no port left to connect from",
        io::ErrorKind::NotConnected => "not connected",
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            "no descriptor left here"
        }
        _ => "other errors",
    }
}
