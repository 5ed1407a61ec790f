//! The default mix of loads against the server of this program, and its summary.

use std::process::ExitCode;

use echown_bench::loads::{self, Metric};
use echown_bench::{LoadPlan, LoadResult, LoadStopHandle, Verified};

use super::results::Results;
use super::{BenchArguments, BenchError, StatusLine, finish, format_result, host, own_server};
use crate::cli::log_arguments::OutputFormat;
use crate::cli::style::StyleName;
use crate::ownership::Registry;
use crate::report::Plural;

/// More connections than any load of the mix has.
const CONNECTIONS_MAX: usize = 1100;

pub(super) fn run(
    arguments: &BenchArguments,
    registry: &Registry,
    processors: Option<&[usize]>,
    stop: &LoadStopHandle,
    results: &mut Results<'_>,
) -> Result<ExitCode, BenchError> {
    let load_args = &arguments.load_args;
    let server = own_server(StyleName::Echo, CONNECTIONS_MAX, &LoadPlan::default())?;
    let host = host::of(registry);
    let mut line = StatusLine::default();
    let mut done: Vec<(Metric, (String, LoadResult))> = Vec::new();
    for mut load in loads::mix() {
        if stop.is_stopped() {
            break;
        }
        load.plan.sources.clone_from(&load_args.source);
        let plan = &load.plan;
        // A new server for each load, so that no load is affected by the previous one.
        let result = server.bench(&host, plan, processors, stop, |what| {
            what.under(load.about, |what| line.show(what));
        });
        line.clear();
        if result.is_err() && stop.is_stopped() && !done.is_empty() {
            break;
        }
        let result = result?;
        results.show(&format_result(results.format, &result), stop)?;
        done.push((load.metric, (load.name.to_owned(), result)));
    }
    if results.format == OutputFormat::Text {
        results.show(&format!("\n{}\n", summary(&done)), stop)?;
    }
    let named: Vec<(String, LoadResult)> = done.into_iter().map(|(_, named)| named).collect();
    finish(arguments, &named)
}

/// The main figures, in sentences.
fn summary(done: &[(Metric, (String, LoadResult))]) -> String {
    let named = |name: &str| {
        // Without replies there are no figures.
        let mut replied = done.iter().filter(|(_, (_, result))| result.messages > 0);
        let found = replied.find(|(_, (its, _))| its == name);
        found.map(|(metric, (_, result))| (metric.of(result).unwrap_or(0.0), result))
    };
    let mut words = Vec::new();
    if let Some((micros, result)) = named("latency-1") {
        words.push(match result.latency {
            Some(latency) => format!(
                "One client: median round trip {micros:.0} us, p99.9 {:.0} us.",
                latency.p999
            ),
            None => "One client: no reply.".to_owned(),
        });
    }
    if let Some((event, _)) = named("throughput-64") {
        let blocking = named("blocking").map_or(String::new(), |(blocking, _)| {
            format!("; with a thread each, {blocking:.0} thousand")
        });
        words.push(format!(
            "64 clients in an event loop: {event:.0} thousand messages per second{blocking}."
        ));
    }
    if let Some((thousand, result)) = named("throughput-1k") {
        let starved = match result.starved {
            0 => "none starved".to_owned(),
            starved => format!("{starved} starved"),
        };
        let memory = result.server.map_or(String::new(), |server| {
            let each = server.memory_per_connection.unwrap_or_default();
            format!(", {:.0} KiB of memory each", each / 1024.0)
        });
        words.push(format!(
            "1,000 clients in an event loop: {thousand:.0} thousand messages per second, \
             {starved}{memory}."
        ));
    }
    if let Some((churn, _)) = named("churn") {
        words.push(format!("Short connections: {churn:.0} thousand per second."));
    }
    if let Some((bulk, _)) = named("bulk-16") {
        words.push(format!("16 streams of 16 KiB messages: {bulk:.0} MB/s in each direction."));
    }
    let errors: u64 = done.iter().flat_map(|(_, (_, result))| result.errors.values()).sum();
    let messages: u64 = done.iter().map(|(_, (_, result))| result.messages).sum();
    let failures = done.iter().filter_map(|(_, (name, result))| result.failure(name));
    words.extend(failures.map(|failure| format!("Failed: {failure}.")));
    let is_whole = done.iter().all(|(_, (_, result))| result.verified == Verified::Whole);
    match errors {
        0 if is_whole => {
            words.push(format!("All {messages} replies were correct, without an error."))
        }
        0 => {}
        _ => words.push(format!("{}; see above.", Plural(errors, "error"))),
    }
    if done.iter().any(|(_, (_, result))| !result.warnings.is_empty()) {
        words.push("Some figures have notes. Read them before you compare.".into());
    }
    words.join("\n")
}
