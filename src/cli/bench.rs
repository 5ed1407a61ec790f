//! `echown bench`: asks a server as hard as it can, and verifies every byte.

mod compare;
mod host;
mod mix;

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use echown_bench::{Client, Dialect, Outcome, Plan, Progress, Rival, Target, Verified, Watch};
use echown_fd::escape;

use super::EXIT_USAGE;
use super::output::{Files, Flush, Output, Writers, documents};
use super::reports::Reporting;
use super::stderr_line::{self, stderr_line};
use super::style::StyleName;
use super::units::{at_least_one, duration, ip, measured, number, process, processor, size};
use crate::echo::Signal;
use crate::net::Endpoint;
use crate::ownership::Registry;
use crate::signals::{SignalHandler, Signals};

/// Bytes of a frame that say whose it is and which.
const FRAME_MIN: usize = 16;

/// Below the options: a table, each line of which fits into 80 columns.
const NOTES: &str = "\
Exit codes:
  0    messages came back, each as it was sent, whatever the figures
  1    wrong bytes came back, no message came back, no connection could be
       made or worked at the end, a server could not be started or ended
       during the run, or it was ended before anything was measured
  2    wrong arguments
  130  a second SIGINT; 143: a second SIGTERM";

/// Asks an echo server as hard as it can, verifies every byte that comes back, and says how fast it was.
///
/// Without an address, our own server is started on a free port, with this program's defaults, and ended
/// afterwards; and unless it is said what to ask, a mix of loads runs for half a minute, with a verdict
/// at the end.
///
/// Which server is faster depends on who asks: an event loop hands over many messages at once, threads
/// that wait make the server's threads wait for theirs. So both kinds of client are here, and every
/// figure names its own.
///
/// At a --rate, a latency counts from when the message was due, not from when it could be sent: a server
/// that stalls has all that was due meanwhile on its account.
///
/// SIGINT ends it early, and the figures until then are shown; a second one stops at once. A server that
/// was started here ends with it, also when this program is killed.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, args_override_self = true, after_long_help = NOTES)]
pub(super) struct BenchArguments {
    #[command(subcommand)]
    command: Option<BenchCommand>,

    /// Where the server listens: ADDRESS:PORT, [IPv6]:PORT, PORT (on this machine) or unix:PATH.
    #[arg(value_name = "ADDR")]
    address: Option<Endpoint>,

    #[command(flatten)]
    shape: Shape,

    /// The server's process, for what it costs there: processor time, memory, threads. It has to run on
    /// this machine; known by itself for a server that is started here.
    #[arg(long, value_name = "PID", value_parser = process)]
    pid: Option<i32>,

    #[command(flatten)]
    form: Form,

    /// Draw the latencies to this file, as SVG. Whether that can be done is tried at the start.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

#[derive(Subcommand)]
enum BenchCommand {
    Compare(compare::CompareArguments),
}

/// What is asked.
#[derive(Args)]
#[command(next_help_heading = "Load")]
struct Shape {
    /// Connections that ask at the same time. [default: 64]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    connections: Option<NonZeroUsize>,

    /// Bytes of a message, as in `16KiB`. [default: 64]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    size: Option<usize>,

    /// How long is measured. [default: 10s, in a comparison 3s]
    #[arg(long, value_name = "DURATION", value_parser = measured)]
    duration: Option<Duration>,

    /// How long it runs before that. [default: 1s, in a comparison 500ms, and a millisecond more for each
    /// connection: a thread for each takes time to start]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    warmup: Option<Duration>,

    /// Ask for so many messages a second, all connections together, whether or not they are answered;
    /// threads of the blocking client ask as soon as the one before is. Unless given, each connection asks
    /// again when it has been answered.
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,

    /// Who asks. [default: event]
    #[arg(long, value_name = "CLIENT")]
    client: Option<ClientName>,

    /// Event loops of the client, each on a thread of its own; not more than connections. [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    client_threads: Option<NonZeroUsize>,

    /// Messages under way at a time on each connection. [default: 1]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pipeline: Option<NonZeroUsize>,

    /// Connect, ask once, close, and again.
    #[arg(long)]
    churn: bool,

    /// Hold so many connections open besides; each is asked once before and once after. [default: 0]
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    idle: Option<usize>,

    /// What the server understands.
    #[arg(long, value_name = "STYLE", default_value_t = StyleName::Echo)]
    style: StyleName,

