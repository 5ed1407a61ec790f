//! The command line interface: one file per subcommand, from arguments to exit code.

#[cfg(all(feature = "cli", target_os = "linux"))]
mod bench;
mod chaos;
#[cfg(feature = "cli")]
mod client;
#[cfg(feature = "cli")]
mod completions;
mod environment;
mod explain;
mod healthcheck;
mod inherited;
#[cfg(all(feature = "cli", not(target_vendor = "apple")))]
mod learn;
mod log;
mod log_arguments;
#[cfg(feature = "cli")]
mod man;
mod metrics;
mod output;
mod panic;
mod parse;
#[cfg(feature = "cli")]
mod picture;
mod record;
mod reports;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
mod run;
mod serve;
mod status_arguments;
mod stderr_line;
mod style;
mod suppression_arguments;
#[cfg(feature = "cli")]
mod tools;
mod trace;
#[cfg(feature = "cli")]
mod unchecked;
mod units;
#[cfg(feature = "cli")]
mod view;

use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The exit code of a command that failed.
const EXIT_FAILURE: u8 = 1;

/// The exit code for invalid arguments.
const EXIT_USAGE: u8 = 2;

/// Echo servers on blocking threads in which every file descriptor has exactly one provable owner.
#[derive(Parser)]
#[command(name = "echown", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::ServeArguments>),
    Explain(explain::ExplainArguments),
    Healthcheck(healthcheck::HealthcheckArguments),
    #[cfg(feature = "cli")]
    #[command(flatten)]
    Tool(tools::Tool),
}

/// Parses the process's arguments and runs the subcommand.
#[must_use]
pub fn main() -> ExitCode {
    // Before the first thread starts, and before the first line is written.
    crate::signals::prepare();
    crate::sys::memory::save_address_space();
    panic::install_hook();
    let (arguments, variables): (Arguments, _) = match parse::arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments.with_variables(variables)),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        #[cfg(feature = "cli")]
        Command::Tool(tool) => tools::run(&tool),
    }
}

/// Writes why the command failed. Returns the exit code.
fn fail(message: impl fmt::Display, code: u8) -> ExitCode {
    stderr_line::stderr_line(stderr_line::Line::error(message));
    ExitCode::from(code)
}

/// The result of printing to standard output: whether it was closed from the start counts, too. A reader
/// that closes the pipe early, as in `echown help | head`, is not a failure.
///
/// # Errors
/// The message for the user.
fn printed(written: io::Result<()>) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    let written = if crate::sys::stdio::stdout_was_closed() {
        Err(io::Error::other("it is closed"))
    } else {
        written
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("failed to write to standard output: {error}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The exit code of a command that prints a text to standard output.
fn exit_code_of_print(written: io::Result<()>) -> ExitCode {
    match printed(written) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(message, EXIT_FAILURE),
    }
}
