//! The child process: runs the body alone, and reports the descriptors that it left open.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::process::{ExitCode, Termination, exit};
use std::thread;
use std::time::Duration;

use echown_fd::{
    inherit_fds,
    open::{self, FdIdentity},
    trap::{self, Stack},
};

use super::case::Case;
use super::child_config::ChildConfig;
use super::exec_leaks;
use super::fd_snapshot::{FdSnapshot, described};
use super::function_names::ProcessWide;
use super::judge;
use super::message::{
    ChildMessage, Closed, ClosedLate, Coverage, Ended, Fate, Left, Outcome, OwnedAtExit, Started,
    now,
};
use super::misuse;
use super::observer::{Observed, Observer, panic_message};
use super::processes;
use super::report_map::ReportWriter;
use super::settle::{Settled, settle};
use super::symbolizer::Symbolizer;
use super::threads;
use echown_report::{Descriptor, Place, ResourceData, StackFrame};

/// The exit code of a test runner whose test failed.
const FAILED_EXIT_CODE: i32 = 101;

/// Why a descriptor is excused that the second execution opened at the same place and closed again:
/// what keeps it takes only one, such as a global that refuses to be set again.
const KEPT_ONCE: &str = "a second execution opened another one there and closed it, so the first is kept \
                         once per process";

/// The number of descriptors that the harness needs to list what is open and to read debug
/// information.
const FDS_RESERVED: usize = 64;

/// The maximum number of descriptors that one descriptor is compared with to find a duplicate: with
/// thousands of leaks, comparing all pairs takes minutes.
const COMPARED_MAX: usize = 100;

/// Runs the test and ends the process.
pub(super) fn run<R: Termination + 'static>(
    case: &Case,
    config: ChildConfig,
    body: fn() -> R,
    observer: &'static dyn Observer,
) -> ! {
    let report = take_over(&config).unwrap_or_else(|error| panic!("the parent's report: {error}"));
    let before = FdSnapshot::take();
    report.send(&ChildMessage::Started(Started {
        before: before.fds.iter().map(|fd| i64::from(fd.number)).collect(),
        threads: before.threads.iter().map(|&thread| i64::from(thread)).collect(),
    }));
    if case.report_without_cloexec {
        trap::record_openings();
    }
    let coverage = match config.trace {
        None => Coverage::NotRecorded,
        Some(mode) => match trap::install(mode, config.level()) {
            Ok(()) => Coverage::Noted,
            Err(error) => Coverage::Missing(error.to_string()),
        },
    };
    let run = Run { case, body, observer, report: &report, symbolizer: Symbolizer::new(case) };
    let mut first = run.execute(&before);
    first.ended.coverage = coverage;
    run.find_places(&mut first);
    report.send(&ChildMessage::Ended(first.ended.clone()));
    if config.rerun && judge::needs_second_execution(case, &first.ended) && hide_output() {
        inherit_fds::make_room(first.fds.len());
        let before = first.openings_so_far();
        let second = run.execute(&FdSnapshot::take());
        // The second execution is not comparable if its outcome differs or no descriptor could be
        // opened.
        if second.ended.outcome == first.ended.outcome && !second.is_full {
            let recurs = second.recurs(&first);
            let after = first.openings_so_far();
            for (index, left) in first.ended.left.iter_mut().enumerate().take(recurs.len()) {
                left.recurs = Some(recurs[index]);
                let (was, is) = (before[index], after[index]);
                let is_opened_elsewhere =
                    is.of_stack > was.of_stack && is.of_number == was.of_number;
                if is_opened_elsewhere && !recurs[index] && left.fate == Fate::StayedOpen {
                    left.fate = Fate::ProcessWide(KEPT_ONCE.to_owned());
                }
            }
            report.send(&ChildMessage::Ended(first.ended.clone()));
        }
    }
    exit(if first.ended.outcome == Outcome::Returned { 0 } else { FAILED_EXIT_CODE })
}

