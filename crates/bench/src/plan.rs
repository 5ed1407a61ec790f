//! What is asked of a server.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::host::Host;
use crate::net::Stream;

/// How long a connection may take to stand.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Connections from one source address to one server, at most; the system has about 28,000 ports for
/// them.
const CONNECTIONS_A_SOURCE: usize = 20_000;

/// Source addresses for connections that are opened and closed all the time: the ports of those that
/// were closed are not to be had for a second or more.
const SOURCES_OF_CHURN: usize = 64;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By TCP.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// A connection that stands.
    pub(crate) fn connect(
        &self,
        host: &Arc<dyn Host>,
        source: Option<IpAddr>,
    ) -> io::Result<Stream> {
        let stream = self.begin_connect(host, source)?;
        if matches!(self, Target::Inet(_)) {
            stream.complete_connect(CONNECT_PATIENCE)?;
        }
        Ok(stream)
    }

    /// A connection that may not stand yet, and does not wait.
    pub(crate) fn begin_connect(
        &self,
        host: &Arc<dyn Host>,
        source: Option<IpAddr>,
    ) -> io::Result<Stream> {
        match self {
            Target::Inet(address) => Stream::begin_connect(host, address, source),
            Target::Unix(path) => Stream::connect_unix(host, path, CONNECT_PATIENCE),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Inet(address) => address.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How the client waits, which decides the ranking of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Client {
    /// Few threads with an event loop each: the server never waits for the client's threads to be
    /// scheduled, and gets many messages at once.
    Event {
        /// The connections are dealt out among them.
        threads: usize,
    },
    /// A thread for each connection, as programs have that ask a server and wait for its answer.
    Blocking,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Event { threads: 1 } => f.write_str("event loop"),
            Client::Event { threads } => write!(f, "{threads} event loops"),
            Client::Blocking => f.write_str("blocking threads"),
        }
    }
}

/// What the server understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Every byte comes back.
    #[default]
    Bytes,
    /// Every line comes back when it is whole.
    Lines,
    /// Every frame goes to all clients.
    Frames,
}

/// What a warm-up is longer by for each connection. A server that starts a thread for each, on a processor
/// that those who have one keep busy, takes some 0.7 ms for the next.
const WARMUP_PER_CONNECTION: Duration = Duration::from_millis(1);

/// What a warm-up is longer by for all connections at the most.
const WARMUP_FOR_CONNECTIONS_MAX: Duration = Duration::from_secs(5);

/// What is asked of a server.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Connections that ask, at a time.
    pub connections: usize,
    /// Bytes of a message.
    pub message_bytes: usize,
    /// How long is measured.
    pub duration: Duration,
    /// How long before that everything is as it is then, and not counted.
    pub warmup: Duration,
    /// Messages a second, all connections together; unless set, each connection asks again when it
    /// has been answered.
    pub rate: Option<f64>,
    /// Who asks.
    pub client: Client,
    /// Messages under way on a connection.
    pub pipeline: usize,
    /// Each connection is for one message: connect, ask, close.
    pub churn: bool,
    /// Connections held open besides, asked before and after.
    pub idle: usize,
    /// How messages look.
    pub dialect: Dialect,
    /// Addresses to connect from, in turn; the system's choice if there are none.
    pub sources: Vec<IpAddr>,
    /// What the messages are made of, again the same with the same seed.
    pub seed: u64,
}

impl Default for Plan {
    /// 64 connections with 64 bytes each, for ten seconds.
    fn default() -> Plan {
        Plan {
            connections: 64,
            message_bytes: 64,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            rate: None,
            client: Client::Event { threads: 1 },
            pipeline: 1,
            churn: false,
            idle: 0,
            dialect: Dialect::Bytes,
            sources: Vec::new(),
            seed: 1,
        }
    }
}

impl Plan {
    /// A warm-up of so much for any server, and what the connections take to get going.
    #[must_use]
    pub fn warmup_from(&self, base: Duration) -> Duration {
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        let longer = WARMUP_PER_CONNECTION.saturating_mul(connections);
        base + longer.min(WARMUP_FOR_CONNECTIONS_MAX)
    }

    /// Adds source addresses where one is too few and there are more: on the loopback of IPv4.
    #[must_use]
    pub fn with_enough_sources(mut self, target: &Target) -> Plan {
        let is_loopback =
            matches!(target, Target::Inet(SocketAddr::V4(it)) if it.ip().is_loopback());
        if self.sources.is_empty() && is_loopback {
            let mut sources = (self.connections + self.idle).div_ceil(CONNECTIONS_A_SOURCE);
            if self.churn {
                sources = sources.max(SOURCES_OF_CHURN);
            }
            if sources > 1 {
                let address = |host| {
                    let [.., high, low] = u32::to_be_bytes(host);
                    IpAddr::V4(Ipv4Addr::new(127, 1, high, low))
                };
                self.sources = (1..=sources.min(60_000) as u32).map(address).collect();
            }
        }
        self
    }

    /// Where a connection comes from.
    pub(crate) fn source(&self, connection: usize) -> Option<IpAddr> {
        let sources = self.sources.len();
        (sources > 0).then(|| self.sources[connection % sources])
    }

    /// Descriptors that a server needs for it, about.
    #[must_use]
    pub fn connections_in_all(&self) -> usize {
        self.connections + self.idle
    }

    /// What is asked, in a few words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = format!(
            "{} connection{} of {}",
            self.connections,
            if self.connections == 1 { "" } else { "s" },
            bytes(self.message_bytes)
        );
        if self.idle > 0 {
            words += &format!(" beside {} idle ones", self.idle);
        }
        if self.churn {
            words += ", each for one message";
        }
        if self.pipeline > 1 {
            words += &format!(", {} under way", self.pipeline);
        }
        if let Some(rate) = self.rate {
            words += &format!(", {rate:.0} messages a second");
        }
        words
    }
}

/// `64 B`, `16 KiB`, `1 MiB`.
pub(crate) fn bytes(bytes: usize) -> String {
    match bytes {
        bytes if bytes > 0 && bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes if bytes > 0 && bytes % (1 << 10) == 0 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_addresses_are_as_many_as_needed_and_unused_where_one_is_enough() {
        let local = Target::Inet(SocketAddr::from(([127, 0, 0, 1], 3000)));
        let plan = |connections, churn| Plan { connections, churn, ..Plan::default() };
        let sources = |plan: Plan, target| plan.with_enough_sources(target).sources.len();
        assert_eq!(sources(plan(20_000, false), &local), 0);
        assert_eq!(sources(plan(20_001, false), &local), 2);
        assert_eq!(sources(plan(1, true), &local), SOURCES_OF_CHURN);
        let remote = Target::Inet(SocketAddr::from(([192, 0, 2, 1], 3000)));
        assert_eq!(sources(plan(50_000, true), &remote), 0);
        let many = plan(2_000_000, false).with_enough_sources(&local);
        assert_eq!(many.sources[0].to_string(), "127.1.0.1");
        assert_eq!(many.sources.len(), 100);
    }
}
