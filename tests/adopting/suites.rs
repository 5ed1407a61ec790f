//! The test suites of ten published crates, once as they are and once with the attribute on each
//! test: the same tests fail, except for listed leaks.
//!
//! The sources are downloaded, so this runs in `ci/adopt` alone, which sets the variable. The change
//! to the sources is mechanical ([`with_the_attribute`]). `tests/adopt/leaks.txt` lists the tests
//! that fail by right, and `tests/adopt/Cargo.lock` has the versions of all dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::common::doc_pages::assert_page_shows;
use super::downstream::{quiet, root, text};
use super::mailer::block;

const CRATES: [(&str, &str); 10] = [
    ("async-io", "2.6.0"),
    ("command-fds", "0.3.3"),
    ("command-group", "5.0.1"),
    ("duct", "1.1.2"),
    ("os_pipe", "1.2.3"),
    ("polling", "3.11.0"),
    ("rusty-fork", "0.3.1"),
    ("socket2", "0.6.5"),
    ("tempfile", "3.27.0"),
    ("tiny_http", "0.12.0"),
];

/// Whose tests close each other's descriptors when two of them run at the same time.
const ONE_THREAD: [&str; 1] = ["command-fds"];

const PAGE: &str = "docs/adopting.md";
const MARKER: &str = "ten published suites";

/// The columns before the times.
const COUNTS_WIDTH: usize = 83;

/// The columns before the failures without the attribute, and with them.
const TESTS_WIDTH: usize = 26;
const PLAIN_WIDTH: usize = 37;

#[test]
fn ten_published_suites_have_the_same_results_with_the_attribute() {
    if std::env::var_os("ECHOWN_ADOPT").is_none() {
        eprintln!("skipped: needs a network; `ci/adopt` runs it");
        return;
    }
    let rounds = std::env::var("ECHOWN_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
    let only = std::env::var("ECHOWN_ADOPT_ONLY").ok();
    let leaks = listed_leaks();
    let folder = prepared();
    let (mut table, mut faults) = (Table::default(), String::new());
    for (name, version) in CRATES {
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let plain = Suite::build(&folder.join("plain"), name);
        let switched = Suite::build(&folder.join("switched"), name);
        let (mut plain_runs, mut switched_runs) = (Runs::default(), Runs::default());
        plain_runs.add(&plain, None);
        switched_runs.add(&switched, None);
        // Tests that leave something open, at first or for good, make the attribute wait.
        let skipped = switched_runs.waiting();
        for _ in 0..rounds {
            plain_runs.add(&plain, Some(&skipped));
            switched_runs.add(&switched, Some(&skipped));
        }
        let compared = Compared::new(name, &plain_runs, &switched, &switched_runs, &leaks);
        faults += &compared.faults;
        table.add(&format!("{name} {version}"), &compared, &plain_runs, &switched_runs);
    }
    let table = table.finish();
    println!("\n{table}");
    assert!(faults.is_empty(), "{faults}");
    if only.is_none() {
        check_page(&table);
    }
}

/// Writes the table into the page, or compares it except for the times and for what fails without
/// the attribute, which differs from run to run.
fn check_page(table: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        assert_page_shows(PAGE, MARKER, "text", table);
    } else {
        let counts = |text: &str| -> String {
            text.lines()
                .flat_map(|line| {
                    line.chars()
                        .take(TESTS_WIDTH)
                        .chain(line.chars().take(COUNTS_WIDTH).skip(PLAIN_WIDTH))
                        .chain(['\n'])
                })
                .collect()
        };
        assert_eq!(counts(&block(PAGE, MARKER)), counts(table), "{PAGE} is out of date");
    }
}

/// The tests of one crate, as binaries.
struct Suite {
    folder: PathBuf,
    /// The name of the target, which is the same in both folders, and the binary.
    binaries: BTreeMap<String, PathBuf>,
}

