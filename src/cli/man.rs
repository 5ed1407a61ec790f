//! `echown man`: manual pages in roff, from the definitions of the options.
//!
//! The notes below the options become sections with lists: as they stand, a reader of the page would join
//! their lines. Backticks become bold: roff prints them as opening quotation marks.

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use echown_fd::escape;

use super::output::documents;
use super::{EXIT_FAILURE, EXIT_USAGE, environment, exit_code_of_print, fail};

/// Print a manual page, or write all of them to a folder.
///
/// `echown man serve | man -l -` shows the page of `echown serve`.
/// `echown man --dir ~/.local/share/man/man1` installs all pages, and `man echown-serve` finds them.
#[derive(Args)]
pub(super) struct ManArguments {
    /// The command whose page is printed, as in `echown man bench compare`. By default the page of
    /// `echown` itself.
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,

    /// Write all pages to this folder, one file each, such as `echown-serve.1`. The folder is created if
    /// it does not exist. The names of the files are printed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The section of the manual: commands.
const SECTION: &str = "1";

/// The name of a file in messages.
const PAGE: &str = "the manual page";

pub(super) fn run(arguments: &ManArguments) -> ExitCode {
    let mut program = environment::documented(super::Arguments::command());
    program = program.disable_help_subcommand(true);
    program.build();
    if let Some(folder) = &arguments.dir {
        return match write_all(&program, folder) {
            Ok(printed) => exit_code_of_print(printed),
            Err(message) => fail(message, EXIT_FAILURE),
        };
    }
    let mut command = &program;
    for word in &arguments.command {
        let Some(next) = command.find_subcommand(word) else {
            return fail(unknown(command, word), EXIT_USAGE);
        };
        command = next;
    }
    let page = page(command);
    exit_code_of_print(print(&page))
}

fn unknown(command: &Command, word: &str) -> String {
    let names: Vec<&str> = commands(command).into_iter().map(Command::get_name).collect();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let word = escape::text(word);
    match &names[..] {
        [] => format!("no manual page for `{word}`: `{name}` has no commands of its own"),
        _ => format!(
            "no manual page for `{word}`; the commands of `{name}` are {}",
            names.join(", ")
        ),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes the pages of a command and those below it, and prints their names.
///
/// # Errors
/// The message for the user, for a file that cannot be written.
fn write_all(program: &Command, folder: &Path) -> Result<io::Result<()>, String> {
    std::fs::create_dir_all(folder)
        .map_err(|error| format!("failed to create {}: {error}", escape::path(folder)))?;
    let mut printed = Ok(());
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        let path = folder.join(format!("{}.{SECTION}", name(command)));
        documents::write(PAGE, &path, &page(command))?;
        printed = printed.and_then(|()| print(&format!("{}\n", path.display())));
        left.extend(commands(command).into_iter().rev());
    }
    Ok(printed)
}

/// The commands below a command, in the order of its help.
fn commands(command: &Command) -> Vec<&Command> {
    let mut all: Vec<&Command> =
        command.get_subcommands().filter(|one| !one.is_hide_set()).collect();
    all.sort_by_key(|one| one.get_display_order());
    all
}

/// The name of a page: `echown-bench-compare`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page of a command.
fn page(command: &Command) -> String {
    let mut roff = Vec::new();
    // Fails only if the writer does, and memory does not.
    let _ = render(command, &mut roff);
    let roff = String::from_utf8_lossy(&roff);
    let mut preamble = HashSet::new();
    // Each section comes with the same definition of the apostrophe.
    let lines = roff.lines().filter(|line| !line.contains(".ds Aq ") || preamble.insert(*line));
    lines.map(|line| with_quotes(line) + "\n").collect()
}

fn render(command: &Command, roff: &mut Vec<u8>) -> io::Result<()> {
    // All options with their values in one line are no synopsis.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    let man = Man::new(command.clone().override_usage(usage)).section(SECTION);
    // Without a date, so that the same program always writes the same page. `Man` would omit the argument.
    let (title, version) = (name(command).to_uppercase(), env!("CARGO_PKG_VERSION"));
    writeln!(roff, r#".TH {title} {SECTION} "" "echown {version}" "User Commands""#)?;
    man.render_name_section(roff)?;
    man.render_synopsis_section(roff)?;
    man.render_description_section(roff)?;
    man.render_options_section(roff)?;
    let below = commands(command);
    if !below.is_empty() {
        writeln!(roff, ".SH COMMANDS")?;
        for one in &below {
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            item(roff, &format!("{}({SECTION})", name(one)), &about)?;
        }
    }
    if let Some(notes) = command.get_after_long_help() {
        render_notes(roff, &notes.to_string())?;
    }
    let mut others: Vec<&str> = below.iter().map(|one| name(one)).collect();
    if let Some((above, _)) = name(command).rsplit_once('-') {
        others.insert(0, above);
    }
    let others: Vec<String> =
        others.iter().map(|name| format!("{}({SECTION})", escaped(name))).collect();
    writeln!(roff, ".SH SEE ALSO\n{}", others.join(", "))
}

/// The text below the options, in sections.
///
/// A paragraph whose first line is `Heading:` is a section of its own. In it, a line with two spaces in a
/// row is an entry of a list, a deeper line continues the entry, and other lines are text.
fn render_notes(roff: &mut Vec<u8>, notes: &str) -> io::Result<()> {
    let mut has_notes = false;
    for paragraph in notes.split("\n\n") {
        let (heading, lines) = match paragraph.split_once(":\n") {
            Some((heading, lines)) if !heading.contains('\n') => (heading, lines),
            _ => ("Notes", paragraph),
        };
        if heading != "Notes" || !has_notes {
            writeln!(roff, ".SH {}", heading.to_uppercase())?;
        } else {
            writeln!(roff, ".PP")?;
        }
        has_notes |= heading == "Notes";
        let mut is_list = false;
        for line in lines.lines() {
            let line = line.strip_prefix("  ").unwrap_or(line);
            match line.split_once("  ") {
                Some(("", _)) => text(roff, line.trim_start())?,
                Some((term, what)) => {
                    item(roff, term, what.trim_start())?;
                    is_list = true;
                }
                None => {
                    if std::mem::take(&mut is_list) {
                        writeln!(roff, ".PP")?;
                    }
                    text(roff, line)?;
                }
            }
        }
    }
    Ok(())
}

/// An entry of a list.
fn item(roff: &mut Vec<u8>, term: &str, what: &str) -> io::Result<()> {
    writeln!(roff, ".TP\n\\fB{}\\fR", escaped(term))?;
    text(roff, what)
}

fn text(roff: &mut Vec<u8>, line: &str) -> io::Result<()> {
    // A line that begins with one of these would be a request.
    let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
    writeln!(roff, "{guard}{}", escaped(line))
}

/// Escapes text as `clap_mangen` does.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq")
}

/// Makes what is in backticks bold, and escapes what roff prints as another character.
fn with_quotes(line: &str) -> String {
    if line.starts_with('.') {
        return line.to_owned();
    }
    let mut parts = line.split('`');
    let mut quoted = parts.next().unwrap_or_default().to_owned();
    let mut is_open = false;
    for part in parts {
        quoted += if is_open { "\\fR" } else { "\\fB" };
        quoted += part;
        is_open = !is_open;
    }
    if is_open {
        quoted += "\\fR";
    }
    quoted.replace('^', "\\(ha").replace('~', "\\(ti")
}
