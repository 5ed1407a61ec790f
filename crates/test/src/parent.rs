//! The parent process (the runner's): starts the child, forwards its output, and acts on the
//! verdict.

use std::env;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::resume_unwind;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use echown_fd::{passing, trap::Mode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Pid;

use super::case::Case;
use super::child::{Orders, VARIABLE};
use super::deliver;
use super::excuse::{self, Excused};
use super::hang;
use super::judge::{self, Told, Verdict};
use super::message::Message;
use super::wishes::Wishes;

/// How often a child is asked whether it has ended where the kernel does not tell (no pidfd).
const ASKING_PAUSE: Duration = Duration::from_millis(10);

/// What a child takes here at most: two pipes, one more while it is started and what it gets for its
/// standard three, and its handle.
const DESCRIPTORS_A_CHILD: u64 = 12;

/// What is left to the runner and to tests that run in this process.
const DESCRIPTORS_OF_OTHERS: u64 = 200;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// Runs the test as a child process, and fails as it failed, or because of what it left.
pub(super) fn run(case: &Case) {
    match verdict(case) {
        Ok(verdict) => conclude(case, verdict),
        Err(why) => refuse(case, &why),
    }
}

/// Runs and judges.
///
/// # Errors
/// Why the test could not be judged, or its report not be written: a report that is missing would be
/// taken for a clean one.
fn verdict(case: &Case) -> Result<Verdict, String> {
    let wishes = Wishes::of_this_process().map_err(|wrong| format!("echown: {wrong}"))?;
    let trace =
        case.trace_fds || env::var("ECHOWN_TRACE_FDS").is_ok_and(|it| !["", "0"].contains(&&*it));
    let trace = trace.then_some(Mode::Faithful);
    let first = watch(case, Errand { trace, again: false, is_shown: true })?;
    let mut second = None;
    if judge::wants_more(case, &first) {
        let (mode, again) = match first.ended {
            Some(_) => (Mode::Faithful, true),
            None => (Mode::GoingOn, false),
        };
        let told = watch(case, Errand { trace: Some(mode), again, is_shown: false })?;
        // A body that cannot be run twice in one process still tells its places in a third.
        let told = match told.recurs {
            None if again && judge::leaves_something(&told) => {
                watch(case, Errand { trace: Some(mode), again: false, is_shown: false })?
            }
            _ => told,
        };
        second = Some(told);
    }
    excused(case, judge::judge(case, first, second), wishes)
}

/// The verdict without what is excused, written to where it is wanted.
fn excused(case: &Case, verdict: Verdict, wishes: &Wishes) -> Result<Verdict, String> {
    let excused = match verdict.report {
        Some(report) => excuse::excuse(report, &case.suite(), wishes),
        None => Excused::default(),
    };
    let mut written = deliver::enter(&excused, wishes);
    if let Some(destination) = &wishes.report {
        written = written.and(deliver::deliver(case, &excused, destination, wishes));
    }
    let mut verdict = Verdict { report: excused.report, ..verdict };
    verdict.notes.extend(excused.notes);
    if let Err(wrong) = written {
        match &mut verdict.report {
            Some(report) => report.notes.push(wrong),
            None => return Err(format!("test `{}`: echown {wrong}", case.name())),
        }
    }
    Ok(verdict)
}

/// Fails a test that could not be judged: by a panic, or where any panic would be taken for the one that
/// should come, by coming back without one.
fn refuse(case: &Case, why: &str) {
    if case.should_panic {
        eprintln!("{why}");
        return;
    }
    panic!("{why}");
}

fn conclude(case: &Case, verdict: Verdict) {
    for note in &verdict.notes {
        eprintln!("echown: test `{}`: {note}", case.name());
    }
    if let Some(report) = &verdict.report {
        let text = report.to_string();
        eprintln!("{text}\n");
        if case.should_panic {
            return;
        }
        // Without the hook: the text stands above, and where in this file it fails helps nobody.
        resume_unwind(Box::new(text));
    }
    match verdict.panic {
        // The child's hook has printed it.
        Some(Some(text)) => resume_unwind(Box::new(text)),
        Some(None) => resume_unwind(Box::new("a panic without a message")),
        None => {}
    }
}

/// Why a child is started.
#[derive(Clone, Copy)]
struct Errand {
    trace: Option<Mode>,
    again: bool,
    /// Whether its output is the test's.
    is_shown: bool,
}

/// Runs one child to its end.
///
/// # Errors
/// Why it cannot be run, in a sentence with the test's name.
fn watch(case: &Case, errand: Errand) -> Result<Told, String> {
    let _turn = Turn::take();
    let started = start(case, errand).map_err(|error| {
        format!("failed to start test `{}` in a child process: {error}", case.name())
    })?;
    started.watch(case).map_err(|error| {
        format!("failed to watch the child process of test `{}`: {error}", case.name())
    })
}

/// The right to have a child. There are as many as this process has descriptors for, so that any number
/// of tests at once is fine: those that are too many wait.
struct Turn;

/// How many have theirs.
static TURNS: Mutex<u64> = Mutex::new(0);
static TURN_ENDED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Turn {
        let limit = passing::descriptors_max();
        let turns_max = (limit.saturating_sub(DESCRIPTORS_OF_OTHERS) / DESCRIPTORS_A_CHILD).max(1);
        let taken = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = TURN_ENDED.wait_while(taken, |taken| *taken >= turns_max);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TURN_ENDED.notify_one();
    }
}

