//! `echown client --style broadcast`: the chat client.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::finish;
use crate::cli::log_arguments::LogArguments;
use crate::cli::output::{Files, Output, Writers};
use crate::cli::record::{RecordArguments, Recorder, Recording};
use crate::cli::reports::Reporting;
use crate::cli::stderr_line::{Line, stderr_line};
use crate::cli::style::StyleName;
use crate::cli::units::size;
use crate::cli::{EXIT_FAILURE, fail};
use crate::client::broadcast::{
    ChatClient, ChatError, ChatSummary, StopHandle, StopReceiver, stop_channel,
};
use crate::echo::broadcast::FRAME_MAX_DEFAULT;
use crate::net::{Endpoint, File};
use crate::ownership::Registry;
use crate::signals::{SignalHandler, Signals};

/// Options of the chat.
#[derive(Args)]
#[command(next_help_heading = "With --style broadcast")]
pub(super) struct ChatArguments {
    /// Prefix each line with this name and a colon.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Maximum frame length in both directions; the server has its own limit. [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_frame: Option<usize>,
}

impl ChatArguments {
    /// The first of these options that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let given = [("--name", self.name.is_some()), ("--max-frame", self.max_frame.is_some())];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }
}

pub(super) fn run(
    arguments: &ChatArguments,
    address: Option<&Endpoint>,
    (log, record): (&LogArguments, &RecordArguments),
    reporting: &Arc<Reporting>,
) -> ExitCode {
    let address = address.cloned().unwrap_or_else(|| StyleName::Broadcast.endpoint());
    let chat = ChatClient {
        address,
        name: arguments.name.clone(),
        is_terminal: io::stdin().is_terminal() && io::stdout().is_terminal(),
        frame_max: arguments.max_frame.unwrap_or(FRAME_MAX_DEFAULT),
    };
    // A chat is read by people, line by line, so it writes no log.
    let files = Files { log: Some(log), events: None };
    let output = Arc::new(Output::new(&files, reporting, false));
    let reports = Arc::clone(&output);
    let settings = Registry::builder().sink(move |report| reports.report(report));
    let registry = Reporting::apply_baseline(reporting, settings).build();
    let _entered = registry.enter();
    crate::cli::inherited::declare_inherited(&registry);
    let (stop_handle, stop_receiver) = stop_channel();
    let mut recorder = None;
    let ran = output
        .open()
        .and_then(|()| reporting.check_writable())
        .and_then(|()| output.start())
        .and_then(|()| {
            recorder = record.start(&registry)?;
            Ok(())
        })
        .map_err(ChatRunError::Setup)
        .and_then(|()| run_chat(chat, &registry, stop_handle, stop_receiver, &output));
    let is_started = !matches!(ran, Err(ChatRunError::Setup(_)));
    let writers = output.close();
    let recording = recorder.and_then(Recorder::stop);
    let is_stuck = matches!(ran, Err(ChatRunError::Chat(ChatError::Stuck)));
    // The exit has already waited for tasks that do not end.
    let is_over = !is_stuck && writers == Writers::Ended;
    let registry_summary = if is_over { registry.finish() } else { registry.summary() };
    recording.into_iter().for_each(Recording::finish);
    let code = match ran {
        Ok(_) => ExitCode::from(registry_summary.exit_code),
        Err(error) => {
            let text = match error {
                ChatRunError::Chat(error) => error.to_string(),
                ChatRunError::Setup(text) => text,
            };
            fail(text, EXIT_FAILURE)
        }
    };
    let code = if is_started { finish(reporting, code) } else { code };
    output.write_last();
    code
}

enum ChatRunError {
    /// The chat was not started.
    Setup(String),
    Chat(ChatError),
}

fn run_chat(
    chat: ChatClient,
    registry: &Registry,
    stop_handle: StopHandle,
    stop_receiver: StopReceiver,
    outputs: &Arc<Output>,
) -> Result<ChatSummary, ChatRunError> {
    let own = |fd: io::Result<std::os::fd::OwnedFd>, what: &str| {
        fd.and_then(|fd| Ok(File::own(std::fs::File::from(fd))?))
            .map_err(|error| ChatRunError::Setup(format!("failed to use the {what}: {error}")))
    };
    // Duplicates: the standard descriptors belong to the parent of the program.
    let input = own(io::stdin().as_fd().try_clone_to_owned(), "standard input")?;
    let output = own(io::stdout().as_fd().try_clone_to_owned(), "standard output")?;
    let signals = ChatSignals { stop_handle, output: Arc::clone(outputs) };
    let signals = Signals::install(registry, Arc::new(signals))
        .map_err(|error| ChatRunError::Setup(format!("failed to watch for signals: {error}")))?;
    outputs.begin().map_err(ChatRunError::Setup)?;
    let ran = chat.run(registry, input, output, stop_receiver).map_err(ChatRunError::Chat);
    signals.stop();
    ran
}

/// The signal handler of a chat.
struct ChatSignals {
    stop_handle: StopHandle,
    output: Arc<Output>,
}

impl SignalHandler for ChatSignals {
    fn drain(&self) {
        self.output.leave();
        self.stop_handle.stop();
    }

    fn abort(&self) {
        self.stop_handle.stop();
    }

    fn show_custody(&self, registry: &Registry) {
        stderr_line(Line::custody(&registry.snapshot()));
    }

    /// The terminal has been closed.
    fn reopen_files(&self) {
        self.stop_handle.stop();
    }

    fn before_exit(&self) {
        self.output.flush();
    }
}
