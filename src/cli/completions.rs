//! `echown completions`: completions for shells, from the definitions of the options.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::{PossibleValue, PossibleValuesParser, ValueHint};
use clap::{Arg, Args, Command, CommandFactory};
use clap_complete::Shell;

use super::exit_code_of_print;

/// Below the arguments: lines that fit into 80 columns.
const NOTES: &str = "\
Installation:
  bash        echown completions bash >
              ~/.local/share/bash-completion/completions/echown
  zsh         echown completions zsh > ~/.zfunc/_echown, a folder of $fpath
  fish        echown completions fish >
              ~/.config/fish/completions/echown.fish
  elvish      echown completions elvish >> ~/.config/elvish/rc.elv
  powershell  echown completions powershell >> $PROFILE";

/// Print completions for a shell: commands, options and their values.
///
/// `source <(echown completions bash)` tries them in this shell only.
#[derive(Args)]
#[command(after_long_help = NOTES)]
pub(super) struct CompletionsArguments {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(arguments: &CompletionsArguments) -> ExitCode {
    let mut program = brief(super::Arguments::command());
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "echown", &mut script);
    let mut stdout = io::stdout().lock();
    exit_code_of_print(stdout.write_all(&script).and_then(|()| stdout.flush()))
}

/// Shortens each text to its first sentence, which fits into a menu, and completes files only where a
/// file is meant.
fn brief(command: Command) -> Command {
    let about = command.get_about().map(|about| first_sentence(&about.to_string()));
    command.about(about.unwrap_or_default()).mut_args(brief_option).mut_subcommands(brief)
}

fn brief_option(arg: Arg) -> Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let is_file = arg.get_value_hint() != ValueHint::Unknown || !arg.get_action().takes_values();
    let values: Vec<PossibleValue> =
        arg.get_possible_values().into_iter().map(brief_value).collect();
    let arg = arg.help(first_sentence(&help));
    if !values.is_empty() {
        // Nothing is parsed with it.
        return arg.value_parser(PossibleValuesParser::new(values));
    }
    if is_file { arg } else { arg.value_hint(ValueHint::Other) }
}

fn brief_value(value: PossibleValue) -> PossibleValue {
    let help = value.get_help().map(|help| first_sentence(&help.to_string()));
    match help {
        Some(help) => value.help(help),
        None => value,
    }
}

/// Without backticks: a shell would run what is in them where its script does not quote them.
fn first_sentence(text: &str) -> String {
    text.split_once(". ").map_or(text, |(first, _)| first).replace('`', "")
}
