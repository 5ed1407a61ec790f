//! The child process: runs the body alone, and reports what it left open.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::process::{ExitCode, Termination, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use echown_fd::{
    open::{self, Mark},
    passing,
    trap::{self, Stack},
};

use super::case::Case;
use super::message::{Closed, Coverage, Double, Ended, Left, Message, Outcome, Owned, Started};
use super::settle::{Before, described};
use super::sites::Sites;
use crate::observer::{Observed, Observer};
use echown_report::{Descriptor, Frame, Place, ResourceData};

/// The variable that tells a child that it is one.
pub(super) const VARIABLE: &str = "ECHOWN_TEST_CHILD";

/// With this code a child ends that cannot tell what it found: its way to do so was closed.
pub(super) const LOST_EXIT_CODE: i32 = 97;

/// The exit code of a test runner whose test failed.
const FAILED_EXIT_CODE: i32 = 101;

/// What it takes to look at what is open, and to read the debug information.
const ROOM_TO_LOOK: usize = 64;

/// With how many others a descriptor is compared to find out which lead to the same open file: whoever
/// left thousands would wait for minutes.
const COMPARED_MAX: usize = 100;

/// What a child is to do.
pub(super) struct Orders {
    /// Where messages go.
    pub(super) control: RawFd,
    /// Standard output as it is to be, unless it stays what it is. Until the body begins, the runner
    /// writes to nowhere.
    pub(super) output: Option<RawFd>,
    /// Note openings and closings, and how.
    pub(super) trace: Option<trap::Mode>,
    /// Run the body a second time if it leaves something.
    pub(super) again: bool,
}

impl Orders {
    /// The orders, in the child; `None` in every other process, and also in one that the child
    /// started: it has the variable, but another parent.
    pub(super) fn from_environment() -> Option<Orders> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let text = std::env::var(VARIABLE).ok()?;
        let mut words = text.split(' ');
        let parent: u32 = words.next()?.parse().ok()?;
        if parent != std::os::unix::process::parent_id() {
            return None;
        }
        let orders = Orders {
            control: words.next()?.parse().ok()?,
            output: words.next()?.parse().ok(),
            trace: match words.next()? {
                "faithful" => Some(trap::Mode::Faithful),
                "going-on" => Some(trap::Mode::GoingOn),
                _ => None,
            },
            again: words.next()? == "again",
        };
        // ord: Relaxed; only the runner's thread for the one test comes here. Whoever calls a test
        // from a test's body gets a parent of its own.
        (!TAKEN.swap(true, Ordering::Relaxed)).then_some(orders)
    }

    pub(super) fn to_variable(&self, parent: u32) -> String {
        let output = self.output.map_or(String::from("-"), |number| number.to_string());
        let trace = match self.trace {
            Some(trap::Mode::Faithful) => "faithful",
            Some(trap::Mode::GoingOn) => "going-on",
            None => "-",
        };
        let again = if self.again { "again" } else { "-" };
        format!("{parent} {} {output} {trace} {again}", self.control)
    }
}

/// Runs the test and ends the process.
pub(super) fn run<R: Termination + 'static>(
    case: &Case,
    orders: Orders,
    body: fn() -> R,
    observer: &'static dyn Observer,
) -> ! {
    let link = Link::new(&orders);
    let before = Before::now();
    link.send(&Message::Started(Started {
        before: before.marks.iter().map(|mark| i64::from(mark.number)).collect(),
        threads: before.threads.iter().map(|&thread| i64::from(thread)).collect(),
    }));
    let coverage = match orders.trace {
        None => Coverage::Unasked,
        Some(mode) => match trap::install(mode) {
            Ok(()) => Coverage::Noted,
            Err(why) => Coverage::Missing(why),
        },
    };
    let run = Run { case, body, observer, link: &link, sites: Sites::new(case) };
    let mut first = run.round(&before);
    first.ended.coverage = coverage;
    let outcome = first.ended.outcome.clone();
    let count = first.marks.len();
    if !orders.again || count == 0 {
        run.find_places(&mut first, |_| true);
        link.send(&Message::Ended(first.ended));
    } else {
        // Told before the second time, which may go wrong. The places come after it: finding them
        // takes long, and most of what is excused needs none.
        link.send(&Message::Ended(first.ended.clone()));
        passing::make_room(count);
        let second = run.round(&Before::now());
        // A second time that went otherwise proves nothing, nor does one that could open nothing.
        let recurs = match second.ended.outcome == outcome && !second.is_full {
            true => first.recurring_in(&second),
            false => vec![true; count],
        };
        run.find_places(&mut first, |index| recurs[index]);
        link.send(&Message::Again { recurs });
        link.send(&Message::Ended(first.ended));
    }
    exit(if outcome == Outcome::Returned { 0 } else { FAILED_EXIT_CODE })
}

