//! The `ECHOWN_*` environment variables: what to do with findings.
//!
//! | variable | effect |
//! |---|---|
//! | `ECHOWN_REPORT=FORMAT:FILE` | also write findings to this file: `text`, `json`, `junit`, `sarif`, `github` |
//! | `ECHOWN_SUPPRESSIONS=FILE` | accepted leaks, in the file format of `echown serve` |
//! | `ECHOWN_BASELINE=FILE` | known findings: only new ones fail |
//! | `ECHOWN_WRITE_BASELINE=FILE` | add all findings to this baseline; none of them fails a test |
//! | `ECHOWN_RUNNER=COMMAND` | starts each test's process by this command, such as `qemu-aarch64 -L DIR` |
//!
//! They are read once, before the first test, which also checks that the files are writable. An
//! error in them fails every test, because a missing report would look like a clean one.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use echown_fd::escape;

use super::locked_file;
#[cfg(feature = "ci")]
use echown_report::Suppression;
#[cfg(feature = "ci")]
use echown_report::{Baseline, atomic_file::resolved, suppressions};
use echown_report::{Destination, InputError, Sources};

/// The settings of a test process.
#[derive(Debug)]
pub(super) struct EnvSettings {
    pub(super) report: Option<Destination>,
    /// Reads source lines, which identify a finding in the next run.
    pub(super) sources: Sources,
    #[cfg(feature = "ci")]
    pub(super) suppressions: Vec<Suppression>,
    #[cfg(feature = "ci")]
    pub(super) baseline: Option<Baseline>,
    #[cfg(feature = "ci")]
    pub(super) write_baseline: Option<PathBuf>,
}

impl EnvSettings {
    /// The settings if no variable is set.
    #[cfg(all(test, feature = "ci"))]
    pub(super) fn none() -> EnvSettings {
        EnvSettings::read(|_| None).expect("no variable is set")
    }

    /// The settings of this process.
    ///
    /// # Errors
    /// A message that names the invalid variable.
    pub(super) fn of_this_process() -> Result<&'static EnvSettings, &'static str> {
        static SETTINGS: OnceLock<Result<EnvSettings, String>> = OnceLock::new();
        let read = || EnvSettings::read(|name| env::var_os(name).filter(|value| !value.is_empty()));
        SETTINGS.get_or_init(read).as_ref().map_err(String::as_str)
    }

    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<EnvSettings, String> {
        // Resolved at once, because a test in this process may change the working directory.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let file = |name: &str| variable(name).map(PathBuf::from).map(absolute);
        let report = match variable("ECHOWN_REPORT") {
            None => None,
            Some(text) => {
                let text = text.to_string_lossy().into_owned();
                let with_name =
                    |error: InputError| format!("ECHOWN_REPORT={}: {error}", escape::text(&text));
                let Destination { format, path } =
                    text.parse::<Destination>().map_err(with_name)?;
                let path = absolute(path);
                locked_file::check_writable(&path, format.is_document()).map_err(|error| {
                    let path = escape::path(&path);
                    format!("ECHOWN_REPORT: failed to write the report to {path}: {error}")
                })?;
                Some(Destination { format, path })
            }
        };
        EnvSettings::with_files(
            report,
            file("ECHOWN_SUPPRESSIONS").as_deref(),
            file("ECHOWN_BASELINE").as_deref(),
            file("ECHOWN_WRITE_BASELINE"),
        )
    }

    /// Whether findings are compared with a baseline.
    #[cfg(feature = "ci")]
    pub(super) fn has_baseline(&self) -> bool {
        self.baseline.is_some() || self.write_baseline.is_some()
    }

