//! Files of suppressions (`--suppressions FILE`, `ECHOWN_SUPPRESSIONS=FILE`): accepted leaks, each
//! with a reason.

use std::fs;
use std::path::Path;

use echown_fd::escape;
use serde::Deserialize;
use toml::Spanned;

use crate::{Code, InputError, Suppression};

/// ```toml
/// [[suppress]]
/// kind = "file"
/// path = "/var/lib/geo.db"
/// reason = "the C library keeps it open on purpose"
/// ```
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuppressionsFile {
    #[serde(default)]
    suppress: Vec<Spanned<SuppressionEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SuppressionEntry {
    kind: Option<String>,
    path: Option<String>,
    site: Option<String>,
    code: Option<Code>,
    reason: Spanned<String>,
}

/// Reads a file of suppressions.
///
/// # Errors
/// The file cannot be read or is not valid; the message contains its path and the line.
pub fn read(path: &Path) -> Result<Vec<Suppression>, InputError> {
    let text = fs::read_to_string(path).map_err(|error| {
        let text = format!("failed to read the suppressions in {}: {error}", escape::path(path));
        InputError::with_source(text, error)
    })?;
    parse(&text).map_err(|error| {
        let text = format!("wrong suppressions in {}: {error}", escape::path(path));
        InputError::with_source(text, error)
    })
}

fn parse(text: &str) -> Result<Vec<Suppression>, InputError> {
    let document: SuppressionsFile = toml::from_str(text)
        .map_err(|error| InputError::with_source(error.to_string().trim_end(), error))?;
    let line = |offset: usize| text[..offset].matches('\n').count() + 1;
    document
        .suppress
        .into_iter()
        .map(|entry| {
            let begins = line(entry.span().start);
            let SuppressionEntry { kind, path, site, code, reason } = entry.into_inner();
            if reason.get_ref().trim().is_empty() {
                let line = line(reason.span().start);
                return Err(InputError::new(format!(
                    "line {line}: the reason is empty; say why it may stay open"
                )));
            }
            let conditions = [&kind, &path, &site];
            if conditions.iter().all(|condition| condition.is_none()) {
                // Only `echown run` has findings with codes.
                let for_all = match code {
                    Some(_) => "choose what fails with `--fail-on`",
                    None => "use `--on-leak ignore` for all (`echown run`: `--fail-on`)",
                };
                return Err(InputError::new(format!(
                    "line {begins}: nothing says which leaks are meant; give `kind`, `path` or \
                     `site`, or {for_all}"
                )));
            }
            if conditions.into_iter().flatten().any(String::is_empty) {
                return Err(InputError::new(format!(
                    "line {begins}: an empty condition matches everything"
                )));
            }
            let mut suppression = Suppression::because(reason.into_inner());
            if let Some(kind) = kind {
                suppression = suppression.kind(kind);
            }
            if let Some(path) = path {
                suppression = suppression.path(path);
            }
            if let Some(site) = site {
                suppression = suppression.site(site);
            }
            if let Some(code) = code {
                suppression = suppression.code(code);
            }
            Ok(suppression)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_optional_and_the_reason_is_not() {
        let text = "[[suppress]]\nkind = \"file\"\nreason = \"kept\"\n\n\
                    [[suppress]]\nsite = \"src/a.rs\"\npath = \"/var\"\nreason = \"known\"\n";
        let suppressions = parse(text).unwrap();
        assert_eq!(
            suppressions,
            [
                Suppression::because("kept").kind("file"),
                Suppression::because("known").path("/var").site("src/a.rs"),
            ]
        );
        assert_eq!(parse("# none yet\n").unwrap(), []);
    }

    #[test]
    fn each_error_names_its_line() {
        for (text, line, expected) in [
            ("[[suppress]]\nkind = \"file\"\n", "line 1", "missing field `reason`"),
            ("[[suppress]]\nkind = \"file\"\nreason = \" \"\n", "line 3", "the reason is empty"),
            ("\n[[suppress]]\nreason = \"all\"\n", "line 2", "nothing says which leaks"),
            ("[[suppress]]\nkind = \"\"\nreason = \"x\"\n", "line 1", "empty condition"),
            ("[[suppress]]\nkinds = \"file\"\nreason = \"x\"\n", "line 2", "unknown field `kinds`"),
            ("[[suppress]]\nkind = file\n", "line 2", "TOML parse error"),
            ("[suppressed]\n", "line 1", "unknown field `suppressed`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(expected), "{text}: {error}");
        }
    }
}
