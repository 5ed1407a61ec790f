//! The sandbox: rights that the process gives up once everything is bound, by landlock and no_new_privs.
//!
//! A process that serves hostile clients keeps the descriptors that it has opened and gives up the right
//! to open others. Landlock lets it write only in the folders of its output files and read only what it
//! reports about itself, and it can bind or connect no further TCP socket. With no_new_privs, no program
//! that it might execute gains privileges.
//!
//! | file | what |
//! |---|---|
//! | `rule.rs` | what stays allowed, and why |
//! | `kernel.rs` | the system calls |
//! | `outcome.rs` | what the kernel applied, as text |
//!
//! The failure story: a rule refers to an inode, not to a path. The kernel makes the inodes of `/proc` on
//! demand and frees them when memory is short. The next `/proc/self` is another inode, to which no rule
//! applies: a server that has run well for weeks can no longer read how many threads it may start.
//! Therefore it keeps these folders open ([`PINNED`]).
//!
//! # Limits
//!
//! - A rule for a folder applies to everything below it. An output file in a folder of its own gives up
//!   the most.
//! - A folder that replaces another after the start (renamed, or mounted over) has no rule: SIGHUP then
//!   fails to reopen a file in it.
//! - No core file is written, unless `kernel.core_pattern` names a program (`|...`), as systemd's does.
//! - Landlock does not restrict `stat(2)`, `readlink(2)` and `chmod(2)`, UDP, or connecting to a Unix
//!   socket by its path. Memory, threads and other system calls are not limited; a service manager's
//!   `SystemCallFilter=` is for those.
//! - Threads that already run are not restricted, so the only thread has to apply it.

#[cfg(target_os = "linux")]
mod kernel;
mod outcome;
mod rule;

use std::fmt::Display;
use std::fs;

use crate::net::File;
use outcome::{Applied, Landlock, Outcome};
pub(crate) use rule::{Access, Rule};

#[cfg(not(target_os = "linux"))]
mod kernel {
    use super::{Applied, Landlock, Rule};

    pub(super) fn restrict(_: &[Rule]) -> Applied {
        Applied { landlock: Landlock::Missing, no_new_privs: false }
    }
}

/// Folders whose inodes the kernel frees when memory is short, unless they are open.
const PINNED: [&str; 2] = ["/proc/self", "/proc/sys"];

/// The descriptors that a sandbox holds.
pub(crate) const DESCRIPTORS: u64 = PINNED.len() as u64;

/// How much of the sandbox has to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requirement {
    /// What the kernel has.
    Best,
    /// Everything.
    Strict,
}

/// The descriptors that keep the rules of an applied sandbox valid. The restrictions themselves last as
/// long as the process.
#[must_use = "without its descriptors, the rules for /proc are lost when memory is short"]
pub(crate) struct Sandbox {
    _pinned: Vec<File>,
}

/// Gives up every right that no rule grants, for this thread and all that it starts, and logs what was
/// applied.
///
/// # Errors
/// Something that [`Requirement::Strict`] demands could not be applied. The message for the user says
/// what, and what to do.
#[track_caller]
pub(crate) fn apply(requirement: Requirement, rules: Vec<Rule>) -> Result<Sandbox, String> {
    let failed = |error: &dyn Display| format!("failed to apply --sandbox strict: {error}");
    // Before the rules, which would otherwise refer to inodes that are freed at once.
    let pinned: Vec<fs::File> =
        PINNED.iter().filter_map(|path| fs::File::open(path).ok()).collect();
    let pinned = pinned.into_iter().map(|folder| File::own(folder).map_err(|error| failed(&error)));
    let pinned = pinned.collect::<Result<Vec<File>, String>>()?;
    let rules = rules.into_iter().chain(PINNED.map(Rule::reads));
    let rules: Vec<Rule> = rules.filter(Rule::exists).collect();
    let applied = kernel::restrict(&rules);
    let outcome = Outcome { applied, threads: threads(), rules };
    match (outcome.missing(), requirement) {
        (None, _) => tracing::info!("sandbox: {outcome}"),
        (Some(missing), Requirement::Best) => tracing::warn!("sandbox: {outcome}; {missing}"),
        (Some(missing), Requirement::Strict) => {
            return Err(failed(&format_args!("{missing}; `best` applies what there is")));
        }
    }
    Ok(Sandbox { _pinned: pinned })
}

/// How many threads this process has; one without `/proc`, because none is started before.
fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}
