//! The options of reports and recordings that `echown serve` has, too, with the help that is right here.

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::record::RecordArguments;
use crate::cli::reports::ReportArguments;
use crate::cli::suppression_arguments::SuppressionArguments;

/// The options, with their help for a server.
#[derive(Args)]
pub(super) struct Shared {
    #[command(flatten)]
    pub(super) suppressions: SuppressionArguments,

    #[command(flatten)]
    pub(super) reports: ReportArguments,

    #[command(flatten)]
    pub(super) record: RecordArguments,
}

/// The same options, with their help for a command.
pub(super) struct OutputArguments(pub(super) Shared);

const SUPPRESSIONS: &str = "Findings that are accepted: a TOML file of `[[suppress]]` tables with a `reason` \
    and at least one of `kind` (`socket` for all sockets), `path` (a part of a path or address) and `site` (a \
    part of a function or file:line in one of the stacks). With `code`, a table is for findings of that code, \
    without one for those about descriptors that stay open. The report lists what was accepted, and why.";

const REPORT: &str = "Format of the report. [default: text]";

const REPORT_FILE: &str = "Write the report to this file instead of standard error, at the end; an existing \
    file is replaced. Only the user of this process can read a new file. Required for the document formats \
    (`junit`, `sarif`). Checked at startup.";

const RECORD: &str = "Record every descriptor of the command, which thread opened and closed it, and every \
    finding to this file, as JSON lines (docs/events.md); `echown view FILE` shows it. Only the user of this \
    process can read the file. An existing file is replaced at startup, unless another process records to it. \
    The lines of the source are added at the end.";

/// The options whose help differs.
const HELP: [(&str, &str); 4] = [
    ("suppressions", SUPPRESSIONS),
    ("report", REPORT),
    ("report_file", REPORT_FILE),
    ("record", RECORD),
];

impl FromArgMatches for OutputArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<OutputArguments, clap::Error> {
        Shared::from_arg_matches(matches).map(OutputArguments)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl Args for OutputArguments {
    fn augment_args(command: Command) -> Command {
        let with_help =
            |command: Command, (option, help)| command.mut_arg(option, |arg| arg.help(help));
        HELP.into_iter().fold(Shared::augment_args(command), with_help)
    }

    fn augment_args_for_update(command: Command) -> Command {
        OutputArguments::augment_args(command)
    }
}
