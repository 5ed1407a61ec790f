//! The argument parser and its error messages.
//!
//! An error message has the same prefix as every other message of this program and names what is expected;
//! for an option that other programs use, it names the equivalent one of this program.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::builder::styling::{Style, Styles};
use clap::builder::{StyledStr, UnknownArgumentValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Parser};
use echown_fd::escape;

use super::{EXIT_USAGE, environment};

/// Options of other programs: the subcommand, the option, and the equivalent here.
const FOREIGN_OPTIONS: &[(&str, &str, Suggestion)] = &[
    ("serve", "port", Suggestion::Option("--listen")),
    ("serve", "host", Suggestion::Option("--listen")),
    ("serve", "bind", Suggestion::Option("--listen")),
    ("serve", "address", Suggestion::Option("--listen")),
    ("serve", "threads", Suggestion::Option("--max-connections")),
    ("serve", "workers", Suggestion::Option("--max-connections")),
    (
        "serve",
        "timeout",
        Suggestion::Words("timeouts are --idle-timeout, --write-timeout, --drain-timeout"),
    ),
    ("serve", "verbose", Suggestion::Option("--log-level")),
    ("client", "port", Suggestion::Words(POSITIONAL)),
    ("client", "host", Suggestion::Words(POSITIONAL)),
    ("client", "connect", Suggestion::Words(POSITIONAL)),
    ("client", "connections", Suggestion::Option("--workers")),
    ("client", "timeout", Suggestion::Option("--reply-timeout")),
    ("client", "verbose", Suggestion::Option("--log-level")),
    ("bench", "port", Suggestion::Words(POSITIONAL)),
    ("bench", "host", Suggestion::Words(POSITIONAL)),
    ("bench", "connect", Suggestion::Words(POSITIONAL)),
    ("bench", "threads", Suggestion::Option("--client-threads")),
    ("bench", "time", Suggestion::Option("--duration")),
    ("healthcheck", "timeout", Suggestion::Words("the limit is 2 s in total")),
    ("healthcheck", "url", Suggestion::Words(POSITIONAL)),
    ("bench", "json", Suggestion::Words("JSON is --format json")),
];

const POSITIONAL: &str = "the address has no option: write it alone, as in `127.0.0.1:3000`";

/// The equivalent of another program's option.
#[derive(Clone, Copy)]
enum Suggestion {
    Option(&'static str),
    Words(&'static str),
}

/// Parses the process's arguments and the variables that set options. Returns the variables in use, too.
///
/// # Errors
/// The exit code, after the error message or the help has been written.
pub(super) fn arguments<A: Parser>() -> Result<(A, Vec<String>), ExitCode> {
    let command = take_negative_numbers(A::command());
    let command = FOREIGN_OPTIONS.iter().fold(command, with_foreign_option);
    // Without a colour the prefix is plain text, which can be replaced.
    let styles = Styles::styled().error(Style::new());
    let plain = command.styles(styles);
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let with_variables = environment::add_variables(plain.clone(), &arguments);
    let mut command = with_variables.map_err(|message| super::fail(message, EXIT_USAGE))?;
    let parsed = command.try_get_matches_from_mut(&arguments).and_then(|mut matches| {
        let variables = environment::effective(&command, &matches);
        Ok((A::from_arg_matches_mut(&mut matches)?, variables))
    });
    parsed.map_err(|mut error| {
        let note = environment::explain(&mut error, plain, &command, &arguments);
        print_error(&escape_values(error.format(&mut command)), note.as_deref())
    })
}

/// Adds an option that is always an error, with a hint.
fn with_foreign_option(
    command: Command,
    (subcommand, option, here): &(&str, &'static str, Suggestion),
) -> Command {
    let parser = match *here {
        Suggestion::Option(option) => UnknownArgumentValueParser::suggest_arg(option),
        Suggestion::Words(words) => UnknownArgumentValueParser::suggest(StyledStr::from(words)),
    };
    let refused = Arg::new(*option)
        .long(*option)
        .value_parser(parser)
        .hide(true)
        .num_args(0)
        .default_missing_value("");
    // The program with `serve` alone does not have all of them.
    match command.find_subcommand(subcommand) {
        Some(_) => command.mut_subcommand(*subcommand, |command| command.arg(refused)),
        None => command,
    }
}

/// Makes `--acceptors -1` an error about its value, and not about an unknown option.
fn take_negative_numbers(command: Command) -> Command {
    command
        .mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        })
        .mut_subcommands(take_negative_numbers)
}

/// Escapes the user's text in an error.
fn escape_values(mut error: clap::Error) -> clap::Error {
    let text = |(kind, value): (ContextKind, &ContextValue)| match value {
        ContextValue::String(text) => Some((kind, escape::text(text).into_owned())),
        _ => None,
    };
    let texts: Vec<(ContextKind, String)> = error.context().filter_map(text).collect();
    for (kind, text) in texts {
        error.insert(kind, ContextValue::String(text));
    }
    error
}

/// Writes an error to standard error, or the help to standard output.
fn print_error(error: &clap::Error, note: Option<&str>) -> ExitCode {
    if !error.use_stderr() {
        return super::exit_code_of_print(error.print().and_then(|()| std::io::stdout().flush()));
    }
    let text = error.render().ansi().to_string();
    let mut text =
        text.strip_prefix("error: ").map_or(text.clone(), |text| format!("echown: {text}"));
    text.extend(note.iter().flat_map(|note| [note, "\n"]));
    // If standard error cannot be written to, there is no other place for the message.
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(EXIT_USAGE)
}
