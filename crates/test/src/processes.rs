//! Processes: their names, descendants and descriptors, read from `/proc`.

use std::fs;

use echown_fd::{escape, open};
use rustix::process::Pid;

use echown_report::Descriptor;

/// The maximum numbers of descriptors and processes that are compared.
const DESCRIPTORS_MAX: usize = 100;
const PROCESSES_MAX: usize = 50;

/// All descendants of a process, youngest last.
pub(super) fn descendants(process: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    for thread in entries(process, "task") {
        let children = read(process, &format!("task/{thread}/children"));
        let children = children.split_whitespace().filter_map(|it| Pid::from_raw(it.parse().ok()?));
        for child in children {
            found.push(child);
            found.extend(descendants(child));
        }
    }
    found
}

pub(super) fn read(process: Pid, what: &str) -> String {
    fs::read_to_string(format!("/proc/{}/{what}", process.as_raw_pid())).unwrap_or_default()
}

/// The numeric names in a folder of `/proc/PID`.
pub(super) fn entries(process: Pid, folder: &str) -> Vec<i64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{}/{folder}", process.as_raw_pid())) else {
        return Vec::new();
    };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The name of its program and its id.
pub(super) fn named(process: Pid) -> String {
    let name = read(process, "comm");
    let name = escape::text(name.trim_end_matches('\n'));
    format!("`{name}` (process {})", process.as_raw_pid())
}

/// Adds to descriptors of this process which of its descendants have the same open file.
pub(super) fn add_holders<'a>(descriptors: impl Iterator<Item = &'a mut Descriptor>) {
    let mut descriptors = descriptors.take(DESCRIPTORS_MAX).peekable();
    if descriptors.peek().is_none() {
        return;
    }
    let others = descendants(rustix::process::getpid()).into_iter().take(PROCESSES_MAX);
    let others: Vec<_> = others.map(|process| (process, entries(process, "fd"))).collect();
    for descriptor in descriptors {
        let number = descriptor.number;
        let holds = |(process, numbers): &&(Pid, Vec<i64>)| {
            let process = process.as_raw_pid();
            numbers.iter().any(|&other| open::is_open_in(number, process, other))
        };
        let holders: Vec<_> = others.iter().filter(holds).map(|(it, _)| named(*it)).collect();
        if !holders.is_empty() {
            descriptor.facts.push(format!("also open in {}", holders.join(", ")));
        }
    }
}
