//! The option `--suppressions`: accepted findings, with reasons.

use std::path::PathBuf;

use clap::Args;

use crate::report::{Suppression, suppressions};

/// Options of accepted leaks. Without a heading, because they stand under that of other options.
#[derive(Args)]
pub(super) struct SuppressionArguments {
    /// Leaks that are not reported: a TOML file of `[[suppress]]` tables with a `reason` and at least
    /// one of `kind` (`socket` for all sockets), `path` (a part of a path or address) and `site` (a
    /// part of file:line:column). At exit, used suppressions are listed, and unused ones cause a warning.
    #[arg(long, value_name = "FILE")]
    suppressions: Option<PathBuf>,
}

impl SuppressionArguments {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn read(&self) -> Result<Vec<Suppression>, String> {
        let known = self.suppressions.as_deref().map(suppressions::read).transpose();
        Ok(known.map_err(|error| error.to_string())?.unwrap_or_default())
    }
}
