//! How much is checked, and what follows from what is found.

use std::fmt;
use std::str::FromStr;

use echown_fd::escape;

/// How much a registry checks and remembers. Fixed when the registry is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// No owner check in front of operations, no custody, no reports. Who owns what is still
    /// recorded, so that finalizing, cancelling and draining work.
    ///
    /// Nobody is refused, so a use by a non-owner may meet a close on the owner's thread: the
    /// failure that the other levels rule out is possible again. For measuring what the check costs.
    Off,
    /// Owner checks, and custody without backtraces.
    #[default]
    On,
    /// Also backtraces at every step of custody, and the identity of a descriptor verified at
    /// every operation.
    Full,
}

/// What a registry does with a leak or a violation, besides counting it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Nothing.
    Ignore,
    /// Delivers the report.
    #[default]
    Warn,
    /// Delivers the report, and [`finish`](super::Registry::finish) answers exit code 23.
    Fail,
    /// Delivers the report and aborts the process: for a core dump at the moment of the fault.
    Abort,
}

macro_rules! words {
    ($type:ty, $what:literal, $($word:literal => $value:path),+) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok($value),)+
                    _ => Err(format!(
                        concat!("unknown ", $what, " `{}`, expected one of: {}"),
                        escape::text(word),
                        [$($word),+].join(", ")
                    )),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word,)+ })
            }
        }
    };
}

words!(Level, "level", "off" => Level::Off, "on" => Level::On, "full" => Level::Full);
words!(
    Policy, "policy",
    "ignore" => Policy::Ignore, "warn" => Policy::Warn, "fail" => Policy::Fail, "abort" => Policy::Abort
);

/// Something known to stay open, and why that is right.
///
/// All of what is given must match. A suppressed leak is still finalized; it is not reported, does
/// not change its task's outcome, and is counted with its reason in the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub(crate) reason: String,
    pub(crate) kind: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) site: Option<String>,
}

impl Suppression {
    /// A suppression for this reason, which is printed when it is used. Without a further
    /// condition it matches everything.
    #[must_use]
    pub fn because(reason: impl Into<String>) -> Suppression {
        Suppression {
            reason: escape::text(&reason.into()).into_owned(),
            kind: None,
            path: None,
            site: None,
        }
    }

    /// Only resources of this kind (`tcp stream`, `file`, a type's name).
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Suppression {
        self.kind = Some(kind.into());
        self
    }

    /// Only descriptors whose path contains this text.
    #[must_use]
    pub fn path(mut self, part: impl Into<String>) -> Suppression {
        self.path = Some(part.into());
        self
    }

    /// Only resources acquired at a place whose `file:line:column` contains this text.
    #[must_use]
    pub fn site(mut self, part: impl Into<String>) -> Suppression {
        self.site = Some(part.into());
        self
    }

    pub(crate) fn matches(&self, kind: &str, path: Option<&str>, site: &str) -> bool {
        self.kind.as_deref().is_none_or(|wanted| wanted == kind)
            && self.path.as_deref().is_none_or(|part| path.is_some_and(|path| path.contains(part)))
            && self.site.as_deref().is_none_or(|part| site.contains(part))
    }
}

impl fmt::Display for Suppression {
    /// The reason, with the conditions in brackets.
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

    #[test]
    fn an_unknown_level_is_refused_with_the_known_ones() {
        assert_eq!("full".parse(), Ok(Level::Full));
        let refused = "loud".parse::<Level>().unwrap_err();
        assert_eq!(refused, "unknown level `loud`, expected one of: off, on, full");
    }
}
