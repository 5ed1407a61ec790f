//! The connection limiter, in total and per client, and the counters of connections.

use crate::report::Plural;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::end_counts::{ConnectionCounts, EndCounter, count};
use super::latency::Latency;
use super::parking_counts::{ParkingCounter, ParkingCounts};
use super::refusals::{Limit, Refusals};
use crate::echo::EndReason;

/// Admits at most the configured number of concurrent connections.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    limit: usize,
    /// Where `limit` comes from.
    source: LimitSource,
    per_ip: Option<NonZeroUsize>,
    state: Mutex<LimiterState>,
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
struct LimiterState {
    all: usize,
    /// Used only with a limit per client. Contains no client without a connection, so it has at most
    /// `all` entries.
    by_client: HashMap<ClientNetwork, usize>,
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, because that is what a
/// single customer gets. A limit for each address of it would be no limit.
///
/// # Limits
/// All link-local addresses of a network are in one /64, and so count as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// The network of a client. An IPv4 address that is mapped into IPv6 counts as itself.
    pub(super) fn of(ip: IpAddr) -> ClientNetwork {
        const HOST: u128 = u64::MAX as u128;
        ClientNetwork(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !HOST).into(),
        })
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => write!(f, "{ip}"),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

/// Totals over all connections.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) ends: EndCounter,
    pub(super) refusals: Refusals,
    pub(super) latency: Latency,
    pub(super) parking: ParkingCounter,
}

impl Counters {
    /// Counts a connection that is closed at once.
    pub(super) fn count_refusal(&self, limit: Limit) {
        self.refusals.count(limit);
        self.ends.count(EndReason::Refused);
    }

    /// The bytes of all connections that have ended: received, sent.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn bytes(&self) -> (u64, u64) {
        // ord: Relaxed; statistics, exact once every task that counts has ended.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.bytes_in), count(&self.bytes_out))
    }
}

/// Permission for one connection. Dropped with the connection's closure.
#[derive(Debug)]
pub(super) struct Permit {
    limiter: Arc<ConnectionLimiter>,
    client: Option<ClientNetwork>,
}

/// The source of the total limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitSource {
    /// The server's settings.
    Setting,
    /// A system limit: its name and its value.
    System(&'static str, u64),
}

/// Why a connection is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// The total limit is reached.
    Total(usize, LimitSource),
    /// The limit for this client is reached.
    PerIp(ClientNetwork, usize),
}

/// `1 connection is`, `2 connections are`.
fn connections_are(connections: usize) -> String {
    let verb = if connections == 1 { "is" } else { "are" };
    format!("{} {verb}", Plural(connections as u64, "connection"))
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitReached::Total(limit, LimitSource::Setting) => {
                write!(f, "{} served (--max-connections)", connections_are(*limit))
            }
            LimitReached::Total(limit, LimitSource::System(name, value)) => {
                write!(
                    f,
                    "{} served, and {name} of {value} allows no more",
                    connections_are(*limit)
                )
            }
            LimitReached::PerIp(client, limit) => {
                write!(f, "{} served for {client} (--max-per-ip)", connections_are(*limit))
            }
        }
    }
}