/// Whether the runner captures what tests print. If it does not, the child writes where this process
/// does, which keeps a terminal a terminal.
fn is_captured() -> bool {
    let by_argument =
        env::args().any(|argument| ["--nocapture", "--no-capture"].contains(&&*argument));
    let by_variable = env::var("RUST_TEST_NOCAPTURE").is_ok_and(|value| value != "0");
    !by_argument && !by_variable
}

fn start(case: &Case, errand: Errand) -> io::Result<Started> {
    let (control, told) = pipe()?;
    let mut command = Command::new(env::current_exe()?);
    command.args([&*case.name(), "--exact", "--include-ignored", "--nocapture"]);
    command.args(["--test-threads", "1"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut passed = vec![told];
    let mut output = None;
    if !errand.is_shown || is_captured() {
        // One pipe for both, so that the order stays. Also for what is not shown: were it the null
        // device, a test that puts that there would seem to have changed nothing.
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
    // Chosen now that all is open that is passed: none of it is among the free ones.
    let numbers = passing::free_numbers(passed.len());
    if numbers.len() < passed.len() {
        return Err(io::Error::other("all descriptors are in use"));
    }
    let orders = Orders {
        control: numbers[0],
        output: numbers.get(1).copied(),
        trace: errand.trace,
        again: errand.again,
    };
    command.env(VARIABLE, orders.to_variable(std::process::id()));
    passing::pass(&mut command, passed.into_iter().zip(numbers).collect());
    let child = command.spawn()?;
    // With it go the ends of the pipes that are the child's.
    drop(command);
    let id = Pid::from_child(&child);
    let handle = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()).ok();
    Ok(Started { child, id, handle, control: Some(control), output, is_shown: errand.is_shown })
}

/// A pipe that no other child inherits, and whose reader never waits.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
    Ok((reader, writer))
}

/// A child that runs.
struct Started {
    child: Child,
    id: Pid,
    /// Readable when the child has ended; where there is none it is asked now and then.
    handle: Option<OwnedFd>,
    /// `None` after its end, which would be told again and again.
    control: Option<OwnedFd>,
    output: Option<OwnedFd>,
    is_shown: bool,
}

impl Started {
    /// Waits for the child's end and passes its output on meanwhile. A program that the test left
    /// running may hold the pipes open for ever: the end of the process is what counts.
    fn watch(mut self, case: &Case) -> io::Result<Told> {
        // It came back in time once; where openings are noted all is slower.
        let patience = if self.is_shown { 1 } else { 2 };
        let mut told = Told::default();
        let mut deadline = Instant::now() + told.progress.timeout(case) * patience;
        let (mut arrived, mut text) = (Vec::new(), Vec::new());
        loop {
            let ended = self.wait(deadline)?;
            self.output = self.output.filter(|output| read_all(output, &mut text));
            match self.is_shown {
                true => show(&mut text, ended.is_some()),
                false => text.clear(),
            }
            self.control = self.control.filter(|control| read_all(control, &mut arrived));
            while let Some(message) = Message::take_from(&mut arrived) {
                told.hear(message);
                deadline = Instant::now() + told.progress.timeout(case) * patience;
            }
            if let Some(status) = ended {
                told.status = status;
                return Ok(told);
            }
            if Instant::now() >= deadline && told.hang.is_none() {
                let handle = self.handle.as_ref().map(OwnedFd::as_fd);
                let started = told.started.clone().unwrap_or_default();
                told.hang = Some(hang::look(self.id, handle, &started));
                self.child.kill()?;
            }
        }
    }

    /// Waits until something can be read, the child has ended, or it is time. Answers how it ended.
    fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let pause = match &self.handle {
            // After the kill there is nothing to wait for but the end.
            Some(_) if left > Duration::ZERO => left,
            _ => ASKING_PAUSE,
        };
        let all = [&self.control, &self.output, &self.handle].into_iter().flatten();
        let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let pause = Timespec::try_from(pause).map_err(io::Error::other)?;
        match poll(&mut all, Some(&pause)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.child.try_wait()
    }
}

/// Reads what is there. False at the end of the pipe.
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

/// Prints what has arrived, as the test would have: the runner captures what this thread prints. A
/// letter that is cut in the middle waits for its rest.
fn show(text: &mut Vec<u8>, is_last: bool) {
    let end = match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() && !is_last => error.valid_up_to(),
        _ => text.len(),
    };
    if end > 0 {
        print!("{}", String::from_utf8_lossy(&text[..end]));
        text.drain(..end);
    }
}
