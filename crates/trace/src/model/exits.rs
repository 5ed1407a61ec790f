//! What is still open at the end of a process: leak or by design.
//!
//! A descriptor that is open at the end is not wrong as such: a log, a listener, a wake pipe stay open on
//! purpose. It is a leak if its place in the program created several that are open, if the others from
//! its place were closed soon, or if its peer closed the connection. Inherited descriptors are another process's, and 0 to 2 are never leaks.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::Record;
use super::sites::{Site, SiteKey, site_of};
use super::table::{Descriptor, Origin, Table};
use crate::event::{Details, OpenFd};
use crate::finding::{Finding, Kind, LeakReason, Severity};
use crate::stack::StackId;

/// The number of descriptors that a place must have closed before it has a habit.
const HABIT_MIN: u64 = 4;

/// How many times longer than all others a descriptor must be open.
const HABIT_FACTOR: u64 = 10;

/// How much longer it must be open, in nanoseconds: a few quick calls are no habit.
const HABIT_MARGIN_NS: u64 = 100_000_000;

/// The number of closed descriptors from which on they are one however short the program is.
const HABIT_MANY: u64 = 100;

/// Descriptors 0 to 2 stay open in most programs.
const LAST_STANDARD: i32 = 2;

/// The open descriptors of one place.
struct Group<'a> {
    members: Vec<(i32, &'a Descriptor)>,
    /// `pipe` creates two descriptors with one call.
    creations: u64,
}

/// The descriptors that the table's own tasks created and that are open, by place.
fn groups(table: &Table) -> BTreeMap<SiteKey, Group<'_>> {
    let mut groups = BTreeMap::new();
    for (number, descriptor) in table.iter_open() {
        if descriptor.origin == Origin::Own && number > LAST_STANDARD {
            let key = site_of(&descriptor.opening);
            let group =
                groups.entry(key).or_insert_with(|| Group { members: Vec::new(), creations: 0 });
            group.members.push((number, descriptor));
        }
    }
    for group in groups.values_mut() {
        group.members.sort_unstable_by_key(|(number, member)| (member.opening.sequence, *number));
        let mut creations: Vec<u64> =
            group.members.iter().map(|(_, member)| member.opening.sequence).collect();
        creations.dedup();
        group.creations = creations.len() as u64;
    }
    groups
}

/// Adds what is open at the end of the table.
pub(super) fn leftovers(table: &Table, now_ns: u64, open: &[OpenFd], record: &mut Record) {
    for (key, group) in groups(table) {
        let site = table.sites.get(&key).copied().unwrap_or_default();
        let mut left = Vec::new();
        for (number, descriptor) in &group.members {
            let fd = open.iter().find(|fd| fd.number == *number);
            let details = fd.and_then(|fd| fd.details.as_deref());
            if details.is_some_and(is_close_wait) {
                let kind = Kind::Leak(LeakReason::CloseWait);
                record.add(finding(table, *number, descriptor, kind, details, now_ns));
            } else {
                left.push((*number, *descriptor, details));
            }
        }
        let Some((number, descriptor, details)) = left.first().copied() else { continue };
        let kind = match reason(key, &group, site, now_ns) {
            Some(reason) => Kind::Leak(reason),
            None => Kind::OpenAtExit,
        };
        let mut creations: Vec<u64> = left.iter().map(|(_, fd, _)| fd.opening.sequence).collect();
        creations.dedup();
        let count = creations.len() as u64;
        record.add(Finding { count, ..finding(table, number, descriptor, kind, details, now_ns) });
    }
}

fn reason(key: SiteKey, group: &Group<'_>, site: Site, now_ns: u64) -> Option<LeakReason> {
    // Without a stack the place is not known.
    if key.1 == StackId::NONE {
        return None;
    }
    if group.creations > 1 {
        return Some(LeakReason::Several);
    }
    let opened_ns = group.members.first()?.1.opening.time_ns;
    let age_ns = now_ns.saturating_sub(opened_ns);
    let is_outlier = site.closed >= HABIT_MIN
        && age_ns > site.longest_ns.saturating_mul(HABIT_FACTOR)
        && (site.closed >= HABIT_MANY || age_ns > site.longest_ns.saturating_add(HABIT_MARGIN_NS));
    is_outlier.then_some(LeakReason::OutlivesOthers)
}

fn is_close_wait(details: &Details) -> bool {
    details.facts.iter().any(|fact| {
        let fact = fact.as_bytes();
        fact.len() >= 10 && fact[..10].eq_ignore_ascii_case(b"close-wait")
    })
}

fn finding(
    table: &Table,
    number: i32,
    descriptor: &Descriptor,
    kind: Kind,
    details: Option<&Details>,
    now_ns: u64,
) -> Finding {
    Finding {
        kind,
        severity: if kind == Kind::OpenAtExit { Severity::Note } else { Severity::Warning },
        is_certain: false,
        process: Arc::clone(&descriptor.opening.thread.process),
        number,
        opening: Some(Arc::clone(&descriptor.opening)),
        closes: Vec::new(),
        reused_from: None,
        usage: None,
        replaced_by: None,
        heirs: Vec::new(),
        doubt: None,
        history: table.slot(number).map_or_else(Vec::new, |slot| slot.past.steps.clone()),
        details: details.cloned().map(Box::new),
        count: 1,
        processes: 1,
        first_ns: descriptor.opening.time_ns,
        last_ns: now_ns,
    }
}
