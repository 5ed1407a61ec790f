//! The child process: runs the body alone, and reports the descriptors that it left open.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::{ExitCode, Termination, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use echown_fd::{
    inherit_fds,
    open::{self, FdIdentity},
    trap::{self, Stack},
};

use super::case::Case;
use super::fd_snapshot::{FdSnapshot, described};
use super::message::{
    ChildMessage, Closed, Coverage, Double, Ended, Left, Outcome, OwnedAtExit, Started,
};
use super::observer::{Observed, Observer, panic_message};
use super::symbolizer::Symbolizer;
use echown_report::{Descriptor, Place, ResourceData, StackFrame};

/// The environment variable that marks a child process and contains its settings.
pub(super) const VARIABLE: &str = "ECHOWN_TEST_CHILD";

/// The exit code of a child that cannot report because the test closed the report pipe.
pub(super) const LOST_EXIT_CODE: i32 = 97;

/// The exit code of a test runner whose test failed.
const FAILED_EXIT_CODE: i32 = 101;

/// The number of descriptors that the harness needs to list what is open and to read debug
/// information.
const FDS_RESERVED: usize = 64;

/// The maximum number of descriptors that one descriptor is compared with to find a duplicate: with
/// thousands of leaks, comparing all pairs takes minutes.
const COMPARED_MAX: usize = 100;

/// The settings of a child process.
pub(super) struct ChildConfig {
    /// The write end of the report pipe.
    pub(super) control: RawFd,
    /// The descriptor to install as standard output and standard error; `None` leaves them
    /// unchanged. The output of the runner before the body is discarded.
    pub(super) output: Option<RawFd>,
    /// Whether and how to record opening and closing calls.
    pub(super) trace: Option<trap::Mode>,
    /// Whether to run the body a second time if it leaves something open.
    pub(super) rerun: bool,
}

impl ChildConfig {
    /// The settings; `None` in every process other than the child. A process that the child started
    /// also has the variable, but another parent.
    pub(super) fn from_environment() -> Option<ChildConfig> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let text = std::env::var(VARIABLE).ok()?;
        let mut words = text.split(' ');
        let parent: u32 = words.next()?.parse().ok()?;
        if parent != std::os::unix::process::parent_id() {
            return None;
        }
        let config = ChildConfig {
            control: words.next()?.parse().ok()?,
            output: words.next()?.parse().ok(),
            trace: match words.next()? {
                "strict" => Some(trap::Mode::Strict),
                "ignore-abort" => Some(trap::Mode::IgnoreAbort),
                _ => None,
            },
            rerun: words.next()? == "rerun",
        };
        // ord: Relaxed; only the runner's thread for the one test reads it. A test that is called
        // from a test's body gets a child process of its own.
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(config)
    }

    pub(super) fn to_variable(&self, parent: u32) -> String {
        let output = self.output.map_or(String::from("-"), |number| number.to_string());
        let trace = match self.trace {
            Some(trap::Mode::Strict) => "strict",
            Some(trap::Mode::IgnoreAbort) => "ignore-abort",
            None => "-",
        };
        let rerun = if self.rerun { "rerun" } else { "-" };
        format!("{parent} {} {output} {trace} {rerun}", self.control)
    }
}

/// Runs the test and ends the process.
pub(super) fn run<R: Termination + 'static>(
    case: &Case,
    config: ChildConfig,
    body: fn() -> R,
    observer: &'static dyn Observer,
) -> ! {
    let pipe = ReportPipe::new(&config);
    let before = FdSnapshot::take();
    pipe.send(&ChildMessage::Started(Started {
        before: before.fds.iter().map(|fd| i64::from(fd.number)).collect(),
        threads: before.threads.iter().map(|&thread| i64::from(thread)).collect(),
    }));
    let coverage = match config.trace {
        None => Coverage::NotRecorded,
        Some(mode) => match trap::install(mode) {
            Ok(()) => Coverage::Noted,
            Err(error) => Coverage::Missing(error.to_string()),
        },
    };
    let run = Run { case, body, observer, pipe: &pipe, symbolizer: Symbolizer::new(case) };
    let mut first = run.execute(&before);
    first.ended.coverage = coverage;
    let outcome = first.ended.outcome.clone();
    let count = first.fds.len();
    if !config.rerun || count == 0 {
        run.find_places(&mut first, |_| true);
        pipe.send(&ChildMessage::Ended(first.ended));
    } else {
        // Sent before the second execution, which may fail. The places are sent after it:
        // symbolizing is slow, and descriptors that are opened once per process need no place.
        pipe.send(&ChildMessage::Ended(first.ended.clone()));
        inherit_fds::make_room(count);
        let second = run.execute(&FdSnapshot::take());
        // The second execution is not comparable if its outcome differs or no descriptor could be
        // opened.
        let recurs = match second.ended.outcome == outcome && !second.is_full {
            true => first.recurring_in(&second),
            false => vec![true; count],
        };
        run.find_places(&mut first, |index| recurs[index]);
        pipe.send(&ChildMessage::Rerun { recurs });
        pipe.send(&ChildMessage::Ended(first.ended));
    }
    exit(if outcome == Outcome::Returned { 0 } else { FAILED_EXIT_CODE })
}

