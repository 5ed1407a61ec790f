//! The verdict on a child's report. Pure, so that every case can be tested without a process.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

pub(super) use child_report::ChildReport;
use rerun_match::RerunMatch;

use echown_report::SCHEMA_VERSION;
use echown_report::{Descriptor, Plural, TestFinding, TestReport, TestVerdict};

use super::case::Case;
use super::child::LOST_EXIT_CODE;
use super::hang::Hang;
use super::message::{Closed, Coverage, Ended, Left, Outcome, OwnedAtExit};
use super::progress::Progress;

mod child_report;
mod rerun_match;

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

/// Whether a second run can add information: there is a finding, or a descriptor that may be opened
/// once per process.
pub(super) fn needs_rerun(case: &Case, first: &ChildReport) -> bool {
    let Some(ended) = &first.ended else {
        // The standard library aborts if its own descriptor is closed.
        return first.status.signal() == Some(libc_abort()) && !case.no_rerun;
    };
    // A test with `should_panic` that returns fails; its leaks are reported as well.
    let is_judged = ended.outcome == Outcome::Returned || case.should_panic;
    let unknown_close = ended.closed.iter().any(|closed| closed.at.is_none());
    let is_leak =
        |left: &&Left| ignored_open(case, &left.descriptor).is_none() && !is_in_place(left, ended);
    let leaks = ended.left.iter().filter(is_leak).count();
    let owned = ended.owned.iter().filter(|owned| ignored_owned(case, owned).is_none()).count();
    let as_expected = case.expect_leaks.is_some_and(|(count, _)| count == leaks + owned);
    let has_more =
        (leaks > 0 && !as_expected) || (unknown_close && case.allow_close_inherited.is_none());
    is_judged && has_more && !case.no_rerun
}

/// Whether a run left descriptors open.
pub(super) fn has_leaks(run: &ChildReport) -> bool {
    run.ended.as_ref().is_some_and(|ended| !ended.left.is_empty())
}

fn libc_abort() -> i32 {
    rustix::process::Signal::ABORT.as_raw()
}

