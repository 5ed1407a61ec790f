//! Tries the words and the merging of a report with findings of small programs and with hostile names.

use std::sync::Arc;

use echown_report::{
    Baseline, BaselineState, CoverageGap, Document, Entry, Format, GapKind, RunStatus, Sources,
    github,
};

use super::*;
use crate::event::{Details, Event, Gap, Tid, What};
use crate::finding::{
    Closing, LeakReason, Opening, Severity as Serious, Step, StepKind, Thread, Usage,
};

/// A name that would control the terminal and forge a line if it was not escaped.
const HOSTILE: &str = "\x1b[31mred\n::error::forged\u{202e}]]>";

struct Scene {
    process: Arc<Process>,
    main: Arc<Thread>,
    worker: Arc<Thread>,
}

fn scene(name: &str) -> Scene {
    let program = format!("/usr/bin/{name}");
    let process = Process { pid: 4211, program: program.into(), name: name.into() };
    let process = Arc::new(process);
    let thread = |tid, name: &str| {
        Arc::new(Thread { tid: Tid(tid), name: name.into(), process: Arc::clone(&process) })
    };
    Scene {
        main: thread(4211, name),
        worker: thread(4212, "worker"),
        process: Arc::clone(&process),
    }
}

impl Scene {
    fn opening(&self, thread: &Arc<Thread>, link: &str, stack: u32) -> Arc<Opening> {
        Arc::new(Opening {
            sequence: 1,
            time_ns: 1_500_000,
            call: "openat",
            number: 7,
            link: link.into(),
            thread: Arc::clone(thread),
            stack: StackId(stack),
            file: 1,
            was_cloexec: false,
        })
    }

    fn closing(&self, thread: &Arc<Thread>, stack: u32) -> Closing {
        Closing {
            sequence: 2,
            time_ns: 2_000_000,
            call: "close",
            thread: Arc::clone(thread),
            stack: StackId(stack),
        }
    }

    fn finding(&self, kind: Kind, severity: Serious, link: &str) -> Finding {
        Finding {
            kind,
            severity,
            is_certain: false,
            process: Arc::clone(&self.process),
            number: 7,
            opening: Some(self.opening(&self.main, link, 1)),
            closes: Vec::new(),
            reused_from: None,
            usage: None,
            replaced_by: None,
            heirs: Vec::new(),
            doubt: None,
            history: Vec::new(),
            details: None,
            count: 1,
            processes: 1,
            first_ns: 1,
            last_ns: 1,
        }
    }
}

/// Frames of a small C program: each stack is a function and a line.
fn resolve(stack: StackId) -> Vec<StackFrame> {
    let frame = |function: &str, line: u32| StackFrame {
        function: function.into(),
        file: Some("src/log.c".into()),
        line,
        is_own: true,
        package: Some("server".into()),
        ..StackFrame::default()
    };
    let system = StackFrame {
        function: "__open64".into(),
        package: Some(StackFrame::SYSTEM.into()),
        ..StackFrame::default()
    };
    let functions = ["", "log_open", "log_close", "cleanup", "serve"];
    let function = functions.get(stack.0 as usize).copied().unwrap_or(HOSTILE);
    vec![system, frame(function, 10 * stack.0), frame("main", 100)]
}

fn report(findings: &[Finding]) -> RunReport {
    let coverage = Coverage { processes: 1, descriptors: 12, checks: 1, ..Coverage::default() };
    let report = of_findings(findings, coverage, &mut resolve);
    RunReport { command: "./server".into(), ..report }
}

fn text(findings: &[Finding]) -> String {
    report(findings).to_string()
}

