//! `echown bench compare`: several servers under the same load, in turn.

use std::num::NonZeroUsize;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use echown_bench::compare::{Cell, Settings, compare};
use echown_bench::scenario::{self, Metric, Scenario};
use echown_bench::{Plan, Rival, Watch};
use echown_fd::escape;

use super::{Failed, FormName, Shape, StatusLine, connections_max, host, limits, own, show};
use crate::cli::stderr_line::stderr_line;
use crate::cli::style::StyleName;
use crate::cli::units::at_least_one;
use crate::ownership::Registry;

/// How long a round is unless told.
const DURATION_DEFAULT: Duration = Duration::from_secs(3);

/// How long before that unless told.
const WARMUP_DEFAULT: Duration = Duration::from_millis(500);

/// Puts several servers under the same load, in turn, and says how they compare.
///
/// The servers take turns in rounds (A B C, A B C), each started anew on a free port, so that what
/// changes on the machine changes for all of them. The table has medians, the lowest and the highest
/// round, and how many times as good as the first server each is, round by round. A round in which
/// something else used the machine is dropped, and made up for; when there are more of them than were
/// to count, no more are tried.
///
/// Each server is NAME=COMMAND, with `{port}` where its port belongs, or one word: `echown` (also
/// `echown-off` and `echown-full`, for what the checker does), or one of the small peers that this
/// project has for comparison, such as `threads`, `threadpool`, `tokio`, `mio` and `c`; those are built
/// by `cargo build --release -p echown-peers`.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct CompareArguments {
    /// The servers; the others are compared with the first.
    #[arg(value_name = "NAME=COMMAND", required = true)]
    servers: Vec<String>,

    /// A load by name; may be given several times. Unless given, and unless it is said what to ask, all
    /// of them but `idle`: one, crowd, blocking, thousand, idle, churn, bulk, streams.
    #[arg(long, value_name = "NAME", value_parser = loads(), hide_possible_values = true)]
    load: Vec<String>,

    /// Rounds that count.
    #[arg(long, value_name = "N", default_value = "5", value_parser = at_least_one)]
    rounds: NonZeroUsize,

    #[command(flatten)]
    shape: Shape,

    #[command(flatten)]
    form: super::Form,
}

fn loads() -> PossibleValuesParser {
    PossibleValuesParser::new(scenario::all().into_iter().map(|load| load.name))
}

pub(super) fn run(
    arguments: &CompareArguments,
    registry: &Registry,
    watch: &Watch,
) -> Result<ExitCode, Failed> {
    let shape = &arguments.shape;
    let scenarios = scenarios(arguments)?;
    let mut settings = Settings::new(arguments.rounds.get());
    settings.server_processors = shape.pin()?;
    let host = host::of(registry);
    let mut line = StatusLine::default();
    let mut code = ExitCode::SUCCESS;
    for scenario in scenarios {
        let rival = |text: &String| rival(text, shape.style, &scenario.plan);
        let rivals: Vec<Rival> = arguments.servers.iter().map(rival).collect::<Result<_, _>>()?;
        let row = compare(&host, &scenario, &rivals, &settings, watch, |what| line.show(what))?;
        line.clear();
        let Some(row) = row else { break };
        match arguments.form.format {
            FormName::Text => show(&format!("{row}\n"), watch)?,
            FormName::Json => show(&(row.to_json() + "\n"), watch)?,
        }
        for failure in row.cells.iter().filter_map(Cell::failure) {
            stderr_line(format_args!("echown: {failure} (load `{}`)", scenario.name));
            code = ExitCode::FAILURE;
        }
        if watch.is_stopped() {
            break;
        }
    }
    Ok(code)
}

/// What is asked: loads by name, changed by what was said; or only what was said.
fn scenarios(arguments: &CompareArguments) -> Result<Vec<Scenario>, Failed> {
    let shape = &arguments.shape;
    let mut scenarios: Vec<Scenario> = if !arguments.load.is_empty() {
        arguments.load.iter().filter_map(|name| scenario::named(name)).collect()
    } else if shape.is_shaped() {
        let metric = if shape.churn { Metric::Connections } else { Metric::Messages };
        vec![Scenario::own(metric)]
    } else {
        scenario::all().into_iter().filter(|it| it.name != "idle").collect()
    };
    for scenario in &mut scenarios {
        scenario.plan.duration = DURATION_DEFAULT;
        scenario.plan.warmup = WARMUP_DEFAULT;
        shape.apply(&mut scenario.plan).map_err(Failed::Usage)?;
    }
    Ok(scenarios)
}

/// A server as it was written.
fn rival(text: &str, style: StyleName, plan: &Plan) -> Result<Rival, Failed> {
    if let Some((name, command)) = text.split_once('=') {
        if name.is_empty() || !command.contains("{port}") {
            let text = format!("`{text}`: expected NAME=COMMAND with {{port}} in the command");
            return Err(Failed::Usage(text));
        }
        return Ok(Rival { name: escape::text(name).into_owned(), command: command.into() });
    }
    let program = super::this_program()?;
    let most = connections_max(plan);
    let options =
        |level: &str| format!("--max-connections {most} --check {level}{}", limits(style, plan));
    match text {
        "echown" => return Ok(own(&program, text, &options("on"))?),
        "echown-off" => return Ok(own(&program, text, &options("off"))?),
        "echown-full" => return Ok(own(&program, text, &options("full"))?),
        _ => {}
    }
    let peers = program.with_file_name("echown-peers");
    if !peers.exists() {
        return Err(Failed::Usage(format!(
            "`{text}` is a word for a peer, and there is no {}: build it with `cargo build \
             --release -p echown-peers`, or write NAME=COMMAND",
            peers.display()
        )));
    }
    // Each on a line of its own, with what it is after it.
    let list = Command::new(&peers).arg("--list").output()?.stdout;
    let list = String::from_utf8_lossy(&list);
    let names: Vec<&str> = list.lines().filter_map(|it| it.split_whitespace().next()).collect();
    if !names.contains(&text) {
        return Err(Failed::Usage(format!(
            "no server `{text}`; there are echown, echown-off, echown-full, {}, and NAME=COMMAND",
            names.join(", ")
        )));
    }
    Ok(Rival { name: text.into(), command: format!("'{}' {text} {{port}}", peers.display()) })
}
