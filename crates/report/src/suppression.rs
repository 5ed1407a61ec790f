//! Suppressions: accepted leaks, with their reasons.

use std::fmt;

use echown_fd::{escape, kind};

use crate::Code;

/// A rule for accepted leaks, with the reason. Registries, tests, `echown::Check` and files of
/// suppressions all use it.
///
/// All conditions must match. A suppressed leak is finalized, but it is not reported and does not change
/// its task's result. The summary counts it with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The reason, which is printed when the suppression is used.
    pub reason: String,
    /// The kind of the resource must equal this; `socket` stands for all kinds of sockets.
    pub kind: Option<String>,
    /// The path or an address must contain this.
    pub path: Option<String>,
    /// `file:line:column` must contain this.
    pub site: Option<String>,
    /// The code must equal this; without one it matches what stays open. For `echown run`.
    pub code: Option<Code>,
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
            code: None,
        }
    }

    /// Matches only resources of this kind (`tcp stream`, `file`, a type's name, `socket` for all
    /// sockets).
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Suppression {
        self.kind = Some(kind.into());
        self
    }

    /// Matches only descriptors whose path or address contains this text.
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

    /// Matches only findings of `echown run` with this code, and none of registries and tests.
    #[must_use]
    pub fn code(mut self, code: Code) -> Suppression {
        self.code = Some(code);
        self
    }

    /// Whether it matches a leak of this kind, with these paths and addresses, and this site.
    #[must_use]
    pub fn matches(&self, kind: &str, places: &[&str], site: &str) -> bool {
        self.matches_finding(Code::Leak, kind, places, site)
    }

    /// Whether it matches a finding of this code. Without a code of its own, it matches those of
    /// descriptors that stay open.
    pub(crate) fn matches_finding(
        &self,
        code: Code,
        kind: &str,
        places: &[&str],
        site: &str,
    ) -> bool {
        let is_of_code = match self.code {
            Some(wanted) => wanted == code,
            None => matches!(code, Code::Leak | Code::ExecLeak | Code::OpenAtExit),
        };
        let is_of_kind =
            |wanted: &str| wanted == kind || (wanted == kind::SOCKET && kind::is_socket(kind));
        is_of_code
            && self.kind.as_deref().is_none_or(is_of_kind)
            && self.path.as_deref().is_none_or(|part| places.iter().any(|it| it.contains(part)))
            && self.site.as_deref().is_none_or(|part| site.contains(part))
    }
}

impl fmt::Display for Suppression {
    /// Formats the reason, with the conditions in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        let code = self.code.map(|code| code.to_string());
        let conditions =
            [("code", &code), ("kind", &self.kind), ("path", &self.path), ("site", &self.site)];
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
        assert!(known.matches("file", &["/var/log/echo"], "src/a.rs:1:1"));
        assert!(known.matches("file", &["/tmp/echo", "/var/log/echo"], "src/a.rs:1:1"));
        assert!(!known.matches("pipe", &["/var/log/echo"], "src/a.rs:1:1"));
        assert!(!known.matches("file", &["/tmp/echo"], "src/a.rs:1:1"));
        assert!(!known.matches("file", &[], "src/a.rs:1:1"));
        let here = known.site("src/a.rs");
        assert!(here.matches("file", &["/var/log/echo"], "src/a.rs:1:1"));
        assert!(!here.matches("file", &["/var/log/echo"], "src/b.rs:1:1"));
    }

    #[test]
    fn socket_matches_every_kind_of_socket_and_nothing_else() {
        let sockets = Suppression::because("a reason").kind("socket");
        for kind in ["socket", "tcp stream", "udp socket", "unix datagram", "netlink socket"] {
            assert!(sockets.matches(kind, &[], ""), "{kind}");
        }
        for kind in ["pipe", "file", "epoll"] {
            assert!(!sockets.matches(kind, &["socket"], ""), "{kind}");
        }
    }
}
