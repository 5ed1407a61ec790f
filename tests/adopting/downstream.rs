//! The downstream crate, copied and built once, and the output of its runner.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A crate in its own folder, with a path dependency on this one.
pub struct DownstreamCrate {
    pub folder: PathBuf,
}

impl DownstreamCrate {
    /// The corpus, built.
    pub fn corpus() -> &'static DownstreamCrate {
        static CORPUS: OnceLock<DownstreamCrate> = OnceLock::new();
        CORPUS.get_or_init(|| {
            let corpus = DownstreamCrate::new("downstream", &corpus_files());
            let built = corpus.cargo(&["test", "--no-run"]);
            assert!(built.status.success(), "the downstream crate is not built:\n{}", text(&built));
            corpus
        })
    }

    pub fn new(name: &str, files: &[(PathBuf, String)]) -> DownstreamCrate {
        // Several tests may make the same crate at once.
        static WRITES: Mutex<()> = Mutex::new(());
        let _alone = WRITES.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Files removed from the corpus must not stay here as tests.
        for entry in fs::read_dir(folder.join("tests")).into_iter().flatten() {
            let path = entry.expect("a folder can be read").path();
            if path.is_file() && !files.iter().any(|(file, _)| folder.join(file) == path) {
                fs::remove_file(path).unwrap();
            }
        }
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a file is in a folder")).unwrap();
            // Unchanged files keep their date, or cargo would rebuild all of them each time.
            if fs::read_to_string(&path).ok().as_ref() != Some(content) {
                fs::write(path, content).unwrap();
            }
        }
        fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        DownstreamCrate { folder }
    }

    /// cargo, without a network and with one target folder for all downstream crates.
    pub fn cargo(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("cargo runs")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO"));
        command.current_dir(&self.folder).args(arguments).env("CARGO_NET_OFFLINE", "true");
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("target"));
        quiet(&mut command);
        command
    }

    /// `cargo test` at that many threads, in the folder of the crate.
    pub fn test(&self, threads: &str) -> Output {
        self.cargo(&[
            "test",
            "--test",
            "verdicts",
            "--",
            "--show-output",
            "--test-threads",
            threads,
        ])
    }

    /// The test binary, called directly.
    pub fn binary(&self) -> Command {
        static PATH: OnceLock<PathBuf> = OnceLock::new();
        let path = PATH.get_or_init(|| {
            let built = self.cargo(&["test", "--no-run", "--test", "verdicts"]);
            let output_text = text(&built);
            let line = output_text.lines().find(|line| line.contains("tests/verdicts.rs"));
            let path = line.and_then(|line| line.split(['(', ')']).nth(1));
            self.folder
                .join(path.unwrap_or_else(|| panic!("cargo names no binary:\n{output_text}")))
        });
        let mut command = Command::new(path);
        quiet(command.current_dir(&self.folder));
        command
    }
}

/// Without the `ECHOWN_*` variables of this test run.
pub fn quiet(command: &mut Command) -> &mut Command {
    for variable in ["RUSTFLAGS", "RUST_TEST_THREADS", "RUST_TEST_NOCAPTURE", "ECHOWN_TRACE_FDS"] {
        command.env_remove(variable);
    }
    // The variables that nextest, if it runs this, sets for its tests.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("NEXTEST") {
            command.env_remove(variable);
        }
    }
    command.env("RUST_BACKTRACE", "0").env("CARGO_TERM_COLOR", "never")
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path of this package as a dependency's, in a manifest.
fn dependency() -> String {
    format!("path = {:?}", root())
}

/// The manifest of a crate that has the attribute and nothing else.
pub fn manifest(name: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
         [dev-dependencies.echown]\n{}\ndefault-features = false\nfeatures = [\"macros\"]\n",
        dependency()
    )
}

/// The manifest of a crate that depends on `echown-test` alone.
pub fn light_manifest(name: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
         [dev-dependencies]\nechown-test = {{ path = {:?} }}\n",
        root().join("crates/test")
    )
}

pub fn text(output: &Output) -> String {
    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    part(&output.stdout) + &part(&output.stderr)
}

fn corpus_files() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(&root().join("tests/corpus"), Path::new(""), &mut files);
    // Packages of their own: see `real.rs`; and programs in other languages: see `ci/trace`.
    files.retain(|(path, _)| !path.starts_with("real") && !path.starts_with("run"));
    for (path, content) in &mut files {
        if path.ends_with("Cargo.toml") {
            let there = "path = \"../..\"";
            assert!(content.contains(there), "the corpus depends on this package by its path");
            *content = content.replace(there, &dependency());
        }
    }
    files
}

pub fn collect(folder: &Path, below: &Path, into: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let below = below.join(path.file_name().expect("an entry has a name"));
        match path.is_dir() {
            true => collect(&path, &below, into),
            false => into.push((below, fs::read_to_string(path).unwrap())),
        }
    }
}

/// The result of a test, and its output.
#[derive(Debug, Default)]
pub struct Ending {
    pub word: String,
    pub section: String,
}

/// Parses the output of the standard runner.
pub fn endings(output_text: &str) -> BTreeMap<String, Ending> {
    let mut endings: BTreeMap<String, Ending> = BTreeMap::new();
    let mut current: Option<&str> = None;
    for line in output_text.lines() {
        let ended = line.strip_prefix("test ").and_then(|line| line.split_once(" ... "));
        let begun = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"));
        if let (Some((name, word)), None) = (ended, current) {
            let name = name.trim_end_matches(" - should panic");
            endings.entry(name.to_owned()).or_default().word = word.to_owned();
        } else if let Some(name) = begun {
            current = Some(name);
        } else if ["successes:", "failures:"].contains(&line) {
            current = None;
        } else if let Some(name) = current {
            let section = &mut endings.entry(name.to_owned()).or_default().section;
            *section += line;
            *section += "\n";
        }
    }
    endings
}
