//! Several servers under the same load, in turn, again and again.
//!
//! The machine is not the same from one minute to the next. So the servers take turns (A B C A B C),
//! what is compared is what they did in the same round, and a round in which somebody else used the
//! machine is dropped and made up for.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::host::Host;
use crate::outcome::{Latency, Outcome, Verified};
use crate::rival::Rival;
use crate::run::{LoadError, Progress};
use crate::scenario::{Metric, Scenario};
use crate::show::{Count, memory, time};
use crate::warning::Warning;
use crate::watch::Watch;

/// How it is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Rounds that count.
    pub rounds: usize,
    /// Processors that the servers run on, if not on any.
    pub server_processors: Option<Vec<usize>>,
}

impl Settings {
    /// So many rounds, on any processor.
    #[must_use]
    pub fn new(rounds: usize) -> Settings {
        Settings { rounds, server_processors: None }
    }
}

/// What came of a load.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The load.
    pub scenario: Scenario,
    /// The servers in the order in which they were given.
    pub cells: Vec<Cell>,
    /// Rounds that count.
    pub rounds: usize,
    /// Rounds that were asked for. There are fewer when it was ended early, or when so many were
    /// disturbed that no more were tried.
    pub wanted: usize,
    /// Rounds that were dropped, because somebody else used the machine.
    pub dropped: usize,
    /// All rounds were disturbed, and count all the same.
    pub is_disturbed: bool,
}

impl Row {
    /// The same as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("plain data has no secrets: {error}"))
    }
}

/// What one server did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Cell {
    /// Its name.
    pub name: String,
    /// The median of the rounds; of those in which it is known, as everything here.
    pub figure: Option<f64>,
    /// The lowest and the highest.
    pub range: Option<(f64, f64)>,
    /// How much better than the first server, as the median of the rounds' ratios.
    pub advantage: Option<f64>,
    /// The lowest and the highest of these ratios.
    pub advantage_range: Option<(f64, f64)>,
    /// The median of the rounds' 99th of a hundred latencies, in microseconds.
    pub p99: Option<f64>,
    /// The same for 99.9.
    pub p999: Option<f64>,
    /// Processor time of the server for each message, in microseconds.
    pub micros_per_message: f64,
    /// Memory for each connection, in bytes; nothing is known of connections that come and go.
    pub memory_per_connection: Option<f64>,
    /// Connections that starved, in all rounds.
    pub starved: usize,
    /// What went wrong, in all rounds.
    pub errors: u64,
    /// Messages that came back, in all rounds.
    pub messages: u64,
    /// What is known of the bytes that came back: the worst of the rounds.
    pub verified: Verified,
    /// There was a round at whose end no connection worked.
    pub is_lost: bool,
}

impl Cell {
    /// Why this is no success, in a sentence.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self.verified {
            Verified::Whole if self.is_lost => Some(format!(
                "{}: the server has gone or stopped answering: there was a round at whose end no \
                 connection worked",
                self.name
            )),
            Verified::Whole => None,
            Verified::Wrong => Some(format!("{}: what came back was not what was sent", self.name)),
            Verified::Nothing => Some(format!(
                "{}: nothing was verified: there was a round in which no message came back",
                self.name
            )),
        }
    }
}