/// Judges a test by its run and by its second run, if there was one. The second run finds places,
/// and descriptors that are opened once per process.
pub(super) fn judge(case: &Case, first: ChildReport, second: Option<ChildReport>) -> Verdict {
    let mut builder = VerdictBuilder { case, findings: Vec::new(), notes: Vec::new() };
    let ChildReport { started, progress, ended, status, hang, .. } = first;
    if let Some(hang) = hang {
        builder.hang(hang, progress);
        return builder.build(None);
    }
    let Some(ended) = ended else {
        builder.process_exited(started.is_some(), status, second.as_ref());
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
    builder.double_closes(&ended, second.as_ref());
    builder.closed_inherited(&ended, second.as_ref());
    builder.leaks(&ended, second.as_ref());
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

/// Whether it replaced a closed descriptor, in which case it belongs to that finding.
fn is_in_place(left: &Left, ended: &Ended) -> bool {
    ended.closed.iter().any(|closed| closed.number == i64::from(left.descriptor.number))
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

    fn hang(&mut self, hang: Hang, progress: Progress) {
        let message = progress.timeout_message(self.case);
        self.add(TestVerdict::Hang, message).descriptors = hang.descriptors;
        let says = |what: &str, lines: Vec<String>| {
            lines.into_iter().map(move |line| format!("{what} {line}")).collect::<Vec<_>>()
        };
        self.notes.extend(says("thread", hang.threads));
        self.notes.extend(says("it had started a program, which was killed too:", hang.programs));
    }

    fn process_exited(&mut self, started: bool, status: ExitStatus, second: Option<&ChildReport>) {
        let message = match (status.signal(), status.code()) {
            (_, Some(LOST_EXIT_CODE)) if started => {
                let message = String::from(
                    "closed all descriptors, including the pipe on which its process reports to the runner",
                );
                self.add(TestVerdict::ClosedInherited, message);
                if self.case.allow_close_inherited.is_some() {
                    self.notes.push(String::from(
                        "`allow_close_inherited` has no effect here: without the pipe, the test cannot be \
                         judged",
                    ));
                }
                return;
            }
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
        if let Some(more) = second.and_then(|run| run.ended.as_ref()) {
            self.double_closes(more, None);
        }
    }

    fn double_closes(&mut self, ended: &Ended, second: Option<&ChildReport>) {
        let more = second.and_then(|run| run.ended.as_ref());
        let found = match (&ended.doubles[..], more) {
            ([], Some(more)) => &more.doubles,
            _ => &ended.doubles,
        };
        for double in found {
            let message = format!("closed fd {} twice", double.number);
            self.add(TestVerdict::DoubleClose, message).places = double.places.clone();
        }
    }

    fn closed_inherited(&mut self, ended: &Ended, second: Option<&ChildReport>) {
        let more = second.and_then(|run| run.ended.as_ref());
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
            let same = |other: &&Closed| other.number == closed.number;
            let known = more.and_then(|more| more.closed.iter().find(same));
            let place = closed.at.clone().or_else(|| known.and_then(|known| known.at.clone()));
            let Closed { number, was, now, .. } = closed;
            let message = match now {
                Some(now) => format!("it was {was}, and now is {now}"),
                None => format!("it was {was}, and now is closed"),
            };
            let number = i32::try_from(*number).unwrap_or(-1);
            let kind = String::from("descriptor");
            let finding = self.add(TestVerdict::ClosedInherited, message);
            finding.descriptors = vec![Descriptor { number, kind, ..Descriptor::default() }];
            finding.places.extend(place);
        }
    }

    fn leaks(&mut self, ended: &Ended, second: Option<&ChildReport>) {
        let mut rerun = RerunMatch::new(second);
        let (mut leaks, mut once_per_process) = (Vec::new(), Vec::new());
        for left in &ended.left {
            let shown = &left.descriptor;
            if let Some(because) = ignored_open(self.case, shown) {
                self.notes.push(format!("ignored: {shown}: {because}"));
                continue;
            }
            if is_in_place(left, ended) {
                continue;
            }
            let matched = rerun.take_like(left);
            let is_once_per_process = match matched {
                Some((_, recurs)) => recurs == Some(false),
                None => rerun.is_once_per_process(&shown.kind),
            };
            match matched {
                _ if is_once_per_process => once_per_process.push(shown),
                _ => leaks.push((left, matched.and_then(|(known, _)| known.opened.clone()))),
            }
        }
        self.note_once_per_process(&once_per_process);
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
        let (all, places) = (
            leaks.len(),
            leaks.iter().filter(|(left, known)| left.opened.is_some() || known.is_some()).count(),
        );
        for (left, known) in leaks {
            self.leak(left, known);
        }
        if places < all {
            self.notes.push(self.why_no_place(ended, second));
        }
        for owned in owned {
            let message = format!("ended and still owned {}, which was then closed", owned.what);
            self.add(TestVerdict::Leak, message).custody = owned.custody.clone();
        }
    }

    /// Adds one note per kind about descriptors that are opened once per process.
    fn note_once_per_process(&mut self, once_per_process: &[&Descriptor]) {
        let mut kinds: Vec<&str> = Vec::new();
        for descriptor in once_per_process {
            if kinds.contains(&&*descriptor.kind) {
                continue;
            }
            kinds.push(&descriptor.kind);
            let alike =
                once_per_process.iter().filter(|other| other.kind == descriptor.kind).count();
            let others = match alike - 1 {
                0 => String::new(),
                others => format!(" (and {others} more)"),
            };
            self.notes.push(format!(
                "{descriptor}{others}: opened once per process and not again in a second run, so it \
                 does not count as a leak of the test"
            ));
        }
    }

    /// Adds a leak to the finding of its kind and place, or as a new finding.
    fn leak(&mut self, left: &Left, known: Option<echown_report::Place>) {
        let place = left.opened.clone().or(known);
        let like = |finding: &&mut TestFinding| {
            finding.verdict == TestVerdict::Leak
                && finding.descriptors.iter().any(|it| it.kind == left.descriptor.kind)
                && finding.custody == left.custody
                && finding.places.first().map(|it| &it.frames)
                    == place.as_ref().map(|it| &it.frames)
        };
        let finding = match self.findings.iter_mut().find(like) {
            Some(known) => known,
            None => {
                let finding = self.add(TestVerdict::Leak, String::new());
                finding.places.extend(place);
                finding.custody = left.custody.clone();
                finding
            }
        };
        finding.descriptors.push(left.descriptor.clone());
    }

    fn why_no_place(&self, ended: &Ended, second: Option<&ChildReport>) -> String {
        let why = match (second, second.and_then(|run| run.ended.as_ref())) {
            _ if self.case.no_rerun => "the option `no_rerun` prevents the run that would find it",
            (None, _) => match &ended.coverage {
                Coverage::Missing(why) => why,
                _ => "it was opened by a call that is not recorded, or before the test began",
            },
            (Some(run), None) if run.hang.is_some() => {
                "the test did not return when it was run again to find it"
            }
            (Some(run), None) => {
                &format!("the test ended with {} when it was run again to find it", run.status)
            }
            (Some(_), Some(more)) => match &more.coverage {
                Coverage::Missing(why) => why,
                _ if more.left.is_empty() => {
                    "the test left nothing open when it was run again to find it"
                }
                _ => "it was opened by a call that is not recorded, or by another call than before",
            },
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
            let threads = ended.threads.join(", ");
            self.notes.push(format!("threads that the test started still run: {threads}"));
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
    use echown_report::Suppression;

    use super::*;
    use crate::case::tests::CASE;

    fn left(kinds: &[(i32, &str)]) -> Ended {
        let one = |&(number, kind): &(i32, &str)| Left {
            descriptor: Descriptor { number, kind: kind.into(), ..Descriptor::default() },
            ..Left::default()
        };
        Ended { left: kinds.iter().map(one).collect(), ..Ended::default() }
    }

    fn run(ended: Ended, recurs: Option<&[bool]>) -> ChildReport {
        let recurs = recurs.map(<[bool]>::to_vec);
        ChildReport {
            started: Some(Default::default()),
            ended: Some(ended),
            recurs,
            ..ChildReport::default()
        }
    }

    /// The reported descriptor numbers of a first and a second run.
    fn reported(first: &[(i32, &str)], second: Option<ChildReport>) -> Vec<i32> {
        let verdict = judge(&CASE, run(left(first), None), second);
        let findings = verdict.report.map_or(Vec::new(), |report| report.findings);
        let descriptors = findings.iter().flat_map(|finding| &finding.descriptors);
        descriptors.map(|descriptor| descriptor.number).collect()
    }

    #[test]
    fn only_recurring_descriptors_are_reported() {
        let found = [(3, "file"), (4, "epoll")];
        let second = run(left(&found), Some(&[false, true]));
        assert_eq!(reported(&found, Some(second)), [4]);
    }

    #[test]
    fn once_per_process_descriptors_get_one_note_per_kind() {
        let found = [(3, "file"), (4, "epoll"), (5, "file"), (6, "file")];
        let second = run(left(&found), Some(&[false; 4]));
        let notes = judge(&CASE, run(left(&found), None), Some(second)).notes;
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("file fd 3 (and 2 more): opened once"), "{notes:?}");
        assert!(notes[1].starts_with("epoll fd 4: opened once"), "{notes:?}");
    }

    #[test]
    fn without_a_proof_everything_is_blamed() {
        let found = [(3, "file")];
        assert_eq!(reported(&found, None), [3]);
        assert_eq!(reported(&found, Some(run(left(&[]), Some(&[])))), [3], "it was not left again");
        assert_eq!(
            reported(&found, Some(run(left(&found), None))),
            [3],
            "it ended too early to tell"
        );
        assert_eq!(reported(&found, Some(ChildReport::default())), [3], "it reported nothing");
    }

    #[test]
    fn a_pool_of_which_fewer_threads_were_used_the_second_time_is_excused() {
        let second = || left(&[(3, "unix stream")]);
        let first = [(3, "unix stream"), (5, "unix stream")];
        assert_eq!(reported(&first, Some(run(second(), Some(&[false])))), [0; 0]);
        assert_eq!(reported(&first, Some(run(second(), Some(&[true])))), [3, 5]);
    }

    #[test]
    fn a_number_counts_for_more_than_a_path_when_two_runs_are_compared() {
        let second = run(left(&[(7, "file"), (3, "file")]), Some(&[true, false]));
        assert_eq!(reported(&[(3, "file"), (7, "file")], Some(second)), [7]);
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
            let report = judge(case, run(ended(), None), None).report;
            report.map_or(Vec::new(), |report| report.findings)
        };
        let expecting = |count| Case { expect_leaks: Some((count, "a reason")), ..CASE };
        assert_eq!(findings(&expecting(2)), []);
        assert!(!needs_rerun(&expecting(2), &run(ended(), None)));
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
        assert!(judge(&CASE, run(ended(), None), None).report.is_some());
        let ignoring = Case { allow_close_inherited: Some("a reason"), ..CASE };
        assert!(!needs_rerun(&ignoring, &run(ended(), None)));
        let verdict = judge(&ignoring, run(ended(), None), None);
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
    fn only_a_possible_fault_is_run_again() {
        assert!(!needs_rerun(&CASE, &run(left(&[]), None)));
        assert!(needs_rerun(&CASE, &run(left(&[(3, "file")]), None)));
        let ignores = || vec![Suppression::because("a reason").kind("file")];
        let ignoring = Case { ignores, ..CASE };
        assert!(!needs_rerun(&ignoring, &run(left(&[(3, "file")]), None)));
        let expecting = Case { expect_leaks: Some((1, "a reason")), ..CASE };
        assert!(!needs_rerun(&expecting, &run(left(&[(3, "file")]), None)));
        assert!(!needs_rerun(&Case { no_rerun: true, ..CASE }, &run(left(&[(3, "file")]), None)));
        let failed = || Ended { outcome: Outcome::Panicked(None), ..left(&[(3, "file")]) };
        assert!(!needs_rerun(&CASE, &run(failed(), None)));
        let panicking = Case { should_panic: true, ..CASE };
        assert!(needs_rerun(&panicking, &run(failed(), None)));
        assert!(needs_rerun(&panicking, &run(left(&[(3, "file")]), None)), "it is judged as well");
    }
}
