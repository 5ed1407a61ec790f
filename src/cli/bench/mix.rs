//! A mix of loads on our own server, and what to make of it.

use std::process::ExitCode;

use echown_bench::scenario::{self, Metric};
use echown_bench::{Outcome, Plan, Verified, Watch};

use super::{BenchArguments, Failed, FormName, StatusLine, finish, host, own_server, show};
use crate::cli::style::StyleName;
use crate::ownership::Registry;
use crate::report::Count;

/// More connections than any of the loads has.
const CONNECTIONS_MAX: usize = 1100;

pub(super) fn run(
    arguments: &BenchArguments,
    registry: &Registry,
    processors: Option<&[usize]>,
    watch: &Watch,
) -> Result<ExitCode, Failed> {
    let shape = &arguments.shape;
    let rival = own_server(StyleName::Echo, CONNECTIONS_MAX, &Plan::default())?;
    let host = host::of(registry);
    let mut line = StatusLine::default();
    let mut done: Vec<(Metric, (String, Outcome))> = Vec::new();
    for mut scenario in scenario::mix() {
        if watch.is_stopped() {
            break;
        }
        scenario.plan.sources.clone_from(&shape.source);
        let plan = &scenario.plan;
        // Another one for each, so that what one load has left behind is not on the next one's account.
        let outcome = rival.bench(&host, plan, processors, watch, |what| {
            what.under(scenario.about, |what| line.show(what));
        });
        line.clear();
        if outcome.is_err() && watch.is_stopped() && !done.is_empty() {
            break;
        }
        let outcome = outcome?;
        match arguments.form.format {
            FormName::Text => show(&outcome.to_string(), watch)?,
            FormName::Json => show(&(outcome.to_json() + "\n"), watch)?,
        }
        done.push((scenario.metric, (scenario.name.to_owned(), outcome)));
    }
    if arguments.form.format == FormName::Text {
        show(&format!("\n{}\n", verdict(&done)), watch)?;
    }
    let outcomes: Vec<(String, Outcome)> = done.into_iter().map(|(_, named)| named).collect();
    finish(arguments, registry, &outcomes)
}

/// The figures that matter, in sentences.
fn verdict(done: &[(Metric, (String, Outcome))]) -> String {
    let named = |name: &str| {
        // What was not answered has no figures.
        let mut answered = done.iter().filter(|(_, (_, outcome))| outcome.messages > 0);
        let found = answered.find(|(_, (its, _))| its == name);
        found.map(|(metric, (_, outcome))| (metric.of(outcome).unwrap_or(0.0), outcome))
    };
    let mut words = Vec::new();
    if let Some((micros, outcome)) = named("one") {
        words.push(match outcome.latency {
            Some(latency) => format!(
                "One client has its answer in {micros:.0} us, and 999 times of a thousand in {:.0} us.",
                latency.p999
            ),
            None => "One client has no answer.".to_owned(),
        });
    }
    if let Some((event, _)) = named("crowd") {
        let blocking = named("blocking").map_or(String::new(), |(blocking, _)| {
            format!("; clients with threads of their own get {blocking:.0} thousand")
        });
        words.push(format!(
            "64 clients in an event loop are answered {event:.0} thousand times a second{blocking}."
        ));
    }
    if let Some((thousand, outcome)) = named("thousand") {
        let starved = match outcome.starved {
            0 => "none of them starves".to_owned(),
            starved => format!("{starved} of them starve"),
        };
        let memory = outcome.server.map_or(String::new(), |server| {
            let each = server.memory_per_connection.unwrap_or_default();
            format!(", and each costs {:.0} KiB", each / 1024.0)
        });
        words.push(format!("A thousand get {thousand:.0} thousand; {starved}{memory}."));
    }
    if let Some((churn, _)) = named("churn") {
        words.push(format!("{churn:.0} thousand connections a second come and go."));
    }
    if let Some((bulk, _)) = named("streams") {
        words.push(format!("Sixteen streams carry {bulk:.0} MB/s, each way."));
    }
    let errors: u64 = done.iter().flat_map(|(_, (_, outcome))| outcome.errors.values()).sum();
    let messages: u64 = done.iter().map(|(_, (_, outcome))| outcome.messages).sum();
    let failures = done.iter().filter_map(|(_, (name, outcome))| outcome.failure(name));
    words.extend(failures.map(|failure| format!("Failed: {failure}.")));
    let is_whole = done.iter().all(|(_, (_, outcome))| outcome.verified == Verified::Whole);
    match errors {
        0 if is_whole => words.push(format!(
            "All {messages} messages came back as they were sent, without an error."
        )),
        0 => {}
        _ => words.push(format!("{}; see above.", Count(errors, "error"))),
    }
    if done.iter().any(|(_, (_, outcome))| !outcome.warnings.is_empty()) {
        words.push("Some figures have notes: read them before you compare.".into());
    }
    words.join("\n")
}
