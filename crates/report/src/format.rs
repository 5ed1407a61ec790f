//! The formats of findings, by name, and their destinations.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use echown_fd::escape;

use crate::InputError;

/// The format of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for people. `echown serve` includes source lines.
    Text,
    /// One JSON object per line. Feature `json`.
    Json,
    /// A JUnit document, which most CI systems show as tests. Feature `ci`.
    Junit,
    /// A SARIF 2.1.0 document, for code scanning. Feature `ci`.
    Sarif,
    /// Workflow commands of GitHub Actions, one per line, which annotate the source.
    Github,
}

impl Format {
    /// All formats, whether they are compiled in or not.
    pub const ALL: &[Format] =
        &[Format::Text, Format::Json, Format::Junit, Format::Sarif, Format::Github];

    /// The name of the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Junit => "junit",
            Format::Sarif => "sarif",
            Format::Github => "github",
        }
    }

    /// Whether the output is one document, as opposed to a stream of records.
    #[must_use]
    pub fn is_document(self) -> bool {
        matches!(self, Format::Junit | Format::Sarif)
    }

    /// The feature of this crate that enables the format; `None` if it is always available.
    #[must_use]
    pub fn missing_feature(self) -> Option<&'static str> {
        match self {
            Format::Json if cfg!(not(feature = "json")) => Some("ci"),
            Format::Junit | Format::Sarif if cfg!(not(feature = "ci")) => Some("ci"),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = InputError;

    fn from_str(word: &str) -> Result<Format, InputError> {
        Format::ALL.iter().copied().find(|format| format.name() == word).ok_or_else(|| {
            let known: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
            let word = escape::text(word);
            let known = known.join(", ");
            InputError::new(format!("unknown format `{word}`, expected one of: {known}"))
        })
    }
}

/// A format and its file: `FORMAT:FILE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The format, which is compiled in.
    pub format: Format,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for Destination {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Destination, InputError> {
        let shown = escape::text(text);
        let Some((format, path)) = text.split_once(':') else {
            return Err(InputError::new(format!(
                "expected FORMAT:FILE, as in `junit:target/echown.xml`, got `{shown}`"
            )));
        };
        let format: Format = format.parse()?;
        if path.is_empty() {
            return Err(InputError::new(format!("`{shown}` names no file, expected FORMAT:FILE")));
        }
        if let Some(feature) = format.missing_feature() {
            let enable = enable(feature);
            return Err(InputError::new(format!(
                "this build of echown cannot write {format}; {enable}"
            )));
        }
        Ok(Destination { format, path: PathBuf::from(path) })
    }
}

/// How a crate enables a feature that is not compiled in.
pub fn enable(feature: &str) -> String {
    format!(
        "add the feature \"{feature}\" to the dev-dependency: echown-test = {{ ..., features = \
         [\"{feature}\"] }}, or echown = {{ ..., features = [\"macros\", \"{feature}\"] }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_format_and_a_file_that_may_have_colons() {
        let destination: Destination = "github:/tmp/a:b".parse().unwrap();
        assert_eq!(destination.format, Format::Github);
        assert_eq!(destination.path, PathBuf::from("/tmp/a:b"));
    }

    #[test]
    fn a_wrong_destination_is_rejected_with_the_expected_format() {
        for (text, expected) in [
            ("report.xml", "expected FORMAT:FILE, as in `junit:target/echown.xml`"),
            (
                "xml:report",
                "unknown format `xml`, expected one of: text, json, junit, sarif, github",
            ),
            ("text:", "names no file"),
        ] {
            let error = text.parse::<Destination>().unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }

    #[cfg(not(feature = "ci"))]
    #[test]
    fn a_format_that_was_not_built_in_names_the_feature_that_has_it() {
        let error = "sarif:report".parse::<Destination>().unwrap_err().to_string();
        assert!(error.contains("features = [\"macros\", \"ci\"]"), "{error}");
    }
}