impl Suite {
    fn build(workspace: &Path, name: &str) -> Suite {
        let begin = workspace.file_name().expect("a workspace has a name");
        let folder = workspace.join(begin).join(name);
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&folder).args(["test", "--no-run", "--lib", "--bins", "--tests"]);
        command.args(["--quiet", "--message-format=json"]);
        command.env("CARGO_TARGET_DIR", workspace.with_file_name("target"));
        let output = quiet(&mut command).output().expect("cargo runs");
        assert!(output.status.success(), "{name} is not built:\n{}", text(&output));
        let mut binaries = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // Only test targets have both; the binaries of a package are artifacts as well.
            if line.contains(r#""test":true},"features""#)
                && let Some(binary) = after(line, r#""executable":""#)
            {
                let source = after(line, r#""src_path":""#).expect("a target has a source");
                let source = Path::new(source).strip_prefix(&folder).expect("a part of the crate");
                binaries.insert(source.display().to_string(), PathBuf::from(binary));
            }
        }
        assert!(!binaries.is_empty(), "{name} has no tests:\n{}", text(&output));
        Suite { folder, binaries }
    }

    fn passes_alone(&self, test: &str) -> bool {
        let (target, name) = test.split_once(' ').expect("a target is before its test");
        (0..PASSES).all(|_| {
            let mut command = self.command(&self.binaries[target]);
            command.args(["--exact", name]);
            output_of(command, &self.folder).contains("test result: ok. 1 passed")
        })
    }

    fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        // Where duct's tests build and expect their programs.
        command.env("CARGO_TARGET_DIR", self.folder.join("target"));
        quiet(&mut command).stdin(Stdio::null());
        command
    }
}

/// How often a test that failed by itself must pass when it runs alone.
const PASSES: usize = 3;

/// Runs a binary to its end, and then ends what it left: tests of duct leave programs that would hold
/// a pipe for the output.
fn output_of(mut command: Command, folder: &Path) -> String {
    let path = folder.with_extension("log");
    let log = fs::File::create(&path).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
    let mut child = command.spawn().expect("it runs");
    child.wait().unwrap();
    let group = format!("-{}", child.id());
    let _none_left = Command::new("kill").args(["-KILL", "--", &group]).output();
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

fn after<'text>(text: &'text str, mark: &str) -> Option<&'text str> {
    text.split_once(mark)?.1.split('"').next()
}

/// The results of a suite in all rounds.
#[derive(Default)]
struct Runs {
    times: Vec<Duration>,
    tests: BTreeSet<String>,
    ignored: BTreeSet<String>,
    /// Each test that failed in a round, with its section of the output.
    failed: BTreeMap<String, String>,
    /// In how many rounds each of them failed, and how many rounds there were.
    failures: BTreeMap<String, usize>,
    rounds: usize,
    /// The tests that left something open and closed it later.
    late: BTreeSet<String>,
    /// What the tests that could not be judged say.
    not_judged: Vec<String>,
}

impl Runs {
    /// Runs the suite. A run without some tests is a timed one.
    fn add(&mut self, suite: &Suite, skipped: Option<&BTreeSet<String>>) {
        let mut time = Duration::ZERO;
        for (target, binary) in &suite.binaries {
            let list = |arguments: &[&str]| -> BTreeSet<String> {
                let listed = suite.command(binary).args(arguments).output().expect("it runs");
                let lines = String::from_utf8_lossy(&listed.stdout).into_owned();
                let names = lines.lines().filter_map(|line| line.strip_suffix(": test"));
                names.map(|name| format!("{target} {name}")).collect()
            };
            self.tests.append(&mut list(&["--list"]));
            self.ignored.append(&mut list(&["--list", "--ignored"]));
            let began = Instant::now();
            let mut command = suite.command(binary);
            command.args(["--exact", "--show-output"]);
            if ONE_THREAD.iter().any(|name| suite.folder.ends_with(name)) {
                command.arg("--test-threads=1");
            }
            let begin = format!("{target} ");
            for name in skipped.into_iter().flatten().filter_map(|it| it.strip_prefix(&begin)) {
                command.args(["--skip", name]);
            }
            let output_text = output_of(command, &suite.folder);
            time += began.elapsed();
            assert!(
                output_text.contains("\ntest result: "),
                "{} did not end:\n{output_text}",
                binary.display()
            );
            for (name, section) in sections(&output_text) {
                let is_refused =
                    section.contains("crates/test/src/") || section.contains("not be judged");
                if is_refused {
                    self.not_judged.push(format!("{target} {name}:\n{section}"));
                }
                if section.contains("after the settle time") {
                    self.late.insert(format!("{target} {name}"));
                }
            }
            // What programs write between the lines does not get into the list at the end.
            let (before, list) = output_text.rsplit_once("\nfailures:\n").unwrap_or_default();
            let names = list.lines().take_while(|line| line.starts_with("    "));
            for name in names.map(str::trim) {
                let section = sections(before).find(|(other, _)| *other == name);
                let section = section.map_or(before, |(_, section)| section);
                *self.failures.entry(format!("{target} {name}")).or_default() += 1;
                self.failed.insert(format!("{target} {name}"), section.to_owned());
            }
        }
        self.rounds += 1;
        if skipped.is_some() {
            self.times.push(time);
        }
    }

