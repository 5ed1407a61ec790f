//! What `echown learn` writes: a project of exercises, and the pages in `docs/lessons`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::common::doc_pages::{KERNELS, steady};
use super::common::temp_path::TempPath;
use super::server::echown;

fn learn(arguments: &[&str]) -> Output {
    echown().arg("learn").args(arguments).output().unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_project_has_an_exercise_for_each_lesson_and_no_solution() {
    let folder = TempPath::new("exercises");
    let output = learn(&["init", folder.text()]);
    assert!(output.status.success(), "{output:?}");
    let expected = [".gitignore", "Cargo.toml", "README.md", "rustfmt.toml", "src", "tests"];
    assert_eq!(names(&folder), BTreeSet::from(expected.map(String::from)));
    let listed = learn(&["--list"]);
    let lessons = String::from_utf8(listed.stdout).unwrap().lines().count();
    assert_eq!(names(&folder.join("tests")).len(), lessons);
    let exercise = fs::read_to_string(folder.join("tests/01_give.rs")).unwrap();
    assert!(exercise.contains("#[echown::test]\nfn every_descriptor_is_closed()"), "{exercise}");

    let solution = String::from_utf8(learn(&["solution", "give"]).stdout).unwrap();
    let test = |text: &str| text[text.find("\n#[echown::test]").unwrap()..].to_owned();
    assert_ne!(solution, exercise);
    assert_eq!(test(&solution), test(&exercise), "the same judge");
}

#[test]
fn a_folder_that_is_not_empty_is_left_as_it_is() {
    let folder = TempPath::folder("taken");
    fs::write(folder.join("mine"), "").unwrap();
    let output = learn(&["init", folder.text()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is not empty"), "{output:?}");
    assert_eq!(names(&folder), BTreeSet::from(["mine".to_owned()]));
}

#[test]
fn an_empty_folder_is_filled_and_stays_the_same_folder() {
    let folder = TempPath::folder("empty");
    let before = fs::metadata(&*folder).unwrap().ino();
    let output = echown().args(["learn", "init", "."]).current_dir(&*folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(folder.join("Cargo.toml").exists() && !folder.join(".unfinished").exists());
    assert_eq!(fs::metadata(&*folder).unwrap().ino(), before);
}

#[test]
fn a_project_that_cannot_be_written_leaves_nothing_behind() {
    let parent = TempPath::folder("parent");
    let file = parent.join("file");
    fs::write(&file, "").unwrap();
    let output = learn(&["init", file.join("below").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(names(&parent), BTreeSet::from(["file".to_owned()]));
}

#[test]
fn a_path_without_the_package_is_rejected() {
    let folder = TempPath::new("rejected");
    for path in ["/nonexistent", env!("CARGO_TARGET_TMPDIR")] {
        let output = learn(&["init", folder.text(), "--echown", path]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(path), "{output:?}");
        assert!(!folder.exists());
    }
}

/// Builds the project, so it runs only in `ci/learn`.
#[test]
fn the_exercises_fail_as_promised_and_the_solutions_pass() {
    if std::env::var_os("ECHOWN_LEARN").is_none() {
        return;
    }
    let folder = TempPath::new("exercises");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(learn(&["init", folder.text(), "--echown", root.to_str().unwrap()]).status.success());
    // The versions that this workspace was tried with.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let test = |name: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--quiet", "--test", name]).current_dir(&*folder);
        cargo.env("CARGO_TARGET_DIR", root.join("target/learn"));
        let output = cargo.env("CARGO_PROFILE_TEST_DEBUG", "line-tables-only").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let lessons: Vec<Value> = serde_json::from_slice(&learn(&["--data"]).stdout).unwrap();
    for lesson in &lessons {
        let name = lesson["name"].as_str().unwrap();
        let (passes, output) = test(name);
        assert!(!passes && output.contains("1 failed"), "{name}: {output}");
        let codes = lesson["test"]["finds"].as_array().unwrap();
        assert!(!codes.is_empty(), "{name} promises nothing");
        for code in codes {
            let code = code.as_str().unwrap();
            let is_reported = [format!("{code}: "), format!("[{code}]")];
            assert!(is_reported.iter().any(|it| output.contains(it)), "{name}: {output}");
        }
    }
    for lesson in &lessons {
        let name = lesson["name"].as_str().unwrap();
        let number = lesson["number"].as_u64().unwrap();
        let file = format!("tests/{number:02}_{}.rs", name.replace('-', "_"));
        assert!(folder.join(&file).exists(), "{file}");
        fs::write(folder.join(&file), learn(&["solution", name]).stdout).unwrap();
        let (passes, output) = test(name);
        assert!(passes && output.contains("1 passed"), "{name}: {output}");
    }
}

/// A text without the bytes that a resource has moved: tasks of a lesson may run at the same time.
fn without_traffic(text: &str) -> String {
    let without = |line: &str| match line.rsplit_once(" bytes in, ") {
        Some((before, after)) if after.ends_with(" bytes out") => {
            before.rsplit_once(", ").map_or(before, |(facts, _)| facts).to_owned()
        }
        _ => line.to_owned(),
    };
    text.lines().map(|line| without(line) + "\n").collect()
}

/// The pages and pictures as the program writes them now, without what differs from run to run.
fn pages() -> BTreeMap<String, String> {
    let written = TempPath::folder("lesson-pages");
    let output = learn(&["pages", written.text()]);
    assert!(output.status.success(), "{output:?}");
    let page = |name: String| {
        let page = fs::read_to_string(written.join(&name)).unwrap();
        // One program makes a file that is named by its process.
        let temporary = format!("{}/", std::env::temp_dir().display());
        let page = page.replace(&temporary, "/tmp/");
        let page = steady(&page, &[KERNELS, &["/tmp/pid-", "127.0.0.1:"]].concat());
        (name, without_traffic(&page))
    };
    names(&written).into_iter().map(page).collect()
}

/// The first difference between the pages as they are written now and those in `docs/lessons`.
fn difference(pages: &BTreeMap<String, String>, docs: &Path) -> Option<String> {
    let known = names(docs);
    if let Some(name) = known.iter().find(|name| !pages.contains_key(*name)) {
        return Some(format!("{name} is left of a lesson that is gone"));
    }
    for (name, page) in pages {
        let known = fs::read_to_string(docs.join(name)).unwrap_or_default();
        let mut lines = page.lines().zip(known.lines());
        if let Some((written, known)) = lines.find(|(written, known)| written != known) {
            return Some(format!("{name}:\n  written: {written}\n  in docs: {known}"));
        }
        if *page != known {
            return Some(format!("{name} has another end"));
        }
    }
    None
}

/// In a few lessons two tasks do something at the same time: one of the attempts has to agree.
#[test]
fn the_pages_of_the_lessons_are_as_the_program_writes_them() {
    const ATTEMPTS: usize = 5;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/lessons");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let _ = fs::remove_dir_all(&docs);
        fs::create_dir(&docs).unwrap();
        pages().iter().for_each(|(name, page)| fs::write(docs.join(name), page).unwrap());
        return;
    }
    let mut differences: Vec<_> = Vec::new();
    while differences.len() < ATTEMPTS {
        match difference(&pages(), &docs) {
            None => return,
            Some(difference) => differences.push(difference),
        }
    }
    panic!("with UPDATE_DOCS=1 this test writes the pages\n{}", differences.join("\n"));
}
