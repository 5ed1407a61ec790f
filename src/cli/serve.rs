//! The subcommand `echown serve`: the echo server.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::TypedValueParser;

use super::chaos::ChaosArguments;
use super::log;
use super::log_arguments::{LogArguments, OutputFormat};
use super::output::{Files, Output, Writers, documents};
use super::record::{RecordArguments, Recorder, Recording};
use super::reports::{ReportArguments, Reporting};
use super::status_arguments::StatusArguments;
use super::stderr_line::stderr_line;
use super::style::{StyleArguments, StyleName};
use super::units::{at_least_one, duration, one_of, timeout};
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::echo::{SharedHandler, Signal};
use crate::net::KeepAlive;
use crate::ownership::{Level, Policy, Registry, RegistryBuilder, RegistrySummary};
use crate::report::{Plural, Suppression, suppressions};
use crate::server::{
    Control, ControlHandle, CountsReader, Endpoint, Server, ServerSettings, ServerSummary,
};
use crate::signals::{SignalHandler, Signals};

/// Printed below the options: tables whose lines fit into 80 columns.
const NOTES: &str = "\
Durations:
  A number with a unit: 500ms, 5s, 1h30m. 0 means no wait, as in
  --drain-timeout 0s; a timeout for clients must be greater than 0.

Signals:
  SIGINT, SIGTERM  drain: accept queued connections, finish open ones, exit;
                   a second signal stops at once (the same signal from the
                   same sender within 200 ms counts as one, because `timeout`
                   sends it twice)
  SIGQUIT          print the custody table, abort all connections, exit
  SIGUSR1          print the custody table (owner, age and origin of each
                   descriptor), why connections ended, and the recorded
                   references, if the style records them
  SIGHUP           reopen the output files
  SIGINT, SIGQUIT and SIGHUP stay ignored if the parent process ignores them,
  as a shell does for background jobs and `nohup` does for SIGHUP. SIGTERM and
  SIGUSR1 are always handled, and no signal stays blocked. A write beyond the
  file size limit (`ulimit -f`) fails like a write to a full disk.

Outputs: neither clients nor signals wait for an output. If an output stalls
(a pipe that is not read, a terminal stopped with ^S), lines that do not fit
its queue are dropped and counted: in the output itself, once it continues,
and in the summary. At exit a stalled output gets 2 s.

Exit codes:
  0    drained
  1    failed to start (port in use, no thread, an output that cannot be
       written), or failed to write an output at exit
  2    invalid arguments, suppressions or baseline
  23   drained, with a finding whose policy is `fail`
  130  stopped by a second SIGINT
  143  stopped by a second SIGTERM";

/// Echo bytes (RFC 862) until SIGINT or SIGTERM.
///
/// Each connection is a task on its own thread, and the task owns the socket. A client that resets,
/// stalls or floods its connection ends only its own task. A client that shuts down its sending side
/// gets back everything that it sent, and then end of file.
#[derive(Args)]
// The last value wins: scripts can append arguments.
#[command(args_override_self = true, after_long_help = NOTES)]
pub(super) struct ServeArguments {
    /// The echo protocol and the way connections are handled.
    #[arg(long, value_name = "STYLE", default_value_t = StyleName::Echo)]
    style: StyleName,

    /// Address to listen on: ADDRESS:PORT, [IPv6]:PORT, PORT (on 127.0.0.1), :PORT (all addresses, IPv6
    /// and IPv4) or unix:PATH; repeatable. ADDRESS is an IP address or a host name; a link-local address
    /// needs its interface, as in `[fe80::1%eth0]:3000`. With port 0 the system chooses a free port, and
    /// the line `listening on ADDR` names it. A stale socket file of a killed server is replaced; one in
    /// use is an error. The default port depends on the style: 8000 for `broadcast`.
    /// [default: 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<Endpoint>,

    /// Acceptor threads per address, each with its own accept queue; for more connections per second
    /// than one thread can accept.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    acceptors: NonZeroUsize,

    /// Write the summary to this file as JSON, in addition to the line on standard error. Checked at
    /// startup; an existing file is replaced at exit.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,

