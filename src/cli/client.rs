//! `echown client`: the other end of a connection.

mod broadcast;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::server::Endpoint;

/// Talks to a server.
///
/// With `--style broadcast` it is a chat: each line of standard input goes to everybody as a frame, and
/// each frame that anybody sends, oneself included, comes as a line of standard output. At the end of
/// the input it waits until its own frames have come back, and then hangs up. On a terminal one's own
/// lines are not shown twice, and bytes that are no text are made visible; otherwise they come as they
/// are.
///
/// Signals:
///   SIGINT, SIGTERM  say nothing more, hang up, hear what is on its way, exit; a second one stops at
///                    once
///   SIGUSR1          show the custody table
///
/// Exit codes:
///   0    all was said and has come back, or it was told to stop
///   1    nobody listens there; the server has closed the connection; frames have not come back
///   2    wrong arguments
///   130  stopped by a second SIGINT
///   143  stopped by a second SIGTERM
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct ClientArguments {
    /// What the server does.
    #[arg(long, value_name = "STYLE")]
    style: ClientStyle,

    /// Where it listens: ADDRESS:PORT, [IPv6]:PORT or unix:PATH. Unless given, where a server of this
    /// style listens by itself: 127.0.0.1:8000 for `broadcast`.
    #[arg(value_name = "ADDR")]
    address: Option<Endpoint>,

    #[command(flatten)]
    broadcast: broadcast::ChatArguments,
}

/// What kind of server is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientStyle {
    /// Everybody hears everybody.
    Broadcast,
}

pub(super) fn run(arguments: &ClientArguments) -> ExitCode {
    match arguments.style {
        ClientStyle::Broadcast => broadcast::run(&arguments.broadcast, arguments.address.as_ref()),
    }
}
