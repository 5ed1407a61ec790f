//! The corpus: each fault is reported for its own test, and no clean test is reported.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::downstream::{DownstreamCrate, Ending, endings, root, text};
use crate::common::require_tool;

/// Whether source lines are known on this platform.
const HAS_PLACES: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// The minimum number of tests of the crate: as many as run at once.
const TESTS_MIN: usize = 64;

/// The expectation in the comment above a test.
#[derive(Debug)]
pub struct Expected {
    pub word: &'static str,
    parts: Vec<String>,
}

#[test]
fn sixty_four_parallel_tests_each_report_only_their_own_leaks() {
    let expected = expected();
    assert!(expected.len() >= TESTS_MIN, "{} tests", expected.len());
    // For a stronger check: `ECHOWN_ROUNDS=100`.
    let rounds = std::env::var("ECHOWN_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let output = DownstreamCrate::corpus().test("64");
        let output_text = text(&output);
        assert_eq!(output.status.code(), Some(101), "a failing test fails the run: {output_text}");
        compare(&expected, &endings(&output_text));
    }
}

#[test]
fn repeated_runs_never_fail_a_clean_test() {
    let expected = expected();
    for _ in 0..3 {
        // Only quick tests: they need no second run.
        let mut runner = DownstreamCrate::corpus().binary();
        let output = runner.args(["innocent", "clean::", "--test-threads", "64"]).output().unwrap();
        let endings = endings(&text(&output));
        assert!(endings.len() >= 20, "{}", text(&output));
        let blamed: Vec<_> = endings.iter().filter(|(_, it)| it.word != "ok").collect();
        assert!(blamed.is_empty(), "{blamed:#?}");
        assert!(endings.keys().all(|name| expected[name].word == "ok"));
    }
}

/// nextest runs each test in its own process with these arguments.
#[test]
fn verdicts_are_the_same_with_one_process_per_test_and_without_capture() {
    let expected = expected();
    let names = expected.iter().filter(|(name, it)| {
        let some = ["clean::", "runner::", "closes::twice", "leaks::a_f", "crowd::"];
        it.word != "ignored" && some.iter().any(|some| name.starts_with(some))
    });
    let names = Mutex::new(names);
    let corpus = DownstreamCrate::corpus();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = names.lock().unwrap().next();
                    let Some((name, expected)) = next else { break };
                    let mut runner = corpus.binary();
                    let output = runner.args(["--exact", name, "--nocapture"]).output().unwrap();
                    let code = if expected.word == "ok" { 0 } else { 101 };
                    assert_eq!(output.status.code(), Some(code), "{name}: {}", text(&output));
                    // For a test that passes the runner shows the same, except for the test's own
                    // output.
                    assert_parts(name, expected, &text(&output));
                }
            });
        }
    });
}

#[test]
fn an_ignored_test_runs_on_request_and_arguments_go_to_the_runner_only() {
    let mut runner = DownstreamCrate::corpus().binary();
    let output =
        runner.args(["--ignored", "--skip", "inherited", "--color", "never"]).output().unwrap();
    let endings = endings(&text(&output));
    assert_eq!(endings.len(), 1, "{endings:#?}");
    let ending = &endings["runner::an_ignored_test"];
    assert_eq!(ending.word, "FAILED");
    assert!(ending.section.contains("it was run"), "{}", ending.section);
}

#[test]
fn a_backtrace_ends_at_the_test_and_does_not_show_how_it_was_run() {
    let mut runner = DownstreamCrate::corpus().binary();
    let output =
        runner.args(["--exact", "runner::an_assertion"]).env("RUST_BACKTRACE", "1").output();
    let output_text = text(&output.unwrap());
    assert!(output_text.contains("verdicts::runner::an_assertion"), "{output_text}");
    assert!(
        !output_text.contains("echown_test::")
            && !output_text.contains("echown::harness")
            && !output_text.contains("echown::ownership"),
        "{output_text}"
    );
}

/// Descriptors that the shell or a CI runner left open are not leaks of a test.
#[test]
fn inherited_descriptors_are_not_reported() {
    use std::os::unix::process::CommandExt;

    let mut runner = DownstreamCrate::corpus().binary();
    let program = runner.get_program().to_owned();
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("exec 7</etc/passwd 8>/dev/null 9<&0; exec \"$0\" \"$@\"").arg(program);
    shell
        .args(["crowd::", "clean::", "--test-threads", "16"])
        .current_dir(&DownstreamCrate::corpus().folder);
    runner.arg0("not used");
    let output = shell.output().unwrap();
    let expected = expected();
    for (name, ending) in endings(&text(&output)) {
        assert_eq!(ending.word, expected[&name].word, "{name}:\n{}", ending.section);
        assert!(!ending.section.contains("fd 7"), "{name}:\n{}", ending.section);
    }
}