    /// Connect from these addresses in turn; may be given several times. One address has about 28,000
    /// connections to one server. Unless given, the system's choice; to 127.0.0.1, as many addresses of
    /// the loopback as are needed.
    #[arg(long, value_name = "ADDR", value_parser = ip)]
    source: Vec<std::net::IpAddr>,

    /// Run the client on these processors only, as in `0` or `0,2`; not a server that is started here.
    #[arg(long, value_name = "CPUS", value_delimiter = ',', value_parser = processor)]
    pin_client: Vec<usize>,

    /// Run a server that is started here on these processors only.
    #[arg(long, value_name = "CPUS", value_delimiter = ',', value_parser = processor)]
    pin_server: Vec<usize>,
}

/// How it is told.
#[derive(Args)]
struct Form {
    /// For people or for programs, one JSON object a line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FormName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormName {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientName {
    /// An event loop with all connections.
    Event,
    /// A thread for each connection.
    Blocking,
}

/// A number of messages a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (1e-3..=1e9).contains(&rate) => Ok(rate),
        _ => Err("expected a number of messages a second, more than 0, such as `5000`".into()),
    }
}

impl Shape {
    /// Has the client run where it is to run. Where servers are to run that are started afterwards: what
    /// is started has its starter's processors.
    fn pin(&self) -> Result<Option<Vec<usize>>, Failed> {
        let said = Some(self.pin_server.clone()).filter(|it| !it.is_empty());
        if self.pin_client.is_empty() {
            return Ok(said);
        }
        let before = echown_bench::pin_to(&self.pin_client).map_err(|error| {
            let processors = &self.pin_client;
            let each: Vec<String> = processors.iter().map(ToString::to_string).collect();
            Failed::Usage(format!(
                "--pin-client: cannot run on the processors {}: {error}",
                each.join(",")
            ))
        })?;
        Ok(said.or(Some(before)))
    }

    /// Whether it was said what to ask.
    fn is_shaped(&self) -> bool {
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

    /// The same, or how long.
    fn is_said(&self) -> bool {
        self.is_shaped() || self.duration.is_some() || self.warmup.is_some()
    }

    /// Changes a plan by what was said.
    fn apply(&self, plan: &mut Plan) -> Result<(), String> {
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
            (Some(ClientName::Blocking), _) => Client::Blocking,
            (None, Client::Blocking) => Client::Blocking,
            (Some(ClientName::Event) | None, _) => Client::Event { threads },
        };
        plan.dialect = match self.style {
            StyleName::Echo | StyleName::Callback => Dialect::Bytes,
            StyleName::Staged => Dialect::Lines,
            StyleName::Broadcast => Dialect::Frames,
        };
        if self.client_threads.is_some() && plan.client == Client::Blocking {
            return Err("--client-threads is for --client event".into());
        }
        if plan.rate.is_some() && plan.pipeline > 1 {
            return Err("at a --rate it is the rate that says how many are under way: --pipeline \
                        has no use"
                .into());
        }
        if plan.churn && plan.pipeline > 1 {
            return Err(
                "with --churn a connection is for one message: --pipeline has no use".into()
            );
        }
        if plan.dialect == Dialect::Frames {
            if plan.message_bytes < FRAME_MIN {
                return Err(format!("a frame says whose it is: --size {FRAME_MIN} or more"));
            }
            if plan.churn || plan.client == Client::Blocking || plan.idle > 0 {
                return Err("--style broadcast goes with the event client alone, without --churn \
                            and --idle"
                    .into());
            }
        }
        Ok(())
    }
}

pub(super) fn run(arguments: &BenchArguments) -> ExitCode {
    let output = Arc::new(Output::new(&Files::default(), &Arc::new(Reporting::plain()), false));
    let reports = Arc::clone(&output);
    let registry = Registry::builder().sink(move |report| reports.report(report)).build();
    super::serve::declare_inherited(&registry);
    let code = match output.open(&registry) {
        Err(message) => fail(&message, 1),
        Ok(()) => match &arguments.command {
            Some(BenchCommand::Compare(arguments)) => {
                watched(&registry, &output, |watch| compare::run(arguments, &registry, watch))
            }
            None => watched(&registry, &output, |watch| bench(arguments, &registry, watch)),
        },
    };
    let writers = output.close();
    let is_over = writers == Writers::Ended;
    let verdict = if is_over { registry.finish() } else { registry.verdict() };
    output.write_last(&registry);
    if verdict.exit_code == 0 { code } else { ExitCode::from(verdict.exit_code) }
}