/// Takes over the descriptors that the parent passed. None of them is open any more when this
/// returns, apart from the standard streams.
fn take_over(config: &ChildConfig) -> io::Result<ReportWriter> {
    if let Some(output) = config.output {
        let output = inherit_fds::receive(output)?;
        // The output of the runner is discarded up to here; from here on it is the test's.
        let _ = io::stdout().flush();
        let _ = rustix::stdio::dup2_stdout(&output);
    }
    ReportWriter::new(inherit_fds::receive(config.report)?)
}

/// Discards the output from here on. Returns false if that is not possible.
fn hide_output() -> bool {
    let _ = io::stdout().flush();
    let Ok(null) = File::options().write(true).open("/dev/null") else { return false };
    rustix::stdio::dup2_stdout(&null).and(rustix::stdio::dup2_stderr(&null)).is_ok()
}

/// The findings of one execution of the body, with the stacks that are not symbolized yet.
struct Execution {
    ended: Ended,
    fds: Vec<FdIdentity>,
    opened: Vec<Option<Stack>>,
    closed: Vec<Option<Stack>>,
    misused: Vec<trap::MisusedFd>,
    exec_leaks: Vec<trap::ExecLeak>,
    /// The threads that still run.
    threads: Vec<u32>,
    /// Whether the descriptor limit was reached at its end.
    is_full: bool,
}

/// The number of openings so far.
#[derive(Clone, Copy)]
struct Openings {
    /// Those at the place of a descriptor, under any number.
    of_stack: usize,
    /// Those of its number, at any place.
    of_number: u32,
}

impl Execution {
    /// For each descriptor that the first execution left: whether this one, the second, left it
    /// again. It did if it left one of the same kind that was opened by the same calls. Of
    /// descriptors whose openings are not recorded, the kinds are counted: one that a process opens
    /// only once is missing.
    fn recurs(&self, first: &Execution) -> Vec<bool> {
        let (mut before, mut after) = (HashMap::new(), HashMap::new());
        first.openings().for_each(|(kind, _)| *before.entry(kind).or_insert(0) += 1);
        self.openings().for_each(|(kind, _)| *after.entry(kind).or_insert(0) += 1);
        let alike: HashSet<(&str, Option<&[usize]>)> = self.openings().collect();
        let recurs = |(kind, opening): (&str, Option<&[usize]>)| {
            let some = after.get(kind).copied().unwrap_or(0);
            match opening {
                Some(_) => alike.contains(&(kind, opening)),
                None => some >= before[kind],
            }
        };
        first.openings().map(recurs).collect()
    }

    /// For each remaining descriptor, the recorded openings so far.
    fn openings_so_far(&self) -> Vec<Openings> {
        let count = |(fd, stack): (&FdIdentity, &Option<Stack>)| Openings {
            of_stack: stack.as_ref().map_or(0, |stack| trap::openings(&stack.addresses)),
            of_number: trap::generation(fd.number),
        };
        self.fds.iter().zip(&self.opened).map(count).collect()
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
    report: &'a ReportWriter,
    symbolizer: Symbolizer,
}

impl<R: Termination + 'static> Run<'_, R> {
    /// Runs the body once, on a new thread, so that its thread-locals are destroyed before the
    /// check.
    fn execute(&self, before: &FdSnapshot) -> Execution {
        let (body, observer) = (self.body, self.observer);
        let in_task =
            move || observer.run(Box::new(move || succeeds(__rust_begin_short_backtrace(body))));
        self.report.send(&ChildMessage::Began { at: now() });
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
        self.report.send(&ChildMessage::Returned { at: now() });
        trap::end_quarantine();
        let is_full = inherit_fds::is_full();
        inherit_fds::make_room(FDS_RESERVED);
        let process_wide = ProcessWide::default();
        let opened_for_process = |fd: &FdIdentity| {
            trap::opened(fd.number).and_then(|opened| process_wide.reason(&opened))
        };
        let awaited = |fd: &FdIdentity| {
            let descriptor = described(fd.number);
            let is_excused =
                judge::is_ignored(self.case, &descriptor) || opened_for_process(fd).is_some();
            (!is_excused).then_some(descriptor)
        };
        let Settled { left: fds, late } = settle(before, self.case.settle(), awaited);
        let on_record = self.observer.resources();
        ended.left = fds.iter().map(|fd| left(fd, &fds, before, &on_record)).collect();
        processes::add_holders(ended.left.iter_mut().map(|left| &mut left.descriptor));
        for (left, fd) in ended.left.iter_mut().zip(&fds) {
            if let Some(reason) = opened_for_process(fd) {
                left.fate = Fate::ProcessWide(reason);
            }
        }
        ended
            .left
            .extend(late.into_iter().map(|(descriptor, after)| closed_late(descriptor, after)));
        ended.closed = before.closed().map(|(fd, was)| closed(fd, was)).collect();
        ended.inherited = inherited(before);
        Execution {
            threads: before.new_threads(),
            opened: fds.iter().map(|fd| trap::opened(fd.number)).collect(),
            closed: before.closed().map(|(fd, _)| trap::closed(fd.number)).collect(),
            misused: trap::misused(),
            exec_leaks: trap::exec_leaks(),
            is_full,
            fds,
            ended,
        }
    }

