//! What the kernel applied of the sandbox, as text: everything that is missing has a reason and a remedy.

use std::collections::BTreeMap;
use std::fmt;

use super::{Access, Rule};
use crate::report::Plural;

/// The version of landlock that has all restrictions of the sandbox: Linux 6.12.
pub(super) const ABI_MIN: u32 = 6;

/// The restrictions that came after the first version of landlock.
const ADDED: [(u32, &str); 4] = [
    (3, "truncating files"),
    (4, "TCP"),
    (5, "device control"),
    (ABI_MIN, "signals and abstract Unix sockets"),
];

/// What the kernel has of landlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Landlock {
    /// This version, which may be newer than [`ABI_MIN`].
    Abi(u32),
    /// It is built into the kernel, and switched off.
    NotEnabled,
    /// No such system call.
    Missing,
    /// The system calls exist and returned an error.
    Failed(String),
}

/// What the system calls applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) landlock: Landlock,
    pub(super) no_new_privs: bool,
}

/// A sandbox as it was applied. Displayed as what is restricted, in one line.
pub(super) struct Outcome {
    pub(super) applied: Applied,
    /// Threads of the process, of which one is restricted.
    pub(super) threads: usize,
    pub(super) rules: Vec<Rule>,
}

impl Outcome {
    /// What could not be applied, why, and what to do about it; `None` if everything was.
    pub(super) fn missing(&self) -> Option<String> {
        let Applied { landlock, no_new_privs } = &self.applied;
        Some(match landlock {
            Landlock::Missing => {
                "this kernel, or the filter of a container, lacks landlock: use Linux \
                                  6.12 or later"
                    .into()
            }
            Landlock::NotEnabled => {
                "landlock is disabled in this kernel: add `landlock` to the list in \
                                     its boot parameter `lsm=`"
                    .into()
            }
            Landlock::Failed(error) => format!("landlock failed ({error})"),
            Landlock::Abi(abi) if *abi < ABI_MIN => format!(
                "landlock ABI {abi} of this kernel does not restrict {}: use Linux 6.12 or later",
                unrestricted(*abi)
            ),
            Landlock::Abi(_) if !no_new_privs => "no_new_privs could not be set".into(),
            Landlock::Abi(_) if self.threads > 1 => {
                let early = self.threads as u64 - 1;
                let verb = if early == 1 { "is" } else { "are" };
                format!("{} started before and {verb} not restricted", Plural(early, "thread"))
            }
            Landlock::Abi(_) => return None,
        })
    }
}

/// The restrictions that a version lacks.
fn unrestricted(abi: u32) -> String {
    let lacking: Vec<&str> =
        ADDED.iter().filter(|(since, _)| abi < *since).map(|(_, what)| *what).collect();
    lacking.join(", ")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Applied { landlock, no_new_privs } = &self.applied;
        f.write_str(if *no_new_privs { "no_new_privs" } else { "without no_new_privs" })?;
        let Landlock::Abi(abi) = landlock else { return f.write_str(", without landlock") };
        write!(f, ", landlock ABI {abi}")?;
        let mut places: BTreeMap<Access, Vec<String>> = BTreeMap::new();
        for rule in &self.rules {
            let named = places.entry(rule.access).or_default();
            let name = rule.name();
            if !named.contains(&name) {
                named.push(name);
            }
        }
        for (access, names) in places {
            let verb = match access {
                Access::Write => "writes in",
                Access::Replace => "replaces files in",
                Access::Remove => "removes sockets in",
                Access::Read => "reads",
            };
            write!(f, "; {verb} {}", names.join(", "))?;
        }
        let denied = [
            (*abi >= 4, "no TCP bind or connect"),
            (*abi >= ABI_MIN, "no signals to other processes"),
            (*abi >= ABI_MIN, "no abstract Unix sockets of others"),
        ];
        for (_, what) in denied.iter().filter(|(is_denied, _)| *is_denied) {
            write!(f, "; {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(landlock: Landlock) -> Outcome {
        let rule = |access, path: &str| Rule { access, ..Rule::reads(path) };
        let library =
            |path| Rule { group: Some("the program and its libraries"), ..Rule::reads(path) };
        Outcome {
            applied: Applied { landlock, no_new_privs: true },
            threads: 1,
            rules: vec![
                Rule::reads("/proc/self"),
                library("/lib/libc.so.6"),
                library("/bin/echown"),
                rule(Access::Remove, "/run/echown"),
                rule(Access::Write, "/var/log/echown"),
                rule(Access::Replace, "/var/lib/echown"),
            ],
        }
    }

    #[test]
    fn an_outcome_lists_what_stays_allowed_and_what_is_denied() {
        let everything = outcome(Landlock::Abi(7));
        assert_eq!(everything.missing(), None);
        assert_eq!(
            everything.to_string(),
            "no_new_privs, landlock ABI 7; writes in /var/log/echown; replaces files in \
             /var/lib/echown; removes sockets in /run/echown; reads /proc/self, the program and its \
             libraries; no TCP bind or connect; no signals to other processes; no abstract Unix \
             sockets of others"
        );
        let old = outcome(Landlock::Abi(3)).to_string();
        assert!(old.ends_with("the program and its libraries"), "{old}");
        let none = outcome(Landlock::Missing).to_string();
        assert_eq!(none, "no_new_privs, without landlock");
    }

    #[test]
    fn what_is_missing_has_a_reason_and_a_remedy() {
        let missing = |landlock| outcome(landlock).missing().unwrap();
        assert_eq!(
            missing(Landlock::Abi(2)),
            "landlock ABI 2 of this kernel does not restrict truncating files, TCP, device control, \
             signals and abstract Unix sockets: use Linux 6.12 or later"
        );
        assert!(missing(Landlock::Abi(5)).contains("does not restrict signals and abstract"));
        assert!(missing(Landlock::Missing).contains("use Linux 6.12"));
        assert!(missing(Landlock::NotEnabled).contains("`lsm=`"));
        assert_eq!(missing(Landlock::Failed("no".into())), "landlock failed (no)");
        let late = Outcome { threads: 3, ..outcome(Landlock::Abi(6)) };
        let late = late.missing().unwrap();
        assert_eq!(late, "2 threads started before and are not restricted");
    }
}