    /// Without those that depend on the load of the machine.
    fn always_failed(&self) -> usize {
        self.failures.values().filter(|failures| **failures == self.rounds).count()
    }

    fn waiting(&self) -> BTreeSet<String> {
        self.failed.keys().chain(&self.late).cloned().collect()
    }

    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        times[times.len() / 2].as_secs_f64()
    }
}

/// The tests that have a section in an output, and the sections.
fn sections(output_text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = output_text.split("\n---- ").skip(1);
    parts.filter_map(|part| part.split_once(" stdout ----\n"))
}

/// What the attribute changed.
struct Compared {
    leaks: usize,
    blamed: usize,
    not_judged: usize,
    faults: String,
}

impl Compared {
    fn new(name: &str, plain: &Runs, suite: &Suite, switched: &Runs, leaks: &[Leak]) -> Compared {
        let mut faults = String::new();
        let listed: BTreeSet<&str> =
            leaks.iter().filter(|leak| leak.package == name).map(|leak| &*leak.test).collect();
        let mut found = BTreeSet::new();
        let mut blamed = 0;
        for (test, section) in &switched.failed {
            if plain.failed.contains_key(test) {
                // Without the attribute, too.
            } else if listed.contains(&**test) && section.contains(": test `") {
                found.insert(&**test);
            } else {
                // A race of the test with the load of the machine is no verdict of the attribute.
                if !section.contains(": test `") && suite.passes_alone(test) {
                    println!("{name}: {test} passes only sometimes:\n{section}");
                    continue;
                }
                blamed += 1;
                writeln!(faults, "{name}: {test} fails with the attribute:\n{section}").unwrap();
            }
        }
        for test in listed.difference(&found) {
            writeln!(faults, "{name}: {test} is listed as a leak, and passes").unwrap();
        }
        for test in plain.tests.symmetric_difference(&switched.tests) {
            writeln!(faults, "{name}: {test} is not listed in both").unwrap();
        }
        for test in plain.failed.keys() {
            println!("{name}: {test} fails without the attribute");
        }
        let not_judged = switched.not_judged.len();
        for section in &switched.not_judged {
            writeln!(faults, "{name}: not judged: {section}").unwrap();
        }
        Compared { leaks: found.len(), blamed, not_judged, faults }
    }
}

/// A line of `leaks.txt`: `CRATE TARGET TEST: REASON`.
struct Leak {
    package: String,
    /// The target and the test.
    test: String,
}

fn listed_leaks() -> Vec<Leak> {
    let lines = fs::read_to_string(root().join("tests/adopt/leaks.txt")).unwrap();
    let lines = lines.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let leaks = lines.map(|line| {
        let (names, _) = line.split_once(": ").expect("a reason is after `: `");
        let (package, test) = names.split_once(' ').expect("a crate is before its test");
        Leak { package: package.to_owned(), test: test.to_owned() }
    });
    leaks.collect()
}

#[derive(Default)]
struct Table {
    lines: String,
    sums: [usize; 6],
}

impl Table {
    fn add(&mut self, name: &str, compared: &Compared, plain: &Runs, switched: &Runs) {
        let tests = switched.tests.len() - switched.ignored.len();
        let (plain_failed, late) = (plain.always_failed(), switched.late.len());
        let counts =
            [tests, plain_failed, compared.leaks, late, compared.blamed, compared.not_judged];
        self.sums = std::array::from_fn(|index| self.sums[index] + counts[index]);
        self.lines += &Table::line(name, counts);
        let (without, with) = (plain.median(), switched.median());
        writeln!(self.lines, " {without:>8.2} s {with:>8.2} s {:>6.2}", with / without).unwrap();
    }

    fn line(name: &str, counts: [usize; 6]) -> String {
        let [tests, plain_failed, leaks, late, blamed, not_judged] = counts;
        let begin = format!("{name:<20} {tests:>5} {plain_failed:>10}");
        format!("{begin} {leaks:>10} {late:>11} {blamed:>11} {not_judged:>10}")
    }

