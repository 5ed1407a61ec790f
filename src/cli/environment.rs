//! The options of `echown serve` as environment variables: `ECHOWN_SERVE_LISTEN` for `--listen`.
//!
//! Every option gets its variable from its definition. The command line wins; an empty variable counts as
//! not set, because deployment tools pass variables on that have no value.
//!
//! The failure story: a misspelled variable that is ignored leaves a server on its defaults, without a
//! limit that its operator relies on. So an unknown one is an error.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, Id};
use echown_fd::escape;

const SUBCOMMAND: &str = "serve";

const PREFIX: &str = "ECHOWN_SERVE_";

/// Separates the values of an option that is repeatable on the command line.
const SEPARATOR: char = ',';

/// The variable of an option.
fn variable(arg: &Arg) -> Option<String> {
    let option = arg.get_long().filter(|_| !arg.is_hide_set())?;
    Some(format!("{PREFIX}{}", option.to_uppercase().replace('-', "_")))
}

/// The variables of this process that begin like those of options.
pub(super) fn given() -> impl Iterator<Item = OsString> {
    let has_prefix = |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    std::env::vars_os().map(|(name, _)| name).filter(has_prefix)
}

/// Adds the variables as the help and the manual name them.
pub(super) fn documented(command: Command) -> Command {
    command.mut_subcommand(SUBCOMMAND, |serve| {
        serve.mut_args(|arg| match variable(&arg) {
            Some(name) => arg.env(name).hide_env_values(true),
            None => arg,
        })
    })
}

/// Adds the variables for a run with these arguments.
///
/// # Errors
/// There is an unknown variable. The error is a message for people.
pub(super) fn add_variables(command: Command, arguments: &[OsString]) -> Result<Command, String> {
    // What the command line sets does not depend on what is wrong with it; that is reported later.
    let partial = command.clone().ignore_errors(true).try_get_matches_from(arguments);
    let Ok(matches) = partial else { return Ok(documented(command)) };
    let Some(serve) = matches.subcommand_matches(SUBCOMMAND) else { return Ok(command) };
    check_names(&command)?;
    let on_command_line =
        |id: &Id| serve.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    Ok(command.mut_subcommand(SUBCOMMAND, |it| {
        it.mut_args(|arg| {
            let is_set =
                |name: &String| std::env::var_os(name).is_some_and(|text| !text.is_empty());
            let Some(name) = variable(&arg).filter(is_set) else { return arg };
            if on_command_line(arg.get_id()) {
                return arg;
            }
            match arg.get_action() {
                ArgAction::Append => arg.env(name).value_delimiter(SEPARATOR),
                _ => arg.env(name),
            }
        })
    }))
}

fn check_names(command: &Command) -> Result<(), String> {
    let serve = command.find_subcommand(SUBCOMMAND).into_iter();
    let known: BTreeSet<String> =
        serve.flat_map(Command::get_arguments).filter_map(variable).collect();
    // Sorted, so that the message does not depend on the order of the environment.
    let given: BTreeSet<String> = given().map(|name| name.to_string_lossy().into_owned()).collect();
    let Some(unknown) = given.difference(&known).next() else { return Ok(()) };
    let similar = similar(command, unknown);
    let similar = similar.map_or(String::new(), |name| format!("; did you mean {name}?"));
    Err(format!(
        "unknown environment variable {}{similar}\n\n`echown serve --help` lists the variables.",
        escape::text(unknown)
    ))
}

/// The variable whose option the parser suggests for that of an unknown variable.
fn similar(command: &Command, unknown: &str) -> Option<String> {
    let option = unknown.strip_prefix(PREFIX)?.to_lowercase().replace('_', "-");
    let serve = command.find_subcommand(SUBCOMMAND)?;
    let is_alias = |arg: &&Arg| arg.get_all_aliases().is_some_and(|all| all.contains(&&*option));
    if let Some(arg) = serve.get_arguments().find(is_alias) {
        return variable(arg);
    }
    let line = ["echown".to_owned(), SUBCOMMAND.to_owned(), format!("--{option}")];
    let error = command.clone().try_get_matches_from(line).err()?;
    let Some(ContextValue::String(suggested)) = error.get(ContextKind::SuggestedArg) else {
        return None;
    };
    let suggested = suggested.strip_prefix("--")?;
    let arg = serve.get_arguments().find(|arg| arg.get_long() == Some(suggested))?;
    variable(arg)
}

/// The variables that set an option.
pub(super) fn effective(command: &Command, matches: &ArgMatches) -> Vec<String> {
    let (Some(serve), Some(set)) =
        (command.find_subcommand(SUBCOMMAND), matches.subcommand_matches(SUBCOMMAND))
    else {
        return Vec::new();
    };
    let is_variable = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        variable(arg).is_some() && set.value_source(id) == Some(ValueSource::EnvVariable)
    };
    serve.get_arguments().filter(is_variable).filter_map(variable).collect()
}

/// Makes an error name the variable where it now names the option that the variable sets. Returns a
/// further line for the message.
///
/// `plain` is the command without variables.
pub(super) fn explain(
    error: &mut clap::Error,
    plain: Command,
    command: &Command,
    arguments: &[OsString],
) -> Option<String> {
    let is_of_command_line = match plain.try_get_matches_from(arguments) {
        Ok(_) => false,
        // A missing option may be missing because of a variable, and also without it.
        Err(other) => other.kind() == error.kind(),
    };
    if is_of_command_line || !error.use_stderr() {
        return None;
    }
    let serve = command.find_subcommand(SUBCOMMAND)?;
    let with_variable = || serve.get_arguments().filter(|arg| arg.get_env().is_some());
    if let (
        ErrorKind::InvalidValue | ErrorKind::ValueValidation,
        Some(ContextValue::String(option)),
    ) = (error.kind(), error.get(ContextKind::InvalidArg))
        && let Some(name) =
            with_variable().find(|arg| arg.to_string() == *option).and_then(variable)
    {
        error.insert(ContextKind::InvalidArg, ContextValue::String(name));
        return None;
    }
    Some(note(&with_variable().filter_map(variable).collect::<Vec<_>>()))
}

/// Says which variables set options.
pub(super) fn note(variables: &[String]) -> String {
    format!("set by environment variables: {}", variables.join(", "))
}