#[test]
fn a_double_close_has_its_three_places_and_the_history_of_the_number() {
    let scene = scene("server");
    let mut finding = scene.finding(Kind::DoubleClose, Serious::Error, "/var/log/app.log");
    finding.closes = vec![scene.closing(&scene.worker, 2), scene.closing(&scene.main, 3)];
    let step = |what, call, time_us: u64, stack| Step {
        time_ns: time_us * 1000,
        what,
        call,
        thread: Arc::clone(&scene.main),
        stack: StackId(stack),
    };
    finding.history = vec![
        // By the dynamic linker.
        step(StepKind::Opened, "openat", 100, 0),
        step(StepKind::Opened, "socket", 200, 4),
        step(StepKind::Closed, "close", 900, 4),
        step(StepKind::Opened, "openat", 1500, 1),
        step(StepKind::Closed, "close", 2000, 2),
        step(StepKind::CloseFailed, "close", 3_002_100, 3),
    ];
    let expected = "\
error[double-close]: `server` (pid 4211) closed fd 7 a second time
  file fd 7, /var/log/app.log
    1. opened by openat at src/log.c:10, on thread 4211 `server`
      in log_open (src/log.c:10)
      in main (src/log.c:100)
    2. closed at src/log.c:20, on thread 4212 `worker`
      in log_close (src/log.c:20)
      in main (src/log.c:100)
    3. closed again (EBADF) at src/log.c:30, on thread 4211 `server`
      in cleanup (src/log.c:30)
      in main (src/log.c:100)
    history of fd 7 in this process:
      0.000200 s  opened by socket at src/log.c:40, on thread 4211 `server`
      0.000900 s  closed at src/log.c:40, on thread 4211 `server`
      0.001500 s  opened by openat at src/log.c:10, on thread 4211 `server`
      0.002000 s  closed at src/log.c:20, on thread 4211 `server`
      3.002100 s  close failed (EBADF) at src/log.c:30, on thread 4211 `server`
  help: let one place own and close the descriptor; set the variable to -1 right after its close

for details, run `echown explain CODE`
coverage: every call was followed (12 descriptors in 1 process; 1 comparison with /proc/PID/fd agrees)
`./server` exited with status 0: 1 error (double-close)";
    assert_eq!(text(&[finding]), expected);
}

fn closed_reused(scene: &Scene) -> Finding {
    let mut finding = scene.finding(Kind::DoubleClose, Serious::Error, "socket:[4711]");
    finding.reused_from = Some(scene.opening(&scene.worker, "/var/log/app.log", 1));
    finding.closes = vec![
        scene.closing(&scene.worker, 2),
        scene.closing(&scene.worker, 3),
        scene.closing(&scene.main, 4),
    ];
    finding
}

#[test]
fn a_close_of_a_reused_number_is_told_in_order() {
    let report = report(&[closed_reused(&scene("server"))]);
    let expected = "\
error[double-close]: `server` (pid 4211) closed fd 7 a second time, when the number was in use again
  socket fd 7, socket:[4711]
  Thread 4212 `worker` closed fd 7 twice. In between, thread 4211 `server` opened a socket that got the same number.
  The second close closed that socket, so the close that belongs to it failed.
    1. first descriptor (/var/log/app.log) opened by openat at src/log.c:10, on thread 4212 `worker`
      in log_open (src/log.c:10)
      in main (src/log.c:100)
    2. first descriptor closed at src/log.c:20, on thread 4212 `worker`
      in log_close (src/log.c:20)
      in main (src/log.c:100)
    3. second descriptor (socket:[4711]) opened by openat at src/log.c:10, on thread 4211 `server`
      in log_open (src/log.c:10)
      in main (src/log.c:100)
    4. second descriptor closed by mistake at src/log.c:30, on thread 4212 `worker`
      in cleanup (src/log.c:30)
      in main (src/log.c:100)
    5. second descriptor closed again (EBADF) at src/log.c:40, on thread 4211 `server`
      in serve (src/log.c:40)
      in main (src/log.c:100)
  help: ";
    let text = report.findings[0].to_string();
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(report.findings[0].main_place, 3);
}

