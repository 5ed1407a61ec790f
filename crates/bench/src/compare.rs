//! Comparison of several servers under the same load.
//!
//! The speed of a machine changes from one minute to the next. So the servers take turns (A B C,
//! A B C), they are compared within each round, and a round in which another program used the machine
//! is dropped and repeated.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::host::Host;
use crate::load_error::LoadError;
use crate::loads::{Metric, NamedLoad};
use crate::progress::LoadProgress;
use crate::result::{LatencySummary, LoadResult, ServerUsage, Verified, Warning};
use crate::server_process::ServerCommand;
use crate::stop_handle::LoadStopHandle;
use crate::units::{memory, plural, time};

/// How servers are compared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CompareSettings {
    /// Rounds that count.
    pub rounds: usize,
    /// Processors that the servers run on. The default is any.
    pub server_processors: Option<Vec<usize>>,
}

impl CompareSettings {
    /// This many rounds, on any processor.
    #[must_use]
    pub fn new(rounds: usize) -> CompareSettings {
        CompareSettings { rounds, server_processors: None }
    }
}

/// The results of all servers under one load.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The load.
    pub load: NamedLoad,
    /// The servers, in the order in which they were given.
    pub servers: Vec<ServerComparison>,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds that were requested. Fewer count if the comparison was stopped early, or if more rounds
    /// than this were disturbed.
    pub rounds_requested: usize,
    /// Rounds that were dropped because another program used the machine.
    pub rounds_dropped: usize,
    /// All rounds were disturbed by other programs. They count all the same.
    pub is_disturbed: bool,
}

impl Comparison {
    /// Serializes the comparison as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("plain data can be serialized: {error}"))
    }
}

/// The results of one server. A figure that is unknown in every round is `None`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ServerComparison {
    /// Its name.
    pub name: String,
    /// The median of the rounds, in the unit of the load's [`Metric`].
    pub median: Option<f64>,
    /// The lowest and the highest round.
    pub range: Option<(f64, f64)>,
    /// How many times as good as the first server: the median of the rounds' ratios.
    pub ratio: Option<f64>,
    /// The lowest and the highest of these ratios.
    pub ratio_range: Option<(f64, f64)>,
    /// The median of the rounds' 99th percentiles of latency, in microseconds.
    pub p99: Option<f64>,
    /// The median of the rounds' 99.9th percentiles of latency, in microseconds.
    pub p999: Option<f64>,
    /// Processor time of the server per message, in microseconds.
    pub micros_per_message: f64,
    /// Memory per connection in bytes. Unknown for connections that are opened and closed all the time.
    pub memory_per_connection: Option<f64>,
    /// Starved connections, in all rounds.
    pub starved: usize,
    /// Errors, in all rounds.
    pub errors: u64,
    /// Replies, in all rounds.
    pub messages: u64,
    /// Whether the replies were correct: the worst of the rounds.
    pub verified: Verified,
    /// In at least one round, no connection worked at the end.
    pub is_gone: bool,
}

impl ServerComparison {
    /// Why this is a failure, in a sentence.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self.verified {
            Verified::Whole if self.is_gone => Some(format!(
                "{}: the server has gone or stopped replying: in at least one round no connection \
                 worked at the end",
                self.name
            )),
            Verified::Whole => None,
            Verified::Wrong => {
                Some(format!("{}: replies differed from the messages that were sent", self.name))
            }
            Verified::Nothing => Some(format!(
                "{}: nothing was verified: in at least one round no reply arrived",
                self.name
            )),
        }
    }
}

