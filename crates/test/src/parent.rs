//! The parent process (the runner's): starts the child, forwards its output, and acts on the
//! verdict.

use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use echown_fd::{inherit_fds, trap::Mode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

use super::case::Case;
use super::child_config::{ChildConfig, VARIABLE};
use super::env_settings::EnvSettings;
use super::filter::{self, Filtered};
use super::group;
use super::hang;
use super::judge::{self, ChildReport, Verdict};
use super::message;
use super::platform::{self, pipe};
use super::report_map::ReportReader;
use super::{report_output, same_place};

/// How often a child is polled for its end on a kernel without pidfd.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The maximum number of descriptors that a child costs in this process: a pipe, the report's memory
/// and one more during its start, its three standard streams, and its pidfd.
const DESCRIPTORS_A_CHILD: u64 = 12;

/// The number of descriptors reserved for the runner and for tests that run in this process.
const DESCRIPTORS_OF_OTHERS: u64 = 200;

/// The buffer size of a read, in bytes.
const CHUNK: usize = 64 * 1024;

/// Runs the test in a child process. Panics if the test failed or left a descriptor open.
pub(super) fn run(case: &Case) {
    if let Some(why) = registered_twice(case) {
        return fail_test(case, &why);
    }
    match verdict(case) {
        Ok(verdict) => act_on(case, verdict),
        Err(why) => fail_test(case, &why),
    }
}

/// Why the test fails if this process has run it before: an attribute above this one put a `#[test]` in
/// front of it. A macro cannot see that.
fn registered_twice(case: &Case) -> Option<String> {
    static RUN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let name = case.name();
    if !run.contains(&name) {
        run.push(name);
        return None;
    }
    Some(format!(
        "test `{name}` is registered twice, and runs twice: an attribute above echown's adds a `#[test]` \
         of its own; put echown's attribute above it"
    ))
}

/// Runs the test and judges its report.
///
/// # Errors
/// The test could not be judged, or its report could not be written; a missing report would look
/// like a clean one.
fn verdict(case: &Case) -> Result<Verdict, String> {
    let settings = EnvSettings::of_this_process().map_err(|error| format!("echown: {error}"))?;
    let _turn = group::take_turn(case)
        .map_err(|error| format!("failed to lock the group of test `{}`: {error}", case.name()))?;
    let level = env::var("ECHOWN_TRACE_FDS").unwrap_or_default();
    let is_traced = !case.no_trace && level != "0";
    let is_paranoid = case.paranoid || level == "paranoid";
    let run = |mode| ChildRun {
        trace: is_traced.then_some(mode),
        is_paranoid,
        is_shown: mode == Mode::Strict,
    };
    let report = run_child(case, run(Mode::Strict))?;
    let was_aborted = judge::was_aborted(&report) && is_traced && !case.no_rerun;
    let second = was_aborted.then(|| run_child(case, run(Mode::IgnoreAbort))).transpose()?;
    filter_and_write(case, judge::judge(case, report, second), settings)
}

/// Removes findings that suppressions or the baseline match, and writes the report to its file.
fn filter_and_write(
    case: &Case,
    verdict: Verdict,
    settings: &EnvSettings,
) -> Result<Verdict, String> {
    let filtered = match verdict.report {
        Some(report) => filter::filter(report, &case.suite(), settings),
        None => Filtered::default(),
    };
    let mut written = report_output::add_to_baseline(&filtered, settings);
    if let Some(destination) = &settings.report {
        written = written.and(report_output::write(case, &filtered, destination, settings));
    }
    let mut verdict = Verdict { report: filtered.report, ..verdict };
    verdict.notes.extend(filtered.notes);
    if let Err(error) = written {
        match &mut verdict.report {
            Some(report) => report.notes.push(error),
            None => return Err(format!("test `{}`: echown {error}", case.name())),
        }
    }
    Ok(verdict)
}

/// Fails a test that could not be judged: by a panic or, for `#[should_panic]`, by returning without one.
fn fail_test(case: &Case, why: &str) {
    if case.should_panic {
        eprintln!("{why}");
        return;
    }
    panic!("{why}");
}

/// Prints the verdict, and panics if the test fails.
fn act_on(case: &Case, verdict: Verdict) {
    for note in &verdict.notes {
        eprintln!("echown: test `{}`: {note}", case.name());
    }
    if let Some(report) = &verdict.report {
        same_place::record(report);
        let text = report.to_string();
        eprintln!("{text}\n");
        if case.should_panic {
            return;
        }
        // Without the panic hook: the message is already printed, and a location in this file would
        // not help.
        resume_unwind(Box::new(text));
    }
    match verdict.panic {
        // The child's panic hook has printed it.
        Some(Some(text)) => resume_unwind(Box::new(text)),
        Some(None) => resume_unwind(Box::new("a panic without a message")),
        None => {}
    }
}

/// The options of one child run.
#[derive(Clone, Copy)]
struct ChildRun {
    trace: Option<Mode>,
    is_paranoid: bool,
    /// Whether its output is forwarded as the test's.
    is_shown: bool,
}

/// Runs one child to its end.
///
/// # Errors
/// The child cannot be run. The message contains the test's name.
fn run_child(case: &Case, run: ChildRun) -> Result<ChildReport, String> {
    let _permit = ChildPermit::take();
    let started = start(case, run).map_err(|error| {
        format!("failed to start test `{}` in a child process: {error}", case.name())
    })?;
    started.watch(case).map_err(|error| {
        format!("failed to watch the child process of test `{}`: {error}", case.name())
    })
}

/// A permit for one child process. The number of permits follows from this process's descriptor
/// limit, so that any number of tests can run at once: further tests wait.
struct ChildPermit;

/// The number of permits in use.
static PERMITS_IN_USE: Mutex<u64> = Mutex::new(0);
static PERMIT_RETURNED: Condvar = Condvar::new();

impl ChildPermit {
    fn take() -> ChildPermit {
        let limit = inherit_fds::descriptors_max();
        let permits_max =
            (limit.saturating_sub(DESCRIPTORS_OF_OTHERS) / DESCRIPTORS_A_CHILD).max(1);
        let taken = PERMITS_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = PERMIT_RETURNED.wait_while(taken, |taken| *taken >= permits_max);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        ChildPermit
    }
}

impl Drop for ChildPermit {
    fn drop(&mut self) {
        *PERMITS_IN_USE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        PERMIT_RETURNED.notify_one();
    }
}

/// Whether the runner captures the output of tests. If it does not, the child inherits this
/// process's output, so that a terminal stays a terminal.
fn is_captured() -> bool {
    let by_argument =
        env::args().any(|argument| ["--nocapture", "--no-capture"].contains(&&*argument));
    let by_variable = env::var("RUST_TEST_NOCAPTURE").is_ok_and(|value| value != "0");
    !by_argument && !by_variable
}

/// The command that starts a program: by the runner in `ECHOWN_RUNNER`, if it is set. Its words are
/// separated by spaces, as in cargo's `CARGO_TARGET_<triple>_RUNNER`.
fn command(exe: &Path) -> Command {
    let runner = env::var("ECHOWN_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let Some(program) = words.next() else { return Command::new(exe) };
    let mut command = Command::new(program);
    command.args(words).arg(exe);
    command
}

fn start(case: &Case, run: ChildRun) -> io::Result<RunningChild> {
    let (memory, report) = ReportReader::create()?;
    let exe = env::current_exe()?;
    let mut command = command(&exe);
    command.args([&*case.name(), "--exact", "--include-ignored", "--nocapture"]);
    command.args(["--test-threads", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut passed = vec![memory];
    let mut output = None;
    if !run.is_shown || is_captured() {
        // One pipe for both streams keeps their order. Hidden output uses a pipe, too: if the
        // child's output were the null device, a test that replaces it with the null device would
        // seem to have changed nothing.
        let (reader, writer) = pipe()?;
        command.stderr(writer.try_clone()?);
        passed.push(writer);
        output = Some(reader);
    } else {
        command.stderr(Stdio::inherit());
        if let Ok(own) = io::stdout().as_fd().try_clone_to_owned() {
            passed.push(own);
        }
    }
    // Chosen after all passed descriptors are open, so that none of them uses a free number.
    let numbers = inherit_fds::free_numbers(passed.len());
    if numbers.len() < passed.len() {
        return Err(io::Error::other("all descriptors are in use"));
    }
    let config = ChildConfig {
        report: numbers[0],
        output: numbers.get(1).copied(),
        trace: run.trace,
        is_paranoid: run.is_paranoid,
        rerun: !case.no_rerun,
    };
    command.env(VARIABLE, config.to_variable(std::process::id(), &exe));
    inherit_fds::pass(&mut command, passed.into_iter().zip(numbers).collect());
    let child = command.spawn()?;
    // This closes the child's ends of the pipes.
    drop(command);
    let id = Pid::from_child(&child);
    let handle = platform::pidfd(id);
    let since = message::now();
    Ok(RunningChild { child, id, handle, report, output, since, is_shown: run.is_shown })
}

/// A running child process.
struct RunningChild {
    child: Child,
    id: Pid,
    /// The pidfd, which is readable when the child has ended. Without one, the child is polled.
    handle: Option<OwnedFd>,
    report: ReportReader,
    /// `None` after its end of file, which `poll` would report again and again.
    output: Option<OwnedFd>,
    /// When it was started (see [`message::now`]).
    since: u64,
    is_shown: bool,
}

impl RunningChild {
    /// Waits for the child's end and forwards its output. Only the end of the process counts,
    /// because a program that the test left running may keep the pipe open indefinitely.
    fn watch(mut self, case: &Case) -> io::Result<ChildReport> {
        let mut report = ChildReport::default();
        let mut text = Vec::new();
        loop {
            let ended = self.wait(self.time_left(case, &report))?;
            self.output = self.output.filter(|output| read_all(output, &mut text));
            match self.is_shown {
                true => forward_output(&mut text, ended.is_some()),
                false => text.clear(),
            }
            self.report.receive().into_iter().for_each(|message| report.receive(message));
            if let Some(status) = ended {
                report.status = status;
                return Ok(report);
            }
            if self.time_left(case, &report).is_zero() && report.hang.is_none() {
                let handle = self.handle.as_ref().map(OwnedFd::as_fd);
                let started = report.started.clone().unwrap_or_default();
                report.hang = Some(hang::diagnose(self.id, handle, &started));
                self.child.kill()?;
            }
        }
    }

    /// The time until the child's step takes too long. The child does not wake this process when a
    /// step begins, so before the body this is at most the time of the body.
    fn time_left(&self, case: &Case, report: &ChildReport) -> Duration {
        if report.hang.is_some() {
            return Duration::ZERO;
        }
        // The first run returned in time, and recording makes the second one slower.
        let factor = if self.is_shown { 1 } else { 2 };
        let timeout = report.progress.timeout(case) * factor;
        let passed = message::now().saturating_sub(report.since.unwrap_or(self.since));
        let left = timeout.saturating_sub(Duration::from_nanos(passed));
        match report.since {
            // At least a moment: a child that has begun meanwhile is seen in the next round.
            None if !left.is_zero() => left.min(case.timeout().max(POLL_INTERVAL)),
            _ => left,
        }
    }

    /// Waits for input, for the child's end or for the time `left`. Returns the exit status.
    fn wait(&mut self, left: Duration) -> io::Result<Option<ExitStatus>> {
        let pause = match &self.handle {
            // After the kill, only the end of the process is awaited.
            Some(_) if left > Duration::ZERO => left,
            _ => POLL_INTERVAL,
        };
        let all = [&self.output, &self.handle].into_iter().flatten();
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let pause = Timespec::try_from(pause).map_err(io::Error::other)?;
        match poll(&mut all, Some(&pause)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.child.try_wait()
    }
}

/// Reads all available bytes. Returns false at the end of the pipe.
fn read_all(from: &OwnedFd, into: &mut Vec<u8>) -> bool {
    let mut chunk = vec![0; CHUNK];
    loop {
        match rustix::io::read(from, &mut chunk[..]) {
            Ok(0) => return false,
            Ok(length) => into.extend(&chunk[..length]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// Prints the child's output in this thread, so that the runner captures it. An incomplete UTF-8
/// sequence at the end stays in `text` until its remaining bytes arrive.
fn forward_output(text: &mut Vec<u8>, is_last: bool) {
    let end = match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
        _ => text.len(),
    };
    if end > 0 {
        print!("{}", String::from_utf8_lossy(&text[..end]));
        text.drain(..end);
    }
}
