//! How many connections are served, over all and per client, and what they have done.

use crate::report::Count;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ends::{ConnectionCounts, EndTally};
use crate::echo::EndReason;

/// Lets in as many connections as are allowed at a time.
#[derive(Debug)]
pub(super) struct Gate {
    limit: usize,
    /// What `limit` comes from.
    bound: Bound,
    per_ip: Option<NonZeroUsize>,
    inside: Mutex<Inside>,
    pub(super) tally: Tally,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    /// Counted only when there is a limit per address. Holds no address without a connection, so
    /// it is as large as `all` at most.
    by_ip: HashMap<IpAddr, usize>,
}

/// What the connections have done, all added up.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) connections: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) ends: EndTally,
}

/// Adds to a counter of the tally.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    // ord: Relaxed; a statistic, exact once the tasks that count have been joined.
    counter.fetch_add(more, Ordering::Relaxed);
}

/// One connection's place inside. Dropped with the connection's closure.
#[derive(Debug)]
pub(super) struct Admission {
    gate: Arc<Gate>,
    ip: Option<IpAddr>,
}

/// Who says how many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Whoever started the server.
    Asked,
    /// This limit of the machine: its name and its value.
    Machine(&'static str, u64),
}

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// As many connections as are allowed.
    All(usize, Bound),
    /// As many as are allowed for this address.
    Ip(IpAddr, usize),
}

/// `1 connection is`, `2 connections are`.
fn are(connections: usize) -> String {
    let verb = if connections == 1 { "is" } else { "are" };
    format!("{} {verb}", Count(connections as u64, "connection"))
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Full::All(limit, Bound::Asked) => {
                write!(f, "{} served (--max-connections)", are(*limit))
            }
            Full::All(limit, Bound::Machine(name, value)) => {
                write!(f, "{} served, and {name} of {value} allows no more", are(*limit))
            }
            Full::Ip(ip, limit) => {
                write!(f, "{} served for {ip} (--max-per-ip)", are(*limit))
            }
        }
    }
}

impl Gate {
    pub(super) fn new(limit: usize, bound: Bound, per_ip: Option<NonZeroUsize>) -> Gate {
        Gate { limit, bound, per_ip, inside: Mutex::default(), tally: Tally::default() }
    }

    /// Lets a connection in, if there is room. `ip` is the client's, if it has one.
    pub(super) fn enter(self: &Arc<Gate>, ip: Option<IpAddr>) -> Result<Admission, Full> {
        let mut inside = self.inside();
        if inside.all >= self.limit {
            return Err(Full::All(self.limit, self.bound));
        }
        let ip = ip.filter(|_| self.per_ip.is_some());
        if let (Some(ip), Some(limit)) = (ip, self.per_ip) {
            let of_ip = inside.by_ip.entry(ip).or_default();
            if *of_ip >= limit.get() {
                return Err(Full::Ip(ip, limit.get()));
            }
            *of_ip += 1;
        }
        inside.all += 1;
        drop(inside);
        Ok(Admission { gate: Arc::clone(self), ip })
    }

    /// What has been done with connections so far.
    pub(super) fn counts(&self) -> ConnectionCounts {
        // Ended ones first: one that ends meanwhile is counted as open and not missed.
        let ends = self.tally.ends.counts();
        // ord: Relaxed; a statistic.
        let connections = self.tally.connections.load(Ordering::Relaxed);
        // From the counts, so that the three always add up; one may end before it is counted.
        let ended = ends.total() - ends.get(EndReason::Refused);
        ConnectionCounts { connections, open: connections.saturating_sub(ended), ends }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Adds one connection's bytes to the tally.
    pub(super) fn count_bytes(&self, received: u64, sent: u64) {
        count(&self.gate.tally.bytes_in, received);
        count(&self.gate.tally.bytes_out, sent);
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inside = self.gate.inside();
        inside.all -= 1;
        if let Some(ip) = self.ip
            && let Entry::Occupied(mut of_ip) = inside.by_ip.entry(ip)
        {
            *of_ip.get_mut() -= 1;
            if *of_ip.get() == 0 {
                of_ip.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn a_place_that_is_left_can_be_taken_again_and_a_refusal_takes_none() {
        let gate = Arc::new(Gate::new(1, Bound::Asked, None));
        let first = gate.enter(Some(HERE)).expect("an empty gate lets one in");
        assert_eq!(gate.enter(Some(HERE)).unwrap_err(), Full::All(1, Bound::Asked));
        assert_eq!(gate.enter(None).unwrap_err(), Full::All(1, Bound::Asked));
        drop(first);
        assert!(gate.enter(Some(HERE)).is_ok());
    }

    #[test]
    fn one_address_has_its_own_limit_and_leaves_nothing_behind() {
        let gate = Arc::new(Gate::new(10, Bound::Asked, NonZeroUsize::new(2)));
        let two = [gate.enter(Some(HERE)).unwrap(), gate.enter(Some(HERE)).unwrap()];
        assert_eq!(gate.enter(Some(HERE)).unwrap_err(), Full::Ip(HERE, 2));
        assert!(gate.enter(Some(THERE)).is_ok(), "another client is not concerned");
        assert!(gate.enter(None).is_ok(), "nor is one without an address");
        drop(two);
        assert!(gate.enter(Some(HERE)).is_ok());
        assert!(gate.inside().by_ip.is_empty());
    }
}
