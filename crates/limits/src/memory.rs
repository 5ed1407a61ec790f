//! The limits on the memory of this process.
//!
//! The failure story: a control group does not fail allocations, it kills the process; and beyond a
//! resource limit the failed allocation ends it. So the limits are read in advance.
//!
//! # Limits
//!
//! Swap is not counted, and neither is `memory.high`, which slows a process down but does not kill
//! it. Other processes of the control group are counted as they are at the time of reading.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::cgroup;

/// A limit in bytes, with the current use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The value of the limit.
    pub bytes: u64,
    /// Memory in use that is not returned.
    pub taken: u64,
}

impl MemoryLimit {
    /// The remaining bytes.
    pub fn left(&self) -> u64 {
        self.bytes.saturating_sub(self.taken)
    }
}

/// The limits on the memory of this process. `None`: no limit, or unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// The lowest remaining limit of the process's control group and its ancestors: `memory.max`,
    /// or `memory.limit_in_bytes` of version 1.
    pub cgroup: Option<MemoryLimit>,
    /// `RLIMIT_AS`: address space, touched or not.
    pub address_space: Option<MemoryLimit>,
    /// `RLIMIT_DATA`: private writable mappings, the stacks of threads among them.
    pub data: Option<MemoryLimit>,
}

impl MemoryLimits {
    /// Reads the limits: `getrlimit`, `/proc/self/statm` and files of the control groups.
    pub fn read() -> MemoryLimits {
        if !cfg!(target_os = "linux") {
            return MemoryLimits::default();
        }
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = |field| statm.split(' ').nth(field).and_then(|pages| pages.parse::<u64>().ok());
        let taken = |field| pages(field).unwrap_or(0) * rustix::param::page_size() as u64;
        let limit = |resource, field| {
            getrlimit(resource).current.map(|bytes| MemoryLimit { bytes, taken: taken(field) })
        };
        MemoryLimits {
            cgroup: cgroup::dirs("memory")
                .iter()
                .filter_map(|dir| cgroup_limit(dir))
                .min_by_key(MemoryLimit::left),
            address_space: limit(Resource::As, 0),
            data: limit(Resource::Data, 5),
        }
    }
}

/// The limit of one control group, of either version.
fn cgroup_limit(dir: &Path) -> Option<MemoryLimit> {
    let text = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
    let limit = text("memory.max").or_else(|| text("memory.limit_in_bytes"))?;
    let usage = text("memory.current").or_else(|| text("memory.usage_in_bytes"));
    group_limit(&limit, &usage.unwrap_or_default(), &text("memory.stat").unwrap_or_default())
}

/// A group's limit from its files. The page cache does not count as used, because the kernel
/// reclaims it before it kills a process.
fn group_limit(limit: &str, usage: &str, stat: &str) -> Option<MemoryLimit> {
    /// Version 1 represents "no limit" by a number that exceeds every machine's memory.
    const NO_LIMIT: u64 = 1 << 62;
    let bytes = limit.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)?;
    let of_files = |names: [&str; 2]| -> u64 {
        let fields = stat.lines().filter_map(|line| line.split_once(' '));
        fields
            .filter(|(name, _)| names.contains(name))
            .filter_map(|(_, n)| n.parse::<u64>().ok())
            .sum()
    };
    // In version 1 these contain the sums over the group and its descendants.
    let cache = match of_files(["total_active_file", "total_inactive_file"]) {
        0 => of_files(["active_file", "inactive_file"]),
        total => total,
    };
    let usage = usage.trim().parse().unwrap_or(0_u64);
    Some(MemoryLimit { bytes, taken: usage.saturating_sub(cache) })
}

/// The memory for the program's symbols, which are read for the first printed backtrace. Measured:
/// 55 MiB, and 180 MiB of address space without optimization.
const SYMBOLS_BYTES: u64 = 64 * 1024 * 1024;
const SYMBOLS_MAPPED_BYTES: u64 = 192 * 1024 * 1024;

/// The maximum share of a limit for symbols, as a divisor: clients do not need them.
const SYMBOLS_SHARE: u64 = 4;

impl MemoryLimits {
    /// The memory to reserve of each limit for symbols: `[cgroup, address space, data]`. `None`:
    /// one of the limits has no room for them, so they must not be read.
    pub fn symbols(&self) -> Option<[u64; 3]> {
        let bytes = [SYMBOLS_BYTES, SYMBOLS_MAPPED_BYTES, SYMBOLS_BYTES];
        let limits = [self.cgroup, self.address_space, self.data];
        let fits = |(limit, bytes): (Option<MemoryLimit>, u64)| {
            limit.is_none_or(|limit| limit.left() / SYMBOLS_SHARE >= bytes)
        };
        limits.into_iter().zip(bytes).all(fits).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1_STAT: &str = "cache 900\nactive_file 1\ninactive_file 2\ntotal_cache 900\n\
                           total_active_file 300\ntotal_inactive_file 200\n";

    #[test]
    fn a_group_without_a_limit_has_none_in_either_version() {
        assert_eq!(group_limit("max\n", "1000\n", ""), None);
        assert_eq!(group_limit("9223372036854771712\n", "1000\n", V1_STAT), None);
        assert_eq!(group_limit("", "", ""), None);
    }

    #[test]
    fn the_page_cache_does_not_count_as_used() {
        let limit = |taken| Some(MemoryLimit { bytes: 4096, taken });
        assert_eq!(group_limit("4096\n", "1000\n", V1_STAT), limit(500));
        let v2 = "anon 400\nfile 500\nkernel 100\ninactive_file 100\nactive_file 200\n";
        assert_eq!(group_limit("4096\n", "1000\n", v2), limit(700));
        assert_eq!(group_limit("4096\n", "1000\n", ""), limit(1000));
        assert_eq!(group_limit("4096\n", "", V1_STAT), limit(0), "it cannot be read");
    }

    #[test]
    fn symbols_are_read_only_where_they_take_a_small_part_of_every_limit() {
        let limit = |mib: u64| Some(MemoryLimit { bytes: (mib + 10) << 20, taken: 10 << 20 });
        assert!(MemoryLimits::default().symbols().is_some());
        let roomy =
            MemoryLimits { cgroup: limit(256), address_space: limit(768), data: limit(256) };
        assert!(roomy.symbols().is_some());
        for tight in [
            MemoryLimits { cgroup: limit(255), ..roomy },
            MemoryLimits { address_space: limit(767), ..roomy },
            MemoryLimits { data: limit(255), ..roomy },
        ] {
            assert_eq!(tight.symbols(), None, "{tight:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_use_of_this_process_is_read() {
        let limits = MemoryLimits::read();
        for (name, limit) in [("AS", limits.address_space), ("DATA", limits.data)] {
            assert!(limit.is_none_or(|limit| limit.taken > 0), "{name}: {limit:?}");
        }
    }
}
