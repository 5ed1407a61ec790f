//! `--style`: which way of echoing is served, with its own options.

use std::fmt;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::say::say;
use crate::echo::callback::Picture;
use crate::echo::{self, SharedStyle};
use crate::ownership::Level;
use crate::server::Endpoint;

/// A way of echoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StyleName {
    /// Every byte comes back (RFC 862), until the client has finished.
    Echo,
    /// The same by callbacks, as SocketManager has them: the receiver of a connection holds its
    /// sender, which is a cycle of references, and the cycle is cut at every end of the connection.
    /// Who holds whom is on record: --graph draws it, SIGUSR1 shows it, and under --chaos cycle=RATE
    /// it is left in place, for the report to name it. Listens on 127.0.0.1:10101 unless told.
    Callback,
}

impl StyleName {
    /// Where it listens unless told.
    pub(super) fn endpoint(self) -> Endpoint {
        let port = match self {
            StyleName::Echo => 3000,
            StyleName::Callback => 10101,
        };
        Endpoint::Inet(format!("127.0.0.1:{port}"))
    }

    /// How many connections it serves at a time unless told.
    pub(super) fn max_connections(self) -> usize {
        match self {
            StyleName::Echo | StyleName::Callback => 1024,
        }
    }
}

impl fmt::Display for StyleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Which way of echoing, and what concerns it alone.
#[derive(Args)]
pub(super) struct StyleArguments {
    /// How to echo.
    #[arg(long, value_name = "STYLE", default_value_t = StyleName::Echo)]
    pub(super) style: StyleName,

    /// With --style callback: show three pictures of each connection's references, as Mermaid: when
    /// it is connected, when its client has finished, and when the cycle is cut.
    #[arg(long)]
    graph: bool,
}

impl StyleArguments {
    /// Whether every option that was given is one of the style's.
    ///
    /// # Errors
    /// The first that is not, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.graph && self.style != StyleName::Callback {
            return Err(self.is_only_for("--graph", StyleName::Callback));
        }
        Ok(())
    }

    /// Whether there is something to show.
    ///
    /// # Errors
    /// There is not, in words.
    pub(super) fn check_level(&self, level: Level) -> Result<(), String> {
        if self.graph && level == Level::Off {
            return Err("--graph shows what is recorded, and --check off records nothing".into());
        }
        Ok(())
    }

    fn is_only_for(&self, option: &str, style: StyleName) -> String {
        format!("{option} is an option of --style {style}, and this is --style {}", self.style)
    }

    /// The style, as it is asked for.
    ///
    /// # Errors
    /// What it needs cannot be had, in words.
    pub(super) fn build(&self) -> Result<SharedStyle, String> {
        match self.style {
            StyleName::Echo => Ok(Arc::new(echo::Plain)),
            StyleName::Callback if self.graph => Ok(Arc::new(echo::Callback::showing(show))),
            StyleName::Callback => Ok(Arc::new(echo::Callback::new())),
        }
    }
}

/// A picture of a connection's references on standard error, to be pasted wherever Mermaid is read.
fn show(picture: &Picture) {
    let Picture { connection, moment, graph, .. } = picture;
    let drawn = graph.to_mermaid();
    say(format_args!("graph of {connection}, {moment}:\n```mermaid\n{drawn}```"));
}
