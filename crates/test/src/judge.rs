//! The verdict on a child's report. Pure, so that every case can be tested without a process.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

pub(super) use child_report::ChildReport;

use echown_fd::trap::Misuse;
use echown_report::SCHEMA_VERSION;
use echown_report::{Descriptor, Plural, TestFinding, TestReport, TestVerdict};

use super::case::Case;
use super::exec_leaks;
use super::hang::Hang;
use super::message::{Closed, ClosedLate, Coverage, Ended, Fate, Left, Outcome, OwnedAtExit};
use super::progress::Progress;
use super::report_map::LOST_EXIT_CODE;

mod child_report;

/// The result of a test for the runner.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The report, if the test fails because of descriptors.
    pub(super) report: Option<TestReport>,
    /// Notes about a test without a report.
    pub(super) notes: Vec<String>,
    /// The test's own panic, with its message if it has one. The runner resumes it unless there is
    /// a report.
    pub(super) panic: Option<Option<String>>,
}

/// Whether a second execution of the body can add information: there is a leak.
pub(super) fn needs_second_execution(case: &Case, ended: &Ended) -> bool {
    // A test with `should_panic` that returns fails; its leaks are reported as well.
    let is_judged = ended.outcome == Outcome::Returned || case.should_panic;
    let leaks = ended.left.iter().filter(|left| counts(case, left, ended)).count();
    let owned = ended.owned.iter().filter(|owned| ignored_owned(case, owned).is_none()).count();
    let as_expected = case.expect_leaks.is_some_and(|(count, _)| count == leaks + owned);
    is_judged && leaks > 0 && !as_expected
}

/// Whether the process was aborted. The standard library does that if its own descriptor is closed.
pub(super) fn was_aborted(report: &ChildReport) -> bool {
    let abort = rustix::process::Signal::ABORT.as_raw();
    report.ended.is_none() && report.hang.is_none() && report.status.signal() == Some(abort)
}

/// Judges a test by its run. If that was aborted, `second` is a run that ignored the abort of the
/// standard library, and finds the double close that caused it.
pub(super) fn judge(case: &Case, first: ChildReport, second: Option<ChildReport>) -> Verdict {
    let mut builder = VerdictBuilder { case, findings: Vec::new(), notes: Vec::new() };
    let ChildReport { started, progress, ended, status, hang, .. } = first;
    if let (Some(hang), None) = (&hang, &ended) {
        builder.hang(hang, progress);
        return builder.build(None);
    }
    let is_double = |ended: &Ended| ended.misused.iter().any(|it| it.misuse == Misuse::DoubleClose);
    let mut aborted = second.and_then(|run| run.ended).filter(is_double);
    let Some(ended) = ended.or_else(|| aborted.take_if(|it| it.outcome == Outcome::Returned))
    else {
        match aborted {
            Some(ended) => builder.misused(&ended),
            None => builder.process_exited(started.is_some(), status),
        }
        return builder.build(None);
    };
    let panic = match &ended.outcome {
        Outcome::Returned => None,
        Outcome::ReturnedErr => {
            Some(Some(String::from("the test returned Err; see its output above")))
        }
        Outcome::Panicked(text) => Some(text.clone()),
    };
    if panic.is_some() && !case.should_panic {
        // The test's own failure takes precedence: leaks of a failing test are rarely its cause.
        let left = ended.left.len() as u64;
        if left > 0 {
            builder.notes.push(format!(
                "the test also left {} open, which is not judged in a failing test",
                Plural(left, "descriptor")
            ));
        }
        return builder.build(Some(panic).flatten());
    }
    builder.misused(&ended);
    builder.closed_inherited(&ended);
    builder.leaks(&ended);
    builder.exec_leaks(&ended);
    builder.unjoined(&ended);
    builder.inherited_fds(&ended);
    builder.threads(&ended);
    builder.build(panic)
}

