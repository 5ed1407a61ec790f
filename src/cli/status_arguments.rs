//! The options of the status server.

use std::sync::Arc;

use clap::Args;

use super::units::escaped;
use super::{metrics, record};
use crate::bind::Planned;
use crate::net::Endpoint;
use crate::ownership::Registry;
use crate::server::{Reserved, Server};
use crate::status::{self, HostName, Source, StatusServer};

/// Options of the status server.
#[derive(Args)]
#[command(next_help_heading = "Status")]
pub(super) struct StatusArguments {
    /// Show who owns which descriptor, live, over HTTP at this address, which has the forms of
    /// --listen, as in `127.0.0.1:3001` or `unix:/run/echown-status`. `/` is a page for a browser,
    /// `/events` sends what happens as JSON lines in server-sent events (docs/events.md),
    /// `/snapshot.json` lists all tasks and open descriptors, `/metrics` has counters for Prometheus
    /// (docs/metrics.md), and `/healthz` is 200 while the server serves and 503 from the first signal to
    /// stop on. The line `status on URL` names the port. Works while the server drains. Off by default.
    /// At an address that other machines reach, as `0.0.0.0:9100`, only `/metrics` and `/healthz` are
    /// served, with any `Host` header: the rest shows paths and the addresses of peers. At most 8 clients at a time, in addition to --max-connections; a client that
    /// does not send its request, or does not read, for 5 s is disconnected. No client delays the
    /// server: events that a slow one misses are counted.
    #[arg(long, value_name = "ADDR")]
    pub(super) status: Option<Endpoint>,

    /// A further name in the `Host` header of requests to --status, for a reverse proxy: without port;
    /// repeatable. Other names than those of this machine are rejected, so that a page of another site
    /// cannot read the status through a name that it lets resolve to this machine.
    #[arg(long, value_name = "NAME", value_parser = host_name, requires = "status")]
    pub(super) status_host: Vec<HostName>,
}

impl StatusArguments {
    /// What the status server needs in addition to the echo server.
    pub(super) fn reserved(&self, planned: Option<&Planned>) -> Reserved {
        match planned {
            Some(_) => {
                Reserved { descriptors: status::DESCRIPTORS, threads: status::THREADS, probes: 0 }
            }
            None => Reserved::default(),
        }
    }

    /// Listens on the planned address, if there is one.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn bind(
        &self,
        registry: &Registry,
        planned: Option<Planned>,
        server: &Server,
    ) -> Result<Option<StatusServer>, String> {
        let Some(planned) = planned else { return Ok(None) };
        let (hosts, bound) = (&self.status_host, server.bound());
        let (control, reader) = (server.control(), server.metrics_reader());
        let source = Source::live(registry, record::program(), Arc::new(record::annotated()))
            .with_health(move || !control.is_stopping())
            .with_metrics(move |format| metrics::render(reader.read(), format));
        StatusServer::bind(registry, planned, hosts, &bound, "--status", source).map(Some)
    }
}

fn host_name(text: &str) -> Result<HostName, String> {
    text.parse().map_err(escaped)
}
