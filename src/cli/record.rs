//! The option `--record`: what happens in the program's registry, as JSON lines in a file
//! (`docs/events.md`).
//!
//! ```text
//! any task ── event ──> queue ── task `recorder`, owns the file ──> FILE
//!                                     main thread, at the end: the last findings, `end`
//! ```
//!
//! The recorder ends before the registry makes its last findings, because it owns its file and must not
//! be a finding itself. The main thread appends what the registry has reported since.
//!
//! A recording never delays the program and never ends it. If the disk is slow, events are lost and
//! counted; if it is full, the recording ends with a warning. A process that is killed leaves a recording
//! that is complete up to its last line, which may be cut off.

use std::fs::{OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use echown_fd::escape;

use super::output::sources;
use super::units::size;
use crate::events::{Kind, Line};
use crate::net::File;
use crate::ownership::{Promise, Registry, Report, Subscription};
use crate::report::Colours;
use crate::thread;

/// Events that wait for the recorder, at most. At 100 bytes each they take 3 MiB.
const QUEUE_CAPACITY: usize = 32 * 1024;

/// Lines that are written at once.
const BATCH: usize = 1024;

/// How often the recorder looks for events when there were none.
const INTERVAL: Duration = Duration::from_millis(50);

/// Kept free for the last line.
const END_BYTES: usize = 256;

/// Options of the recording.
#[derive(Args, Debug)]
#[command(next_help_heading = "Recording")]
pub(super) struct RecordArguments {
    /// Record who owns which descriptor, every hand-over and every finding to this file, as JSON lines
    /// (docs/events.md); `echown view FILE` shows it. Only the user of this process can read the file.
    /// An existing file is replaced at startup, unless another process records to it. Delays no client: if the disk is too slow, events are
    /// dropped and counted in the recording.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,

    /// Maximum size of the recording, which ends there.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size,
        requires = "record")]
    record_limit: usize,
}

impl RecordArguments {
    /// The file, for comparison with other outputs.
    pub(super) fn file(&self) -> Option<&Path> {
        self.record.as_deref()
    }

    /// The maximum size of the recording in bytes.
    pub(super) fn limit(&self) -> usize {
        self.record_limit
    }

    /// Starts the recorder, if a recording is requested, as a child of the current task.
    ///
    /// # Errors
    /// The file cannot be written, or no thread can be started. The message contains its name.
    pub(super) fn start(&self, registry: &Registry) -> Result<Option<Recorder>, String> {
        let Some(path) = &self.record else { return Ok(None) };
        let failed = |error: &dyn std::fmt::Display| {
            format!("failed to record to {}: {error}", escape::path(path))
        };
        let file = create(path).map_err(|error| failed(&error))?;
        let subscription = registry.subscribe(QUEUE_CAPACITY).render_reports(annotated());
        let node = node(&std::fs::metadata(path).map_err(|error| failed(&error))?);
        let recording = Recording {
            subscription: Some(subscription),
            path: path.clone(),
            node,
            bytes: 0,
            limit: self.record_limit.max(4 * END_BYTES),
            lost: 0,
        };
        let (stop, stopped) = mpsc::channel();
        let record = move |file| recording.run(file, &stopped);
        let promise =
            thread::spawn_named_with("recorder", file, record).map_err(|error| failed(&error))?;
        Ok(Some(Recorder { promise, stop }))
    }
}

/// The program and its arguments, for the header.
pub(super) fn program() -> String {
    let words = std::env::args_os().skip(1);
    let words = words.map(|word| escape::text(&word.to_string_lossy()).into_owned());
    let program: Vec<String> = std::iter::once("echown".to_owned()).chain(words).collect();
    program.join(" ")
}

/// Writes reports as the terminal shows them, without colours.
pub(super) fn annotated() -> impl Fn(&Report) -> String + Send + Sync {
    let sources = sources();
    move |report| report.render(&sources, Colours::Never)
}

