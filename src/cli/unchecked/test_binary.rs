//! The test binaries that cargo builds, and the tests that each lists.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use echown_fd::escape;
use serde::Deserialize;

/// A test binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestBinary {
    /// Its name in nextest: the package, followed by the target unless it is the library.
    pub(super) suite: String,
    pub(super) path: PathBuf,
    /// The folder of the package, in which cargo runs it.
    folder: PathBuf,
}

/// A message of cargo, as far as it is about a test binary.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    manifest_path: PathBuf,
    target: Target,
    profile: Profile,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the tests with cargo, whose messages go to standard error.
///
/// # Errors
/// cargo cannot be started, or the build failed.
pub(super) fn build(arguments: &[String]) -> Result<Vec<TestBinary>, String> {
    let mut command = Command::new(program("CARGO", "cargo"));
    command.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    command.args(arguments).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("failed to start cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the tests were not built: cargo ended with {}", output.status));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(TestBinary::of_message).collect())
}

impl TestBinary {
    fn of_message(line: &str) -> Option<TestBinary> {
        let artifact: Artifact = serde_json::from_str(line).ok()?;
        let path = artifact.executable.filter(|_| artifact.profile.test)?;
        let folder = artifact.manifest_path.parent()?.to_owned();
        let package = package(&artifact.package_id)?;
        let Target { kind, name } = &artifact.target;
        let suite = match kind.first().map_or("lib", String::as_str) {
            "test" => format!("{package}::{name}"),
            kind @ ("bin" | "example" | "bench") => format!("{package}::{kind}/{name}"),
            _ => package.to_owned(),
        };
        Some(TestBinary { suite: escape::text(&suite).into_owned(), path, folder })
    }

    /// The names of its tests, ignored ones included; `None` if it lists nothing, as a program without
    /// the standard runner does.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub(super) fn tests(&self) -> Result<Option<Vec<String>>, String> {
        let mut command = Command::new(&self.path);
        command.arg("--list").current_dir(&self.folder);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        // As cargo runs it: a procedural macro's test binary uses the compiler's libraries.
        command.env("LD_LIBRARY_PATH", self.library_path());
        let failure = |what: String| {
            format!("failed to list the tests of {}: {what}", escape::path(&self.path))
        };
        let output = command.output().map_err(|error| failure(error.to_string()))?;
        if !output.status.success() {
            return Err(failure(format!("it ended with {}", output.status)));
        }
        Ok(listed(&String::from_utf8_lossy(&output.stdout)))
    }

    /// # Errors
    /// The file cannot be read.
    pub(super) fn content(&self) -> Result<Vec<u8>, String> {
        fs::read(&self.path)
            .map_err(|error| format!("failed to read {}: {error}", escape::path(&self.path)))
    }

    fn library_path(&self) -> OsString {
        let rustc = Command::new(program("RUSTC", "rustc"))
            .args(["--print", "target-libdir"])
            .current_dir(&self.folder)
            .output();
        let of_rustc = rustc.ok().map(|output| {
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        });
        let own = self.path.parent().map(Path::to_owned);
        let before = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let all = own.into_iter().chain(of_rustc).chain(env::split_paths(&before));
        env::join_paths(all).unwrap_or(before)
    }
}

/// A program that cargo's environment may name.
fn program(variable: &str, name: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| name.into())
}

/// The package's name: `path+file:///a/folder#name@0.1.0`, or `path+file:///a/name#0.1.0`, or, before
/// Rust 1.77, `name 0.1.0 (path+file:///a/folder)`.
fn package(id: &str) -> Option<&str> {
    if let Some((name, _)) = id.split_once(' ') {
        return Some(name);
    }
    let (url, version) = id.rsplit_once('#')?;
    match version.split_once('@') {
        Some((name, _)) => Some(name),
        None => url.rsplit('/').next(),
    }
}

/// The tests in the output of `--list`: lines `NAME: test`, and a count at the end.
fn listed(output: &str) -> Option<Vec<String>> {
    let tests: Vec<String> = output
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|name| escape::text(name).into_owned())
        .collect();
    let is_list = !tests.is_empty() || output.lines().any(|line| line.starts_with("0 tests, "));
    is_list.then_some(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_has_the_name_that_nextest_gives_it() {
        let message = |id: &str, kind: &str, name: &str, is_test: bool| {
            let line = format!(
                "{{\"reason\":\"compiler-artifact\",\"package_id\":\"{id}\",\"manifest_path\":\
                 \"/a/Cargo.toml\",\"target\":{{\"kind\":[\"{kind}\"],\"name\":\"{name}\"}},\
                 \"profile\":{{\"test\":{is_test}}},\"executable\":\"/a/target/it\"}}"
            );
            TestBinary::of_message(&line).map(|binary| binary.suite)
        };
        let id = "path+file:///a/folder#an-app@0.1.0";
        assert_eq!(message(id, "lib", "an_app", true).as_deref(), Some("an-app"));
        assert_eq!(message(id, "test", "it", true).as_deref(), Some("an-app::it"));
        assert_eq!(message(id, "bin", "an-app", true).as_deref(), Some("an-app::bin/an-app"));
        assert_eq!(message(id, "bin", "an-app", false), None);
        let same = "path+file:///a/an-app#0.1.0";
        assert_eq!(message(same, "proc-macro", "an_app", true).as_deref(), Some("an-app"));
        let old = "an-app 0.1.0 (path+file:///a/folder)";
        assert_eq!(message(old, "test", "it", true).as_deref(), Some("an-app::it"));
        assert_eq!(TestBinary::of_message("{\"reason\":\"build-finished\"}"), None);
        assert_eq!(TestBinary::of_message("warning"), None);
    }

    #[test]
    fn a_list_without_tests_differs_from_no_list() {
        let output = "one: test\nsub::two: test\nfast: bench\n\n2 tests, 1 benchmark\n";
        assert_eq!(listed(output), Some(vec![String::from("one"), String::from("sub::two")]));
        assert_eq!(listed("0 tests, 0 benchmarks\n"), Some(Vec::new()));
        assert_eq!(listed("main alone\n"), None);
    }
}
