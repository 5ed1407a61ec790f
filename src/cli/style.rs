//! The option `--style`: the protocol of the server, with the options of each protocol.

mod broadcast;
mod callback;
mod staged;

use std::fmt;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::output::Output;
use super::trace::TraceArguments;
use crate::echo::{self, ChaosTarget};
use crate::ownership::Level;
use crate::server::Endpoint;

/// A way of echoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StyleName {
    /// Echoes every byte (RFC 862) until the client has finished. Port 3000, 1024 connections.
    Echo,
    /// Echoes every line. State machines pass the connection on: LISTENER, WORKER, RX, WORKER, TX,
    /// WORKER, LISTENER. Each machine owns the descriptor while it has it; `--trace-events` logs all
    /// messages between machines. Port 3333, 4 connections; --max-connections sets the number of
    /// machines of each kind, too.
    Staged,
    /// Sends every frame to all clients, in the same order. A frame is its length (eight bytes,
    /// big-endian) and that many bytes. Port 8000, 1024 connections.
    Broadcast,
    /// Echoes every byte through callbacks, as SocketManager does. The receiver of a connection holds
    /// its sender, which is a reference cycle; it is cut when the connection ends. The references are
    /// recorded: --graph and SIGUSR1 print them, and --chaos cycle=RATE leaves the cycle in place so
    /// that a report names it. Port 10101, 1024 connections.
    Callback,
}

impl StyleName {
    /// The default address.
    pub(super) fn endpoint(self) -> Endpoint {
        let port = match self {
            StyleName::Echo => 3000,
            StyleName::Staged => 3333,
            StyleName::Broadcast => 8000,
            StyleName::Callback => 10101,
        };
        Endpoint::Inet(format!("127.0.0.1:{port}"))
    }

    /// The default maximum number of concurrent connections.
    pub(super) fn max_connections(self) -> usize {
        match self {
            StyleName::Echo | StyleName::Broadcast | StyleName::Callback => 1024,
            StyleName::Staged => 4,
        }
    }
}

impl fmt::Display for StyleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Options that belong to one style each.
#[derive(Args)]
pub(super) struct StyleArguments {
    #[command(flatten)]
    staged: staged::StagedArguments,
    #[command(flatten)]
    broadcast: broadcast::BroadcastArguments,
    #[command(flatten)]
    callback: callback::CallbackArguments,
}

impl StyleArguments {
    /// Checks that every given option belongs to the selected style.
    ///
    /// # Errors
    /// The first option that does not, as a message.
    pub(super) fn check(&self, selected: StyleName) -> Result<(), String> {
        let others = [
            (StyleName::Staged, self.staged.given()),
            (StyleName::Broadcast, self.broadcast.given()),
            (StyleName::Callback, self.callback.given()),
        ];
        for (style, given) in others {
            if let Some(option) = given
                && style != selected
            {
                return Err(format!("{option} is for --style {style}, not --style {selected}"));
            }
        }
        Ok(())
    }

    /// Checks that the checker records what `--graph` shows.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn check_level(&self, level: Level) -> Result<(), String> {
        self.callback.check(level)
    }

    /// The destination of the event trace.
    pub(super) fn trace(&self) -> &TraceArguments {
        &self.staged.trace
    }

    /// Builds the selected handler.
    pub(super) fn build(&self, selected: StyleName, output: &Arc<Output>) -> Arc<dyn ChaosTarget> {
        match selected {
            StyleName::Echo => Arc::new(echo::Plain),
            StyleName::Staged => Arc::new(self.staged.build(output)),
            StyleName::Broadcast => Arc::new(self.broadcast.build()),
            StyleName::Callback => Arc::new(self.callback.build()),
        }
    }
}
