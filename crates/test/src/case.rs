//! A test and its options, as the attribute writes them.

use std::time::Duration;

use echown_report::Suppression;

/// The default time in milliseconds that threads get to finish and close their descriptors. Twice
/// goleak's default, for machines that run as many tests as they have hardware threads. Only tests
/// that leave both descriptors and running threads wait.
const SETTLE_MS: u64 = 1000;

/// The default timeout in milliseconds: five times the limit at which the standard runner warns.
const TIMEOUT_MS: u64 = 300_000;

/// One test and its options. Only the attribute creates values; the fields are not a stable
/// interface.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// See [`marker`].
    pub marker: &'static str,
    /// The module path, with the crate.
    pub module: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// The source file of the test.
    pub file: &'static str,
    /// The attribute's line.
    pub line: u32,
    /// The folder of the test's package.
    pub package: Option<&'static str>,
    /// The binary that contains the test.
    pub binary: Binary,
    /// Whether the runner expects a panic.
    pub should_panic: bool,
    /// The descriptors to ignore.
    pub ignores: fn() -> Vec<Suppression>,
    /// Why the test may close descriptors that the process inherited.
    pub allow_close_inherited: Option<&'static str>,
    /// Why programs may inherit descriptors without close-on-exec.
    pub allow_exec_leaks: Option<&'static str>,
    /// The expected number of leaks, and why.
    pub expect_leaks: Option<(usize, &'static str)>,
    /// Whether inherited descriptors are findings.
    pub report_inherited: bool,
    /// Whether openings without close-on-exec are noted.
    pub report_without_cloexec: bool,
    /// See [`Case::settle`].
    pub settle_ms: Option<u64>,
    /// See [`Case::timeout`].
    pub timeout_ms: Option<u64>,
    /// Whether opening and closing calls are not recorded.
    pub no_trace: bool,
    /// Whether closed numbers stay occupied, and reads and writes are checked.
    pub paranoid: bool,
    /// Whether the body never runs a second time.
    pub no_rerun: bool,
    /// The tests that do not run at the same time as this one.
    pub group: Option<&'static str>,
}

/// The text in a test binary that says that it checks this test: `echown unchecked` searches for it.
///
/// It is evaluated at compile time, so that the text is in no binary whose tests are not checked.
#[must_use]
pub const fn marker(text: &'static str) -> &'static str {
    if cfg!(any(target_os = "linux", target_os = "macos", target_os = "freebsd")) && !cfg!(miri) {
        text
    } else {
        ""
    }
}

/// The binary of a test, from cargo's environment variables at compile time. The crate's name is
/// ambiguous: the library and the program of a package have the same name, and each package of a
/// workspace can have a `tests/it.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    /// The package's name.
    pub package: Option<&'static str>,
    /// The program's name, if the binary is a program.
    pub program: Option<&'static str>,
    /// Whether the source is in the folder `tests`.
    pub is_integration: bool,
}

impl Case {
    /// The test's name in its runner: the path without the crate.
    #[must_use]
    pub fn name(&self) -> String {
        match self.module.split_once("::") {
            Some((_, module)) => format!("{module}::{}", self.function),
            None => self.function.to_owned(),
        }
    }

    /// The name of the test's binary in nextest: the package, followed by the target unless it is
    /// the library.
    #[must_use]
    pub fn suite(&self) -> String {
        let krate = self.module.split("::").next().unwrap_or(self.module);
        match self.binary {
            Binary { package: None, .. } => krate.to_owned(),
            Binary { package: Some(package), program: Some(program), .. } => {
                format!("{package}::bin/{program}")
            }
            Binary { package: Some(package), is_integration: true, .. } => {
                format!("{package}::{krate}")
            }
            Binary { package: Some(package), .. } => package.to_owned(),
        }
    }

    /// How long to wait for finishing threads.
    #[must_use]
    pub fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms.unwrap_or(SETTLE_MS))
    }

    /// The time after which the test counts as hanging.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.unwrap_or(TIMEOUT_MS))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A test without options.
    pub(crate) const CASE: Case = Case {
        marker: "",
        module: "a_crate",
        function: "a_test",
        file: "tests/a.rs",
        line: 1,
        package: None,
        binary: Binary { package: None, program: None, is_integration: false },
        should_panic: false,
        ignores: Vec::new,
        allow_close_inherited: None,
        allow_exec_leaks: None,
        expect_leaks: None,
        report_inherited: false,
        report_without_cloexec: false,
        settle_ms: None,
        timeout_ms: None,
        no_trace: false,
        paranoid: false,
        no_rerun: false,
        group: None,
    };

    #[test]
    fn two_binaries_of_one_crates_name_are_two_suites() {
        let suite = |program, is_integration| {
            let binary = Binary { package: Some("an-app"), program, is_integration };
            let case = Case { module: "an_app::tests", binary, ..CASE };
            let unknown = Case { binary: Binary { package: None, ..binary }, ..case };
            assert_eq!(unknown.suite(), "an_app", "not built by cargo");
            case.suite()
        };
        assert_eq!(suite(None, false), "an-app");
        assert_eq!(suite(None, true), "an-app::an_app");
        assert_eq!(suite(Some("an-app"), false), "an-app::bin/an-app");
    }
}