/// Why nothing was measured.
enum Failed {
    Usage(String),
    Otherwise(String),
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Otherwise(error.to_string())
    }
}

/// Runs it, so that signals end it early.
fn watched(
    registry: &Registry,
    output: &Arc<Output>,
    what: impl FnOnce(&Watch) -> Result<ExitCode, Failed>,
) -> ExitCode {
    echown_bench::raise_descriptors();
    let watch = Watch::default();
    let stop = Arc::new(Stop { watch: watch.clone(), output: Arc::clone(output) });
    let signals = match Signals::install(registry, stop) {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot watch for signals: {error}"), 1),
    };
    let done = what(&watch);
    signals.stop();
    match done {
        Ok(code) => code,
        Err(Failed::Usage(message)) => fail(&message, EXIT_USAGE),
        Err(Failed::Otherwise(message)) => fail(&message, 1),
    }
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Arguments of the user may be a part of it.
    stderr_line(format_args!("echown: {}", escape::text(message)));
    ExitCode::from(code)
}

/// What signals do to a run.
struct Stop {
    watch: Watch,
    output: Arc<Output>,
}

impl SignalHandler for Stop {
    fn drain(&self) {
        self.watch.stop();
    }

    fn abort(&self) {
        self.watch.stop();
    }

    fn show_custody(&self, registry: &Registry) {
        stderr_line(registry.snapshot());
    }

    fn reopen_files(&self) {}

    fn before_exit(&self) {
        self.watch.kill_servers();
        self.output.flush();
    }

    fn drain_began(&self, _: Signal) {
        self.watch.stop();
    }
}