    fn finish(self) -> String {
        let titles = ["true leaks", "closed late", "false blame", "not judged"].join(" ");
        let begin = format!("{:<20} {:>5} {:>10}", "crate", "tests", "fail plain");
        let heading = format!("{begin} {titles} {:>10} {:>10} {:>6}", "without", "with", "ratio");
        format!("{heading}\n{}{}\n", self.lines, Table::line("all", self.sums))
    }
}

/// Two workspaces with the sources of all crates, and one lock file.
fn prepared() -> PathBuf {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("adopt");
    let sources = downloaded(&to.join("download"));
    for workspace in ["plain", "switched"] {
        let folder = to.join(workspace);
        fs::create_dir_all(&folder).unwrap();
        // Below a folder of another name: cargo names its files by the path in the workspace, and the
        // target folder is the same.
        let members = CRATES.map(|(name, _)| format!("{workspace}/{name}"));
        let manifest = format!(
            "[workspace]\nmembers = {members:?}\nresolver = \"2\"\n\
             [profile.dev]\ndebug = \"line-tables-only\"\nincremental = false\n"
        );
        write(&folder.join("Cargo.toml"), manifest);
        let locked = root().join("tests/adopt/Cargo.lock");
        if locked.exists() {
            fs::copy(locked, folder.join("Cargo.lock")).unwrap();
        }
        for ((name, _), source) in CRATES.iter().zip(&sources) {
            copy(source, &folder.join(workspace).join(name), workspace == "switched");
        }
    }
    to
}

/// The folders of the crates' sources.
fn downloaded(folder: &Path) -> Vec<PathBuf> {
    let dependencies = CRATES.map(|(name, version)| format!("{name} = \"={version}\"\n")).concat();
    fs::create_dir_all(folder.join("src")).unwrap();
    write(&folder.join("src/lib.rs"), "");
    write(
        &folder.join("Cargo.toml"),
        format!(
            "[package]\nname = \"download\"\nedition = \"2021\"\n[workspace]\n\
             [dependencies]\n{dependencies}"
        ),
    );
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(folder).args(["metadata", "--format-version=1"]);
    let output = quiet(&mut command).output().expect("cargo runs");
    assert!(output.status.success(), "{}", text(&output));
    let metadata = text(&output);
    let folder_of = |(name, version): &(&str, &str)| {
        let end = format!("/{name}-{version}/Cargo.toml\"");
        let before = metadata.split_once(&end).expect("the metadata has each crate").0;
        let path = before.rsplit_once('"').expect("a path is quoted").1;
        PathBuf::from(format!("{path}/{name}-{version}"))
    };
    CRATES.iter().map(folder_of).collect()
}

fn copy(from: &Path, to: &Path, is_switched: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().expect("an entry has a name");
        let copied = to.join(name);
        if path.is_dir() {
            copy(&path, &copied, is_switched);
        } else if name == "Cargo.toml" {
            let attribute = root().join("crates/test");
            let dependency = format!("\n[dev-dependencies.echown-test]\npath = {attribute:?}\n");
            write(&copied, fs::read_to_string(path).unwrap() + &dependency);
        } else if is_switched && path.extension().is_some_and(|it| it == "rs") {
            write(&copied, with_the_attribute(&fs::read_to_string(path).unwrap()));
        } else {
            write(&copied, fs::read(path).unwrap());
        }
    }
}

/// Puts the attribute on every test: in place of `#[test]`, and above the attribute of a runtime. A
/// test outside a module `#[cfg(test)]` gets this condition, as `#[test]` has it by itself.
fn with_the_attribute(source: &str) -> String {
    let mut switched = String::new();
    for line in source.lines() {
        let begin = line.len() - line.trim_start().len();
        let (space, code) = line.split_at(begin);
        let path = code.strip_prefix("#[").map(|code| code.split([']', '(']).next().unwrap());
        switched += space;
        if let Some(rest) = code.strip_prefix("#[test]") {
            switched += "#[cfg(test)] #[echown_test::test]";
            switched += rest;
        } else {
            if path.is_some_and(|path| path.ends_with("::test")) {
                switched += "#[cfg(test)] #[echown_test::test] ";
            }
            switched += code;
        }
        switched.push('\n');
    }
    switched
}

/// Writes a file unless it has this content: cargo builds what has a new date.
fn write(path: &Path, content: impl AsRef<[u8]>) {
    if fs::read(path).ok().as_deref() != Some(content.as_ref()) {
        fs::write(path, content).unwrap();
    }
}
