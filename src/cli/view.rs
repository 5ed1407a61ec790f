//! The subcommand `echown view`: a recording in the browser.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use clap::Args;
use echown_fd::escape;

use super::inherited::declare_inherited;
use super::output::documents;
use super::stderr_line::{Line, stderr_line};
use super::{EXIT_FAILURE, fail};
use crate::bind::Planned;
use crate::net::Endpoint;
use crate::ownership::Registry;
use crate::signals::{SignalHandler, Signals};
use crate::status::{self, Lines, Next, Recording, Source, StatusServer};

/// Printed below the options.
const NOTES: &str = "\
Signals:
  SIGINT, SIGTERM  end; a second signal stops at once

Exit codes:
  0    ended by a signal, or the page was written
  1    the file cannot be read or is not a recording; the address cannot be
       listened on; the page cannot be written
  2    invalid arguments
  130  stopped by a second SIGINT
  143  stopped by a second SIGTERM";

/// Show a recording in the browser.
///
/// FILE is a recording of `echown serve --record FILE` or `echown run --record FILE`. The page is that of `echown serve --status`, and
/// the line `open URL` on standard error names its address. A recording without an end, whose program
/// was killed or still runs, is shown as far as it goes.
#[derive(Args)]
#[command(args_override_self = true, after_long_help = NOTES)]
pub(super) struct ViewArguments {
    /// The recording.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Address to serve the page on: a loopback address or a Unix socket, in the forms of
    /// `echown serve --listen`. With port 0 the system chooses a free port. At most 8 clients at a time.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: Endpoint,

    /// Write the page with the recording to this file instead of serving it; `-` is standard output. It
    /// is one document, which loads nothing else and can be opened or sent as it is. It contains the
    /// addresses and paths of the recording; who may read it depends on the umask, as for any new file.
    #[arg(short, long, value_name = "PAGE.html", conflicts_with = "listen")]
    output: Option<PathBuf>,
}

/// The name of the document in messages.
const PAGE: &str = "the page";

pub(super) fn run(arguments: &ViewArguments) -> ExitCode {
    let registry = Registry::new();
    let _entered = registry.enter();
    declare_inherited(&registry);
    let shown = match &arguments.output {
        Some(page) => write(&arguments.file, page),
        None => serve(arguments, &registry),
    };
    match shown {
        Ok(()) => ExitCode::from(registry.finish().exit_code),
        Err(message) => fail(message, EXIT_FAILURE),
    }
}

/// Opens the recording.
fn open(file: &PathBuf) -> Result<Recording, String> {
    Recording::open(file)
        .map_err(|error| format!("failed to read the recording {}: {error}", escape::path(file)))
}

/// Writes the page with the recording. Of a damaged recording the page has what comes before.
fn write(file: &PathBuf, page: &Path) -> Result<(), String> {
    documents::distinct([("FILE", Some(&**file)), ("--output", Some(page))])?;
    let mut recording = open(file)?;
    let mut lines = Vec::new();
    while recording.next(&mut lines) != Next::Ended {}
    let document = status::with_recording(&lines);
    if page == Path::new("-") {
        // However long its reader takes, as in a pipe to a pager.
        let mut output = io::stdout().lock();
        super::printed(output.write_all(document.as_bytes()).and_then(|()| output.flush()))?;
    } else {
        documents::write(PAGE, page, &document)?;
    }
    recording.damage().map_or(Ok(()), |damage| {
        let (file, page) = (escape::path(file), escape::path(page));
        Err(format!("the recording {file} is damaged, and {page} ends there: {damage}"))
    })
}

fn serve(arguments: &ViewArguments, registry: &Registry) -> Result<(), String> {
    // Each viewer opens it again; now is the time to say that it cannot be shown.
    drop(open(&arguments.file)?);
    let source = Source::recording(&arguments.file);
    let address = Planned::bound(arguments.listen.clone());
    let server = StatusServer::bind(registry, address, &[], &[], "--listen", source)?;
    let (stop, stopped): (Sender<()>, Receiver<()>) = channel();
    let signals = Signals::install(registry, Arc::new(ViewSignals(stop)))
        .map_err(|error| format!("failed to watch for signals: {error}"))?;
    let server = server.start()?;
    stderr_line(Line::from(format_args!("open {}", server.url())).event("status"));
    // An error means the same: the signal handler is gone.
    let _ = stopped.recv();
    server.stop();
    signals.stop();
    Ok(())
}

/// The signal handler: every request to stop ends the command.
struct ViewSignals(Sender<()>);

impl SignalHandler for ViewSignals {
    fn drain(&self) {
        // Fails if the command is already ending.
        let _ = self.0.send(());
    }

    fn abort(&self) {
        self.drain();
    }

    fn show_custody(&self, registry: &Registry) {
        stderr_line(Line::custody(&registry.snapshot()));
    }

    fn reopen_files(&self) {}
}
