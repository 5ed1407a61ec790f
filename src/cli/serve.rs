//! The subcommand `echown serve`: the echo server.

mod addresses;
mod check_arguments;
mod hooks;
mod limit_arguments;
mod notes;
mod parking_arguments;
mod sandbox_arguments;
#[cfg_attr(not(target_os = "linux"), path = "serve/no_service_manager.rs")]
mod service_manager;
mod signals;
mod start;
mod unix_arguments;
#[cfg_attr(not(target_os = "linux"), path = "serve/no_upgrade.rs")]
mod upgrade;
#[cfg(target_os = "linux")]
mod watchdog;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::chaos::ChaosArguments;
use super::environment;
use super::inherited::declare_inherited;
use super::log;
use super::log_arguments::LogArguments;
use super::output::{Files, Output, Writers, documents};
use super::record::{RecordArguments, Recorder, Recording};
use super::reports::{ReportArguments, Reporting};
use super::status_arguments::StatusArguments;
use super::stderr_line::form::set_format;
use super::stderr_line::{Line, stderr_line};
use super::style::{StyleArguments, StyleName};
use super::units::at_least_one;
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::ownership::{Policy, Registry, RegistryBuilder, RegistrySummary};
use crate::report::{Plural, Suppression};
use crate::server::{Endpoint, ServerSettings, ServerSummary};
use check_arguments::CheckArguments;
use limit_arguments::LimitArguments;
use notes::NOTES;
use parking_arguments::ParkingArguments;
use sandbox_arguments::SandboxArguments;
use unix_arguments::UnixArguments;
use upgrade::UpgradeArguments;

/// Echo bytes (RFC 862) until SIGINT or SIGTERM.
///
/// Each connection is a task on its own thread, and the task owns the socket; with --park, connections
/// that wait share a thread. A client that resets, stalls or floods its connection ends only its own. A client that shuts down its sending side
/// gets back everything that it sent, and then end of file.
///
/// It serves TCP and Unix sockets. The UDP service of RFC 862 is not built: it replies to forged
/// addresses, and two of them can echo one datagram without end (CVE-1999-0103).
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
    /// use, a file of another kind and a link are errors. The default port depends on the style: 8000 for
    /// `broadcast`. [default: 127.0.0.1:3000]
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
    parking: ParkingArguments,

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
    unix: UnixArguments,

    #[command(flatten)]
    sandbox: SandboxArguments,

    #[command(flatten)]
    upgrade: UpgradeArguments,

    #[command(flatten)]
    log: LogArguments,

    /// The environment variables that set options.
    #[arg(skip)]
    variables: Vec<String>,
}

pub(super) fn run(arguments: &ServeArguments) -> ExitCode {
    set_format(arguments.log.log_format);
    let (known, reporting) = match arguments.prepare() {
        Ok((known, reporting)) => (known, Arc::new(reporting)),
        Err(message) => return fail(message + &arguments.note_of_variables(), EXIT_USAGE),
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
    let served = start::serve(arguments, &registry, &output, &reporting, &mut recorder);
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
    let headline = summary.to_string().replace('\n', "; ");
    stderr_line(Line::with_data("summary", &headline, summary, || summary.to_json()));
    for (reason, times) in &registry_summary.used_suppressions {
        let text = format_args!("suppressed {}: {reason}", Plural(*times, "time"));
        stderr_line(Line::from(text).event("suppressed").field("times", times));
    }
    for unused in &registry_summary.unused_suppressions {
        tracing::warn!("unused suppression, it may be out of date: {unused}");
    }
    if !registry_summary.still_open.is_empty() || !registry_summary.unjoined_children.is_empty() {
        tracing::error!("at exit: {registry_summary}");
    }
}

impl ServeArguments {
    pub(super) fn with_variables(self, variables: Vec<String>) -> ServeArguments {
        ServeArguments { variables, ..self }
    }

    /// Says which options of an error's message the environment sets.
    fn note_of_variables(&self) -> String {
        match &self.variables[..] {
            [] => String::new(),
            variables => format!("\n{}", environment::note(variables)),
        }
    }

    /// Checks the options that depend on each other, and reads the suppressions and the baseline.
    ///
    /// # Errors
    /// The message for the user.
    fn prepare(&self) -> Result<(Vec<Suppression>, Reporting), String> {
        let level = self.checker.ownership;
        self.chaos.check(level)?;
        self.styles.check(self.style)?;
        self.parking.check(self.style)?;
        self.styles.check_level(level)?;
        let known = self.checker.suppressions.read()?;
        let reporting = self.reports.prepare(self.log.log_format)?;
        documents::distinct(self.outputs())?;
        self.unix.check(self.listen.iter().chain(&self.status.status))?;
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

    fn settings(&self) -> ServerSettings {
        let settings = self.parking.settings(self.limits.settings(self.style));
        ServerSettings { acceptors: self.acceptors, ..settings }
    }
}
