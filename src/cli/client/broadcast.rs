//! `echown client --style broadcast`: a chat.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::finish;
use crate::cli::log::LogArguments;
use crate::cli::output::{Files, Output, Writers};
use crate::cli::reports::Reporting;
use crate::cli::stderr_line::stderr_line;
use crate::cli::style::StyleName;
use crate::cli::units::size;
use crate::client::broadcast::{
    ChatClient, ChatError, ChatSummary, StopHandle, StopReceiver, stop_channel,
};
use crate::echo::broadcast::FRAME_MAX_DEFAULT;
use crate::net::{Endpoint, File};
use crate::ownership::Registry;
use crate::signals::{SignalHandler, Signals};

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
    let chat = ChatClient {
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
    let registry = Reporting::apply_baseline(reporting, settings).build();
    crate::cli::serve::declare_inherited(&registry);
    let (stop_channel, stopped) = stop_channel();
    let talked = output
        .open(&registry)
        .and_then(|()| reporting.attempt())
        .map_err(ChatRunError::Setup)
        .and_then(|()| talk(chat, &registry, stop_channel, stopped, &output));
    let is_started = !matches!(talked, Err(ChatRunError::Setup(_)));
    let writers = output.close();
    let is_stuck = matches!(talked, Err(ChatRunError::ChatClient(ChatError::Stuck)));
    // Whoever does not end has been waited for already.
    let is_over = !is_stuck && writers == Writers::Ended;
    let verdict = if is_over { registry.finish() } else { registry.verdict() };
    let code = match talked {
        Ok(_) => ExitCode::from(verdict.exit_code),
        Err(error) => {
            let text = match error {
                ChatRunError::ChatClient(error) => error.to_string(),
                ChatRunError::Setup(text) => text,
            };
            stderr_line(format_args!("echown: {text}"));
            ExitCode::FAILURE
        }
    };
    let code = if is_started { finish(reporting, &registry, code) } else { code };
    output.write_last(&registry);
    code
}

enum ChatRunError {
    /// It did not come to a chat.
    Setup(String),
    ChatClient(ChatError),
}

fn talk(
    chat: ChatClient,
    registry: &Registry,
    stop_channel: StopHandle,
    stopped: StopReceiver,
    outputs: &Arc<Output>,
) -> Result<ChatSummary, ChatRunError> {
    let own = |fd: io::Result<std::os::fd::OwnedFd>, what: &str| {
        fd.and_then(|fd| Ok(File::own_in(registry, std::fs::File::from(fd))?))
            .map_err(|error| ChatRunError::Setup(format!("cannot use the {what}: {error}")))
    };
    // Numbers of our own: the standard ones belong to whoever started the program.
    let input = own(io::stdin().as_fd().try_clone_to_owned(), "standard input")?;
    let output = own(io::stdout().as_fd().try_clone_to_owned(), "standard output")?;
    let told = ChatSignals { stop_channel, output: Arc::clone(outputs) };
    let signals = Signals::install(registry, Arc::new(told))
        .map_err(|error| ChatRunError::Setup(format!("cannot watch for signals: {error}")))?;
    outputs.begin(registry).map_err(ChatRunError::Setup)?;
    let talked = chat.run(registry, input, output, stopped).map_err(ChatRunError::ChatClient);
    signals.stop();
    talked
}

/// What signals do to a chat.
struct ChatSignals {
    stop_channel: StopHandle,
    output: Arc<Output>,
}

impl SignalHandler for ChatSignals {
    fn drain(&self) {
        self.output.leave();
        self.stop_channel.stop();
    }

    fn abort(&self) {
        self.stop_channel.stop();
    }

    fn show_custody(&self, registry: &Registry) {
        stderr_line(registry.snapshot());
    }

    /// The terminal has gone.
    fn reopen_files(&self) {
        self.stop_channel.stop();
    }

    fn before_exit(&self) {
        self.output.flush();
    }
}