/// The findings of one execution of the body, with the stacks that are not symbolized yet.
struct Execution {
    ended: Ended,
    fds: Vec<FdIdentity>,
    opened: Vec<Option<Stack>>,
    closed: Vec<Option<Stack>>,
    doubles: Vec<trap::DoubleClose>,
    /// Whether the descriptor limit was reached at its end.
    is_full: bool,
}

impl Execution {
    /// Which of the remaining descriptors the second execution left again. A descriptor recurs if
    /// one of the same kind was opened at the same place or at an unrecorded one, or if the number
    /// of descriptors of that kind did not decrease, because one that a process opens only once
    /// would be missing.
    fn recurring_in(&self, second: &Execution) -> Vec<bool> {
        let alike = second.openings();
        let (mut before, mut after) = (HashMap::new(), HashMap::new());
        self.openings().for_each(|(kind, _)| *before.entry(kind).or_insert(0) += 1);
        second.openings().for_each(|(kind, _)| *after.entry(kind).or_insert(0) += 1);
        let alike: HashSet<(&str, Option<&[usize]>)> = alike.collect();
        let recurs = |(kind, opening): (&str, Option<&[usize]>)| {
            let some = after.get(kind).copied().unwrap_or(0);
            some >= before[kind]
                || alike.contains(&(kind, opening))
                || alike.contains(&(kind, None))
                || (opening.is_none() && some > 0)
        };
        self.openings().map(recurs).collect()
    }

    /// Kind and stack of each remaining descriptor.
    fn openings(&self) -> impl Iterator<Item = (&str, Option<&[usize]>)> {
        let left = self.ended.left.iter().zip(&self.opened);
        left.map(|(left, stack)| {
            (&*left.descriptor.kind, stack.as_ref().map(|stack| &*stack.addresses))
        })
    }
}

/// The test that this process runs.
struct Run<'a, R> {
    case: &'a Case,
    body: fn() -> R,
    observer: &'static dyn Observer,
    pipe: &'a ReportPipe,
    symbolizer: Symbolizer,
}

impl<R: Termination + 'static> Run<'_, R> {
    /// Runs the body once, on a new thread, so that its thread-locals are destroyed before the
    /// check.
    fn execute(&self, before: &FdSnapshot) -> Execution {
        let (body, observer) = (self.body, self.observer);
        let in_task =
            move || observer.run(Box::new(move || report(__rust_begin_short_backtrace(body))));
        self.pipe.send(&ChildMessage::Began);
        let running = thread::Builder::new().name(self.case.name()).spawn(in_task);
        let running =
            running.unwrap_or_else(|error| panic!("no thread for the test's body: {error}"));
        let mut ended = Ended::default();
        match running.join() {
            Ok(Observed { outcome, owned: resources, unjoined }) => {
                ended.outcome = outcome;
                ended.owned = resources.into_iter().map(owned).collect();
                ended.unjoined = unjoined;
            }
            // A panic in a thread-local's destructor, or a bug in the registry.
            Err(payload) => ended.outcome = Outcome::Panicked(panic_message(&*payload)),
        }
        // Buffered output belongs to this test.
        let _ = io::stdout().flush();
        self.pipe.send(&ChildMessage::Returned);
        let is_full = inherit_fds::is_full();
        inherit_fds::make_room(FDS_RESERVED);
        let fds = before.leaked_since(self.case.settle());
        let on_record = self.observer.resources();
        ended.left = fds.iter().map(|fd| left(fd, &fds, before, &on_record)).collect();
        ended.closed = before.closed().map(|(fd, was)| closed(fd, was)).collect();
        ended.inherited = inherited(before, self.pipe);
        ended.threads = before.remaining_threads();
        Execution {
            opened: fds.iter().map(|fd| trap::opened(fd.number)).collect(),
            closed: before.closed().map(|(fd, _)| trap::closed(fd.number)).collect(),
            doubles: trap::doubles(),
            is_full,
            fds,
            ended,
        }
    }

    /// Symbolizes the stacks of all closes, and of the openings for which `wanted` returns true.
    fn find_places(&self, execution: &mut Execution, wanted: impl Fn(usize) -> bool) {
        if inherit_fds::is_full() {
            let why = "no descriptor was free for reading the debug information";
            execution.ended.coverage = Coverage::Missing(why.to_owned());
            return;
        }
        let place = |stack: Option<Stack>, what| stack.map(|it| self.symbolizer.place(it, what));
        let left = execution.ended.left.iter_mut().zip(&mut execution.opened).enumerate();
        for (_, (left, stack)) in left.filter(|(index, _)| wanted(*index)) {
            left.opened = place(stack.take(), "opened by ").or(left.opened.take());
        }
        for (closed, stack) in execution.ended.closed.iter_mut().zip(&mut execution.closed) {
            closed.at = place(stack.take(), "closed by ");
        }
        for trap::DoubleClose { number, stacks } in execution.doubles.drain(..) {
            let words = ["opened by ", "closed first by ", "closed again by "];
            let places = stacks.into_iter().zip(words);
            let places = places.filter_map(|(stack, words)| place(stack, words)).collect();
            execution.ended.doubles.push(Double { number: i64::from(number), places });
        }
    }
}