    // Groups with a heading come last, because clap prints all following options under it.
    #[command(flatten)]
    styles: StyleArguments,

    #[command(flatten)]
    limits: LimitArguments,

    #[command(flatten)]
    checker: CheckArguments,

    #[command(flatten)]
    reports: ReportArguments,

    #[command(flatten)]
    record: RecordArguments,

    #[command(flatten)]
    chaos: ChaosArguments,

    #[command(flatten)]
    status: StatusArguments,

    #[command(flatten)]
    log: LogArguments,
}

/// Options of limits.
#[derive(Args)]
#[command(next_help_heading = "Limits")]
struct LimitArguments {
    /// Maximum number of open connections. A further connection is accepted, closed at once and
    /// counted as `refused`. Each connection needs a thread, a descriptor and memory. If system
    /// limits allow fewer, the value is lowered, with a warning. [default: 1024, or what fits]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_connections: Option<NonZeroUsize>,

    /// Maximum number of open connections per client IP address. Off by default: many clients may
    /// share an address.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_per_ip: Option<NonZeroUsize>,

    /// Close connections that receive nothing for this long, as in `5m`. Off by default: idle clients
    /// are legitimate.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    idle_timeout: Option<Duration>,

    /// Disconnect clients that stop reading for this long; each would otherwise occupy a thread.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    write_timeout: Duration,

    /// Disable TCP keepalive. By default, a TCP client that is idle for 60 s is probed every 10 s and
    /// disconnected after 6 unanswered probes; it would otherwise occupy a thread after a power or
    /// network failure.
    #[arg(long)]
    no_keepalive: bool,

    /// Time that connections have to finish after SIGINT or SIGTERM before they are aborted. Idle
    /// connections are closed at once; 0s aborts all.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,
}

/// Options of the checker.
#[derive(Args)]
#[command(next_help_heading = "Checker")]
struct CheckArguments {
    /// Level of the ownership checker: `off` (no checks, no reports), `on`, or `full` (adds backtraces
    /// and checks the identity of a descriptor at every operation).
    #[arg(long, value_name = "LEVEL", default_value_t = Level::On,
        value_parser = one_of::<Level>(&["off", "on", "full"]))]
    ownership: Level,

    /// Policy for leaks: `ignore`, `warn`, `fail` (exit code 23) or `abort`.
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Warn, value_parser = policy())]
    on_leak: Policy,

    /// Policy for other violations; same values.
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Warn, value_parser = policy())]
    on_violation: Policy,

    /// Leaks that are not reported: a TOML file of `[[suppress]]` tables with a `reason` and at least
    /// one of `kind` (`socket` for all sockets), `path` (a part of a path or address) and `site` (a
    /// part of file:line:column). At exit, used suppressions are listed, and unused ones cause a warning.
    #[arg(long, value_name = "FILE")]
    suppressions: Option<PathBuf>,
}

fn policy() -> impl TypedValueParser<Value = Policy> {
    one_of(&["ignore", "warn", "fail", "abort"])
}

/// The shortest timeout of a socket; the kernel takes zero for "no timeout".
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