/// Runs one load against each server, in turn. `None`: it was stopped before the first round was
/// complete.
///
/// # Errors
/// A server could not be started, or accepted no connections.
pub fn compare(
    host: &Arc<dyn Host>,
    load: &NamedLoad,
    servers: &[ServerCommand],
    settings: &CompareSettings,
    stop: &LoadStopHandle,
    mut progress: impl FnMut(LoadProgress<'_>),
) -> Result<Option<Comparison>, LoadError> {
    let mut rounds: Vec<Vec<LoadResult>> = Vec::new();
    let mut disturbed: Vec<Vec<LoadResult>> = Vec::new();
    while rounds.len() < settings.rounds && disturbed.len() <= settings.rounds {
        let number = rounds.len() + disturbed.len() + 1;
        let mut round = Vec::new();
        for server in servers {
            let what = format!("{}, round {number}, {}", load.name, server.name);
            progress(LoadProgress::Running(&what));
            let processors = settings.server_processors.as_deref();
            let result = server.bench(host, &load.plan, processors, stop, |how| {
                how.under(&what, &mut progress);
            });
            if stop.is_stopped() {
                // An incomplete round compares nothing.
                return Ok(summarize(load, servers, settings, rounds, disturbed));
            }
            round
                .push(result.map_err(|error| {
                    LoadError::new(format!("{what}: {error}")).caused_by(error)
                })?);
        }
        if round.iter().any(is_disturbed) { &mut disturbed } else { &mut rounds }.push(round);
    }
    Ok(summarize(load, servers, settings, rounds, disturbed))
}

fn is_disturbed(result: &LoadResult) -> bool {
    result.warnings.iter().any(|warning| matches!(warning, Warning::OtherLoad { .. }))
}

fn summarize(
    load: &NamedLoad,
    servers: &[ServerCommand],
    settings: &CompareSettings,
    mut rounds: Vec<Vec<LoadResult>>,
    mut disturbed: Vec<Vec<LoadResult>>,
) -> Option<Comparison> {
    let is_disturbed = rounds.is_empty();
    if is_disturbed {
        rounds = std::mem::take(&mut disturbed);
    }
    if rounds.is_empty() {
        return None;
    }
    let summary = |(index, server): (usize, &ServerCommand)| {
        summarize_server(load.metric, index, &server.name, &rounds)
    };
    Some(Comparison {
        load: load.clone(),
        servers: servers.iter().enumerate().map(summary).collect(),
        rounds: rounds.len(),
        rounds_requested: settings.rounds,
        rounds_dropped: disturbed.len(),
        is_disturbed,
    })
}

fn summarize_server(
    metric: Metric,
    index: usize,
    name: &str,
    rounds: &[Vec<LoadResult>],
) -> ServerComparison {
    let own = || rounds.iter().map(|round| &round[index]);
    let figures: Vec<f64> = own().filter_map(|result| metric.of(result)).collect();
    let ratios: Vec<f64> = rounds
        .iter()
        .filter_map(|round| metric.of(&round[index]).zip(metric.of(&round[0])))
        .map(|(own, first)| metric.ratio(own, first))
        .collect();
    let server = |what: fn(&ServerUsage) -> f64| {
        median(own().map(|result| result.server.as_ref().map_or(f64::NAN, what)).collect())
    };
    let latency = |what: fn(LatencySummary) -> f64| {
        known(own().filter_map(|result| result.latency.map(what)).collect())
    };
    ServerComparison {
        name: name.to_owned(),
        range: range(&figures),
        median: known(figures),
        ratio_range: range(&ratios),
        ratio: known(ratios),
        p99: latency(|latency| latency.p99),
        p999: latency(|latency| latency.p999),
        micros_per_message: server(|server| server.micros_per_message),
        memory_per_connection: Some(server(|server| {
            server.memory_per_connection.unwrap_or(f64::NAN)
        }))
        .filter(|bytes| !bytes.is_nan()),
        starved: own().map(|result| result.starved).sum(),
        errors: own().flat_map(|result| result.errors.values()).sum(),
        messages: own().map(|result| result.messages).sum(),
        is_gone: own().any(|result| result.working_at_end == Some(0)),
        verified: own().map(|result| result.verified).max().unwrap_or(Verified::Nothing),
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => figures[odd / 2],
        even => f64::midpoint(figures[even / 2 - 1], figures[even / 2]),
    }
}

/// The median, if there is anything.
fn known(figures: Vec<f64>) -> Option<f64> {
    (!figures.is_empty()).then(|| median(figures))
}

fn range(figures: &[f64]) -> Option<(f64, f64)> {
    let least = figures.iter().copied().reduce(f64::min);
    least.zip(figures.iter().copied().reduce(f64::max))
}

/// A table in Markdown.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NamedLoad { name, about, plan, metric } = &self.load;
        writeln!(f, "**{name}**: {about} ({}; client: {})\n", plan.in_words(), plan.client)?;
        writeln!(
            f,
            "| server | {} | lowest to highest | ratio | of the rounds | p99 | p99.9 | processor \
             time | memory each |\n|---|---|---|---|---|---|---|---|---|",
            metric.unit()
        )?;
        for server in &self.servers {
            let shown = |what: Option<String>| what.unwrap_or_else(|| "-".into());
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                server.name,
                shown(server.median.map(|median| format!("{median:.1}"))),
                shown(server.range.map(|(low, high)| format!("{low:.1} to {high:.1}"))),
                shown(server.ratio.map(|ratio| format!("{ratio:.2}"))),
                shown(server.ratio_range.map(|(low, high)| format!("{low:.2} to {high:.2}"))),
                shown(server.p99.map(time)),
                shown(server.p999.map(time)),
                time(server.micros_per_message),
                shown(server.memory_per_connection.map(memory))
            )?;
        }
        writeln!(f)?;
        write!(f, "{} of {:?} each", plural(self.rounds as u64, "round"), plan.duration)?;
        if self.rounds < self.rounds_requested {
            write!(f, "; {} were requested", self.rounds_requested)?;
        }
        if self.rounds_dropped > 0 {
            write!(f, "; {} more dropped: another program used the machine", self.rounds_dropped)?;
        }
        if self.is_disturbed {
            write!(f, "; all of them disturbed by another program that used the machine")?;
        }
        writeln!(f, ".")?;
        for server in &self.servers {
            if let Some(failure) = server.failure() {
                writeln!(f, "{failure}.")?;
            }
            if server.errors > 0 {
                writeln!(f, "{}: {}.", server.name, plural(server.errors, "error"))?;
            }
            if server.starved > 0 {
                let starved = plural(server.starved as u64, "connection");
                writeln!(f, "{}: {starved} starved.", server.name)?;
            }
        }
        Ok(())
    }
}
