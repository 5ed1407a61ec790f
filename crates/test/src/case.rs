//! A test and its options, as the attribute writes them.

use std::time::Duration;

use echown_report::Ignore;

/// How long a thread that is just finishing may take to close what it has. As long as goleak waits,
/// doubled, for machines that run as many tests as they have threads for. Only tests with other threads
/// that left something wait.
const SETTLE_MS: u64 = 1000;

/// After which a test is taken for hanging: five times what the standard runner begins to warn at.
const TIMEOUT_MS: u64 = 300_000;

/// One test, and its options. Only the attribute writes it: the fields are not a stable interface.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The module, beginning with the crate.
    pub module: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// The file that it stands in.
    pub file: &'static str,
    /// The attribute's line.
    pub line: u32,
    /// The folder of its package.
    pub package: Option<&'static str>,
    /// The binary that it is in.
    pub binary: Binary,
    /// Whether the runner takes a panic for success.
    pub should_panic: bool,
    /// What is no finding.
    pub ignores: &'static [Ignore],
    /// How many descriptors it leaves, and why.
    pub expect_leaks: Option<(usize, &'static str)>,
    /// Whether inherited descriptors are findings.
    pub report_inherited: bool,
    /// See [`Case::settle`].
    pub settle_ms: Option<u64>,
    /// See [`Case::timeout`].
    pub timeout_ms: Option<u64>,
    /// Record openings and closings in the first run, too.
    pub trace_fds: bool,
    /// Never run the test a second time.
    pub no_rerun: bool,
}

/// What cargo said of a test's binary when it was compiled. A crate's name tells too little: a package's
/// library and its program have the same, and each package of a workspace may have its `tests/it.rs`.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    /// The package.
    pub package: Option<&'static str>,
    /// The program, if it is one.
    pub program: Option<&'static str>,
    /// Whether it comes from the folder `tests`.
    pub is_integration: bool,
}

impl Case {
    /// The test's name as its runner has it: the path without the crate.
    #[must_use]
    pub fn name(&self) -> String {
        match self.module.split_once("::") {
            Some((_, module)) => format!("{module}::{}", self.function),
            None => self.function.to_owned(),
        }
    }

    /// The test's binary, as nextest calls it: the package, and what of it, unless it is the library.
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

    /// How long a thread that is just finishing may take.
    #[must_use]
    pub fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms.unwrap_or(SETTLE_MS))
    }

    /// After which the test is taken for hanging.
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
        module: "a_crate",
        function: "a_test",
        file: "tests/a.rs",
        line: 1,
        package: None,
        binary: Binary { package: None, program: None, is_integration: false },
        should_panic: false,
        ignores: &[],
        expect_leaks: None,
        report_inherited: false,
        settle_ms: None,
        timeout_ms: None,
        trace_fds: false,
        no_rerun: false,
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