fn left(
    fd: &FdIdentity,
    left: &[FdIdentity],
    before: &FdSnapshot,
    on_record: &[ResourceData],
) -> Left {
    let mut descriptor = described(fd.number);
    if let Some(number) = duplicate_of(fd, &before.fds) {
        descriptor.facts.push(format!("a duplicate of fd {number}, which was there before"));
    } else if let Some(number) = duplicate_of(fd, left) {
        descriptor.facts.push(format!("the same open file as fd {number}"));
    }
    let record = on_record.iter().find(|resource| resource.number == Some(fd.number));
    Left {
        descriptor,
        opened: record.map(acquired),
        custody: record.map(custody).unwrap_or_default(),
    }
}

fn closed(fd: &FdIdentity, was: &str) -> Closed {
    let is_open = open::identify(fd.number).is_some();
    Closed {
        number: i64::from(fd.number),
        was: was.to_owned(),
        now: is_open.then(|| described(fd.number).to_string()),
        at: None,
    }
}

/// Another number for the same open file.
fn duplicate_of(fd: &FdIdentity, others: &[FdIdentity]) -> Option<RawFd> {
    let is_duplicate = |other: &&FdIdentity| {
        other.number != fd.number && other.still_holds() && other.shares_with(fd)
    };
    others.iter().take(COMPARED_MAX).find(is_duplicate).map(|other| other.number)
}

/// Where the registry's resource was acquired; known without the trap.
fn acquired(resource: &ResourceData) -> Place {
    let first = resource.custody.first();
    let frame = StackFrame {
        function: first
            .and_then(|step| step.to.as_ref())
            .map_or(String::new(), |to| to.to_string()),
        file: Some(resource.acquired.file().to_owned()),
        line: resource.acquired.line(),
        column: resource.acquired.column(),
        is_own: true,
        package: None,
    };
    Place {
        what: String::from("acquired"),
        thread: first.map_or(0, |step| step.thread_id).to_string(),
        frames: vec![frame],
    }
}

/// Calls the body. The standard library ends a panic's backtrace at a function with this name,
/// which hides the outer frames of the harness.
#[inline(never)]
fn __rust_begin_short_backtrace<R>(body: fn() -> R) -> R {
    let returned = body();
    // Prevents a tail call, which would remove this frame.
    std::hint::black_box(());
    returned
}

/// Prints an error that a test returns, as the runner would. Returns whether the test succeeded.
fn report(returned: impl Termination) -> bool {
    returned.report() == ExitCode::SUCCESS
}

/// A resource that the test's task still owned. The registry has closed it and has its chain of
/// custody.
fn owned(resource: ResourceData) -> OwnedAtExit {
    OwnedAtExit {
        what: match resource.number {
            Some(number) => format!("{} fd {number}", resource.kind),
            None => format!("{} (resource {})", resource.kind, resource.id),
        },
        kind: resource.kind.to_owned(),
        custody: custody(&resource),
        places: resource.places().into_iter().map(str::to_owned).collect(),
    }
}

fn custody(resource: &ResourceData) -> Vec<String> {
    let steps = resource.custody.iter().map(ToString::to_string);
    let kept = resource.kept_alive_by.as_ref().map(ToString::to_string);
    steps.chain(kept.iter().flat_map(|text| text.lines()).map(str::to_owned)).collect()
}

fn inherited(before: &FdSnapshot, pipe: &ReportPipe) -> Vec<Descriptor> {
    let numbers = before.fds.iter().map(|fd| fd.number);
    numbers.filter(|&number| number > 2 && number != pipe.fd.number).map(described).collect()
}

/// The pipe for messages to the parent.
struct ReportPipe {
    control: OwnedFd,
    fd: FdIdentity,
}

impl ReportPipe {
    /// Takes over the descriptors that the parent passed.
    fn new(config: &ChildConfig) -> ReportPipe {
        let receive = |number| {
            inherit_fds::receive(number)
                .unwrap_or_else(|error| panic!("the parent passed no fd {number}: {error}"))
        };
        if let Some(output) = config.output {
            let output = receive(output);
            // The output of the runner is discarded up to here; from here on it is the test's.
            let _ = io::stdout().flush();
            let _ = rustix::stdio::dup2_stdout(&output);
        }
        let control = receive(config.control);
        let fd = open::identify(control.as_raw_fd());
        let fd = fd.expect("it was found open the line before, and no other thread runs yet");
        ReportPipe { control, fd }
    }

    /// Sends a message, unless the test closed the pipe, since its number may then refer to another
    /// file.
    fn send(&self, message: &ChildMessage) {
        let bytes = message.to_bytes();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if !self.fd.still_holds() {
                exit(LOST_EXIT_CODE);
            }
            match rustix::io::write(&self.control, rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => exit(LOST_EXIT_CODE),
            }
        }
    }
}