pub(super) fn run(arguments: &ServeArguments) -> ExitCode {
    let (known, reporting) = match arguments.prepare() {
        Ok((known, reporting)) => (known, Arc::new(reporting)),
        Err(message) => return fail(message, EXIT_USAGE),
    };
    let checker = &arguments.checker;
    let may_abort = [checker.on_leak, checker.on_violation].contains(&Policy::Abort);
    let trace = arguments.styles.trace().file();
    let files = Files { log: Some(&arguments.log), events: trace };
    let output = Arc::new(Output::new(&files, &reporting, may_abort));
    log::init(&arguments.log, &output);
    let reports = Arc::clone(&output);
    let settings = Registry::builder()
        .level(checker.ownership)
        .on_leak(checker.on_leak)
        .on_violation(checker.on_violation)
        .sink(move |report| reports.report(report));
    let settings = Reporting::apply_baseline(&reporting, settings);
    let settings = arguments.chaos.inject_faults(settings);
    let registry = known.into_iter().fold(settings, RegistryBuilder::suppress).build();
    let _entered = registry.enter();
    declare_inherited(&registry);
    let mut recorder = None;
    let served = output
        .open()
        .and_then(|()| reporting.check_writable())
        .and_then(|()| serve(arguments, &registry, &output, &mut recorder));
    // The writers own their files, so they end before the registry checks for open resources.
    let writers = output.close();
    let recording = recorder.and_then(Recorder::stop);
    let code = match served {
        Ok(mut summary) => {
            // The exit has already waited for tasks that do not end.
            let is_over = summary.stuck.is_empty() && writers == Writers::Ended;
            let registry_summary = if is_over { registry.finish() } else { registry.summary() };
            summary.set_final(&registry_summary, output.dropped());
            print_summary(&summary, &registry_summary);
            let summarized = write_summary(arguments, &summary);
            match summarized.and_then(|()| reporting.finish()) {
                Ok(()) => ExitCode::from(registry_summary.exit_code),
                Err(message) => fail(message, EXIT_FAILURE),
            }
        }
        Err(message) => fail(message, EXIT_FAILURE),
    };
    recording.into_iter().for_each(Recording::finish);
    output.write_last();
    code
}

/// The name of the document in messages.
const SUMMARY: &str = "the summary";

fn write_summary(arguments: &ServeArguments, summary: &ServerSummary) -> Result<(), String> {
    let Some(path) = &arguments.summary else { return Ok(()) };
    documents::write(SUMMARY, path, &(summary.to_json() + "\n"))
}

fn print_summary(summary: &ServerSummary, registry_summary: &RegistrySummary) {
    stderr_line(summary);
    for (reason, times) in &registry_summary.used_suppressions {
        stderr_line(format_args!("suppressed {}: {reason}", Plural(*times, "time")));
    }
    for unused in &registry_summary.unused_suppressions {
        tracing::warn!("unused suppression, it may be out of date: {unused}");
    }
    if !registry_summary.still_open.is_empty() || !registry_summary.unjoined_children.is_empty() {
        tracing::error!("at exit: {registry_summary}");
    }
}

/// Declares the descriptors that were open at startup: the standard streams, and others that the parent
/// left open.
pub(super) fn declare_inherited(registry: &Registry) {
    for number in echown_fd::fd::open_numbers() {
        let name = match number {
            0 => "standard input",
            1 => "standard output",
            2 => "standard error",
            _ => "inherited",
        };
        registry.declare_external(number, name, "opened by the parent process");
    }
}

fn serve(
    arguments: &ServeArguments,
    registry: &Registry,
    output: &Arc<Output>,
    recorder: &mut Option<Recorder>,
) -> Result<ServerSummary, String> {
    if let Some(path) = &arguments.summary {
        // Checked now, not after a week of serving.
        documents::attempt(SUMMARY, path)?;
    }
    let style = arguments.chaos.wrap(arguments.styles.build(arguments.style, output));
    let endpoints = arguments.endpoints();
    let settings = arguments.settings();
    let reserved = arguments.status.reserved();
    let server =
        Server::bind_reserving(registry, &endpoints, settings, Arc::clone(&style), reserved)
            .map_err(|error| error.to_string())?;
    let status = arguments.status.bind(registry, &server)?;
    let handler = Arc::new(ServeSignals {
        format: arguments.log.log_format,
        output: Arc::clone(output),
        style: Arc::clone(&style),
        control: server.control(),
        counts: server.counts_reader(),
    });
    let signals = Signals::install(registry, handler)
        .map_err(|error| format!("failed to watch for signals: {error}"))?;
    // From here on the server starts, so an old recording may be replaced.
    *recorder = arguments.record.start(registry)?;
    output.begin()?;
    log_limits(arguments, &server);
    if let Some(lost) = echown_limits::without_proc() {
        tracing::warn!("{lost}");
    }
    // All descriptors of the server itself are open now, so a reader of these lines can count them.
    for address in server.addresses() {
        stderr_line(format_args!("listening on {address}"));
    }
    let status = status.map(|status| status.start()).transpose()?;
    if let Some(status) = &status {
        stderr_line(format_args!("status on {}", status.url()));
    }
    let served = server.serve_then(|| {
        // Last, so that viewers see the drain to its end.
        if let Some(status) = status {
            status.stop();
        }
        // The watcher may still have a signal to log, if the drain was quick.
        signals.stop();
    });
    served.map_err(|error| error.to_string())
}

