//! `echown client --style broadcast`: a chat.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::conclude;
use crate::cli::log::LogArguments;
use crate::cli::output::{Files, Output, Writers};
use crate::cli::reports::Reporting;
use crate::cli::say::say;
use crate::cli::style::StyleName;
use crate::cli::units::size;
use crate::client::broadcast::{Chat, ChatError, Stopped, Stopper, Summary, stopper};
use crate::echo::broadcast::FRAME_MAX_DEFAULT;
use crate::net::{Endpoint, File};
use crate::ownership::Registry;
use crate::signals::{Response, Signals};

/// What concerns the chat alone.
#[derive(Args)]
#[command(next_help_heading = "With --style broadcast")]
pub(super) struct ChatArguments {
    /// Put this name and a colon in front of each line.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The longest frame, either way; the server has a limit of its own. [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_frame: Option<usize>,
}

impl ChatArguments {
    /// The first option that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [("--name", self.name.is_some()), ("--max-frame", self.max_frame.is_some())];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }
}

pub(super) fn run(
    arguments: &ChatArguments,
    address: Option<&Endpoint>,
    log: &LogArguments,
    reporting: &Arc<Reporting>,
) -> ExitCode {
    let address = address.cloned().unwrap_or_else(|| StyleName::Broadcast.endpoint());
    let chat = Chat {
        address,
        name: arguments.name.clone(),
        is_terminal: io::stdin().is_terminal() && io::stdout().is_terminal(),
        frame_max: arguments.max_frame.unwrap_or(FRAME_MAX_DEFAULT),
    };
    // A chat is said line by line to people: its log is nobody's.
    let files = Files { log: Some(log), events: None };
    let output = Arc::new(Output::new(&files, reporting, false));
    let reports = Arc::clone(&output);
    let settings = Registry::builder().sink(move |report| reports.report(report));
    let registry = Reporting::tell_what_is_known(reporting, settings).build();
    crate::cli::serve::declare_inherited(&registry);
    let (stopper, stopped) = stopper();
    let talked = output
        .open(&registry)
        .and_then(|()| reporting.attempt())
        .map_err(Failed::Before)
        .and_then(|()| talk(chat, &registry, stopper, stopped, &output));
    let is_started = !matches!(talked, Err(Failed::Before(_)));
    let writers = output.close();
    let is_stuck = matches!(talked, Err(Failed::Chat(ChatError::Stuck)));
    // Whoever does not end has been waited for already.
    let is_over = !is_stuck && writers == Writers::Ended;
    let verdict = if is_over { registry.finish() } else { registry.verdict() };
    let code = match talked {
        Ok(_) => ExitCode::from(verdict.exit_code),
        Err(error) => {
            let text = match error {
                Failed::Chat(error) => error.to_string(),
                Failed::Before(text) => text,
            };
            say(format_args!("echown: {text}"));
            ExitCode::FAILURE
        }
    };
    let code = if is_started { conclude(reporting, &registry, code) } else { code };
    output.write_last(&registry);
    code
}

enum Failed {
    /// It did not come to a chat.
    Before(String),
    Chat(ChatError),
}

fn talk(
    chat: Chat,
    registry: &Registry,
    stopper: Stopper,
    stopped: Stopped,
    outputs: &Arc<Output>,
) -> Result<Summary, Failed> {
    let own = |fd: io::Result<std::os::fd::OwnedFd>, what: &str| {
        fd.and_then(|fd| Ok(File::own_in(registry, std::fs::File::from(fd))?))
            .map_err(|error| Failed::Before(format!("cannot use the {what}: {error}")))
    };
    // Numbers of our own: the standard ones belong to whoever started the program.
    let input = own(io::stdin().as_fd().try_clone_to_owned(), "standard input")?;
    let output = own(io::stdout().as_fd().try_clone_to_owned(), "standard output")?;
    let told = Told { stopper, output: Arc::clone(outputs) };
    let signals = Signals::install(registry, Arc::new(told))
        .map_err(|error| Failed::Before(format!("cannot watch for signals: {error}")))?;
    outputs.begin(registry).map_err(Failed::Before)?;
    let talked = chat.run(registry, input, output, stopped).map_err(Failed::Chat);
    signals.stop();
    talked
}

/// What signals do to a chat.
struct Told {
    stopper: Stopper,
    output: Arc<Output>,
}

impl Response for Told {
    fn drain(&self) {
        self.output.leave();
        self.stopper.stop();
    }

    fn cut(&self) {
        self.stopper.stop();
    }

    fn show_custody(&self, registry: &Registry) {
        say(registry.snapshot());
    }

    /// The terminal has gone.
    fn reopen_files(&self) {
        self.stopper.stop();
    }

    fn before_exit(&self) {
        self.output.flush();
    }
}
