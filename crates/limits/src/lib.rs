//! The limits that the system sets for this process, and how many threads and connections they allow.
//!
//! The limits of a process are resource limits (`getrlimit`), kernel settings (`/proc/sys`) and those
//! of its control groups, in both versions. The crate reads them as plain numbers and computes from
//! plain numbers what fits. It knows no thread pool and no server, opens nothing but files to read,
//! and changes no limit.
//!
//! ```
//! use echown_limits::{ThreadLimit, ThreadLimits};
//!
//! let limit = ThreadLimit::of(&ThreadLimits::read());
//! // "8046 threads (vm.max_map_count is 32768, a thread takes 4 mappings)"
//! println!("{limit}");
//! # assert!(limit.threads > 0);
//! ```
//!
//! # Limits
//!
//! A file that is missing or cannot be read counts as no limit, which is common in a container; the
//! limit then appears as an ordinary error. Exceeding the limit on mappings ends the process, so a
//! default is assumed if it cannot be read, as in an empty root; see [`without_proc`]. Only Linux is
//! supported; elsewhere no limit but that of descriptors is known.

mod capacity;
mod cgroup;
mod memory;
mod threads;

pub use capacity::{
    Capacity, DESCRIPTORS, DESCRIPTORS_RESERVED, LimitingFactor, MemoryShares, Parking,
    Requirements, SystemLimits,
};
pub use memory::{MemoryLimit, MemoryLimits};
pub use threads::{
    MAP_COUNT, MAPPINGS_PER_THREAD, ThreadLimit, ThreadLimits, is_root, mappings_and_max,
    without_proc,
};

/// The maximum number of open descriptors of this process (`RLIMIT_NOFILE`); `None` for no limit.
pub fn descriptors() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// The lowest port that an unprivileged process may listen on.
pub fn unprivileged_port_min() -> u16 {
    const DEFAULT: u16 = 1024;
    number("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or(DEFAULT)
}

/// The longest queue of a listening socket that the kernel allows (`net.core.somaxconn`); it lowers a
/// longer one. `None` if it is not known.
pub fn backlog_max() -> Option<u32> {
    number("/proc/sys/net/core/somaxconn")
}

/// The roots of the control group hierarchies whose limits are read, as far as they are mounted.
pub fn control_groups() -> Vec<std::path::PathBuf> {
    let dirs: std::collections::BTreeSet<std::path::PathBuf> = ["pids", "memory"]
        .into_iter()
        .flat_map(cgroup::dirs)
        .map(|dir| dir.components().collect())
        .collect();
    let is_below = |dir: &std::path::PathBuf| dir.ancestors().skip(1).any(|it| dirs.contains(it));
    dirs.iter().filter(|dir| !is_below(dir)).cloned().collect()
}

/// The number in a file; `None` also for the word "max", which means no limit.
fn number<T: std::str::FromStr>(file: impl AsRef<std::path::Path>) -> Option<T> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}