impl ServeArguments {
    /// Checks the options that depend on each other, and reads the suppressions and the baseline.
    ///
    /// # Errors
    /// The message for the user.
    fn prepare(&self) -> Result<(Vec<Suppression>, Reporting), String> {
        let level = self.checker.ownership;
        self.chaos.check(level)?;
        self.styles.check(self.style)?;
        self.styles.check_level(level)?;
        let known = self.checker.suppressions.as_deref().map(suppressions::read).transpose();
        let known = known.map_err(|error| error.to_string())?.unwrap_or_default();
        let reporting = self.reports.prepare()?;
        documents::distinct(self.outputs())?;
        Ok((known, reporting))
    }

    /// The output files, by option.
    fn outputs(&self) -> impl Iterator<Item = (&'static str, Option<&Path>)> {
        let own = [
            ("--log-file", self.log.log_file.as_deref()),
            ("--trace-events", self.styles.trace().file()),
            ("--summary", self.summary.as_deref()),
            ("--record", self.record.file()),
        ];
        own.into_iter().chain(self.reports.outputs())
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        match &self.listen[..] {
            [] => vec![self.style.endpoint()],
            given => given.to_vec(),
        }
    }

    fn max_connections(&self) -> usize {
        let given = self.limits.max_connections.map(NonZeroUsize::get);
        given.unwrap_or_else(|| self.style.max_connections())
    }

    fn settings(&self) -> ServerSettings {
        let limits = &self.limits;
        ServerSettings {
            max_connections: self.max_connections(),
            max_per_ip: limits.max_per_ip,
            idle_timeout: limits.idle_timeout.map(|idle| idle.max(TIMEOUT_MIN)),
            write_timeout: Some(limits.write_timeout.max(TIMEOUT_MIN)),
            keep_alive: (!limits.no_keepalive).then_some(KeepAlive::DEFAULT),
            drain_timeout: limits.drain_timeout,
            acceptors: self.acceptors,
            ..ServerSettings::default()
        }
    }
}

/// The signal handler of the server.
struct ServeSignals {
    format: OutputFormat,
    output: Arc<Output>,
    style: SharedHandler,
    control: ControlHandle,
    counts: CountsReader,
}

impl SignalHandler for ServeSignals {
    fn drain(&self) {
        self.control.send(Control::Drain);
    }

    fn abort(&self) {
        self.control.send(Control::Abort);
    }

    fn show_custody(&self, registry: &Registry) {
        let custody = registry.snapshot();
        let references = registry.graph();
        let connections = self.counts.read();
        let has_references = !references.edges.is_empty();
        match self.format {
            OutputFormat::Json => {
                stderr_line(custody.to_json());
                stderr_line(connections.to_json());
                if has_references {
                    stderr_line(references.to_json());
                }
            }
            OutputFormat::Text => {
                stderr_line(custody);
                stderr_line(connections);
                if has_references {
                    stderr_line(format_args!("references: {}", references.to_mermaid()));
                }
            }
        }
    }

    fn reopen_files(&self) {
        self.output.reopen();
    }

    fn drain_began(&self, signal: Signal) {
        self.style.signal_received(signal);
    }

    fn before_exit(&self) {
        self.output.flush();
    }
}

/// Logs that fewer connections fit than requested, and how to change that.
fn log_limits(arguments: &ServeArguments, server: &Server) {
    let requested = arguments.max_connections();
    let fit = server.max_connections();
    if fit == requested {
        return;
    }
    let why = server.limiting_factors().collect::<Vec<_>>().join("; and ");
    if arguments.limits.max_connections.is_some() {
        tracing::warn!("--max-connections {requested} is lowered to {fit}: {why}");
    } else {
        let verb = if fit == 1 { "fits" } else { "fit" };
        let fits = format!("{} {verb}", Plural(fit as u64, "connection"));
        tracing::info!("{}, fewer than the default of {requested}: {why}", fits);
    }
}
