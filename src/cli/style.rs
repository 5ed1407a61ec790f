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
    /// Every byte comes back (RFC 862), until the client has finished. Port 3000, 1024 connections.
    Echo,
    /// Every line comes back, by way of state machines that hand the connection on: LISTENER, WORKER,
    /// RX, WORKER, TX, WORKER, LISTENER. Each machine owns the descriptor while it has it, and
    /// `--trace-events` tells every message between them. Port 3333; there are as many machines of a
    /// kind as there may be connections, 4 unless --max-connections says otherwise.
    Staged,
    /// Every frame of every client goes to all of them, in one order; a frame is eight bytes of
    /// length, big-endian, and so many bytes. Port 8000, 1024 connections.
    Broadcast,
    /// The same by callbacks, as SocketManager has them: the receiver of a connection holds its
    /// sender, which is a cycle of references, and the cycle is cut at every end of the connection.
    /// Who holds whom is on record: --graph draws it, SIGUSR1 shows it, and under --chaos cycle=RATE
    /// it is left in place, for the report to name it. Port 10101, 1024 connections.
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

    /// The default for the most connections at a time.
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

/// Options of one style each.
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
                return Err(format!(
                    "{option} is for --style {style}, and this is --style {selected}"
                ));
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

    /// Where events are traced to.
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
