//! `echown bench`: the load generator as a command. Arguments in, library call, exit code out.

mod compare;
mod host;
mod mix;
mod results;

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use echown_bench::{
    ClientKind, LoadPlan, LoadProgress, LoadResult, LoadStopHandle, ServerCommand, Target,
    Verified, WireProtocol,
};
use echown_fd::escape;

use super::EXIT_USAGE;
use super::log_arguments::OutputFormat;
use super::output::{Files, Flush, Output, Writers, documents};
use super::reports::Reporting;
use super::stderr_line::{self, Line, stderr_line};
use super::style::StyleName;
use super::units::{
    at_least_one, duration, ip, number, positive_duration, process, processor, size,
};
use crate::echo::Signal;
use crate::net::Endpoint;
use crate::ownership::Registry;
use crate::signals::{SignalHandler, Signals};
use results::{ResultArguments, Results};

/// Bytes of a frame for its sender and number.
const FRAME_MIN: usize = 16;

/// Below the options: a table, each line of which fits into 80 columns.
const NOTES: &str = "\
Exit codes:
  0    replies arrived and every byte was correct, whatever the figures
  1    wrong bytes, no reply, no connection could be established or none
       worked at the end, a server could not be started or exited during
       the run, or the run was stopped before anything was measured
  2    wrong arguments
  130  a second SIGINT; 143: a second SIGTERM";

/// Measure the throughput and latency of an echo server, and verify every byte that comes back.
///
/// Without an address, `bench` starts the server of this program on a free port, with default settings,
/// and stops it afterwards. Without load options too, it runs a mix of loads for half a minute and prints
/// a summary.
///
/// The kind of client decides which of two servers is faster. An event loop delivers many messages at
/// once; blocking threads and the server's threads wait for each other. So there are both kinds, and every
/// result names its client.
///
/// With --rate, latency runs from the scheduled send time: if the server stalls, the delay of all messages
/// that were due meanwhile is counted.
///
/// SIGINT ends the run early and prints the figures until then. A second one exits at once. A server that
/// `bench` started exits with it, even if `bench` is killed.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, args_override_self = true, after_long_help = NOTES)]
pub(super) struct BenchArguments {
    #[command(subcommand)]
    command: Option<BenchCommand>,

    /// The server: ADDRESS:PORT, [IPv6]:PORT, PORT (on this machine) or unix:PATH.
    #[arg(value_name = "ADDR")]
    address: Option<Endpoint>,

    #[command(flatten)]
    load_args: LoadArgs,

    /// The server's process on this machine, to measure its processor time, memory and threads. Detected
    /// automatically for servers that `bench` starts.
    #[arg(long, value_name = "PID", value_parser = process)]
    pid: Option<i32>,

    #[command(flatten)]
    results: ResultArguments,

    /// Plot latency by percentile to this file, as SVG. The file is checked at the start.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Subcommand)]
enum BenchCommand {
    Compare(compare::CompareArguments),
}

/// The load.
#[derive(Args)]
#[command(next_help_heading = "Load")]
struct LoadArgs {
    /// Active connections. [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    connections: Option<NonZeroUsize>,

    /// Message size, such as `16KiB`. [default: 64]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<usize>,

    /// Measured time. [default: 10s, in a comparison 3s]
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    duration: Option<Duration>,

    /// Warm-up before the measured time. [default: 1s, in a comparison 500ms, plus 1ms for each
    /// connection, at most 5s: servers need time to start threads]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warmup: Option<Duration>,

    /// Messages per second, all connections together, whether or not replies arrive (an open loop). A
    /// blocking client sends its next message only after the previous reply. By default, each connection
    /// sends the next message after a reply (a closed loop).
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,

    /// Kind of client. [default: event]
    #[arg(long, value_name = "CLIENT")]
    client: Option<ClientName>,

    /// Event loops of the client, each on its own thread; at most one per connection. [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    client_threads: Option<NonZeroUsize>,

