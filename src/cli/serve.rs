//! `echown serve`: the echo server.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::log;
use crate::ownership::{Level, Policy, Registry, Verdict};
use crate::server::signals::Signals;
use crate::server::{Server, Settings, Summary};

/// Could not do what was asked: a busy port, no thread.
const EXIT_FAILURE: u8 = 1;

/// Echoes bytes (RFC 862) until SIGINT or SIGTERM.
///
/// Each connection is a task on a thread of its own, and the task owns the socket. Whatever a client
/// does, a reset, silence, a flood, ends that client's task and no other. A client that closes its
/// sending side gets back all that it sent, and then the end.
///
/// On SIGINT or SIGTERM the server stops accepting, finishes what is under way and exits with 0; a
/// second signal stops it at once, with 130 or 143. SIGUSR1 shows on standard error who holds
/// which descriptor, since when, and from which line of code.
///
/// Exit codes: 0 after a drain, 1 when it could not start, 2 for wrong arguments, 23 when the
/// checker found something whose policy is `fail`, 130 and 143 after a second SIGINT or SIGTERM.
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ServeArguments {
    /// Address and port to listen on; may be given several times. Port 0 takes a free one, and the
    /// line `listening on ADDR` says which.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: Vec<String>,

    /// Connections served at a time. One more is accepted, closed at once and counted, so that its
    /// client learns of it. Each costs a thread and a descriptor.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = at_least_one)]
    max_connections: usize,

    /// How long connections may finish after SIGINT or SIGTERM before they are cut. With a unit:
    /// `500ms`, `5s`.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,

    #[command(flatten)]
    check: Check,

    #[command(flatten)]
    log: log::LogArguments,
}

/// What the checker does.
#[derive(Args)]
#[command(next_help_heading = "Checker")]
struct Check {
    /// How much is checked: `off` (no owner checks, no reports), `on`, or `full` (also backtraces,
    /// and each descriptor's identity at every operation).
    #[arg(long, value_name = "LEVEL", default_value_t = Level::On)]
    check: Level,

    /// What a leak leads to: `ignore`, `warn`, `fail` (exit code 23 in the end) or `abort`.
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Warn)]
    on_leak: Policy,

    /// What a broken rule leads to; as for leaks.
    #[arg(long, value_name = "POLICY", default_value_t = Policy::Warn)]
    on_violation: Policy,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a duration carries a unit, as in `500ms` or `5s`"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("a server without connections serves nobody; expected 1 or more".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn run(arguments: &ServeArguments) -> ExitCode {
    arguments.log.init();
    let registry = Registry::builder()
        .level(arguments.check.check)
        .on_leak(arguments.check.on_leak)
        .on_violation(arguments.check.on_violation)
        .build();
    declare_inherited(&registry);
    match serve(arguments, &registry) {
        Ok((summary, verdict)) => {
            eprintln!("{summary}");
            if !verdict.still_open.is_empty() || !verdict.forgotten_children.is_empty() {
                tracing::error!("at the end: {verdict}");
            }
            ExitCode::from(verdict.exit_code)
        }
        Err(message) => {
            eprintln!("echown: {message}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Declares what was open before the program began: the standard streams, and whatever else its
/// parent left open for it.
fn declare_inherited(registry: &Registry) {
    // Without a list of what is open, the custody table says nothing about it.
    for number in crate::sys::fd::open_numbers().unwrap_or_default() {
        let name = match number {
            0 => "standard input",
            1 => "standard output",
            2 => "standard error",
            _ => "inherited",
        };
        registry.declare(number, name, "opened by whoever started the program");
    }
}

fn serve(arguments: &ServeArguments, registry: &Registry) -> Result<(Summary, Verdict), String> {
    let settings = Settings {
        max_connections: arguments.max_connections,
        drain_timeout: arguments.drain_timeout,
        ..Settings::default()
    };
    let json = arguments.log.log_format == log::Format::Json;
    let show = Arc::new(move |registry: &Registry| {
        let custody = registry.snapshot();
        if json {
            eprintln!("{}", custody.to_json());
        } else {
            eprintln!("{custody}");
        }
    });
    let server =
        Server::bind(registry, &arguments.listen, settings).map_err(|error| error.to_string())?;
    let signals = Signals::install(registry, show)
        .map_err(|error| format!("cannot watch for signals: {error}"))?;
    warn_of_limits(arguments.max_connections, &server);
    // All that the server opens for itself is open now: whoever reads these lines may count.
    for address in server.addresses() {
        eprintln!("listening on {address}");
    }
    let summary = server.serve(|| signals.wait()).map_err(|error| error.to_string());
    signals.stop();
    Ok((summary?, registry.finish()))
}

/// Says beforehand what a high limit of connections will run into.
fn warn_of_limits(max_connections: usize, server: &Server) {
    if let Some(descriptors) = crate::sys::limits::descriptors()
        && max_connections as u64 + DESCRIPTORS_RESERVED > descriptors
    {
        tracing::warn!(
            "--max-connections {max_connections} is more than the limit of {descriptors} descriptors \
             allows; raise it with `ulimit -n`, or connections beyond it will be refused"
        );
    }
    if server.thread_limit() < max_connections {
        tracing::warn!(
            "--max-connections {max_connections} is more than this machine carries: {}",
            server.ceiling()
        );
    }
}

/// Descriptors that the server needs for itself: standard streams, signals, listeners and stops.
const DESCRIPTORS_RESERVED: u64 = 16;
