//! `--style`: which way of echoing is served, with its own options.

mod broadcast;

pub(super) use broadcast::size;

use std::fmt;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::echo::{self, SharedStyle};
use crate::server::Endpoint;

/// A way of echoing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StyleName {
    /// Every byte comes back (RFC 862), until the client has finished.
    Echo,
    /// Every frame of every client goes to all of them, in one order; a frame is eight bytes of
    /// length, big-endian, and so many bytes.
    Broadcast,
}

impl StyleName {
    /// Where it listens unless told.
    pub(super) fn endpoint(self) -> Endpoint {
        let port = match self {
            StyleName::Echo => 3000,
            StyleName::Broadcast => 8000,
        };
        Endpoint::Inet(format!("127.0.0.1:{port}"))
    }

    /// How many connections it serves at a time unless told.
    pub(super) fn max_connections(self) -> usize {
        match self {
            StyleName::Echo | StyleName::Broadcast => 1024,
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

    #[command(flatten)]
    broadcast: broadcast::BroadcastArguments,
}

impl StyleArguments {
    /// Whether every option that was given is one of the style's.
    ///
    /// # Errors
    /// The first that is not, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.style != StyleName::Broadcast {
            self.broadcast.attest_none(self.style)?;
        }
        Ok(())
    }

    /// The style, as it is asked for.
    ///
    /// # Errors
    /// What it needs cannot be had, in words.
    pub(super) fn build(&self) -> Result<SharedStyle, String> {
        match self.style {
            StyleName::Echo => Ok(Arc::new(echo::Plain)),
            StyleName::Broadcast => Ok(Arc::new(self.broadcast.build())),
        }
    }
}