fn bench(
    arguments: &BenchArguments,
    registry: &Registry,
    watch: &Watch,
) -> Result<ExitCode, Failed> {
    let shape = &arguments.shape;
    let mut plan = Plan::default();
    shape.apply(&mut plan).map_err(Failed::Usage)?;
    if let Some(path) = &arguments.plot {
        // Found out now, not after the last load.
        documents::attempt(PLOT, path).map_err(Failed::Otherwise)?;
    }
    let processors = shape.pin()?;
    let processors = processors.as_deref();
    let mut line = StatusLine::default();
    let Some(endpoint) = &arguments.address else {
        if arguments.pid.is_some() {
            let text = "--pid is for a server that runs already: say where it listens";
            return Err(Failed::Usage(text.into()));
        }
        if !shape.is_said() {
            return mix::run(arguments, registry, processors, watch);
        }
        let most = connections_max(&plan);
        let server = own_server(shape.style, most, &plan)?;
        let host = host::of(registry);
        let outcome = server.bench(&host, &plan, processors, watch, |what| line.show(what))?;
        line.clear();
        return tell(arguments, registry, watch, &[("echown".into(), outcome)]);
    };
    if !shape.pin_server.is_empty() {
        let text = "--pin-server is for a server that is started here";
        return Err(Failed::Usage(text.into()));
    }
    let target =
        resolve(endpoint).map_err(|error| Failed::Otherwise(format!("{endpoint}: {error}")))?;
    let host = host::of(registry);
    let outcome = echown_bench::run(&host, &plan, &target, arguments.pid, watch, |what| {
        line.show(what);
    })?;
    line.clear();
    tell(arguments, registry, watch, &[(endpoint.to_string(), outcome)])
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

/// This very program as a server, which sets this load no limits.
fn own_server(style: StyleName, connections: usize, plan: &Plan) -> io::Result<Rival> {
    let options = format!("--max-connections {connections}{}", limits(style, plan));
    own(&this_program()?, "echown", &options)
}

/// Where this program is, for starting it as a server.
fn this_program() -> io::Result<PathBuf> {
    std::env::current_exe().map_err(|error| {
        let text = format!(
            "cannot start a server: the path of this program is unknown ({error}); mount /proc, or \
             give the address of a server that runs"
        );
        io::Error::new(error.kind(), text)
    })
}

/// How many connections a server is to take for it.
fn connections_max(plan: &Plan) -> usize {
    // One that was closed here is still being closed there while the next one comes.
    plan.connections_in_all() * if plan.churn { 4 } else { 1 } + 64
}

/// The style, and its limits where they are for clients that ask less.
fn limits(style: StyleName, plan: &Plan) -> String {
    let bytes = plan.message_bytes;
    match style {
        StyleName::Echo | StyleName::Callback => format!(" --style {style}"),
        // An idle connection is one that has not asked for long.
        StyleName::Staged => {
            format!(" --style {style} --request-timeout 1h --max-request {}", bytes.max(65_536))
        }
        StyleName::Broadcast => format!(" --style {style} --max-frame {}", bytes.max(1 << 24)),
    }
}

fn own(program: &Path, name: &str, options: &str) -> io::Result<Rival> {
    let Some(program) = program.to_str().filter(|path| !path.contains('\'')) else {
        let text = format!("{}: not a path that a shell can be told", escape::path(program));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    Ok(Rival {
        name: name.into(),
        command: format!("'{program}' serve --listen 127.0.0.1:{{port}} {options}"),
    })
}

/// Shows figures on standard output, for as long as its reader takes or until this is stopped.
fn show(text: &str, watch: &Watch) -> io::Result<()> {
    stderr_line::write_stdout(text.as_bytes(), || watch.is_stopped())
}

fn tell(
    arguments: &BenchArguments,
    registry: &Registry,
    watch: &Watch,
    outcomes: &[(String, Outcome)],
) -> Result<ExitCode, Failed> {
    for (_, outcome) in outcomes {
        match arguments.form.format {
            FormName::Text => show(&outcome.to_string(), watch)?,
            FormName::Json => show(&(outcome.to_json() + "\n"), watch)?,
        }
    }
    finish(arguments, registry, outcomes)
}

/// Draws, and says what is no success.
fn finish(
    arguments: &BenchArguments,
    registry: &Registry,
    outcomes: &[(String, Outcome)],
) -> Result<ExitCode, Failed> {
    let mut code = ExitCode::SUCCESS;
    for failure in outcomes.iter().filter_map(|(name, outcome)| outcome.failure(name)) {
        stderr_line(format_args!("echown: {failure}"));
        code = ExitCode::FAILURE;
    }
    let has_something = outcomes.iter().any(|(_, outcome)| outcome.messages > 0);
    if let Some(path) = arguments.plot.as_ref().filter(|_| has_something) {
        draw(registry, path, outcomes)?;
    }
    Ok(code)
}

/// What messages call it.
const PLOT: &str = "the plot";

fn draw(registry: &Registry, path: &Path, outcomes: &[(String, Outcome)]) -> Result<(), Failed> {
    let named: Vec<(String, &Outcome)> = outcomes
        .iter()
        .map(|(name, outcome)| match outcome.verified {
            Verified::Wrong => (format!("{name} (wrong bytes came back)"), outcome),
            Verified::Nothing => (format!("{name} (nothing verified)"), outcome),
            _ => (name.clone(), outcome),
        })
        .collect();
    let failed = |error: io::Error| {
        Failed::Otherwise(format!("cannot draw {}: {error}", escape::path(path)))
    };
    let svg = echown_bench::plot(&named).map_err(failed)?;
    documents::write(registry, PLOT, path, &svg).map_err(Failed::Otherwise)
}

/// What goes on, on a terminal: one line that is written over and over. Elsewhere only what takes longer
/// than it should.
#[derive(Default)]
struct StatusLine {
    is_shown: bool,
    /// When it began to wait.
    waiting: Option<Instant>,
    is_told: bool,
}

impl StatusLine {
    /// After so long a wait is worth a line.
    const PATIENCE: Duration = Duration::from_secs(2);

    fn show(&mut self, what: Progress<'_>) {
        let (Progress::Waiting(text) | Progress::Running(text)) = what;
        // The path of a Unix socket may be a part of it.
        let text = escape::text(text);
        if io::stderr().is_terminal() {
            stderr_line::write(format!("\r\x1b[2K{text}").into_bytes());
            self.is_shown = true;
        } else if matches!(what, Progress::Running(_)) {
            (self.waiting, self.is_told) = (None, false);
        } else if !self.is_told
            && self.waiting.get_or_insert_with(Instant::now).elapsed() >= StatusLine::PATIENCE
        {
            stderr_line(format_args!("echown: {text}"));
            self.is_told = true;
        }
    }

    fn clear(&mut self) {
        if self.is_shown {
            stderr_line::write(b"\r\x1b[2K".to_vec());
            // On the same terminal figures follow, by another way.
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
