//! `echown bench compare`: compares several servers under the same load.

use std::num::NonZeroUsize;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use echown_bench::compare::{CompareSettings, ServerComparison, compare};
use echown_bench::loads::{self, Metric, NamedLoad};
use echown_bench::{LoadPlan, LoadStopHandle, ServerCommand};
use echown_fd::escape;

use super::results::{ResultArguments, Results};
use super::{BenchError, LoadArgs, StatusLine, connections_max, host, limits, own};
use crate::cli::log_arguments::OutputFormat;
use crate::cli::stderr_line::{Line, stderr_line};
use crate::cli::style::StyleName;
use crate::cli::units::at_least_one;
use crate::ownership::Registry;

/// The default measured time of a round.
const DURATION_DEFAULT: Duration = Duration::from_secs(3);

/// A load with this many connections is run only if it is named.
const MANY: usize = 10_000;

/// The servers of this program by name, with their options.
const OWN: [(&str, &str); 5] = [
    ("echown", "--ownership on"),
    ("echown-off", "--ownership off"),
    ("echown-full", "--ownership full"),
    ("echown-park", "--ownership on --park"),
    ("echown-park-off", "--ownership off --park"),
];

/// The default warm-up.
const WARMUP_DEFAULT: Duration = Duration::from_millis(500);

/// Compare several servers under the same load.
///
/// The servers take turns in rounds (A B C, A B C), and each is started again on a free port for every
/// round, so that changes of the machine affect all of them alike. The table shows the median, the lowest
/// and the highest round, and the ratio to the first server, computed round by round. A round in which
/// another program used the machine is dropped and repeated. If more rounds are disturbed than were
/// requested, the comparison ends.
///
/// A server is NAME=COMMAND, where `{port}` stands for its port, or one word: `echown` (also `echown-off`
/// and `echown-full`, which set the level of the checker), `echown-park` (also `echown-park-off`), which is
/// the same with `--park`, or a small server of this project for comparison, such as `threads`,
/// `threadpool`, `tokio`, `mio` or `c`. These are built with `cargo build --release -p echown-peers`.
#[derive(Args)]
#[command(args_override_self = true)]
pub(super) struct CompareArguments {
    /// The servers. The others are compared with the first.
    #[arg(value_name = "NAME=COMMAND", required = true)]
    servers: Vec<String>,

    /// A load by name; may be repeated: latency-1, throughput-64, blocking, throughput-1k, throughput-10k,
    /// idle, churn, bulk, bulk-16. By default, unless other load options are given, all but `idle` and
    /// `throughput-10k`, which need more than 10,000 descriptors.
    #[arg(long, value_name = "NAME", value_parser = load_names(), hide_possible_values = true)]
    load: Vec<String>,

    /// The number of rounds that count.
    #[arg(long, value_name = "N", default_value = "5", value_parser = at_least_one)]
    rounds: NonZeroUsize,

    #[command(flatten)]
    load_args: LoadArgs,

    #[command(flatten)]
    pub(super) results: ResultArguments,
}

fn load_names() -> PossibleValuesParser {
    PossibleValuesParser::new(loads::all().into_iter().map(|load| load.name))
}

pub(super) fn run(
    arguments: &CompareArguments,
    registry: &Registry,
    stop: &LoadStopHandle,
    results: &mut Results<'_>,
) -> Result<ExitCode, BenchError> {
    let load_args = &arguments.load_args;
    let loads = selected_loads(arguments)?;
    let mut settings = CompareSettings::new(arguments.rounds.get());
    settings.server_processors = load_args.pin()?;
    let host = host::of(registry);
    let mut line = StatusLine::default();
    let mut code = ExitCode::SUCCESS;
    for load in loads {
        let server = |text: &String| server(text, load_args.style, &load.plan);
        let servers: Vec<ServerCommand> =
            arguments.servers.iter().map(server).collect::<Result<_, _>>()?;
        let comparison = compare(&host, &load, &servers, &settings, stop, |what| line.show(what))?;
        line.clear();
        let Some(comparison) = comparison else { break };
        let text = match results.format {
            OutputFormat::Text => comparison.to_string(),
            OutputFormat::Json => comparison.to_json(),
        };
        results.show(&(text + "\n"), stop)?;
        for failure in comparison.servers.iter().filter_map(ServerComparison::failure) {
            stderr_line(Line::error(format_args!("{failure} (load `{}`)", load.name)));
            code = ExitCode::FAILURE;
        }
        if stop.is_stopped() {
            break;
        }
    }
    Ok(code)
}

/// The loads: those selected by name, changed by the options, or a custom one from the options alone.
fn selected_loads(arguments: &CompareArguments) -> Result<Vec<NamedLoad>, BenchError> {
    let load_args = &arguments.load_args;
    let mut loads: Vec<NamedLoad> = if !arguments.load.is_empty() {
        arguments.load.iter().filter_map(|name| loads::by_name(name)).collect()
    } else if load_args.has_load() {
        let metric = if load_args.churn { Metric::Connections } else { Metric::Messages };
        vec![NamedLoad::custom(metric)]
    } else {
        loads::all().into_iter().filter(|it| it.plan.all_connections() < MANY).collect()
    };
    for load in &mut loads {
        load.plan.duration = DURATION_DEFAULT;
        load.plan.warmup = WARMUP_DEFAULT;
        load_args.apply(&mut load.plan).map_err(BenchError::Usage)?;
    }
    Ok(loads)
}

/// Parses a server argument.
fn server(text: &str, style: StyleName, plan: &LoadPlan) -> Result<ServerCommand, BenchError> {
    if let Some((name, command)) = text.split_once('=') {
        if name.is_empty() || !command.contains("{port}") {
            let text = format!("`{text}`: expected NAME=COMMAND with {{port}} in the command");
            return Err(BenchError::Usage(text));
        }
        return Ok(ServerCommand {
            name: escape::text(name).into_owned(),
            command: command.into(),
        });
    }
    let program = super::this_program()?;
    if let Some((_, options)) = OWN.iter().find(|(name, _)| *name == text) {
        if options.contains("--park") && style != StyleName::Echo {
            let text = format!("`{text}` needs --style echo: only these connections can be parked");
            return Err(BenchError::Usage(text));
        }
        let most = connections_max(plan);
        let options = format!("--max-connections {most} {options}{}", limits(style, plan));
        return Ok(own(&program, text, &options)?);
    }
    let peers = program.with_file_name("echown-peers");
    if !peers.exists() {
        return Err(BenchError::Usage(format!(
            "no server `{text}`: {} does not exist; build it with `cargo build --release -p \
             echown-peers`, or give NAME=COMMAND",
            peers.display()
        )));
    }
    // One name per line, followed by its description.
    let list = Command::new(&peers).arg("--list").output()?.stdout;
    let list = String::from_utf8_lossy(&list);
    let names: Vec<&str> = list.lines().filter_map(|it| it.split_whitespace().next()).collect();
    if !names.contains(&text) {
        return Err(BenchError::Usage(format!(
            "no server `{text}`; available: {}, {}, and NAME=COMMAND",
            OWN.map(|(name, _)| name).join(", "),
            names.join(", ")
        )));
    }
    Ok(ServerCommand {
        name: text.into(),
        command: format!("'{}' {text} {{port}}", peers.display()),
    })
}