/// Opens the file for writing. Recordings contain addresses and paths, so other users cannot read it.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let not_regular = || io::Error::other("a recording needs a regular file");
    if path == Path::new("-") {
        return Err(not_regular());
    }
    let mut options = OpenOptions::new();
    // Without truncation at first: a device or a FIFO stays as it is, and opening does not wait.
    options.write(true).create(true).mode(0o600).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(not_regular());
    }
    // Two processes that write to one file damage it. Released with the file; a file system without locks
    // is no reason to fail.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(io::Error::other("another process records to it; choose another file"));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    Ok(File::own(file)?)
}

/// The running recorder.
pub(super) struct Recorder {
    promise: Promise<Recording>,
    stop: Sender<()>,
}

impl Recorder {
    /// Ends the recorder task, which closes its file. What is left to do is in [`Recording::finish`].
    pub(super) fn stop(self) -> Option<Recording> {
        drop(self.stop);
        self.promise.join().map_err(|failure| tracing::warn!("the recorder failed: {failure}")).ok()
    }
}

/// A recording, of which the recorder task writes the most and the main thread the end.
pub(super) struct Recording {
    /// `None` after the recording has ended: the limit was reached, or a write failed.
    subscription: Option<Subscription>,
    path: PathBuf,
    /// The file that the recorder task wrote.
    node: (u64, u64),
    bytes: usize,
    limit: usize,
    lost: u64,
}

impl Recording {
    /// Writes what happens until `stopped`.
    fn run(mut self, mut file: File, stopped: &mpsc::Receiver<()>) -> Recording {
        let header = self.subscription.as_ref().map(|it| it.header(&program()));
        self.write(&mut file, header.as_slice());
        while let Some(subscription) = &mut self.subscription {
            let lines = subscription.next_lines(BATCH);
            let is_full = lines.len() >= BATCH;
            self.write(&mut file, &lines);
            let pause = if is_full { Duration::ZERO } else { INTERVAL };
            if stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        self
    }

    /// Appends what the registry has reported since the recorder ended, and the last line.
    pub(super) fn finish(mut self) {
        let Some(subscription) = &mut self.subscription else { return };
        let lines = subscription.next_lines(usize::MAX);
        match self.open_again() {
            Ok(mut file) => {
                self.write(&mut file, &lines);
                self.end(&mut file, "finished");
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Opens the file again, unless another one has its name now.
    fn open_again(&self) -> io::Result<std::fs::File> {
        let file =
            OpenOptions::new().append(true).custom_flags(libc::O_NONBLOCK).open(&self.path)?;
        if node(&file.metadata()?) == self.node {
            Ok(file)
        } else {
            Err(io::Error::other("its name belongs to another file now"))
        }
    }

    fn write(&mut self, file: &mut impl Write, lines: &[Line]) {
        let mut text = String::new();
        let mut is_full = false;
        for line in lines {
            let json = line.to_json();
            is_full = self.bytes + text.len() + json.len() + 1 + END_BYTES > self.limit;
            if is_full {
                break;
            }
            text += &json;
            text.push('\n');
            self.lost += line.count.filter(|_| line.event == Kind::Lost).unwrap_or(0);
        }
        self.bytes += text.len();
        if let Err(error) = file.write_all(text.as_bytes()) {
            self.fail(&error);
        } else if is_full {
            self.end(file, "limit");
            tracing::warn!(
                "the recording {} has reached --record-limit {} and has ended",
                escape::path(&self.path),
                ByteSize(self.limit as u64)
            );
        }
    }

    fn end(&mut self, file: &mut impl Write, reason: &'static str) {
        let Some(subscription) = self.subscription.take() else { return };
        let mut end = subscription.end(reason);
        end.lost = Some(self.lost);
        if let Err(error) = file.write_all((end.to_json() + "\n").as_bytes()) {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.subscription = None;
        let path = escape::path(&self.path);
        tracing::warn!("the recording {path} has ended: {error}");
    }
}

/// What identifies a file, whatever its name.
fn node(file: &std::fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
