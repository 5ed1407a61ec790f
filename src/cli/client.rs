//! The subcommand `echown client`.

mod broadcast;
mod staged;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::log_arguments::LogArguments;
use super::output::documents;
use super::record::RecordArguments;
use super::reports::{ReportArguments, Reporting};
use super::stderr_line::form::set_format;
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::net::Endpoint;

/// Printed below the options: tables whose lines fit into 80 columns.
const NOTES: &str = "\
Durations:
  A number with a unit: 500ms, 5s, 1h30m. 0 means no wait, as in --pause 0s;
  a timeout must be greater than 0.

Signals:
  SIGINT, SIGTERM  stop sending, shut down the connection, receive what is
                   still on its way, exit; a second signal stops at once
  SIGUSR1          print the custody table

Exit codes:
  0    everything that was sent came back, or a signal stopped the client
  1    a reply differs from its request; a reply is missing (with --count);
       standard output cannot be written; with --style broadcast also: the
       connection failed, the server closed it, or sent frames did not return
  2    invalid arguments or baseline
  130  stopped by a second SIGINT
  143  stopped by a second SIGTERM";

/// Connect to an echo server or chat.
///
/// With `--style staged` (the default), workers send requests in a loop: each connects, sends a line
/// such as `WORKER-1-1`, compares the reply, pauses, and sends the next one. After a failure it waits
/// and reconnects. Works with any server that echoes lines.
///
/// With `--style broadcast`, a chat client: each line of standard input is sent to all clients as a
/// frame, and each received frame, own ones included, is written as a line to standard output. At end
/// of input the client waits until its own frames have returned, and then disconnects. On a terminal,
/// own lines are not shown twice. Control characters, invisible characters and invalid UTF-8 are
/// escaped in every output (`\x1b`, `\n`, `\u{202e}`, `\\` for a backslash), so a frame is one line.
#[derive(Args)]
#[command(args_override_self = true, after_long_help = NOTES)]
pub(super) struct ClientArguments {
    /// Protocol of the server.
    #[arg(long, value_name = "STYLE", default_value = "staged")]
    style: ClientStyle,

    /// Address of the server: ADDRESS:PORT, [IPv6]:PORT, PORT (on this machine) or unix:PATH. The default
    /// is that of a server of this style: 127.0.0.1:3333 for `staged`, 127.0.0.1:8000 for `broadcast`.
    #[arg(value_name = "ADDR")]
    address: Option<Endpoint>,

    #[command(flatten)]
    staged: staged::StagedClientArguments,

    #[command(flatten)]
    broadcast: broadcast::ChatArguments,

    #[command(flatten)]
    reports: ReportArguments,

    #[command(flatten)]
    record: RecordArguments,

    #[command(flatten)]
    log: LogArguments,
}

/// The kind of server to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientStyle {
    /// Sends lines and expects each back.
    Staged,
    /// Chat: sends and receives frames.
    Broadcast,
}

pub(super) fn run(arguments: &ClientArguments) -> ExitCode {
    set_format(arguments.log.log_format);
    let ClientArguments { style, address, staged, broadcast, log, record, .. } = arguments;
    let reporting = match arguments.prepare() {
        Ok(reporting) => Arc::new(reporting),
        Err(message) => return fail(message, EXIT_USAGE),
    };
    match style {
        ClientStyle::Staged => staged::run(staged, address.as_ref(), (log, record), &reporting),
        ClientStyle::Broadcast => {
            broadcast::run(broadcast, address.as_ref(), (log, record), &reporting)
        }
    }
}

impl ClientArguments {
    /// Checks the options that depend on each other, and reads the baseline.
    ///
    /// # Errors
    /// The message for the user.
    fn prepare(&self) -> Result<Reporting, String> {
        let ClientArguments { style, staged, broadcast, reports, record, log, .. } = self;
        let (of_another, other) = match style {
            ClientStyle::Staged => (broadcast.given(), "broadcast"),
            ClientStyle::Broadcast => (staged.given(), "staged"),
        };
        if let Some(option) = of_another {
            return Err(format!("{option} is for --style {other}"));
        }
        let reporting = reports.prepare(log.log_format)?;
        let outputs = [
            ("--log-file", log.log_file.as_deref()),
            ("--trace-events", staged.trace_file()),
            ("--record", record.file()),
        ];
        documents::distinct(outputs.into_iter().chain(reports.outputs()))?;
        Ok(reporting)
    }
}

/// Writes the requested documents, and returns the exit code.
fn finish(reporting: &Reporting, code: ExitCode) -> ExitCode {
    match reporting.finish() {
        Ok(()) => code,
        Err(message) => fail(message, EXIT_FAILURE),
    }
}
