//! The option `--sandbox`, and what the server still needs when it is applied.

use clap::{Args, ValueEnum};

use super::ServeArguments;
use crate::bind::SocketFile;
use crate::cli::output::documents;
use crate::sandbox::{self, Access, Requirement, Rule, Sandbox};
use crate::server::Reserved;

/// Options of the sandbox.
#[derive(Args)]
#[command(next_help_heading = "Sandbox")]
pub(super) struct SandboxArguments {
    /// Give up the rights that the server does not need once all of its sockets are open (landlock and
    /// no_new_privs). What stays: to write in the folders of the output files, to remove the files of
    /// its Unix sockets, and to read what the system reports about this process. It can bind or connect
    /// no TCP socket, execute no program, and send signals only to itself. `best` applies what the
    /// kernel has and warns of what it lacks; `strict` exits with an error instead and needs Linux 6.12.
    /// The log lists what was applied. Consequences: no core file is written where the system writes it
    /// to a folder, and SIGHUP can reopen a file only in the same folder as at the start.
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    sandbox: SandboxLevel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SandboxLevel {
    Off,
    Best,
    Strict,
}

impl SandboxArguments {
    fn requirement(&self) -> Option<Requirement> {
        match self.sandbox {
            SandboxLevel::Off => None,
            SandboxLevel::Best => Some(Requirement::Best),
            SandboxLevel::Strict => Some(Requirement::Strict),
        }
    }

    /// What the sandbox opens in addition to the server.
    pub(super) fn reserved(&self) -> Reserved {
        let descriptors = self.requirement().map_or(0, |_| sandbox::DESCRIPTORS);
        Reserved { descriptors, ..Reserved::default() }
    }
}

impl ServeArguments {
    /// Applies the sandbox. `sockets` are the files that are removed at exit.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn apply_sandbox<'a>(
        &self,
        sockets: impl Iterator<Item = &'a SocketFile>,
    ) -> Result<Option<Sandbox>, String> {
        let Some(requirement) = self.sandbox.requirement() else { return Ok(None) };
        let mut rules: Vec<Rule> = self
            .outputs()
            .filter_map(|(option, path)| {
                let path = path.filter(|path| !documents::is_standard(path))?;
                Some(Rule::output(path, self.access(option)))
            })
            .collect();
        rules.extend(sockets.map(|socket| Rule::removal(socket.path())));
        rules.extend(Rule::own_files());
        sandbox::apply(requirement, rules).map(Some)
    }

    /// What the server does in the folder of an output: a stream is opened again, a document is written
    /// to a temporary file, which replaces the old one.
    fn access(&self, option: &str) -> Access {
        match option {
            "--log-file" | "--trace-events" | "--record" => Access::Write,
            "--report-file" if !self.reports.is_document() => Access::Write,
            _ => Access::Replace,
        }
    }
}