/// The reason to ignore a descriptor of this kind at these places, if there is one. The options of the
/// attribute have no condition on the site.
fn ignored(case: &Case, kind: &str, places: &[&str]) -> Option<String> {
    let matching = (case.ignores)().into_iter().find(|known| known.matches(kind, places, ""));
    matching.map(|known| known.reason)
}

/// The reason to ignore a descriptor that is open.
fn ignored_open(case: &Case, descriptor: &Descriptor) -> Option<String> {
    ignored(case, &descriptor.kind, &descriptor.places())
}

/// The reason to ignore a resource that the registry closed.
fn ignored_owned(case: &Case, owned: &OwnedAtExit) -> Option<String> {
    let places: Vec<&str> = owned.places.iter().map(String::as_str).collect();
    ignored(case, &owned.kind, &places)
}

/// Whether the test ignores a descriptor of this description.
pub(super) fn is_ignored(case: &Case, descriptor: &Descriptor) -> bool {
    ignored_open(case, descriptor).is_some()
}

/// Whether a descriptor counts as a leak.
fn counts(case: &Case, left: &Left, ended: &Ended) -> bool {
    left.fate == Fate::StayedOpen
        && !is_ignored(case, &left.descriptor)
        && !is_in_place(left, ended)
}

/// Whether it replaced a closed standard stream, in which case it belongs to that finding.
fn is_in_place(left: &Left, ended: &Ended) -> bool {
    let mut closed = ended.closed.iter().filter(|closed| is_standard(closed));
    closed.any(|closed| closed.number == i64::from(left.descriptor.number))
}

/// Whether a standard stream was closed. Which other descriptors a process inherits depends on the
/// shell or the CI runner that starts it, and a verdict must not.
fn is_standard(closed: &Closed) -> bool {
    closed.number <= 2
}

/// Collects findings and notes, and makes them a [`Verdict`].
struct VerdictBuilder<'a> {
    case: &'a Case,
    findings: Vec<TestFinding>,
    notes: Vec<String>,
}

