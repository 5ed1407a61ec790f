//! Suppressions: accepted leaks, with their reasons.

use std::fmt;

use echown_fd::escape;

/// A rule for accepted leaks, with the reason.
///
/// All conditions must match. A suppressed leak is finalized, but it is not reported and does not change
/// its task's result. The summary counts it with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The reason, which is printed when the suppression is used.
    pub reason: String,
    /// The kind of the resource must equal this.
    pub kind: Option<String>,
    /// The path must contain this.
    pub path: Option<String>,
    /// `file:line:column` must contain this.
    pub site: Option<String>,
}

impl Suppression {
    /// A suppression with this reason, which is printed when it is used. Without a further
    /// condition, it matches every leak.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Suppression {
        Suppression {
            reason: escape::text(&reason.into()).into_owned(),
            kind: None,
            path: None,
            site: None,
        }
    }

    /// Matches only resources of this kind (`tcp stream`, `file`, a type's name).
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Suppression {
        self.kind = Some(kind.into());
        self
    }

    /// Matches only descriptors whose path contains this text.
    #[must_use]
    pub fn path(mut self, part: impl Into<String>) -> Suppression {
        self.path = Some(part.into());
        self
    }

    /// Matches only resources acquired at a site whose `file:line:column` contains this text.
    #[must_use]
    pub fn site(mut self, part: impl Into<String>) -> Suppression {
        self.site = Some(part.into());
        self
    }

    /// Whether it matches a leak of this kind, path and site.
    #[must_use]
    pub fn matches(&self, kind: &str, path: Option<&str>, site: &str) -> bool {
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.path.as_deref().is_none_or(|part| path.is_some_and(|path| path.contains(part)))
            && self.site.as_deref().is_none_or(|part| site.contains(part))
    }
}

impl fmt::Display for Suppression {
    /// Formats the reason, with the conditions in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        let conditions = [("kind", &self.kind), ("path", &self.path), ("site", &self.site)];
        let mut given = conditions.into_iter().filter_map(|(name, condition)| {
            Some(format!("{name} `{}`", escape::text(condition.as_ref()?)))
        });
        if let Some(first) = given.next() {
            write!(f, " ({first}")?;
            given.try_for_each(|next| write!(f, ", {next}"))?;
            f.write_str(")")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suppression_matches_only_when_all_its_conditions_do() {
        let known =
            Suppression::because("the log is open until exit").kind("file").path("/var/log");
        assert!(known.matches("file", Some("/var/log/echo"), "src/a.rs:1:1"));
        assert!(!known.matches("pipe", Some("/var/log/echo"), "src/a.rs:1:1"));
        assert!(!known.matches("file", Some("/tmp/echo"), "src/a.rs:1:1"));
        assert!(!known.matches("file", None, "src/a.rs:1:1"));
    }
}
