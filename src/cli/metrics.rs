//! The numbers of a server as text for scrapers, in the OpenMetrics format or in Prometheus' older one.
//!
//! `docs/metrics.md` lists them. Names and units follow the conventions of Prometheus.

use std::fmt;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeMetric, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::echo::EndReason;
use crate::server::Metrics;
use crate::status::MetricsFormat;

/// Writes the numbers in a format.
pub(crate) fn render(metrics: Metrics, format: MetricsFormat) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Numbers(metrics)));
    let mut output = String::new();
    let written = match format {
        MetricsFormat::OpenMetrics => text::encode(&mut output, &registry),
        MetricsFormat::Text => prometheus_text::encode(&mut output, &registry),
    };
    match written {
        Ok(()) => output,
        Err(error) => unreachable!("a string takes everything: {error}"),
    }
}

#[derive(Debug)]
struct Numbers(Metrics);

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = &self.0;
        let mut family = Families(encoder);
        family.build()?;
        family.start_time(metrics)?;
        let help = "1 from the first signal to stop on, and 0 before.";
        family.gauge("echown_stopping", help, u32::from(metrics.is_stopping))?;

        let connections = &metrics.connections;
        let help = "Connections accepted for service.";
        family.counter("echown_connections", help, None, connections.connections)?;
        let help = "Connections that are open.";
        family.gauge("echown_connections_open", help, connections.open)?;
        let help = "Open connections that wait for input without a thread.";
        family.gauge("echown_connections_parked", help, metrics.parking.parked)?;
        let help = "Connections that can be open at a time.";
        family.gauge("echown_connections_max", help, metrics.connections_max)?;
        let help = "Connections refused, by the limit that was reached.";
        let refused = metrics.refused.iter().map(|(limit, count)| (limit.key(), *count));
        family.counters("echown_connections_refused", help, "limit", refused)?;
        let help = "Connections ended, by reason.";
        let reasons = EndReason::ALL.into_iter().filter(|reason| *reason != EndReason::Refused);
        let ended = reasons.map(|reason| (reason.key(), connections.ends.get(reason)));
        family.counters("echown_connections_ended", help, "reason", ended)?;
        let help = "Connections ended by an error, such as a reset or a timeout.";
        family.counter("echown_connection_errors", help, None, connections.ends.errors())?;

        let help = "How often a connection was parked.";
        family.counter("echown_parks", help, None, metrics.parking.parks)?;
        let help = "Parked connections that wait for their clients to read.";
        family.gauge("echown_park_blocked", help, metrics.parking.blocked)?;
        let help = "Parked connections that may wait for their clients to read.";
        family.gauge("echown_park_blocked_max", help, metrics.blocked_max)?;

        let help = "Bytes received by connections that have ended.";
        family.counter("echown_received", help, Some(&Unit::Bytes), metrics.bytes_in)?;
        let help = "Bytes sent by connections that have ended.";
        family.counter("echown_sent", help, Some(&Unit::Bytes), metrics.bytes_out)?;
        family.latency(metrics)?;

        let help = "Findings of the ownership checker, by code.";
        let findings = metrics.findings.iter().map(|(code, count)| (code.as_str(), *count));
        family.counters("echown_findings", help, "code", findings)?;
        let help = "Descriptors that tasks own.";
        family.gauge("echown_owned_descriptors", help, metrics.owned_descriptors)?;
        family.threads(metrics)?;
        let help = "Threads that there can be in the pool of connections and acceptors.";
        family.gauge("echown_threads_max", help, metrics.threads_max)
    }
}

/// Writes metrics with their descriptions.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn build(&mut self) -> fmt::Result {
        let help = "The program: version, operating system and processor architecture.";
        let info = Info::new([
            ("version", env!("CARGO_PKG_VERSION")),
            ("os", std::env::consts::OS),
            ("arch", std::env::consts::ARCH),
        ]);
        info.encode(self.0.encode_descriptor("echown_build", help, None, MetricType::Info)?)
    }

    fn start_time(&mut self, metrics: &Metrics) -> fmt::Result {
        let started = metrics.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "Start time of the process, in seconds since 1970.";
        let (name, unit) = ("process_start_time", Some(&Unit::Seconds));
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        encoder.encode_gauge(&started.as_secs_f64())
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, count: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(count).encode(encoder)
    }

    /// One counter for each value of a label.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: impl Iterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in counts {
            ConstCounter::new(count).encode(encoder.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn latency(&mut self, metrics: &Metrics) -> fmt::Result {
        let help = "Time from accept to the start of the connection's handler on its thread.";
        let (name, unit) = ("echown_accept_to_serve", Some(&Unit::Seconds));
        let mut encoder = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        let latency = &metrics.latency;
        let count = latency.buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<[(&str, &str); 0]>(latency.sum, count, &latency.buckets, None)
    }

    fn threads(&mut self, metrics: &Metrics) -> fmt::Result {
        let help = "Threads of the pool of connections and acceptors.";
        let mut encoder =
            self.0.encode_descriptor("echown_threads", help, None, MetricType::Gauge)?;
        for (state, threads) in
            [("running", metrics.threads_running), ("idle", metrics.threads_idle)]
        {
            encoder.encode_family(&[("state", state)])?.encode_gauge(&threads)?;
        }
        Ok(())
    }
}
