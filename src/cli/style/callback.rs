//! The options of `--style callback`.

use std::fmt;

use clap::Args;

use super::super::stderr_line::{Line, stderr_line};
use crate::echo::Callback;
use crate::echo::callback::ConnectionLabel;
use crate::ownership::Level;
use crate::ownership::graph::Graph;

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
        if self.graph { Callback::with_graphs(print_graph) } else { Callback::new() }
    }
}

/// Prints a graph of a connection's references to standard error, in Mermaid notation.
fn print_graph(connection: &ConnectionLabel, phase: &'static str, graph: &Graph) {
    let headline = format!("graph of {connection}, {phase}");
    let text = fmt::from_fn(|f| write!(f, "{headline}:\n```mermaid\n{}```", graph.to_mermaid()));
    stderr_line(Line::with_data("graph", &headline, text, || graph.to_json()));
}
