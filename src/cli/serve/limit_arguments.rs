//! The options that limit connections, as settings of the server.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use crate::cli::style::StyleName;
use crate::cli::units::{at_least_one, duration, timeout};
use crate::net::KeepAlive;
use crate::report::Plural;
use crate::server::{BACKLOG_DEFAULT, Server, ServerSettings};

/// Options of limits.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArguments {
    /// Maximum number of open connections. A further connection is accepted, closed at once and
    /// counted as `refused`. Each connection needs a descriptor, memory and, without --park, a thread. If
    /// system limits allow fewer, the value is lowered, with a warning. [default: 1024, or what fits]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_connections: Option<NonZeroUsize>,

    /// Maximum number of open connections per client: per IPv4 address, or per /64 network of IPv6,
    /// because a single client usually has all addresses of one. Off by default: many clients may share
    /// an address.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_per_ip: Option<NonZeroUsize>,

    /// Maximum number of connections that wait to be accepted, per acceptor. The system of a further
    /// TCP client tries again, after a second at first. The kernel lowers the value to
    /// `net.core.somaxconn`, and a warning says so. [default: 1024]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    backlog: Option<NonZeroUsize>,

    /// Close connections that receive nothing for this long, as in `5m`. Off by default: idle clients
    /// are legitimate.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    idle_timeout: Option<Duration>,

    /// Disconnect clients that stop reading for this long; each would otherwise occupy a thread.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    write_timeout: Duration,

    /// Disable TCP keepalive. By default, a TCP client that is idle for 60 s is probed every 10 s and
    /// disconnected after 6 unanswered probes; it would otherwise occupy a thread after a power or
    /// network failure.
    #[arg(long)]
    no_keepalive: bool,

    /// Time that connections have to finish after SIGINT or SIGTERM before they are aborted. Idle
    /// connections are closed at once; 0s aborts all.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,
}

/// The shortest timeout of a socket; the kernel takes zero for "no timeout".
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

impl LimitArguments {
    /// The maximum number of connections, or the style's own.
    pub(super) fn max_connections(&self, style: StyleName) -> usize {
        let given = self.max_connections.map(NonZeroUsize::get);
        given.unwrap_or_else(|| style.max_connections())
    }

    /// The settings that these options determine; the others are the defaults.
    pub(super) fn settings(&self, style: StyleName) -> ServerSettings {
        ServerSettings {
            max_connections: self.max_connections(style),
            max_per_ip: self.max_per_ip,
            idle_timeout: self.idle_timeout.map(|idle| idle.max(TIMEOUT_MIN)),
            write_timeout: Some(self.write_timeout.max(TIMEOUT_MIN)),
            keep_alive: (!self.no_keepalive).then_some(KeepAlive::DEFAULT),
            drain_timeout: self.drain_timeout,
            backlog: self.backlog().unwrap_or(BACKLOG_DEFAULT),
            ..ServerSettings::default()
        }
    }

    fn backlog(&self) -> Option<u32> {
        self.backlog.map(|backlog| u32::try_from(backlog.get()).unwrap_or(u32::MAX))
    }

    /// Says that the kernel lowers `--backlog`, and how to change that. To be read before a sandbox
    /// hides the setting.
    pub(super) fn lowered_backlog(&self) -> Option<String> {
        let (requested, allowed) = (self.backlog()?, echown_limits::backlog_max()?);
        (requested > allowed).then(|| {
            format!(
                "--backlog {requested} is lowered to {allowed}: net.core.somaxconn is {allowed}; raise it \
                 with `sysctl -w net.core.somaxconn={requested}`"
            )
        })
    }

    /// Logs that fewer connections fit than requested, and how to change that.
    pub(super) fn log_lowered(&self, style: StyleName, server: &Server) {
        let requested = self.max_connections(style);
        let fit = server.max_connections();
        if fit == requested {
            return;
        }
        let why = server.limiting_factors().collect::<Vec<_>>().join("; and ");
        if self.max_connections.is_some() {
            tracing::warn!("--max-connections {requested} is lowered to {fit}: {why}");
        } else {
            let verb = if fit == 1 { "fits" } else { "fit" };
            let fits = format!("{} {verb}", Plural(fit as u64, "connection"));
            tracing::info!("{}, fewer than the default of {requested}: {why}", fits);
        }
    }
}