impl ConnectionLimiter {
    pub(super) fn new(
        limit: usize,
        source: LimitSource,
        per_ip: Option<NonZeroUsize>,
    ) -> ConnectionLimiter {
        ConnectionLimiter {
            limit,
            source,
            per_ip,
            state: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// How many connections it admits at a time.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Admits a connection, unless a limit is reached. A client of a Unix socket has no network.
    pub(super) fn acquire(
        self: &Arc<ConnectionLimiter>,
        client: Option<ClientNetwork>,
    ) -> Result<Permit, LimitReached> {
        let mut state = self.state();
        if state.all >= self.limit {
            return Err(LimitReached::Total(self.limit, self.source));
        }
        let client = client.filter(|_| self.per_ip.is_some());
        if let (Some(client), Some(limit)) = (client, self.per_ip) {
            let of_client = state.by_client.entry(client).or_default();
            if *of_client >= limit.get() {
                return Err(LimitReached::PerIp(client, limit.get()));
            }
            *of_client += 1;
        }
        state.all += 1;
        drop(state);
        Ok(Permit { limiter: Arc::clone(self), client })
    }

    /// Returns the counts so far.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) fn counts(&self) -> ConnectionCounts {
        // Ends first: a connection that ends meanwhile is counted as open rather than missed.
        let ends = self.counters.ends.counts();
        // ord: Relaxed; a statistic.
        let connections = self.counters.connections.load(Ordering::Relaxed);
        // Computed, so that the three always add up; a connection may end before it is counted.
        let ended = ends.total() - ends.get(EndReason::Refused);
        let open = connections.saturating_sub(ended);
        let ParkingCounts { parked, blocked, .. } = self.counters.parking.counts();
        ConnectionCounts { connections, open, parked, blocked, ends }
    }

    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LimitReached {
    pub(super) fn limit(self) -> Limit {
        match self {
            LimitReached::Total(..) => Limit::Connections,
            LimitReached::PerIp(..) => Limit::PerIp,
        }
    }
}

impl Permit {
    /// Counts the time from accept to the start of the handler.
    pub(super) fn count_start(&self, nanos: u64) {
        self.limiter.counters.latency.record(nanos);
    }

    /// Adds one connection's bytes to the counters.
    pub(super) fn count_bytes(&self, received: u64, sent: u64) {
        count(&self.limiter.counters.bytes_in, received);
        count(&self.limiter.counters.bytes_out, sent);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        state.all -= 1;
        if let Some(client) = self.client
            && let Entry::Occupied(mut of_client) = state.by_client.entry(client)
        {
            *of_client.get_mut() -= 1;
            if *of_client.get() == 0 {
                of_client.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ClientNetwork = ClientNetwork(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: ClientNetwork = ClientNetwork(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

    #[test]
    fn a_released_permit_can_be_acquired_again_and_a_refusal_takes_none() {
        let limiter = Arc::new(ConnectionLimiter::new(1, LimitSource::Setting, None));
        let first = limiter.acquire(Some(HERE)).expect("an empty limiter lets one in");
        assert_eq!(
            limiter.acquire(Some(HERE)).unwrap_err(),
            LimitReached::Total(1, LimitSource::Setting)
        );
        assert_eq!(
            limiter.acquire(None).unwrap_err(),
            LimitReached::Total(1, LimitSource::Setting)
        );
        drop(first);
        assert!(limiter.acquire(Some(HERE)).is_ok());
    }

    #[test]
    fn one_address_has_its_own_limit_and_leaves_nothing_behind() {
        let limiter =
            Arc::new(ConnectionLimiter::new(10, LimitSource::Setting, NonZeroUsize::new(2)));
        let two = [limiter.acquire(Some(HERE)).unwrap(), limiter.acquire(Some(HERE)).unwrap()];
        assert_eq!(limiter.acquire(Some(HERE)).unwrap_err(), LimitReached::PerIp(HERE, 2));
        assert!(limiter.acquire(Some(THERE)).is_ok(), "another client is not concerned");
        assert!(limiter.acquire(None).is_ok(), "nor is one without an address");
        drop(two);
        assert!(limiter.acquire(Some(HERE)).is_ok());
        assert!(limiter.state().by_client.is_empty());
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_the_64_of_an_ipv6_address() {
        let text = |ip: &str| ClientNetwork::of(ip.parse().unwrap()).to_string();
        assert_eq!(text("192.0.2.1"), "192.0.2.1");
        assert_eq!(text("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(text("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(text("::1"), "::/64");
        let network = |ip: &str| ClientNetwork::of(ip.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_ne!(network("::ffff:192.0.2.1"), network("::1"), "not by the bits of both");
    }
}