    /// Messages in flight on each connection. [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pipeline: Option<NonZeroUsize>,

    /// Use a new connection for every message.
    #[arg(long)]
    churn: bool,

    /// Idle connections to hold open. Each sends one message before and one after the run. [default: 0]
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    idle: Option<usize>,

    /// Style of the server, which decides the protocol.
    #[arg(long, value_name = "STYLE", default_value_t = StyleName::Echo)]
    style: StyleName,

    /// Connect from these addresses in turn; may be repeated. One address allows about 28,000 connections
    /// to one server. By default the system chooses; to 127.0.0.1, as many loopback addresses as needed
    /// are used.
    #[arg(long, value_name = "ADDR", value_parser = ip)]
    source: Vec<std::net::IpAddr>,

    /// Run the client on these processors only, such as `0` or `0,2`.
    #[arg(long, value_name = "CPUS", value_delimiter = ',', value_parser = processor)]
    pin_client: Vec<usize>,

    /// Run servers that `bench` starts on these processors only.
    #[arg(long, value_name = "CPUS", value_delimiter = ',', value_parser = processor)]
    pin_server: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientName {
    /// Event loops, each with many connections.
    Event,
    /// A thread for each connection.
    Blocking,
}

/// Parses a rate.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1e-3..=1e9).contains(&rate) => Ok(rate),
        _ => Err("expected messages per second, more than 0, such as `5000`".into()),
    }
}

impl LoadArgs {
    /// Pins the client. Returns the processors for servers that are started afterwards, because these
    /// would inherit the client's.
    fn pin(&self) -> Result<Option<Vec<usize>>, BenchError> {
        let for_servers = Some(self.pin_server.clone()).filter(|it| !it.is_empty());
        if self.pin_client.is_empty() {
            return Ok(for_servers);
        }
        let before = echown_bench::pin_to(&self.pin_client).map_err(|error| {
            let processors = &self.pin_client;
            let each: Vec<String> = processors.iter().map(ToString::to_string).collect();
            BenchError::Usage(format!(
                "--pin-client: failed to run on the processors {}: {error}",
                each.join(",")
            ))
        })?;
        Ok(for_servers.or(Some(before)))
    }

    /// Whether there are options that define a load.
    fn has_load(&self) -> bool {
        self.connections.is_some()
            || self.size.is_some()
            || self.rate.is_some()
            || self.client.is_some()
            || self.client_threads.is_some()
            || self.pipeline.is_some()
            || self.idle.is_some()
            || self.churn
            || self.style != StyleName::Echo
    }

    /// Whether there are options that define a load or its duration.
    fn is_customized(&self) -> bool {
        self.has_load() || self.duration.is_some() || self.warmup.is_some()
    }

    /// Changes a plan by the options.
    fn apply(&self, plan: &mut LoadPlan) -> Result<(), String> {
        plan.connections = self.connections.map_or(plan.connections, NonZeroUsize::get);
        plan.message_bytes = self.size.unwrap_or(plan.message_bytes);
        plan.duration = self.duration.unwrap_or(plan.duration);
        plan.warmup = self.warmup.unwrap_or_else(|| plan.warmup_from(plan.warmup));
        plan.rate = self.rate.or(plan.rate);
        plan.pipeline = self.pipeline.map_or(plan.pipeline, NonZeroUsize::get);
        plan.churn |= self.churn;
        plan.idle = self.idle.unwrap_or(plan.idle);
        plan.sources.clone_from(&self.source);
        let threads = self.client_threads.map_or(1, NonZeroUsize::get);
        plan.client = match (self.client, plan.client) {
            (Some(ClientName::Blocking), _) => ClientKind::Blocking,
            (None, ClientKind::Blocking) => ClientKind::Blocking,
            (Some(ClientName::Event) | None, _) => ClientKind::Event { threads },
        };
        plan.protocol = match self.style {
            StyleName::Echo | StyleName::Callback => WireProtocol::Bytes,
            StyleName::Staged => WireProtocol::Lines,
            StyleName::Broadcast => WireProtocol::Frames,
        };
        if self.client_threads.is_some() && plan.client == ClientKind::Blocking {
            return Err("--client-threads needs --client event".into());
        }
        if plan.rate.is_some() && plan.pipeline > 1 {
            return Err(
                "--pipeline cannot be used with --rate: the rate decides how many messages \
                        are in flight"
                    .into(),
            );
        }
        if plan.churn && plan.pipeline > 1 {
            return Err(
                "--pipeline cannot be used with --churn: a connection carries one message".into()
            );
        }
        if plan.protocol == WireProtocol::Frames {
            if plan.message_bytes < FRAME_MIN {
                return Err(format!(
                    "--style broadcast needs --size {FRAME_MIN} or more, for the sender and number of a frame"
                ));
            }
            if plan.churn || plan.client == ClientKind::Blocking || plan.idle > 0 {
                return Err("--style broadcast needs --client event, and does not support --churn or --idle"
                    .into());
            }
        }
        Ok(())
    }
}