/// With `report_inherited` it is a finding, unless its path or kind is ignored.
#[test]
fn inherited_descriptors_are_reported_if_a_test_asks_for_it() {
    let program = DownstreamCrate::corpus().binary().get_program().to_owned();
    let run = |opened: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(format!("exec {opened}; exec \"$0\" \"$@\"")).arg(&program);
        shell.args(["options::inherited", "--ignored", "--show-output", "--test-threads", "1"]);
        endings(&text(&shell.current_dir(&DownstreamCrate::corpus().folder).output().unwrap()))
    };
    let (plain, ignoring) = ("options::inherited", "options::inherited_except_for_a_path");
    let found = run("7</etc/passwd");
    assert_eq!(found[plain].word, "FAILED", "{found:#?}");
    let begin = "inherited-fd: test `options::inherited` inherited ";
    for part in [begin, "file fd 7, /etc/passwd", "open it with O_CLOEXEC"] {
        assert!(found[plain].section.contains(part), "expected `{part}` in {found:#?}");
    }
    // Neither the standard streams nor the descriptors that the harness passes.
    for other in ["fd 0,", "fd 1,", "fd 2,", "fd 1023,", "fd 1022,"] {
        assert!(!found[plain].section.contains(other), "{found:#?}");
    }
    // This test itself may inherit more open descriptors.
    assert!(!found[ignoring].section.contains("fd 7,"), "{found:#?}");
    assert!(run("7</etc/hostname")[ignoring].section.contains("fd 7, /etc/hostname"));
    assert!(!run("7<&-")[plain].section.contains("fd 7,"));
}

/// `ECHOWN_TRACE_FDS=0` is the option `no_trace` for all tests.
#[test]
fn the_variable_turns_the_trace_off_as_the_option_does() {
    if !HAS_PLACES {
        return;
    }
    for (value, is_on) in [("1", true), ("0", false), ("", true)] {
        let mut runner = DownstreamCrate::corpus().binary();
        runner.args(["--exact", "closes::twice"]).env("ECHOWN_TRACE_FDS", value);
        let output_text = text(&runner.output().unwrap());
        let found = "double-close: test `closes::twice` closed file fd";
        assert_eq!(output_text.contains(found), is_on, "ECHOWN_TRACE_FDS={value}: {output_text}");
    }
}

/// Each child takes descriptors: with a limit far too low for all at once, some tests wait.
#[test]
fn tests_wait_when_there_are_too_few_descriptors_for_all() {
    let program = DownstreamCrate::corpus().binary().get_program().to_owned();
    let expected = expected();
    for limit in ["40", "260"] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "ulimit -n $1; exec \"$0\" crowd:: --test-threads 64"]);
        shell.arg(&program).arg(limit).current_dir(&DownstreamCrate::corpus().folder);
        let endings = endings(&text(&shell.output().unwrap()));
        assert_eq!(endings.len(), 16, "{endings:#?}");
        for (name, ending) in endings {
            assert_eq!(ending.word, expected[&name].word, "{name}:\n{}", ending.section);
            // A passing test's section is not shown.
            if ending.word == "FAILED" {
                assert_parts(&name, &expected[&name], &ending.section);
            }
        }
    }
}

/// Matters for tests with side effects outside their process.
#[test]
fn a_test_body_runs_again_only_if_it_leaves_descriptors_open() {
    let path = DownstreamCrate::corpus().folder.join("count");
    for (name, times) in [
        ("once_when_clean", 1),
        ("once_with_no_rerun", 1),
        ("twice_when_it_leaks", 2),
        ("twice_when_it_leaks_and_ends_its_process_the_second_time", 2),
    ] {
        let _ = fs::remove_file(&path);
        let mut runner = DownstreamCrate::corpus().binary();
        runner.args(["--exact", &format!("runs::{name}")]).env("DOWNSTREAM_COUNT", &path);
        let began = Instant::now();
        let output_text = text(&runner.output().unwrap());
        assert_eq!(fs::read(&path).unwrap().len(), times, "{name}: {output_text}");
        assert!(began.elapsed() < Duration::from_secs(120), "{name} waited for threads it has not");
    }
}

