//! Loads that are asked about most, by name.

use std::time::Duration;

use serde::Serialize;

use crate::outcome::Outcome;
use crate::plan::{Client, Plan};

/// Which figure of an outcome a load is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Metric {
    /// How long a message takes there and back, the median in microseconds: less is better.
    RoundTrip,
    /// Messages a second, in thousands.
    Messages,
    /// Connections a second, in thousands.
    Connections,
    /// Payload a second, in millions of bytes.
    Bulk,
}

impl Metric {
    /// The figure, if it is known.
    #[must_use]
    pub fn of(self, outcome: &Outcome) -> Option<f64> {
        match self {
            Metric::RoundTrip => outcome.latency.map(|latency| latency.p50),
            Metric::Messages | Metric::Connections => Some(outcome.messages_per_second / 1e3),
            Metric::Bulk => Some(outcome.megabytes_per_second),
        }
    }

    /// How much better the first figure is: 1.2 is a fifth.
    #[must_use]
    pub fn advantage(self, figure: f64, over: f64) -> f64 {
        if self == Metric::RoundTrip { over / figure } else { figure / over }
    }

    /// The figure's unit, in words.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Metric::RoundTrip => "us there and back",
            Metric::Messages => "thousand messages/s",
            Metric::Connections => "thousand connections/s",
            Metric::Bulk => "MB/s",
        }
    }
}

/// A load with a name.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it stands for.
    pub about: &'static str,
    /// What is asked.
    pub plan: Plan,
    /// What is looked at.
    pub metric: Metric,
}

impl Scenario {
    /// A load that has no name, to be changed as one likes.
    #[must_use]
    pub fn own(metric: Metric) -> Scenario {
        Scenario { name: "own", about: "as it was asked for", plan: Plan::default(), metric }
    }
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let plan = Plan::default;
    let scenario = |name, about, metric, plan| Scenario { name, about, plan, metric };
    vec![
        scenario(
            "one",
            "one client that asks and waits",
            Metric::RoundTrip,
            Plan { connections: 1, ..plan() },
        ),
        scenario("crowd", "64 clients in an event loop", Metric::Messages, plan()),
        scenario(
            "blocking",
            "64 clients with a thread each",
            Metric::Messages,
            Plan { client: Client::Blocking, ..plan() },
        ),
        scenario(
            "thousand",
            "1,000 clients in an event loop",
            Metric::Messages,
            Plan { connections: 1000, ..plan() },
        ),
        scenario(
            "idle",
            "100 clients beside 10,000 that are silent",
            Metric::Messages,
            Plan { connections: 100, idle: 10_000, ..plan() },
        ),
        scenario(
            "churn",
            "connect, one message, close; 16 at a time",
            Metric::Connections,
            Plan { connections: 16, churn: true, ..plan() },
        ),
        scenario(
            "bulk",
            "one client, a mebibyte at a time",
            Metric::Bulk,
            Plan { connections: 1, message_bytes: 1 << 20, ..plan() },
        ),
        scenario(
            "streams",
            "16 clients, 16 KiB at a time",
            Metric::Bulk,
            Plan { connections: 16, message_bytes: 16 << 10, ..plan() },
        ),
    ]
}

/// One of them.
#[must_use]
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

/// A mix of half a minute that shows what a server is like.
#[must_use]
pub fn mix() -> Vec<Scenario> {
    let names = ["one", "crowd", "blocking", "thousand", "churn", "streams"];
    let mut mix: Vec<Scenario> = names.into_iter().filter_map(named).collect();
    for scenario in &mut mix {
        scenario.plan.warmup = scenario.plan.warmup_from(Duration::from_millis(500));
        scenario.plan.duration = Duration::from_millis(5000) - scenario.plan.warmup;
    }
    mix
}