pub(super) fn run(arguments: &BenchArguments) -> ExitCode {
    let output =
        Arc::new(Output::new(&Files::default(), &Arc::new(Reporting::text_to_stderr()), false));
    let reports = Arc::clone(&output);
    let registry = Registry::builder().sink(move |report| reports.report(report)).build();
    let _entered = registry.enter();
    super::inherited::declare_inherited(&registry);
    let code = match output.open().and_then(|()| output.start()) {
        Err(message) => fail(&message, 1),
        Ok(()) => match &arguments.command {
            Some(BenchCommand::Compare(arguments)) => {
                let results = arguments.results.open([]);
                with_signals(&registry, &output, results, |stop, results| {
                    compare::run(arguments, &registry, stop, results)
                })
            }
            None => {
                let results = arguments.results.open([("--plot", arguments.plot.as_deref())]);
                with_signals(&registry, &output, results, |stop, results| {
                    bench(arguments, &registry, stop, results)
                })
            }
        },
    };
    let writers = output.close();
    let is_over = writers == Writers::Ended;
    let registry_summary = if is_over { registry.finish() } else { registry.summary() };
    output.write_last();
    if registry_summary.exit_code == 0 { code } else { ExitCode::from(registry_summary.exit_code) }
}

/// Why the command failed.
enum BenchError {
    Usage(String),
    Otherwise(String),
}

impl<E: std::error::Error> From<E> for BenchError {
    fn from(error: E) -> BenchError {
        BenchError::Otherwise(error.to_string())
    }
}

/// Runs the command so that signals end it early.
fn with_signals(
    registry: &Registry,
    output: &Arc<Output>,
    results: Result<Results<'_>, BenchError>,
    what: impl FnOnce(&LoadStopHandle, &mut Results<'_>) -> Result<ExitCode, BenchError>,
) -> ExitCode {
    let mut results = match results {
        Ok(results) => results,
        Err(error) => return fail_by(&error),
    };
    echown_bench::raise_descriptors();
    let stop = LoadStopHandle::default();
    let handler = BenchSignals { stop: stop.clone(), output: Arc::clone(output) };
    let signals = match Signals::install(registry, Arc::new(handler)) {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("failed to install signal handlers: {error}"), 1),
    };
    let done = what(&stop, &mut results);
    // Also after a failure: results may have come before it.
    let written = results.finish();
    signals.stop();
    let done = done.and_then(|code| written.map(|()| code));
    done.unwrap_or_else(|error| fail_by(&error))
}