#[test]
fn leaks_of_one_place_are_one_finding_with_the_number_of_descriptors() {
    let scene = scene("server");
    let kind = Kind::Leak(LeakReason::Several);
    let mut findings = Vec::new();
    for number in 7..14 {
        // Equal lines, from different addresses.
        let opening = Opening {
            stack: StackId(if number % 2 == 0 { 1 } else { 101 }),
            ..(*scene.opening(&scene.main, "/data/a", 1)).clone()
        };
        let opening = Some(Arc::new(opening));
        findings.push(Finding {
            number,
            opening,
            count: 2,
            ..scene.finding(kind, Serious::Warning, "")
        });
    }
    let mut resolve = |stack: StackId| resolve(StackId(stack.0 % 100));
    let report = of_findings(&findings, Coverage::default(), &mut resolve);
    let expected = "\
warning[leak]: `server` (pid 4211) ended with 14 descriptors open that one place opened
  file fd 7, /data/a
  file fd 8, /data/a
  file fd 9, /data/a
  file fd 10, /data/a
  file fd 11, /data/a
  and fd 12 13
  and 7 more
    opened by openat at src/log.c:10, on thread 4211 `server`
      in log_open (src/log.c:10)
      in main (src/log.c:100)
  help: close it on every path";
    let [finding] = &report.findings[..] else { panic!("{report}") };
    assert!(finding.to_string().starts_with(expected), "{finding}");
    assert_eq!((finding.count, finding.processes), (14, 1));
}

#[test]
fn equal_findings_of_several_processes_are_counted() {
    let findings: Vec<Finding> = (1..=3)
        .map(|pid| {
            let scene = scene("server");
            let process = Process { pid, ..(*scene.process).clone() };
            let mut finding = scene.finding(Kind::DoubleClose, Serious::Error, "/data/a");
            finding.closes = vec![scene.closing(&scene.main, 2), scene.closing(&scene.main, 3)];
            Finding { process: Arc::new(process), count: 2, ..finding }
        })
        .collect();
    let text = text(&findings);
    let expected = "\n  found 6 times in 3 processes; the first is shown\n  help: ";
    assert!(text.contains(expected), "{text}");
    assert_eq!(text.matches("\n  file fd 7, /data/a\n").count(), 1, "{text}");
}