    /// Symbolizes the stacks of all closes, and of the openings that count.
    fn find_places(&self, execution: &mut Execution) {
        if inherit_fds::is_full() {
            let why = "no descriptor was free for reading the debug information";
            execution.ended.coverage = Coverage::Missing(why.to_owned());
            execution.ended.threads = threads::still_running(&execution.threads, |_| None);
            return;
        }
        let place = |stack: Option<Stack>, what| stack.map(|it| self.symbolizer.place(it, what));
        for (left, stack) in execution.ended.left.iter_mut().zip(&execution.opened) {
            if left.fate == Fate::StayedOpen {
                left.opened = place(stack.clone(), "opened by ").or(left.opened.take());
                let sent = place(trap::passed_on(left.descriptor.number), "last sent by ");
                let sent = sent.map(|it| format!("{}, on thread {}", it.summary(), it.thread));
                left.custody.extend(sent);
            }
        }
        for (closed, stack) in execution.ended.closed.iter_mut().zip(&mut execution.closed) {
            closed.at = place(stack.take(), "closed by ");
        }
        let misused = execution.misused.drain(..);
        execution.ended.misused =
            misused.map(|it| misuse::symbolized(it, &self.symbolizer)).collect();
        let exec_leaks = std::mem::take(&mut execution.exec_leaks);
        execution.ended.exec_leaks = exec_leaks::symbolized(exec_leaks, &self.symbolizer);
        let Ended { left, closed, misused, .. } = &execution.ended;
        let stayed_open = left.iter().any(|left| left.fate == Fate::StayedOpen);
        // Otherwise the threads are not shown, and symbolizing takes time.
        let has_findings = stayed_open || !closed.is_empty() || !misused.is_empty();
        let spawned = |thread| {
            let stack = trap::spawned(thread).filter(|_| has_findings)?;
            place(Some(Stack { call: "", ..stack }), "spawned")
        };
        execution.ended.threads = threads::still_running(&execution.threads, spawned);
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
        ..Left::default()
    }
}

/// A descriptor that was open after the settle time and is closed now.
fn closed_late(descriptor: Descriptor, after: Duration) -> Left {
    let closer = trap::last_close(descriptor.number);
    let after_ms = after.as_millis().try_into().unwrap_or(u64::MAX);
    Left {
        descriptor,
        fate: Fate::ClosedLate(ClosedLate { after_ms, thread: closer.map(|it| it.thread_name) }),
        ..Left::default()
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
        is_guessed: false,
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
fn succeeds(returned: impl Termination) -> bool {
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

fn inherited(before: &FdSnapshot) -> Vec<Descriptor> {
    let numbers = before.fds.iter().map(|fd| fd.number);
    numbers.filter(|&number| number > 2).map(described).collect()
}
