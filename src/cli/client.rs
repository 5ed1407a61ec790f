//! The subcommand `echown client`.

mod broadcast;
mod staged;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::EXIT_USAGE;
use super::log::LogArguments;
use super::output::documents;
use super::reports::{ReportArguments, Reporting};
use super::stderr_line::stderr_line;
use crate::net::Endpoint;
use crate::ownership::Registry;

/// Printed below the options: tables whose lines fit into 80 columns.
const NOTES: &str = "\
Durations:
  Each has its unit, as in 500ms, 5s or 1h30m. 0 means not to wait, as in
  --pause 0s; a timeout is more than 0.

Signals:
  SIGINT, SIGTERM  say nothing more, hang up, hear what is on its way, exit; a
                   second one stops at once
  SIGUSR1          show the custody table

Exit codes:
  0    all was said and has come back, or it was told to stop
  1    a reply was not the request; with --count, one was missing; standard
       output could not be written; nobody listens to a chat, the server has
       closed it, or frames have not come back
  2    wrong arguments, a wrong baseline
  130  stopped by a second SIGINT
  143  stopped by a second SIGTERM";

/// Talks to a server.
///
/// With `--style staged` (also where no style is named) some workers ask for ever: each connects, sends
/// a line, `WORKER-1-1`, compares what comes back, pauses, and sends the next one; where something fails
/// it waits and connects anew. Any server will do that echoes lines.
///
/// With `--style broadcast` it is a chat: each line of standard input goes to everybody as a frame, and
/// each frame that anybody sends, oneself included, comes as a line of standard output. At the end of
/// the input it waits until its own frames have come back, and then hangs up. On a terminal one's own
/// lines are not shown twice. What would command a terminal, is invisible or is no UTF-8 is escaped
/// wherever the output goes (`\x1b`, `\n`, `\u{202e}`, `\\` for a backslash): a frame is one line.
#[derive(Args)]
#[command(args_override_self = true, after_long_help = NOTES)]
pub(super) struct ClientArguments {
    /// What the server does.
    #[arg(long, value_name = "STYLE", default_value = "staged")]
    style: ClientStyle,

    /// Where it listens: ADDRESS:PORT, [IPv6]:PORT, PORT (on this machine) or unix:PATH. Unless given, where a server of this
    /// style listens by itself: 127.0.0.1:3333 for `staged`, 127.0.0.1:8000 for `broadcast`.
    #[arg(value_name = "ADDR")]
    address: Option<Endpoint>,

    #[command(flatten)]
    staged: staged::StagedClientArguments,

    #[command(flatten)]
    broadcast: broadcast::ChatArguments,

    #[command(flatten)]
    reports: ReportArguments,

    #[command(flatten)]
    log: LogArguments,
}

/// What kind of server is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientStyle {
    /// Every line comes back.
    Staged,
    /// Everybody hears everybody.
    Broadcast,
}

pub(super) fn run(arguments: &ClientArguments) -> ExitCode {
    let ClientArguments { style, address, staged, broadcast, reports, log } = arguments;
    let (of_another, other) = match style {
        ClientStyle::Staged => (broadcast.given(), "broadcast"),
        ClientStyle::Broadcast => (staged.given(), "staged"),
    };
    if let Some(option) = of_another {
        stderr_line(format_args!("echown: {option} is for --style {other}"));
        return ExitCode::from(EXIT_USAGE);
    }
    let reporting = match reports.prepare() {
        Ok(reporting) => Arc::new(reporting),
        Err(message) => {
            stderr_line(format_args!("echown: {message}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let outputs =
        [("--log-file", log.log_file.as_deref()), ("--trace-events", staged.trace_file())];
    if let Err(message) = documents::distinct(outputs.into_iter().chain(reports.outputs())) {
        stderr_line(format_args!("echown: {message}"));
        return ExitCode::from(EXIT_USAGE);
    }
    match style {
        ClientStyle::Staged => staged::run(staged, address.as_ref(), log, &reporting),
        ClientStyle::Broadcast => broadcast::run(broadcast, address.as_ref(), log, &reporting),
    }
}

/// Writes what was requested for the end, and returns the exit code.
fn finish(reporting: &Reporting, registry: &Registry, code: ExitCode) -> ExitCode {
    match reporting.finish(registry) {
        Ok(()) => code,
        Err(message) => {
            stderr_line(format_args!("echown: {message}"));
            ExitCode::FAILURE
        }
    }
}
