//! `echown explain`: prints the explanation of a report code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::report::explain::{self, EXPLANATIONS};

/// Explain a report code: what happened, why it is wrong, an example, how to fix it, and which task is
/// victim, bystander or offender.
///
/// Without a code, list all codes. An unknown code is an error (exit code 2) that names similar codes.
#[derive(Args)]
pub(super) struct ExplainArguments {
    /// The code in the brackets of a report's headline: `leak` in `error[leak]`.
    #[arg(value_name = "CODE", value_parser = codes(), hide_possible_values = true)]
    code: Option<String>,
}

fn codes() -> PossibleValuesParser {
    PossibleValuesParser::new(EXPLANATIONS.iter().map(|known| {
        PossibleValue::new(known.code.as_str())
            .help(known.summary)
            .aliases(known.aliases.iter().copied())
    }))
}

pub(super) fn run(arguments: &ExplainArguments) -> ExitCode {
    let text = match arguments.code.as_deref().and_then(explain::find) {
        Some(explanation) => format!("{explanation}\n"),
        None => list(),
    };
    super::exit_code_of_print(
        io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()),
    )
}

fn list() -> String {
    let width =
        EXPLANATIONS.iter().map(|known| known.code.as_str().len()).max().unwrap_or_default();
    let mut text = String::new();
    for known in EXPLANATIONS {
        text += &format!("{:width$}  {}\n", known.code, known.summary);
    }
    text + "\nRun `echown explain CODE` for details.\n"
}
