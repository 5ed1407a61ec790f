//! Groups: tests of one group do not run at the same time, whichever processes run them.
//!
//! Each test runs in a process of its own, so a preparation that runs once per process (under a
//! `Once`) runs once for each test. If it changes what tests share, such as a folder that it empties,
//! it disturbs tests that run at that time. Tests of one group take turns. The lock is a file lock,
//! so it also works between the processes of a runner such as nextest.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::case::Case;
use super::child_config::hash;

/// The variable with the group of all tests that have no option `group`.
const VARIABLE: &str = "ECHOWN_GROUP";

/// The turn of a test. It ends when this is dropped.
pub(super) struct Turn(#[allow(dead_code, reason = "its drop ends the lock")] File);

/// Waits for the turn of a test that belongs to a group.
///
/// # Errors
/// The lock file cannot be opened or locked.
pub(super) fn take_turn(case: &Case) -> io::Result<Option<Turn>> {
    let of_run = env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let Some(group) = case.group.map(str::to_owned).or(of_run) else { return Ok(None) };
    let place = Path::new(case.package.unwrap_or(case.module)).join(group);
    let path = env::temp_dir().join(format!("echown-test-group-{:016x}", hash(&place)));
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(Some(Turn(file))),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::tests::CASE;

    #[test]
    fn only_tests_of_one_group_wait_for_each_other() {
        let is_free = |case: &Case| {
            let place = Path::new(case.module).join(case.group.unwrap());
            let path = env::temp_dir().join(format!("echown-test-group-{:016x}", hash(&place)));
            let file = OpenOptions::new().create(true).append(true).open(path).unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        };
        let (one, other) =
            (Case { group: Some("one"), ..CASE }, Case { group: Some("other"), ..CASE });
        let turn = take_turn(&one).unwrap();
        assert!(turn.is_some());
        assert!(!is_free(&one));
        assert!(is_free(&other));
        drop(turn);
        assert!(is_free(&one));
    }
}
