//! The options of `--style callback`.

use clap::Args;

use super::super::stderr_line::stderr_line;
use crate::echo::Callback;
use crate::echo::callback::Picture;
use crate::ownership::Level;

/// Options of the callback style.
#[derive(Args)]
#[command(next_help_heading = "With --style callback")]
pub(super) struct CallbackArguments {
    /// Print the references of each connection as Mermaid graphs: when it connects, when its client has
    /// finished, and when the cycle is cut.
    #[arg(long)]
    graph: bool,
}

impl CallbackArguments {
    /// The first of these options that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.graph.then_some("--graph")
    }

    /// Checks that references are recorded.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn check(&self, level: Level) -> Result<(), String> {
        if self.graph && level == Level::Off {
            return Err("--graph needs recorded references: use --ownership on or full".into());
        }
        Ok(())
    }

    /// Builds the handler.
    pub(super) fn build(&self) -> Callback {
        if self.graph { Callback::showing(show) } else { Callback::new() }
    }
}

/// Prints a graph of a connection's references to standard error, in Mermaid notation.
fn show(picture: &Picture) {
    let Picture { connection, moment, graph, .. } = picture;
    let drawn = graph.to_mermaid();
    stderr_line(format_args!("graph of {connection}, {moment}:\n```mermaid\n{drawn}```"));
}