impl VerdictBuilder<'_> {
    fn add(&mut self, verdict: TestVerdict, message: String) -> &mut TestFinding {
        self.findings.push(TestFinding {
            verdict,
            message,
            descriptors: Vec::new(),
            places: Vec::new(),
            custody: Vec::new(),
        });
        self.findings.last_mut().expect("it was pushed the line before")
    }

    fn hang(&mut self, hang: &Hang, progress: Progress) {
        let message = progress.timeout_message(self.case);
        self.add(TestVerdict::Hang, message).descriptors = hang.descriptors.clone();
        let says = |what: &str, lines: &[String]| {
            lines.iter().map(|line| format!("{what} {line}")).collect::<Vec<_>>()
        };
        self.notes.extend(says("thread", &hang.threads));
        self.notes.extend(says("it had started a program, which was killed too:", &hang.programs));
    }

    fn process_exited(&mut self, started: bool, status: ExitStatus) {
        let message = match (status.signal(), status.code()) {
            (_, Some(LOST_EXIT_CODE)) if started => String::from("could not report its result"),
            (Some(signal), _) => {
                format!("was terminated by signal {signal} ({}) before it returned", name(signal))
            }
            (None, code) if started => {
                format!("exited with code {} before it returned", code.unwrap_or_default())
            }
            (None, code) => format!(
                "could not be run in a child process (exit code {}): its binary has no test of that \
                 name, or does not use the standard test runner. Doctests and `harness = false` do \
                 not use it; use `echown::check` there",
                code.unwrap_or_default()
            ),
        };
        self.add(TestVerdict::ProcessExited, message);
    }

    fn misused(&mut self, ended: &Ended) {
        for misused in &ended.misused {
            self.findings.push(misused.finding());
            self.notes.extend(misused.notes());
        }
    }

    fn closed_inherited(&mut self, ended: &Ended) {
        for closed in &ended.closed {
            if let Some(because) = self.case.allow_close_inherited {
                let now = closed.now.as_ref().map(|now| format!(", and now is {now}"));
                self.notes.push(format!(
                    "ignored: fd {} was closed{}: {because}",
                    closed.number,
                    now.unwrap_or_default()
                ));
                continue;
            }
            let Closed { number, was, now, at } = closed;
            let message = match now {
                Some(now) => format!("it was {was}, and now is {now}"),
                None => format!("it was {was}, and now is closed"),
            };
            if !is_standard(closed) {
                self.notes
                    .push(format!("closed fd {number}, which its process inherited: {message}"));
                continue;
            }
            let number = i32::try_from(*number).unwrap_or(-1);
            let kind = String::from("descriptor");
            let finding = self.add(TestVerdict::ClosedInherited, message);
            finding.descriptors = vec![Descriptor { number, kind, ..Descriptor::default() }];
            finding.places.extend(at.clone());
        }
    }

    fn leaks(&mut self, ended: &Ended) {
        let mut leaks = Vec::new();
        for left in ended.left.iter().filter(|left| !is_in_place(left, ended)) {
            let shown = &left.descriptor;
            if let Some(because) = ignored_open(self.case, shown) {
                self.notes.push(format!("ignored: {shown}: {because}"));
                continue;
            }
            match &left.fate {
                // Without a record of its opening, only a second execution tells.
                Fate::StayedOpen if left.opened.is_none() && left.recurs == Some(false) => {
                    self.note_process_wide(
                        ended,
                        left,
                        "opened once per process, and not again in a second execution",
                    );
                }
                Fate::StayedOpen => leaks.push(left),
                Fate::ProcessWide(why) => self.note_process_wide(ended, left, why),
                Fate::ClosedLate(late) => self.notes.push(closed_late(shown, late)),
            }
        }
        let owned = self.owned(ended);
        if let Some((expected, because)) = self.case.expect_leaks {
            if leaks.len() + owned.len() == expected {
                let leaks = Plural(expected as u64, "leak");
                self.notes.push(format!("{leaks}, as expected: {because}"));
                return;
            }
            let found = Plural(leaks.len() as u64, "descriptor");
            let and_owned = match owned.len() as u64 {
                0 => String::new(),
                count => format!(" and still owned {}", Plural(count, "resource")),
            };
            let message = format!("left {found} open{and_owned}, expected {expected} ({because})");
            self.add(TestVerdict::LeakCount, message);
        }
        let is_without_place = leaks.iter().any(|left| left.opened.is_none());
        leaks.into_iter().for_each(|left| self.leak(left));
        if is_without_place {
            self.notes.push(self.why_no_place(ended));
        }
        for owned in owned {
            let message = format!("ended and still owned {}, which was then closed", owned.what);
            self.add(TestVerdict::Leak, message).custody = owned.custody.clone();
        }
    }

    /// Adds a note about a descriptor that belongs to the process, unless there is one for its kind.
    fn note_process_wide(&mut self, ended: &Ended, left: &Left, why: &str) {
        let shown = &left.descriptor;
        let is_alike = |other: &&Left| {
            other.descriptor.kind == shown.kind && matches!(other.fate, Fate::ProcessWide(_))
        };
        let others = ended.left.iter().filter(is_alike).count().saturating_sub(1);
        let others = if others > 0 { format!(" (and {others} more)") } else { String::new() };
        let end = format!("{others}: {why}, so it does not count as a leak of the test");
        let is_known = |note: &String| note.starts_with(&*shown.kind) && note.ends_with(&end);
        if !self.notes.iter().any(is_known) {
            self.notes.push(format!("{shown}{end}"));
        }
    }

    /// Adds a leak to the finding of its kind and place, or as a new finding.
    fn leak(&mut self, left: &Left) {
        let message = match left.recurs {
            Some(false) => "left in 1 of 2 executions of the test",
            _ => "",
        };
        let like = |finding: &&mut TestFinding| {
            finding.verdict == TestVerdict::Leak
                && finding.descriptors.iter().any(|it| it.kind == left.descriptor.kind)
                && finding.custody == left.custody
                && finding.message == message
                && match (finding.places.first(), &left.opened) {
                    (Some(known), Some(place)) => known.is_shown_like(place),
                    (known, place) => known.is_none() && place.is_none(),
                }
        };
        let finding = match self.findings.iter_mut().find(like) {
            Some(known) => {
                for (known, place) in known.places.iter_mut().zip(&left.opened) {
                    known.add_thread(&place.thread);
                }
                known
            }
            None => {
                let finding = self.add(TestVerdict::Leak, message.to_owned());
                finding.places.extend(left.opened.clone());
                finding.custody = left.custody.clone();
                finding
            }
        };
        finding.descriptors.push(left.descriptor.clone());
    }

    fn why_no_place(&self, ended: &Ended) -> String {
        let why = match &ended.coverage {
            Coverage::Missing(why) => why,
            Coverage::NotRecorded => "openings are not recorded in this test",
            Coverage::Noted => {
                "it was opened by a call that is not recorded, or by a thread from before the test"
            }
        };
        format!("the place of the opening is unknown: {why}")
    }

    /// Resources that the registry closed and that count as leaks.
    fn owned<'e>(&mut self, ended: &'e Ended) -> Vec<&'e OwnedAtExit> {
        let mut leaks = Vec::new();
        for owned in &ended.owned {
            match ignored_owned(self.case, owned) {
                Some(because) => self.notes.push(format!("ignored: {}: {because}", owned.what)),
                None => leaks.push(owned),
            }
        }
        leaks
    }

    fn exec_leaks(&mut self, ended: &Ended) {
        let because = |it: &Descriptor| {
            self.case.allow_exec_leaks.map(str::to_owned).or_else(|| ignored_open(self.case, it))
        };
        let (findings, notes) = exec_leaks::judge(&ended.exec_leaks, because);
        self.findings.extend(findings);
        self.notes.extend(notes);
    }

    fn unjoined(&mut self, ended: &Ended) {
        for task in &ended.unjoined {
            self.add(TestVerdict::UnjoinedTask, format!("left {task} unjoined"));
        }
    }

    fn inherited_fds(&mut self, ended: &Ended) {
        if !self.case.report_inherited {
            return;
        }
        let reported = ended.inherited.iter().filter(|it| ignored_open(self.case, it).is_none());
        let reported: Vec<Descriptor> = reported.cloned().collect();
        if !reported.is_empty() {
            self.add(TestVerdict::InheritedFd, String::new()).descriptors = reported;
        }
    }

    fn threads(&mut self, ended: &Ended) {
        if !ended.threads.is_empty() && !self.findings.is_empty() {
            self.notes.extend_from_slice(&ended.threads);
        }
    }

    fn build(mut self, panic: Option<Option<String>>) -> Verdict {
        if self.findings.is_empty() {
            return Verdict { report: None, notes: self.notes, panic };
        }
        self.findings.sort_by_key(|finding| finding.verdict);
        if self.case.should_panic {
            self.notes.push(String::from(
                "this `#[should_panic]` test fails by not panicking; the runner reports that below",
            ));
        }
        let report = TestReport {
            schema_version: SCHEMA_VERSION,
            test: self.case.name(),
            file: self.case.file.to_owned(),
            line: self.case.line,
            findings: self.findings,
            notes: self.notes,
        };
        Verdict { report: Some(report), notes: Vec::new(), panic }
    }
}

