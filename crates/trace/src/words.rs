//! Words of events as static strings: names of calls, and kinds of descriptors.
//!
//! Events name calls by static strings, which cost nothing to copy. A reader of recorded events has to
//! make such strings of what it reads: each different name is stored once and for the rest of the run,
//! within a limit.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde::de::{Deserialize, Deserializer, Error};

/// The name of a call or a kind. As an alias, because serde takes a field whose type is a reference for a
/// part of its input.
pub(crate) type Word = &'static str;

/// The maximum number of different calls. Linux has fewer than 500.
const CALLS_MAX: usize = 512;

/// The maximum number of bytes of a call's name.
const CALL_BYTES_MAX: usize = 32;

static CALLS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The static string of a call's name. `None`: it is too long, or there are too many.
fn static_call(name: &str) -> Option<&'static str> {
    // A poisoned lock leaves a complete set behind.
    let mut calls = CALLS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = calls.get(name) {
        return Some(known);
    }
    if calls.len() >= CALLS_MAX || name.len() > CALL_BYTES_MAX {
        return None;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    calls.insert(name);
    Some(name)
}

/// Reads the name of a call.
pub(crate) fn call<'de, D: Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(from)?;
    static_call(&name).ok_or_else(|| D::Error::custom(format!("{name:?} is no name of a call")))
}

/// Reads a word of [`echown_fd::kind::ALL`].
pub(crate) fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<&'static str, D::Error> {
    let name = String::deserialize(from)?;
    let known = echown_fd::kind::ALL.iter().copied().find(|kind| *kind == name);
    let known = known.or_else(|| name.is_empty().then_some(""));
    known.ok_or_else(|| D::Error::custom(format!("{name:?} is no kind of descriptor")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_string_and_long_ones_are_refused() {
        let one = static_call("openat").unwrap();
        assert!(std::ptr::eq(one, static_call("openat").unwrap()));
        assert_eq!(static_call(&"x".repeat(CALL_BYTES_MAX + 1)), None);
    }
}