/// What was found after one round, and the stacks that are not yet places.
struct Round {
    ended: Ended,
    marks: Vec<Mark>,
    opened: Vec<Option<Stack>>,
    closed: Vec<Option<Stack>>,
    doubles: Vec<trap::Double>,
    /// Whether nothing more could be opened at its end.
    is_full: bool,
}

impl Round {
    /// Which of the descriptors that this round left were left by the second one again: some of the same
    /// kind were opened at the same place, or at one that was not noted; or there were no fewer of that
    /// kind, since what a process opens only once would now be missing.
    fn recurring_in(&self, second: &Round) -> Vec<bool> {
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

    /// Kind and stack of each descriptor that was left.
    fn openings(&self) -> impl Iterator<Item = (&str, Option<&[usize]>)> {
        let left = self.ended.left.iter().zip(&self.opened);
        left.map(|(left, stack)| {
            (&*left.descriptor.kind, stack.as_ref().map(|stack| &*stack.addresses))
        })
    }
}

/// One test, being run.
struct Run<'a, R> {
    case: &'a Case,
    body: fn() -> R,
    observer: &'static dyn Observer,
    link: &'a Link,
    sites: Sites,
}

impl<R: Termination + 'static> Run<'_, R> {
    /// Runs the body once, on a thread of its own: when that has ended, so have its thread-locals.
    fn round(&self, before: &Before) -> Round {
        let (body, observer) = (self.body, self.observer);
        let in_task =
            move || observer.run(Box::new(move || report(__rust_begin_short_backtrace(body))));
        self.link.send(&Message::Began);
        let running = thread::Builder::new().name(self.case.name()).spawn(in_task);
        let running =
            running.unwrap_or_else(|error| panic!("no thread for the test's body: {error}"));
        let mut ended = Ended::default();
        match running.join() {
            Ok(Observed { outcome, owned: resources, unjoined }) => {
                ended.outcome = outcome;
                ended.owned = resources.into_iter().map(owned).collect();
                ended.forgotten = unjoined;
            }
            // Out of a thread-local's destructor, or the registry's own mistake.
            Err(payload) => ended.outcome = Outcome::Panicked(text(&*payload)),
        }
        // What stands in the buffer is still this test's.
        let _ = io::stdout().flush();
        self.link.send(&Message::CameBack);
        let is_full = passing::is_full();
        passing::make_room(ROOM_TO_LOOK);
        let marks = before.left_after(self.case.settle());
        let on_record = self.observer.resources();
        ended.left = marks.iter().map(|mark| left(mark, &marks, before, &on_record)).collect();
        ended.closed = before.gone().map(|(mark, was)| closed(mark, was)).collect();
        ended.inherited = inherited(before, self.link);
        ended.threads = before.threads_left();
        Round {
            opened: marks.iter().map(|mark| trap::opened(mark.number)).collect(),
            closed: before.gone().map(|(mark, _)| trap::closed(mark.number)).collect(),
            doubles: trap::doubles(),
            is_full,
            marks,
            ended,
        }
    }

    /// Turns the stacks into places: for all closes, and for those of the openings that are `wanted`.
    fn find_places(&self, round: &mut Round, wanted: impl Fn(usize) -> bool) {
        if passing::is_full() {
            let why = "no descriptor was free for reading the debug information";
            round.ended.coverage = Coverage::Missing(why.to_owned());
            return;
        }
        let place = |stack: Option<Stack>, what| stack.map(|it| self.sites.place(it, what));
        let left = round.ended.left.iter_mut().zip(&mut round.opened).enumerate();
        for (_, (left, stack)) in left.filter(|(index, _)| wanted(*index)) {
            left.opened = place(stack.take(), "opened by ").or(left.opened.take());
        }
        for (closed, stack) in round.ended.closed.iter_mut().zip(&mut round.closed) {
            closed.at = place(stack.take(), "closed by ");
        }
        for trap::Double { number, stacks } in round.doubles.drain(..) {
            let words = ["opened by ", "closed first by ", "closed again by "];
            let places = stacks.into_iter().zip(words);
            let places = places.filter_map(|(stack, words)| place(stack, words)).collect();
            round.ended.doubles.push(Double { number: i64::from(number), places });
        }
    }
}