fn fail_by(error: &BenchError) -> ExitCode {
    match error {
        BenchError::Usage(message) => fail(message, EXIT_USAGE),
        BenchError::Otherwise(message) => fail(message, 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // The message may contain arguments of the user.
    super::fail(escape::text(message), code)
}

/// The signal handlers of a run.
struct BenchSignals {
    stop: LoadStopHandle,
    output: Arc<Output>,
}

impl SignalHandler for BenchSignals {
    fn drain(&self) {
        self.stop.stop();
    }

    fn abort(&self) {
        self.stop.stop();
    }

    fn show_custody(&self, registry: &Registry) {
        stderr_line(Line::custody(&registry.snapshot()));
    }

    fn reopen_files(&self) {}

    fn before_exit(&self) {
        self.stop.kill_servers();
        self.output.flush();
    }

    fn drain_began(&self, _: Signal) {
        self.stop.stop();
    }
}

fn bench(
    arguments: &BenchArguments,
    registry: &Registry,
    stop: &LoadStopHandle,
    results: &mut Results<'_>,
) -> Result<ExitCode, BenchError> {
    let load_args = &arguments.load_args;
    let mut plan = LoadPlan::default();
    load_args.apply(&mut plan).map_err(BenchError::Usage)?;
    if let Some(path) = &arguments.plot {
        // Fail now, not after the last load.
        documents::attempt(PLOT, path).map_err(BenchError::Otherwise)?;
    }
    let processors = load_args.pin()?;
    let processors = processors.as_deref();
    let mut line = StatusLine::default();
    let Some(endpoint) = &arguments.address else {
        if arguments.pid.is_some() {
            let text = "--pid needs the address of a running server";
            return Err(BenchError::Usage(text.into()));
        }
        if !load_args.is_customized() {
            return mix::run(arguments, registry, processors, stop, results);
        }
        let most = connections_max(&plan);
        let server = own_server(load_args.style, most, &plan)?;
        let host = host::of(registry);
        let result = server.bench(&host, &plan, processors, stop, |what| line.show(what))?;
        line.clear();
        return print_result(arguments, stop, results, ("echown".into(), result));
    };
    if !load_args.pin_server.is_empty() {
        let text =
            "--pin-server cannot be used with an address: it is for servers that `bench` starts";
        return Err(BenchError::Usage(text.into()));
    }
    let target =
        resolve(endpoint).map_err(|error| BenchError::Otherwise(format!("{endpoint}: {error}")))?;
    let host = host::of(registry);
    let result = echown_bench::run(&host, &plan, &target, arguments.pid, stop, |what| {
        line.show(what);
    })?;
    line.clear();
    print_result(arguments, stop, results, (endpoint.to_string(), result))
}

/// Looks a name up. Of several addresses the first one is used.
fn resolve(endpoint: &Endpoint) -> io::Result<Target> {
    if let Endpoint::Unix(path) = endpoint {
        return Ok(Target::Unix(path.clone()));
    }
    let first = endpoint.resolve()?.into_iter().next();
    first
        .map(Target::Inet)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// This program as a server, with limits that allow the load.
fn own_server(style: StyleName, connections: usize, plan: &LoadPlan) -> io::Result<ServerCommand> {
    let options = format!("--max-connections {connections}{}", limits(style, plan));
    own(&this_program()?, "echown", &options)
}

/// The path of this program, to start it as a server.
fn this_program() -> io::Result<PathBuf> {
    std::env::current_exe().map_err(|error| {
        let text = format!(
            "failed to start a server: the path of this program is unknown ({error}); mount /proc, \
             or give the address of a running server"
        );
        io::Error::new(error.kind(), text)
    })
}

/// The connections that a server has to allow.
fn connections_max(plan: &LoadPlan) -> usize {
    // The server may still be closing a connection when the next one arrives.
    plan.all_connections() * if plan.churn { 4 } else { 1 } + 64
}

/// Options for the style, and for limits that the load would exceed.
fn limits(style: StyleName, plan: &LoadPlan) -> String {
    let bytes = plan.message_bytes;
    match style {
        StyleName::Echo | StyleName::Callback => format!(" --style {style}"),
        // Idle connections send nothing for a long time.
        StyleName::Staged => {
            format!(" --style {style} --request-timeout 1h --max-request {}", bytes.max(65_536))
        }
        StyleName::Broadcast => format!(" --style {style} --max-frame {}", bytes.max(1 << 24)),
    }
}

fn own(program: &Path, name: &str, options: &str) -> io::Result<ServerCommand> {
    let Some(program) = program.to_str().filter(|path| !path.contains('\'')) else {
        let text = format!("{}: this path cannot be quoted for a shell", escape::path(program));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    Ok(ServerCommand {
        name: name.into(),
        command: format!("'{program}' serve --listen 127.0.0.1:{{port}} {options}"),
    })
}

fn print_result(
    arguments: &BenchArguments,
    stop: &LoadStopHandle,
    results: &mut Results<'_>,
    result: (String, LoadResult),
) -> Result<ExitCode, BenchError> {
    results.show(&format_result(results.format, &result.1), stop)?;
    finish(arguments, &[result])
}

fn format_result(format: OutputFormat, result: &LoadResult) -> String {
    match format {
        OutputFormat::Text => result.to_string(),
        OutputFormat::Json => result.to_json() + "\n",
    }
}

/// Draws the plot, and reports failures.
fn finish(
    arguments: &BenchArguments,
    results: &[(String, LoadResult)],
) -> Result<ExitCode, BenchError> {
    let mut code = ExitCode::SUCCESS;
    for failure in results.iter().filter_map(|(name, result)| result.failure(name)) {
        stderr_line(Line::error(failure));
        code = ExitCode::FAILURE;
    }
    let has_something = results.iter().any(|(_, result)| result.messages > 0);
    if let Some(path) = arguments.plot.as_ref().filter(|_| has_something) {
        draw(path, results)?;
    }
    Ok(code)
}

/// The name of the plot in messages.
const PLOT: &str = "the plot";

fn draw(path: &Path, results: &[(String, LoadResult)]) -> Result<(), BenchError> {
    let named: Vec<(String, &LoadResult)> = results
        .iter()
        .map(|(name, result)| match result.verified {
            Verified::Wrong => (format!("{name} (wrong bytes received)"), result),
            Verified::Nothing => (format!("{name} (nothing verified)"), result),
            _ => (name.clone(), result),
        })
        .collect();
    let failed = |error: io::Error| {
        BenchError::Otherwise(format!("failed to draw {}: {error}", escape::path(path)))
    };
    let svg = echown_bench::plot(&named).map_err(failed)?;
    documents::write(PLOT, path, &svg).map_err(BenchError::Otherwise)
}

/// The progress. On a terminal, one line that is overwritten; elsewhere, only waits that take too long.
#[derive(Default)]
struct StatusLine {
    is_shown: bool,
    /// When the current wait began.
    waiting: Option<Instant>,
    is_reported: bool,
}

impl StatusLine {
    /// The shortest wait that is reported.
    const LONG_WAIT: Duration = Duration::from_secs(2);

    fn show(&mut self, what: LoadProgress<'_>) {
        let (LoadProgress::Waiting(text) | LoadProgress::Running(text)) = what;
        // The text may contain the path of a Unix socket.
        let text = escape::text(text);
        if io::stderr().is_terminal() {
            stderr_line::write(format!("\r\x1b[2K{text}").into_bytes());
            self.is_shown = true;
        } else if matches!(what, LoadProgress::Running(_)) {
            (self.waiting, self.is_reported) = (None, false);
        } else if !self.is_reported
            && self.waiting.get_or_insert_with(Instant::now).elapsed() >= StatusLine::LONG_WAIT
        {
            stderr_line(format_args!("echown: {text}"));
            self.is_reported = true;
        }
    }

    fn clear(&mut self) {
        if self.is_shown {
            stderr_line::write(b"\r\x1b[2K".to_vec());
            // Figures follow on the same terminal, from another writer.
            stderr_line::flush(Flush::Exit);
            self.is_shown = false;
        }
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        self.clear();
    }
}