#[test]
fn a_leak_into_a_program_names_the_program_and_why() {
    let scene = scene("server");
    let heir = Process { pid: 4300, program: "/bin/sleep".into(), name: "sleep".into() };
    let mut finding = scene.finding(Kind::ExecLeak, Serious::Error, "/var/lib/secret.db");
    finding.heirs = vec![Arc::new(heir)];
    let expected = "\
error[exec-leak]: `server` (pid 4211) leaked fd 7 into `sleep` (pid 4300)
  file fd 7, /var/lib/secret.db
  It was opened without close-on-exec. The other program does not use it, and was not passed its number.
    opened by openat at src/log.c:10, on thread 4211 `server`
";
    let text = text(&[finding]);
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn uses_and_unknown_numbers_name_the_call() {
    let scene = scene("server");
    let usage = Usage {
        time_ns: 3_000_000,
        call: "write",
        thread: Arc::clone(&scene.worker),
        stack: StackId(4),
    };
    let mut used = scene.finding(Kind::UseAfterClose, Serious::Error, "/data/a");
    used.closes = vec![scene.closing(&scene.main, 2)];
    used.usage = Some(usage.clone());
    used.is_certain = true;
    let report = report(&[used]);
    let text = report.findings[0].to_string();
    let expected = "\
error[use-after-close]: `server` (pid 4211) used fd 7 after its close: write got EBADF
  file fd 7, /data/a
  The quarantine held the number after the close, so no other file was affected.
    1. opened by openat at src/log.c:10,";
    assert!(text.starts_with(expected), "{text}");
    assert!(
        text.contains("    3. write got EBADF at src/log.c:40, on thread 4212 `worker`"),
        "{text}"
    );

    let mut unknown = scene.finding(Kind::NotOpen, Serious::Warning, "");
    unknown.opening = None;
    unknown.closes = vec![scene.closing(&scene.main, 2)];
    let text = self::report(&[unknown]).findings[0].to_string();
    let expected = "\
warning[not-open]: `server` (pid 4211) called close with fd 7, which is not open
    close got EBADF at src/log.c:20, on thread 4211 `server`
";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn what_is_not_followed_lowers_the_claim() {
    let processes = |number: i32| {
        let process = |pid| RunProcess { pid, program: "/opt/s".into() };
        (1..=number).map(process).collect()
    };
    let gap = |kind, count, number| CoverageGap { kind, processes: processes(number), count };
    let coverage = Coverage {
        processes: 3,
        descriptors: 40,
        checks: 9,
        mismatches: 1,
        dropped: 2,
        gaps: vec![
            gap(GapKind::IoUring, 1, 2),
            gap(GapKind::Mismatch, 1, 0),
            gap(GapKind::NestedTracer, 70, 8),
        ],
    };
    let report = RunReport {
        command: "./server".into(),
        status: RunStatus::Signalled(15),
        ..of_findings(&[], coverage, &mut resolve)
    };
    let expected = "\
coverage: not every call was followed, so findings may be missing or wrong (40 descriptors in 3 \
processes; 1 of 9 comparisons with /proc/PID/fd differs)
  io_uring opens and closes descriptors without system calls, which are not seen; `--no-io-uring` makes the program use ordinary calls
    in `s` (pid 1), `s` (pid 2)
  open descriptors differed from those in /proc/PID/fd, which counted from there on; findings about them may be wrong or missing
  a program tried to trace (as strace, gdb and sanitizers do), which fails under `echown run` (70 times)
    in `s` (pid 1), `s` (pid 2), `s` (pid 3), `s` (pid 4), `s` (pid 5), `s` (pid 6), `s` (pid 7), `s` (pid 8), the first 8
  2 findings dropped, because there were too many different ones
`./server` was ended by signal 15 (SIGTERM): no findings";
    assert_eq!(report.to_string(), expected);
}

/// A report whose every text is hostile.
fn hostile() -> RunReport {
    let scene = scene(HOSTILE);
    let mut reused = closed_reused(&scene);
    reused.opening = Some(scene.opening(&scene.main, HOSTILE, 99));
    reused.history = vec![Step {
        time_ns: 1,
        what: StepKind::Opened,
        call: "openat",
        thread: Arc::clone(&scene.main),
        stack: StackId(99),
    }];
    let link = format!("/tmp/{HOSTILE}");
    let mut leak = scene.finding(Kind::ExecLeak, Serious::Warning, &link);
    leak.heirs = vec![Arc::clone(&scene.process)];
    leak.opening = Some(scene.opening(&scene.main, &link, 99));
    let mut resolve = |stack: StackId| {
        let mut frames = resolve(stack);
        let mut library = frames[1].clone();
        library.is_own = false;
        library.package = Some(HOSTILE.into());
        library.file = Some(format!("/lib/{HOSTILE}"));
        frames.push(library);
        frames
    };
    let mut model = Model::new();
    let started = What::Started { program: HOSTILE.into(), open: Vec::new() };
    for what in [started, What::CoverageReduced(Gap::IoUring)] {
        model.apply(&Event { time_ns: 0, task: Tid(7), what });
    }
    let coverage = coverage::coverage(&model);
    assert_eq!(coverage.gaps[0].processes[0].pid, 7);
    let mut report = of_findings(&[reused, leak], coverage, &mut resolve);
    report.notes.push("a note".into());
    report
}

#[test]
fn hostile_names_are_escaped_in_every_form() {
    let report = hostile();
    let entries = Entry::of_run(&report, &Sources::none());
    let document = |format| {
        let mut document = Document::new(format);
        entries.iter().for_each(|entry| document.add(entry.clone(), BaselineState::New));
        document.to_text()
    };
    let annotations: Vec<String> = entries.iter().map(github::annotation).collect();
    let forms = [
        ("text", report.to_string()),
        ("JSON", report.to_json()),
        ("JUnit", document(Format::Junit)),
        ("SARIF", document(Format::Sarif)),
        ("GitHub", annotations.join("\n")),
        ("baseline", Baseline::written("", &entries).unwrap()),
    ];
    for (name, form) in forms {
        assert!(form.contains("31mred"), "{name}: {form}");
        for forbidden in ["\x1b", "\u{202e}", "\n::error::forged", "\\u001b", "\\u202e"] {
            // In JSON, an escaped backslash may stand before an escape.
            let form = form.replace("\\\\", "");
            assert!(!form.contains(forbidden), "{name} contains {forbidden:?}: {form}");
        }
    }
    assert!(annotations.iter().all(|line| !line.contains('\n')));
    assert!(annotations[0].starts_with("::error "), "{annotations:?}");
    assert!(annotations[1].starts_with("::warning "), "{annotations:?}");
}

#[test]
fn fingerprints_are_stable_between_runs_and_differ_between_places() {
    let of = |pid: i32, number: i32, stack: u32| {
        let base = scene("server");
        let process = Process { pid, ..(*base.process).clone() };
        let opening = Opening {
            number,
            time_ns: u64::from(pid.unsigned_abs()),
            ..(*base.opening(&base.main, "socket:[1]", stack)).clone()
        };
        let kind = Kind::Leak(LeakReason::CloseWait);
        let details = Details { kind: "tcp stream", ..Details::default() };
        let finding = Finding {
            process: Arc::new(process),
            number,
            opening: Some(Arc::new(opening)),
            details: Some(Box::new(details)),
            ..base.finding(kind, Serious::Warning, "")
        };
        Entry::of_run(&report(&[finding]), &Sources::none()).remove(0).fingerprint()
    };
    assert_eq!(of(1, 2, 1), "leak | tcp stream | src/log.c | fn log_open");
    assert_eq!(of(1, 2, 1), of(77, 9, 1));
    assert_ne!(of(1, 2, 1), of(1, 2, 2));
}

#[test]
fn without_debug_information_an_entry_is_placed_in_the_function() {
    let scene = scene("server");
    let finding = scene.finding(Kind::OpenAtExit, Serious::Note, "/data/a");
    let mut bare = |stack: StackId| {
        let mut frames = resolve(stack);
        frames.iter_mut().for_each(|frame| frame.file = None);
        frames
    };
    let report = of_findings(&[finding], Coverage::default(), &mut bare);
    let entry = Entry::of_run(&report, &Sources::none()).remove(0);
    assert_eq!(entry.fingerprint(), "open-at-exit | file | server | fn log_open");
    let text = report.findings[0].to_string();
    let expected =
        "    opened by openat in log_open (server), without debug information, on thread";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn without_symbols_the_offset_in_the_file_is_the_place() {
    let scene = scene("server");
    let finding = scene.finding(Kind::OpenAtExit, Serious::Note, "/data/a");
    let mut bare = |stack: StackId| {
        let function = format!("{:#x}", 0x1000 + stack.0);
        vec![StackFrame { function, package: Some("server".into()), ..StackFrame::default() }]
    };
    let report = of_findings(&[finding], Coverage::default(), &mut bare);
    let entry = Entry::of_run(&report, &Sources::none()).remove(0);
    assert_eq!(entry.fingerprint(), "open-at-exit | file | server | fn server+0x1001");
    let text = report.findings[0].to_string();
    let expected = "    opened by openat in server+0x1001, without debug information, on thread 4211 \
                    `server`\n      in server+0x1001\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn outer_frames_that_the_first_place_has_are_counted() {
    let scene = scene("server");
    let mut finding = scene.finding(Kind::DoubleClose, Serious::Error, "/data/a");
    finding.closes = vec![scene.closing(&scene.main, 2)];
    let mut deep = |stack: StackId| {
        let mut frames = resolve(stack);
        let outer = frames[2].clone();
        frames.extend([outer.clone(), outer]);
        frames
    };
    let text = of_findings(&[finding], Coverage::default(), &mut deep).findings[0].to_string();
    let expected = "\n      in log_close (src/log.c:20)\n      and 3 frames as in 1\n  help: ";
    assert!(text.contains(expected), "{text}");
}