/// Puts the servers under a load, in turn. The rows come one by one, as they are done.
///
/// # Errors
/// A server that cannot be started, or that takes no connections.
pub fn compare(
    host: &Arc<dyn Host>,
    scenario: &Scenario,
    rivals: &[Rival],
    settings: &Settings,
    watch: &Watch,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Option<Row>, LoadError> {
    let mut rounds: Vec<Vec<Outcome>> = Vec::new();
    let mut disturbed: Vec<Vec<Outcome>> = Vec::new();
    while rounds.len() < settings.rounds && disturbed.len() <= settings.rounds {
        let number = rounds.len() + disturbed.len() + 1;
        let mut round = Vec::new();
        for rival in rivals {
            let what = format!("{}, round {number}, {}", scenario.name, rival.name);
            progress(Progress::Running(&what));
            let processors = settings.server_processors.as_deref();
            let outcome = rival.bench(host, &scenario.plan, processors, watch, |how| {
                how.under(&what, &mut progress);
            });
            if watch.is_stopped() {
                // A round that is not whole compares nothing.
                return Ok(row(scenario, rivals, settings, rounds, disturbed));
            }
            round.push(outcome.map_err(|error| LoadError::new(format!("{what}: {error}")))?);
        }
        if round.iter().any(is_disturbed) { &mut disturbed } else { &mut rounds }.push(round);
    }
    Ok(row(scenario, rivals, settings, rounds, disturbed))
}

fn is_disturbed(outcome: &Outcome) -> bool {
    outcome.warnings.iter().any(|warning| matches!(warning, Warning::OtherLoad { .. }))
}

fn row(
    scenario: &Scenario,
    rivals: &[Rival],
    settings: &Settings,
    mut rounds: Vec<Vec<Outcome>>,
    mut disturbed: Vec<Vec<Outcome>>,
) -> Option<Row> {
    let is_disturbed = rounds.is_empty();
    if is_disturbed {
        rounds = std::mem::take(&mut disturbed);
    }
    if rounds.is_empty() {
        return None;
    }
    let cells = rivals.iter().enumerate();
    Some(Row {
        scenario: scenario.clone(),
        cells: cells.map(|(index, rival)| cell(scenario.metric, index, rival, &rounds)).collect(),
        rounds: rounds.len(),
        wanted: settings.rounds,
        dropped: disturbed.len(),
        is_disturbed,
    })
}

fn cell(metric: Metric, index: usize, rival: &Rival, rounds: &[Vec<Outcome>]) -> Cell {
    let of_all = |what: &dyn Fn(&Outcome) -> f64| -> Vec<f64> {
        rounds.iter().map(|round| what(&round[index])).collect()
    };
    let figures: Vec<f64> = rounds.iter().filter_map(|round| metric.of(&round[index])).collect();
    let advantages: Vec<f64> = rounds
        .iter()
        .filter_map(|round| metric.of(&round[index]).zip(metric.of(&round[0])))
        .map(|(its, first)| metric.advantage(its, first))
        .collect();
    let server = |what: fn(&crate::ServerUse) -> f64| {
        median(of_all(&|outcome| outcome.server.as_ref().map_or(f64::NAN, what)))
    };
    let its = || rounds.iter().map(|round| &round[index]);
    let latency = |what: fn(Latency) -> f64| {
        known(its().filter_map(|outcome| outcome.latency.map(what)).collect())
    };
    Cell {
        name: rival.name.clone(),
        range: range(&figures),
        figure: known(figures),
        advantage_range: range(&advantages),
        advantage: known(advantages),
        p99: latency(|latency| latency.p99),
        p999: latency(|latency| latency.p999),
        micros_per_message: server(|server| server.micros_per_message),
        memory_per_connection: Some(server(|server| {
            server.memory_per_connection.unwrap_or(f64::NAN)
        }))
        .filter(|bytes| !bytes.is_nan()),
        starved: its().map(|outcome| outcome.starved).sum(),
        errors: its().flat_map(|outcome| outcome.errors.values()).sum(),
        messages: its().map(|outcome| outcome.messages).sum(),
        is_lost: its().any(|outcome| outcome.left == Some(0)),
        verified: its().map(|outcome| outcome.verified).max().unwrap_or(Verified::Nothing),
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

/// A table in Markdown, as it stands in a page.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { name, about, plan, metric } = &self.scenario;
        writeln!(f, "**{name}**: {about} ({}; client: {})\n", plan.in_words(), plan.client)?;
        writeln!(
            f,
            "| server | {} | lowest to highest | ratio | of the rounds | p99 | p99.9 | processor \
             time | memory each |\n|---|---|---|---|---|---|---|---|---|",
            metric.unit()
        )?;
        for cell in &self.cells {
            let shown = |what: Option<String>| what.unwrap_or_else(|| "-".into());
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                cell.name,
                shown(cell.figure.map(|figure| format!("{figure:.1}"))),
                shown(cell.range.map(|(low, high)| format!("{low:.1} to {high:.1}"))),
                shown(cell.advantage.map(|advantage| format!("{advantage:.2}"))),
                shown(cell.advantage_range.map(|(low, high)| format!("{low:.2} to {high:.2}"))),
                shown(cell.p99.map(time)),
                shown(cell.p999.map(time)),
                time(cell.micros_per_message),
                shown(cell.memory_per_connection.map(memory))
            )?;
        }
        writeln!(f)?;
        let rounds = if self.rounds == 1 { "1 round" } else { &format!("{} rounds", self.rounds) };
        write!(f, "{rounds} of {:?} each", plan.duration)?;
        if self.rounds < self.wanted {
            write!(f, "; {} were wanted", self.wanted)?;
        }
        if self.dropped > 0 {
            write!(f, "; {} more dropped: something else used the machine", self.dropped)?;
        }
        if self.is_disturbed {
            write!(f, "; all of them disturbed by something else that used the machine")?;
        }
        writeln!(f, ".")?;
        for cell in &self.cells {
            if let Some(failure) = cell.failure() {
                writeln!(f, "{failure}.")?;
            }
            if cell.errors > 0 {
                writeln!(f, "{}: {}.", cell.name, Count(cell.errors, "error"))?;
            }
            if cell.starved > 0 {
                writeln!(
                    f,
                    "{}: {} starved.",
                    cell.name,
                    Count(cell.starved as u64, "connection")
                )?;
            }
        }
        Ok(())
    }
}
