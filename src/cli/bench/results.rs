//! Where the results of a run go: standard output, or a file that is written as a whole at the end.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use echown_bench::LoadStopHandle;

use super::BenchError;
use crate::cli::log_arguments::OutputFormat;
use crate::cli::output::documents;
use crate::cli::stderr_line;

/// Options of the results.
#[derive(Args)]
pub(super) struct ResultArguments {
    /// Text for people, or one JSON object per line for programs.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) format: OutputFormat,

    /// Write the results to this file instead of standard output. It is checked at the start and
    /// replaced as a whole at the end, also of a run that is stopped or fails after a result. Progress
    /// and failures are on standard error in any case.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// The name of the file in messages.
const RESULTS: &str = "the results";

impl ResultArguments {
    /// Checks that the file can be written. `others` are the run's other files, by option.
    ///
    /// # Errors
    /// Two options name the same file, or it cannot be written.
    pub(super) fn open<'a>(
        &'a self,
        others: impl IntoIterator<Item = (&'static str, Option<&'a Path>)>,
    ) -> Result<Results<'a>, BenchError> {
        let file = self.output.as_deref();
        let files = [("--output", file)].into_iter().chain(others);
        documents::distinct(files).map_err(BenchError::Usage)?;
        if let Some(file) = file {
            documents::attempt(RESULTS, file).map_err(BenchError::Otherwise)?;
        }
        Ok(Results { format: self.format, file, text: String::new() })
    }
}

/// The results so far.
pub(super) struct Results<'a> {
    pub(super) format: OutputFormat,
    file: Option<&'a Path>,
    /// What will be in the file.
    text: String,
}

impl Results<'_> {
    /// Adds a result. Standard output gets it at once; a slow reader is waited for until the run is
    /// stopped.
    pub(super) fn show(&mut self, text: &str, stop: &LoadStopHandle) -> io::Result<()> {
        if self.file.is_some() {
            self.text.push_str(text);
            return Ok(());
        }
        stderr_line::write_stdout(text.as_bytes(), || stop.is_stopped())
    }

    /// Writes the file, unless there is no result.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn finish(self) -> Result<(), BenchError> {
        match self.file {
            Some(file) if !self.text.is_empty() => {
                documents::write(RESULTS, file, &self.text).map_err(BenchError::Otherwise)
            }
            _ => Ok(()),
        }
    }
}