/// What a note says about a descriptor that was closed after the settle time.
fn closed_late(descriptor: &Descriptor, late: &ClosedLate) -> String {
    let by = match late.thread.as_deref() {
        None | Some("") => String::new(),
        Some(thread) => format!(" by thread `{thread}`"),
    };
    let seconds = late.after_ms as f64 / 1000.0;
    format!(
        "{descriptor}: closed {seconds:.1} s after the settle time{by}; join the thread, or set `settle_ms`"
    )
}

/// The name of a signal that terminates a process.
fn name(signal: i32) -> &'static str {
    const NAMES: [(i32, &str); 14] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (5, "SIGTRAP"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (31, "SIGSYS"),
    ];
    NAMES.iter().find(|(number, _)| *number == signal).map_or("unnamed", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use echown_report::{Place, Suppression};

    use super::super::message::MisusedFd;
    use super::*;
    use crate::case::tests::CASE;

    fn left(kinds: &[(i32, &str)]) -> Ended {
        let one = |&(number, kind): &(i32, &str)| Left {
            descriptor: Descriptor { number, kind: kind.into(), ..Descriptor::default() },
            ..Left::default()
        };
        Ended { left: kinds.iter().map(one).collect(), ..Ended::default() }
    }

    fn run(ended: Ended) -> ChildReport {
        ChildReport {
            started: Some(Default::default()),
            ended: Some(ended),
            ..ChildReport::default()
        }
    }

    /// The reported descriptor numbers, and the notes.
    fn reported(ended: Ended) -> (Vec<i32>, Vec<String>) {
        let verdict = judge(&CASE, run(ended), None);
        let findings = verdict.report.map_or(Vec::new(), |report| report.findings);
        let descriptors = findings.iter().flat_map(|finding| &finding.descriptors);
        (descriptors.map(|descriptor| descriptor.number).collect(), verdict.notes)
    }

    #[test]
    fn process_wide_descriptors_are_no_leaks_and_get_one_note_per_kind() {
        let mut ended = left(&[(3, "file"), (4, "epoll"), (5, "file"), (6, "file")]);
        for left in &mut ended.left {
            left.fate = Fate::ProcessWide("opened under `std::sync::Once`".into());
        }
        let (numbers, notes) = reported(ended);
        assert_eq!(numbers, [0; 0]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("file fd 3 (and 2 more): opened under"), "{notes:?}");
        assert!(notes[1].starts_with("epoll fd 4: opened under"), "{notes:?}");
    }

    #[test]
    fn a_second_execution_excuses_only_what_was_opened_without_a_record() {
        let with = |recurs, opened: Option<Place>| {
            let mut ended = left(&[(3, "file")]);
            (ended.left[0].recurs, ended.left[0].opened) = (recurs, opened);
            reported(ended).0
        };
        assert_eq!(with(None, None), [3]);
        assert_eq!(with(Some(true), None), [3]);
        assert_eq!(with(Some(false), None), [0; 0]);
        assert_eq!(with(Some(false), Some(Place::default())), [3]);
    }

    #[test]
    fn a_leak_of_every_other_execution_says_so() {
        let mut ended = left(&[(3, "file")]);
        (ended.left[0].recurs, ended.left[0].opened) = (Some(false), Some(Place::default()));
        let report = judge(&CASE, run(ended), None).report.unwrap();
        assert_eq!(report.findings[0].message, "left in 1 of 2 executions of the test");
    }

    #[test]
    fn a_late_close_is_a_note() {
        let mut ended = left(&[(3, "file")]);
        let late = ClosedLate { after_ms: 520, thread: Some("worker".into()) };
        ended.left[0].fate = Fate::ClosedLate(late);
        let note = "file fd 3: closed 0.5 s after the settle time by thread `worker`; join the thread, or \
                    set `settle_ms`";
        assert_eq!(reported(ended), (vec![], vec![note.to_owned()]));
    }

    #[test]
    fn a_double_close_comes_before_the_abort_that_it_causes() {
        let aborted = || ChildReport {
            started: Some(Default::default()),
            status: ExitStatus::from_raw(rustix::process::Signal::ABORT.as_raw()),
            ..ChildReport::default()
        };
        assert!(was_aborted(&aborted()));
        let double = MisusedFd { number: 5, ..MisusedFd::default() };
        let ended = Ended { misused: vec![double], ..left(&[(3, "file")]) };
        let report = judge(&CASE, aborted(), Some(run(ended))).report.unwrap();
        let verdicts: Vec<_> = report.findings.iter().map(|finding| finding.verdict).collect();
        assert_eq!(verdicts, [TestVerdict::DoubleClose, TestVerdict::Leak]);
        for second in [None, Some(run(left(&[(3, "file")])))] {
            let report = judge(&CASE, aborted(), second).report.unwrap();
            assert_eq!(report.findings[0].verdict, TestVerdict::ProcessExited, "{report}");
        }
    }

    #[test]
    fn a_resource_closed_by_the_registry_is_a_leak_and_can_be_ignored() {
        let owned = OwnedAtExit {
            what: "tcp listener fd 5".into(),
            kind: "tcp listener".into(),
            places: vec!["127.0.0.1:7".into()],
            custody: Vec::new(),
        };
        let ended = || Ended { owned: vec![owned.clone()], ..left(&[(3, "file")]) };
        let findings = |case: &Case| {
            let report = judge(case, run(ended()), None).report;
            report.map_or(Vec::new(), |report| report.findings)
        };
        let expecting = |count| Case { expect_leaks: Some((count, "a reason")), ..CASE };
        assert_eq!(findings(&expecting(2)), []);
        assert!(!needs_second_execution(&expecting(2), &ended()));
        let found = findings(&expecting(1));
        let expected = "left 1 descriptor open and still owned 1 resource, expected 1 (a reason)";
        assert!(found.iter().any(|finding| finding.message == expected), "{found:?}");
        assert_eq!(found.len(), 3, "with what they are: {found:?}");
        let rules: [fn() -> Vec<Suppression>; 2] = [
            || vec![Suppression::because("a reason").kind("tcp listener")],
            || vec![Suppression::because("a reason").path("127.0.0.1:")],
        ];
        for ignores in rules {
            assert_eq!(findings(&Case { ignores, ..expecting(1) }), []);
            assert_eq!(findings(&Case { ignores, ..CASE }).len(), 1);
        }
    }

    #[test]
    fn a_replacement_is_ignored_and_named_with_its_close() {
        let closed = Closed { number: 2, now: Some("file fd 2, /log".into()), ..Closed::default() };
        let ended = || Ended { closed: vec![closed.clone()], ..left(&[(2, "file")]) };
        assert!(judge(&CASE, run(ended()), None).report.is_some());
        let ignoring = Case { allow_close_inherited: Some("a reason"), ..CASE };
        assert!(!needs_second_execution(&ignoring, &ended()));
        let verdict = judge(&ignoring, run(ended()), None);
        assert_eq!(verdict.report, None);
        assert_eq!(
            verdict.notes,
            ["ignored: fd 2 was closed, and now is file fd 2, /log: a reason"]
        );
    }

    #[test]
    fn a_process_that_never_began_did_not_find_the_test() {
        let report = judge(&CASE, ChildReport::default(), None).report.unwrap();
        assert_eq!(report.findings[0].verdict, TestVerdict::ProcessExited);
        let message = &report.findings[0].message;
        assert!(
            message.starts_with("could not be run in a child process (exit code 0)"),
            "{message}"
        );
        assert!(message.contains("use `echown::check` there"), "{message}");
    }

    #[test]
    fn only_a_leak_is_executed_again() {
        assert!(!needs_second_execution(&CASE, &left(&[])));
        let leak = || left(&[(3, "file")]);
        assert!(needs_second_execution(&CASE, &leak()));
        let ignores = || vec![Suppression::because("a reason").kind("file")];
        assert!(!needs_second_execution(&Case { ignores, ..CASE }, &leak()));
        let expecting = Case { expect_leaks: Some((1, "a reason")), ..CASE };
        assert!(!needs_second_execution(&expecting, &leak()));
        let failed = || Ended { outcome: Outcome::Panicked(None), ..leak() };
        assert!(!needs_second_execution(&CASE, &failed()));
        let panicking = Case { should_panic: true, ..CASE };
        assert!(needs_second_execution(&panicking, &failed()));
        assert!(needs_second_execution(&panicking, &leak()), "it is judged as well");
    }
}
