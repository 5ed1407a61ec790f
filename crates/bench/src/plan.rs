//! The plan of a load: the connections, the messages, and the kind of client.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::host::Host;
use crate::net::ClientSocket;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of connections from one source address to one server. The system has about
/// 28,000 ports for them.
const CONNECTIONS_PER_SOURCE: usize = 20_000;

/// Source addresses for short-lived connections: the port of a closed one is not available for a
/// second or more.
const CHURN_SOURCES: usize = 64;

/// The address of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Inet(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Connects, and waits until the connection is established.
    pub(crate) fn connect(
        &self,
        host: &Arc<dyn Host>,
        source: Option<IpAddr>,
    ) -> io::Result<ClientSocket> {
        let stream = self.begin_connect(host, source)?;
        if matches!(self, Target::Inet(_)) {
            stream.complete_connect(CONNECT_TIMEOUT)?;
        }
        Ok(stream)
    }

    /// Starts to connect, and does not wait.
    pub(crate) fn begin_connect(
        &self,
        host: &Arc<dyn Host>,
        source: Option<IpAddr>,
    ) -> io::Result<ClientSocket> {
        match self {
            Target::Inet(address) => ClientSocket::begin_connect(host, address, source),
            Target::Unix(path) => ClientSocket::connect_unix(host, path, CONNECT_TIMEOUT),
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

/// How the client waits. This decides which of two servers looks better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// Few threads, each with an event loop. The server never waits for a thread of the client to be
    /// scheduled, and gets many messages at once.
    Event {
        /// The number of event loops; the connections are divided among them.
        threads: usize,
    },
    /// A thread for each connection, which waits for each reply.
    Blocking,
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientKind::Event { threads: 1 } => f.write_str("event loop"),
            ClientKind::Event { threads } => write!(f, "{threads} event loops"),
            ClientKind::Blocking => f.write_str("blocking threads"),
        }
    }
}

/// The protocol of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WireProtocol {
    /// The server echoes every byte.
    #[default]
    Bytes,
    /// The server echoes every line when it is complete.
    Lines,
    /// The server sends every frame to all clients.
    Frames,
}

/// By how much the warm-up is longer for each connection. A server that starts a thread for each takes
/// about 0.7 ms on a processor that the existing connections keep busy.
const WARMUP_PER_CONNECTION: Duration = Duration::from_millis(1);

/// The maximum by which the warm-up is longer for all connections.
const WARMUP_FOR_CONNECTIONS_MAX: Duration = Duration::from_secs(5);

/// A load: the connections, the messages, and the kind of client.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LoadPlan {
    /// Active connections.
    pub connections: usize,
    /// The message size in bytes.
    pub message_bytes: usize,
    /// The measured time.
    pub duration: Duration,
    /// The warm-up: the load runs for this long before it is measured.
    pub warmup: Duration,
    /// Messages per second, all connections together (an open loop). If unset, each connection sends
    /// the next message when it has received a reply (a closed loop).
    pub rate: Option<f64>,
    /// The kind of client.
    pub client: ClientKind,
    /// Messages in flight on each connection.
    pub pipeline: usize,
    /// Each connection carries one message: connect, send, receive, close.
    pub churn: bool,
    /// Idle connections that are held open. Each sends one message before and one after the run.
    pub idle: usize,
    /// The protocol of the server.
    pub protocol: WireProtocol,
    /// Local addresses to connect from, in turn. If empty, the system chooses.
    pub sources: Vec<IpAddr>,
    /// The seed of the payload.
    pub seed: u64,
}

impl Default for LoadPlan {
    /// 64 connections, 64-byte messages, ten seconds.
    fn default() -> LoadPlan {
        LoadPlan {
            connections: 64,
            message_bytes: 64,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            rate: None,
            client: ClientKind::Event { threads: 1 },
            pipeline: 1,
            churn: false,
            idle: 0,
            protocol: WireProtocol::Bytes,
            sources: Vec::new(),
            seed: 1,
        }
    }
}

impl LoadPlan {
    /// A warm-up of at least `base`, longer for many connections.
    #[must_use]
    pub fn warmup_from(&self, base: Duration) -> Duration {
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        let longer = WARMUP_PER_CONNECTION.saturating_mul(connections);
        base + longer.min(WARMUP_FOR_CONNECTIONS_MAX)
    }

    /// Adds source addresses if one is too few for the connections. This is possible on the IPv4 loopback.
    #[must_use]
    pub fn with_enough_sources(mut self, target: &Target) -> LoadPlan {
        let is_loopback =
            matches!(target, Target::Inet(SocketAddr::V4(it)) if it.ip().is_loopback());
        if self.sources.is_empty() && is_loopback {
            let mut sources = (self.connections + self.idle).div_ceil(CONNECTIONS_PER_SOURCE);
            if self.churn {
                sources = sources.max(CHURN_SOURCES);
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

    /// The source address of a connection.
    pub(crate) fn source(&self, connection: usize) -> Option<IpAddr> {
        let sources = self.sources.len();
        (sources > 0).then(|| self.sources[connection % sources])
    }

    /// All connections, idle ones included.
    #[must_use]
    pub fn all_connections(&self) -> usize {
        self.connections + self.idle
    }

    /// The load in a few words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = format!(
            "{} connection{} of {}",
            self.connections,
            if self.connections == 1 { "" } else { "s" },
            bytes(self.message_bytes)
        );
        if self.idle > 0 {
            words += &format!(" and {} idle ones", self.idle);
        }
        if self.churn {
            words += ", one message each";
        }
        if self.pipeline > 1 {
            words += &format!(", {} in flight", self.pipeline);
        }
        if let Some(rate) = self.rate {
            words += &format!(", {rate:.0} messages per second");
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
    fn source_addresses_are_added_only_where_one_is_too_few() {
        let local = Target::Inet(SocketAddr::from(([127, 0, 0, 1], 3000)));
        let plan = |connections, churn| LoadPlan { connections, churn, ..LoadPlan::default() };
        let sources = |plan: LoadPlan, target| plan.with_enough_sources(target).sources.len();
        assert_eq!(sources(plan(20_000, false), &local), 0);
        assert_eq!(sources(plan(20_001, false), &local), 2);
        assert_eq!(sources(plan(1, true), &local), CHURN_SOURCES);
        let remote = Target::Inet(SocketAddr::from(([192, 0, 2, 1], 3000)));
        assert_eq!(sources(plan(50_000, true), &remote), 0);
        let many = plan(2_000_000, false).with_enough_sources(&local);
        assert_eq!(many.sources[0].to_string(), "127.1.0.1");
        assert_eq!(many.sources.len(), 100);
    }
}