fn left(mark: &Mark, left: &[Mark], before: &Before, on_record: &[ResourceData]) -> Left {
    let mut descriptor = described(mark.number);
    if let Some(twin) = twin(mark, &before.marks) {
        descriptor.facts.push(format!("a duplicate of fd {twin}, which was there before"));
    } else if let Some(twin) = twin(mark, left) {
        descriptor.facts.push(format!("the same open file as fd {twin}"));
    }
    let record = on_record.iter().find(|resource| resource.number == Some(mark.number));
    Left {
        descriptor,
        opened: record.map(acquired),
        custody: record.map(custody).unwrap_or_default(),
    }
}

fn closed(mark: &Mark, was: &str) -> Closed {
    let is_open = open::mark(mark.number).is_some();
    Closed {
        number: i64::from(mark.number),
        was: was.to_owned(),
        now: is_open.then(|| described(mark.number).to_string()),
        at: None,
    }
}

/// Another number that leads to the same open file.
fn twin(mark: &Mark, others: &[Mark]) -> Option<RawFd> {
    let is_twin = |other: &&Mark| {
        other.number != mark.number && other.still_holds() && other.shares_with(mark)
    };
    others.iter().take(COMPARED_MAX).find(is_twin).map(|twin| twin.number)
}

/// Where the registry's resource came from: that is known without any trap.
fn acquired(resource: &ResourceData) -> Place {
    let first = resource.custody.first();
    let frame = Frame {
        function: first
            .and_then(|step| step.to.as_ref())
            .map_or(String::new(), |to| to.to_string()),
        file: Some(resource.acquired.file().to_owned()),
        line: resource.acquired.line(),
        column: resource.acquired.column(),
        is_own: true,
    };
    Place {
        what: String::from("acquired"),
        thread: first.map_or(0, |step| step.thread_id).to_string(),
        frames: vec![frame],
    }
}

/// Calls the body. The standard library, printing a panic's backtrace, ends it at a function of this
/// name: what is further out is how the test came to be run, and nobody's business.
#[inline(never)]
fn __rust_begin_short_backtrace<R>(body: fn() -> R) -> R {
    let answer = body();
    // Not a call in the last place, which would leave no frame.
    std::hint::black_box(());
    answer
}

/// Prints an error that a test answers, as the runner would. True when it is none.
fn report(answer: impl Termination) -> bool {
    answer.report() == ExitCode::SUCCESS
}

/// The text of a panic.
pub(super) fn text(payload: &(dyn Any + Send)) -> Option<String> {
    let literal = payload.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
    literal.or_else(|| payload.downcast_ref::<String>().cloned())
}

/// A resource that the test left on record. The registry has closed it, and knows its story.
fn owned(resource: ResourceData) -> Owned {
    Owned {
        what: match resource.number {
            Some(number) => format!("{} fd {number}", resource.kind),
            None => format!("{} (resource {})", resource.kind, resource.id),
        },
        kind: resource.kind.to_owned(),
        custody: custody(&resource),
        places: [resource.local, resource.peer, resource.path].into_iter().flatten().collect(),
    }
}

fn custody(resource: &ResourceData) -> Vec<String> {
    let steps = resource.custody.iter().map(ToString::to_string);
    let kept = resource.kept_alive_by.as_ref().map(ToString::to_string);
    steps.chain(kept.iter().flat_map(|text| text.lines()).map(str::to_owned)).collect()
}

fn inherited(before: &Before, link: &Link) -> Vec<Descriptor> {
    let numbers = before.marks.iter().map(|mark| mark.number);
    numbers.filter(|&number| number > 2 && number != link.mark.number).map(described).collect()
}

/// The way to the parent.
struct Link {
    control: OwnedFd,
    mark: Mark,
}

impl Link {
    /// Takes over what the parent passed.
    fn new(orders: &Orders) -> Link {
        let receive = |number| {
            passing::receive(number)
                .unwrap_or_else(|error| panic!("the parent passed no fd {number}: {error}"))
        };
        if let Some(output) = orders.output {
            let output = receive(output);
            // What the runner has said so far went to nowhere; what follows is the test's.
            let _ = io::stdout().flush();
            let _ = rustix::stdio::dup2_stdout(&output);
        }
        let control = receive(orders.control);
        let mark = open::mark(control.as_raw_fd());
        let mark = mark.expect("it was found open the line before, and no other thread runs yet");
        Link { control, mark }
    }

    /// Sends a message, unless the test closed the way: then what has its number now is not ours.
    fn send(&self, message: &Message) {
        let bytes = message.to_bytes();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if !self.mark.still_holds() {
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