/// With nextest itself; if it is missing, only the test above covers its way of calling tests.
#[test]
fn nextest_gives_the_same_verdicts() {
    let corpus = DownstreamCrate::corpus();
    let has_nextest = corpus.cargo(&["nextest", "--version"]).status.success();
    if !require_tool("cargo-nextest", has_nextest) {
        return;
    }
    let output_text = text(&corpus.cargo(&[
        "nextest",
        "run",
        "--test",
        "verdicts",
        "--no-fail-fast",
        "--status-level",
        "all",
        "--final-status-level",
        "none",
        "-E",
        "test(/^(clean|closes|runner|crowd)::/)",
    ]));
    assert!(!output_text.contains("the same place in"), "one process per test:\n{output_text}");
    let mut ended = BTreeMap::new();
    for line in output_text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [word @ ("PASS" | "FAIL" | "LEAK"), "[", .., name] = words[..] {
            // Its status for a test that passed and left a program that still has the output open.
            ended.insert(name.to_owned(), if word == "LEAK" { "PASS" } else { word });
        }
    }
    let expected = expected().into_iter().filter(|(name, it)| {
        let is_meant = ["clean::", "closes::", "runner::", "crowd::"];
        it.word != "ignored" && is_meant.iter().any(|begin| name.starts_with(begin))
    });
    let words = expected.map(|(name, it)| (name, if it.word == "ok" { "PASS" } else { "FAIL" }));
    assert_eq!(ended, words.collect(), "{output_text}");
}

/// Requires the expected tests, each with its verdict and with the parts of its output.
pub fn compare(expected: &BTreeMap<String, Expected>, endings: &BTreeMap<String, Ending>) {
    let names: Vec<_> = endings.keys().collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>(), "the same tests");
    for (name, expected) in expected {
        let Ending { word, section } = &endings[name];
        assert_eq!(*word, *expected.word, "{name}:\n{section}");
        assert_parts(name, expected, section);
        // Neither paths of one machine nor frames of the harness.
        for part in ["/registry/", "/rustc/", "in echown_test::", "in std::", "in core::"] {
            assert!(!section.contains(part), "{name}: `{part}` in\n{section}");
        }
        for other in endings.keys().filter(|other| *other != name) {
            assert!(!section.contains(&format!("test `{other}`")), "{name}:\n{section}");
        }
    }
}

fn assert_parts(name: &str, expected: &Expected, output_text: &str) {
    if expected.parts.iter().any(|part| part == "?") {
        let refusal = output_text.lines().find(|line| line.contains("the kernel refuses the call"));
        if let Some(why) = refusal {
            eprintln!("only the verdict of {name} is checked: {why}");
            return;
        }
    }
    for part in &expected.parts {
        let part = match part.strip_prefix('@') {
            Some(place) if HAS_PLACES => place,
            _ if part == "?" => continue,
            Some(_) => continue,
            None => part,
        };
        assert!(output_text.contains(part), "{name}: expected `{part}` in\n{output_text}");
    }
}

fn expected() -> BTreeMap<String, Expected> {
    expected_in("tests/corpus/tests/verdicts")
}

/// The expectations in a folder of this project: `//~ VERDICT | part | part` above each test.
pub fn expected_in(folder: &str) -> BTreeMap<String, Expected> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let crowd: Vec<&str> =
            text.lines().map(str::trim).filter(|line| line.starts_with("guilty_")).collect();
        let (mut inner, mut above) = (String::new(), None);
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("mod ") {
                inner = format!("{}::", name.trim_end_matches(" {"));
            } else if line == "}" {
                inner.clear();
            } else if let Some(output_text) = line.trim().strip_prefix("//~ ") {
                let mut words = output_text.split(" | ");
                let word = match words.next() {
                    Some("passes") => "ok",
                    Some("fails") => "FAILED",
                    Some("ignored") => "ignored",
                    other => panic!("{}: no verdict {other:?}", path.display()),
                };
                above = Some((word, words.map(str::to_owned).collect::<Vec<_>>()));
            } else if let Some(("" | "async " | "extern \"C\" ", head)) =
                line.trim().split_once("fn ")
                && let Some((word, parts)) = above.take()
            {
                let name = head.split('(').next().unwrap();
                let mut enter = |name: &str, parts| {
                    all.insert(format!("{module}::{inner}{name}"), Expected { word, parts })
                };
                // One attribute in the macro applies to all tests listed below it.
                for pair in crowd.iter().filter(|_| name.starts_with('$')) {
                    let member = pair.split(' ').find(|it| it.starts_with(&name[1..])).unwrap();
                    let parts = parts.iter().map(|part| part.replace(name, member)).collect();
                    enter(member, parts);
                }
                if !name.starts_with('$') {
                    enter(name, parts);
                }
            }
        }
    }
    all
}
