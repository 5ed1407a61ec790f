//! Loads with names, for the command line.

use std::time::Duration;

use serde::Serialize;

use crate::plan::{ClientKind, LoadPlan};
use crate::result::LoadResult;

/// The figure by which servers are compared under a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Metric {
    /// The median round-trip time in microseconds. Less is better.
    RoundTrip,
    /// Thousands of messages per second.
    Messages,
    /// Thousands of connections per second.
    Connections,
    /// Payload per second, in one direction, in megabytes.
    Bulk,
}

impl Metric {
    /// The figure, if it is known.
    #[must_use]
    pub fn of(self, result: &LoadResult) -> Option<f64> {
        match self {
            Metric::RoundTrip => result.latency.map(|latency| latency.p50),
            Metric::Messages | Metric::Connections => Some(result.messages_per_second / 1e3),
            Metric::Bulk => Some(result.megabytes_per_second),
        }
    }

    /// How many times as good as `reference` a figure is: 1.2 is better by a fifth.
    #[must_use]
    pub fn ratio(self, figure: f64, reference: f64) -> f64 {
        if self == Metric::RoundTrip { reference / figure } else { figure / reference }
    }

    /// The unit, in words.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Metric::RoundTrip => "us round trip",
            Metric::Messages => "thousand messages/s",
            Metric::Connections => "thousand connections/s",
            Metric::Bulk => "MB/s",
        }
    }
}

/// A load with a name.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NamedLoad {
    /// Its name on the command line.
    pub name: &'static str,
    /// A short description.
    pub about: &'static str,
    /// The plan.
    pub plan: LoadPlan,
    /// The figure by which servers are compared.
    pub metric: Metric,
}

impl NamedLoad {
    /// A custom load with the default plan.
    #[must_use]
    pub fn custom(metric: Metric) -> NamedLoad {
        let plan = LoadPlan::default();
        NamedLoad { name: "custom", about: "as given by the options", plan, metric }
    }
}

/// All predefined loads.
#[must_use]
pub fn all() -> Vec<NamedLoad> {
    let plan = LoadPlan::default;
    let load = |name, about, metric, plan| NamedLoad { name, about, plan, metric };
    vec![
        load(
            "latency-1",
            "one client, one message at a time",
            Metric::RoundTrip,
            LoadPlan { connections: 1, ..plan() },
        ),
        load("throughput-64", "64 clients in an event loop", Metric::Messages, plan()),
        load(
            "blocking",
            "64 clients with a thread each",
            Metric::Messages,
            LoadPlan { client: ClientKind::Blocking, ..plan() },
        ),
        load(
            "throughput-1k",
            "1,000 clients in an event loop",
            Metric::Messages,
            LoadPlan { connections: 1000, ..plan() },
        ),
        load(
            "throughput-10k",
            "10,000 clients in an event loop",
            Metric::Messages,
            LoadPlan { connections: 10_000, ..plan() },
        ),
        load(
            "idle",
            "100 clients and 10,000 idle connections",
            Metric::Messages,
            LoadPlan { connections: 100, idle: 10_000, ..plan() },
        ),
        load(
            "churn",
            "connect, one message, close; 16 at a time",
            Metric::Connections,
            LoadPlan { connections: 16, churn: true, ..plan() },
        ),
        load(
            "bulk",
            "one client, a mebibyte at a time",
            Metric::Bulk,
            LoadPlan { connections: 1, message_bytes: 1 << 20, ..plan() },
        ),
        load(
            "bulk-16",
            "16 clients, 16 KiB at a time",
            Metric::Bulk,
            LoadPlan { connections: 16, message_bytes: 16 << 10, ..plan() },
        ),
    ]
}

/// The predefined load of this name.
#[must_use]
pub fn by_name(name: &str) -> Option<NamedLoad> {
    all().into_iter().find(|load| load.name == name)
}

/// A mix of loads that characterizes a server in half a minute.
#[must_use]
pub fn mix() -> Vec<NamedLoad> {
    let names = ["latency-1", "throughput-64", "blocking", "throughput-1k", "churn", "bulk-16"];
    let mut mix: Vec<NamedLoad> = names.into_iter().filter_map(by_name).collect();
    for load in &mut mix {
        load.plan.warmup = load.plan.warmup_from(Duration::from_millis(500));
        load.plan.duration = Duration::from_millis(5000) - load.plan.warmup;
    }
    mix
}