    fn with_files(
        report: Option<Destination>,
        suppressions: Option<&Path>,
        baseline: Option<&Path>,
        write_baseline: Option<PathBuf>,
    ) -> Result<EnvSettings, String> {
        #[cfg(not(feature = "ci"))]
        {
            let given = [
                ("ECHOWN_SUPPRESSIONS", suppressions.is_some()),
                ("ECHOWN_BASELINE", baseline.is_some()),
                ("ECHOWN_WRITE_BASELINE", write_baseline.is_some()),
            ];
            match given.into_iter().find(|(_, given)| *given) {
                None => Ok(EnvSettings { report, sources: Sources::nearby() }),
                Some((name, _)) => Err(format!(
                    "{name} is set, but this build of echown cannot read such files; {}",
                    echown_report::format::enable("ci")
                )),
            }
        }
        #[cfg(feature = "ci")]
        {
            if let Some(path) = &write_baseline {
                let name = escape::path(path);
                if report.as_ref().is_some_and(|to| resolved(&to.path) == resolved(path)) {
                    return Err(format!(
                        "ECHOWN_REPORT and ECHOWN_WRITE_BASELINE name the same file, {name}: give each \
                         a file of its own"
                    ));
                }
                locked_file::check_writable(path, true).map_err(|error| {
                    format!("ECHOWN_WRITE_BASELINE: failed to write the baseline {name}: {error}")
                })?;
            }
            let suppressions = suppressions.map(suppressions::read).transpose();
            let baseline =
                baseline.map(|path| Baseline::read(path, &Sources::nearby())).transpose();
            Ok(EnvSettings {
                report,
                sources: Sources::nearby(),
                suppressions: suppressions
                    .map_err(|error| format!("ECHOWN_SUPPRESSIONS: {error}"))?
                    .unwrap_or_default(),
                baseline: baseline.map_err(|error| format!("ECHOWN_BASELINE: {error}"))?,
                write_baseline,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<EnvSettings, String> {
        EnvSettings::read(move |asked| (asked == name).then(|| OsString::from(value)))
    }

    #[test]
    fn an_error_names_its_variable() {
        let error = read("ECHOWN_REPORT", "xml:file").unwrap_err();
        assert!(error.starts_with("ECHOWN_REPORT=xml:file: unknown format `xml`"), "{error}");
        let error = read("ECHOWN_BASELINE", "/nonexistent/known.toml").unwrap_err();
        assert!(error.starts_with("ECHOWN_BASELINE"), "{error}");
        let error = read("ECHOWN_SUPPRESSIONS", "/nonexistent/known.toml").unwrap_err();
        assert!(error.starts_with("ECHOWN_SUPPRESSIONS"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_before_the_first_test() {
        let folder = env::temp_dir().join(format!("echown-env-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let with = |report: &str, baseline: &str| {
            let (report, baseline) = (OsString::from(report), OsString::from(baseline));
            EnvSettings::read(move |asked| match asked {
                "ECHOWN_REPORT" if !report.is_empty() => Some(report.clone()),
                "ECHOWN_WRITE_BASELINE" if !baseline.is_empty() => Some(baseline.clone()),
                _ => None,
            })
        };
        let formats =
            if cfg!(feature = "ci") { &["text", "github", "junit"][..] } else { &["text"] };
        for format in formats {
            let error = with(&format!("{format}:/nonexistent/file"), "").unwrap_err();
            assert!(
                error.contains("failed to write the report to /nonexistent/file: No such file"),
                "{error}"
            );
            let error = with(&format!("{format}:{}", folder.display()), "").unwrap_err();
            assert!(error.contains("ECHOWN_REPORT: failed to write the report to "), "{error}");
            let file = folder.join("file");
            with(&format!("{format}:{}", file.display()), "").unwrap();
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "it is only tried");
        }
        with("text:/dev/null", "").unwrap();
        with("text:/dev/stderr", "").unwrap();
        #[cfg(feature = "ci")]
        {
            let error = with("", "/nonexistent/known").unwrap_err();
            assert!(error.contains("failed to write the baseline /nonexistent/known: "), "{error}");
            let (one, same) = (folder.join("one"), folder.join("./one"));
            let report = format!("sarif:{}", one.display());
            let error = with(&report, same.to_str().unwrap()).unwrap_err();
            assert!(error.contains("name the same file"), "{error}");
            with("", one.to_str().unwrap()).unwrap();
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_variables_no_report_is_written() {
        assert!(EnvSettings::read(|_| None).unwrap().report.is_none());
        let file = env::temp_dir().join(format!("echown-settings-{}", std::process::id()));
        let settings = read("ECHOWN_REPORT", &format!("text:{}", file.display())).unwrap();
        assert!(settings.report.is_some());
        let _ = std::fs::remove_file(file);
    }

    #[test]
    fn a_file_is_found_again_from_another_folder() {
        let here = env::current_dir().unwrap();
        // A relative path to the temporary folder, because the current folder may not be writable.
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let below = env::temp_dir().strip_prefix("/").unwrap().to_owned();
        let name = format!("echown-found-{}", std::process::id());
        let file = up.join(below).join(name);
        let report = read("ECHOWN_REPORT", &format!("text:{}", file.display())).unwrap().report;
        assert_eq!(report.unwrap().path, here.join(&file));
        #[cfg(feature = "ci")]
        assert_eq!(
            read("ECHOWN_WRITE_BASELINE", file.to_str().unwrap()).unwrap().write_baseline,
            Some(here.join(&file))
        );
        let _ = std::fs::remove_file(file);
    }

    #[cfg(not(feature = "ci"))]
    #[test]
    fn a_build_without_the_feature_says_which_one_it_is() {
        for name in ["ECHOWN_SUPPRESSIONS", "ECHOWN_BASELINE", "ECHOWN_WRITE_BASELINE"] {
            let error = read(name, "file").unwrap_err();
            assert!(error.contains("features = [\"macros\", \"ci\"]"), "{error}");
        }
    }
}
