//! `echown unchecked`: the tests of a package that its attribute does not check.
//!
//! Some macros expand to the compiler's own `#[test]`, which no import can replace; and a file may have
//! been forgotten. So each test binary is asked for its tests, and searched for the texts that the
//! attribute leaves in it.

mod allowed;
mod markers;
mod test_binary;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::log_arguments::OutputFormat;
use super::stderr_line::{Line, stderr_line};
use super::{EXIT_FAILURE, exit_code_of_print, fail};
use allowed::Allowed;
use test_binary::TestBinary;

/// List the tests that `#[echown_test::test]` or `#[echown::test]` does not check.
///
/// Builds the tests with `cargo test --no-run`, asks each binary for its tests, and compares them with
/// what the attribute left in the binary. Doctests are not included. The exit code is 1 if a test is not
/// checked.
#[derive(Args)]
pub(super) struct UncheckedArguments {
    /// A file of tests that need no check, one per line, as this command prints them: `BINARY TEST`, or
    /// `BINARY` for all of its tests. A TEST that ends with `*` stands for all that begin so. Lines that
    /// begin with `#` are comments.
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,

    /// Format of the output: text, or one JSON object per binary and line.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: OutputFormat,

    /// Arguments for `cargo test`, such as `--workspace --all-features`.
    #[arg(last = true, value_name = "CARGO_TEST_ARGUMENTS")]
    cargo: Vec<String>,
}

/// The tests of one binary.
struct Comparison {
    binary: TestBinary,
    /// The names of its tests; `None` if it does not list them.
    tests: Option<Vec<String>>,
    checked: usize,
    allowed: Vec<String>,
    unchecked: Vec<String>,
}

pub(super) fn run(arguments: &UncheckedArguments) -> ExitCode {
    match compare_all(arguments) {
        Ok((comparisons, allowed)) => {
            for line in allowed.unused() {
                stderr_line(Line::error(line));
            }
            print(&comparisons, arguments.format)
        }
        Err(error) => fail(error, EXIT_FAILURE),
    }
}

fn compare_all(arguments: &UncheckedArguments) -> Result<(Vec<Comparison>, Allowed), String> {
    let mut allowed = match &arguments.allow {
        Some(path) => Allowed::read(path)?,
        None => Allowed::default(),
    };
    let binaries = test_binary::build(&arguments.cargo)?;
    let compare = |binary| compare(binary, &mut allowed);
    let comparisons = binaries.into_iter().map(compare).collect::<Result<_, _>>()?;
    Ok((comparisons, allowed))
}

fn compare(binary: TestBinary, allowed: &mut Allowed) -> Result<Comparison, String> {
    let tests = binary.tests()?;
    let checked: BTreeSet<String> = markers::names_in(&binary.content()?);
    let is_checked = |test: &&String| checked.contains(*test);
    let all = tests.as_deref().unwrap_or_default();
    let (known, others): (Vec<&String>, Vec<&String>) = all.iter().partition(is_checked);
    let (excepted, unchecked) =
        others.into_iter().cloned().partition(|test| allowed.permits(&binary.suite, test));
    Ok(Comparison { checked: known.len(), allowed: excepted, unchecked, binary, tests })
}

fn print(comparisons: &[Comparison], format: OutputFormat) -> ExitCode {
    let text = match format {
        OutputFormat::Text => text(comparisons),
        OutputFormat::Json => comparisons.iter().map(json_line).collect(),
    };
    let mut out = io::stdout();
    let printed = exit_code_of_print(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    let is_complete = comparisons.iter().all(|it| it.unchecked.is_empty());
    if is_complete { printed } else { ExitCode::from(EXIT_FAILURE) }
}

fn text(comparisons: &[Comparison]) -> String {
    let mut text = String::new();
    for Comparison { binary, tests, checked, allowed, unchecked } in comparisons {
        let suite = &binary.suite;
        // Writing to a string does not fail.
        let _ = match tests.as_deref() {
            Some([]) => Ok(()),
            Some(tests) if allowed.is_empty() => {
                writeln!(text, "{suite}: {}, {checked} checked", tests_of(tests.len()))
            }
            Some(tests) => {
                let all = tests_of(tests.len());
                writeln!(text, "{suite}: {all}, {checked} checked, {} allowed", allowed.len())
            }
            None => writeln!(text, "{suite}: no list of tests (harness = false)"),
        };
        for test in unchecked {
            let _ = writeln!(text, "  {suite} {test}");
        }
    }
    let _ = match comparisons.iter().map(|it| it.unchecked.len()).sum() {
        0 => writeln!(text, "no test is unchecked"),
        1 => writeln!(text, "1 test is not checked"),
        count => writeln!(text, "{count} tests are not checked"),
    };
    text
}

fn tests_of(count: usize) -> String {
    format!("{count} test{}", if count == 1 { "" } else { "s" })
}

fn json_line(comparison: &Comparison) -> String {
    let Comparison { binary, tests, checked, allowed, unchecked } = comparison;
    let object = json!({
        "binary": binary.suite,
        "path": binary.path,
        "tests": tests.as_ref().map(Vec::len),
        "checked": checked,
        "allowed": allowed,
        "unchecked": unchecked,
    });
    format!("{object}\n")
}
