//! The system's thread limit, computed before any thread is started.
//!
//! The failure story: beyond most limits a thread start fails with an ordinary EAGAIN. Beyond
//! `vm.max_map_count` the new thread fails to map its signal stack, and the standard library aborts
//! the whole process from inside that thread. The abort cannot be caught, so the pool must stay below
//! this limit. The other limits are read only to name them: they also count other processes, and
//! exceeding them is an ordinary error.

use std::fmt;

use crate::sys::limits::Limits;

/// Mappings that one thread of the standard library uses: its stack and its signal stack, each with a
/// guard page. Measured: 8,166 threads where 32,768 mappings are allowed.
pub(super) const MAPPINGS_PER_THREAD: u64 = 4;

/// Mappings that the allocator may make per core: glibc has up to 8 arenas, each in two parts.
const MAPPINGS_PER_CORE: u64 = 16;

/// Mappings reserved for later: libraries, files, large blocks of memory, the program's own threads
/// outside the pool, and threads that have left the pool but not yet the kernel. 512 is enough for 128
/// threads and costs 128 of 8,000.
const MAPPINGS_RESERVED: u64 = 512;

/// One part in this many of a limit that is shared with other processes is left to them: a server
/// that takes the last process id also prevents starting a shell to inspect it.
const SHARE_RESERVED: u64 = 16;

/// Threads that the program has outside the pool: main, two for signals, the writers of log, reports
/// and trace, and one for probes.
const THREADS_RESERVED: u64 = 8;

/// The one limit whose unit is not a thread.
pub(crate) const MAP_COUNT: &str = "vm.max_map_count";

/// The one limit that is neither a sysctl variable nor a process resource limit.
pub(crate) const CGROUP: &str = "cgroup pids.max";

/// The maximum number of threads that the system allows a pool, and the kernel limit that determines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadLimit {
    /// The number of threads: at least 1, `usize::MAX` if no limit is known.
    pub(crate) threads: usize,
    /// The name of the lowest limit, such as `vm.max_map_count`.
    pub(crate) limit: &'static str,
    /// That limit's value in its own unit (mappings, processes, ids).
    pub(crate) value: u64,
    /// The part that is not available to the pool's threads, in the same unit: used already, or reserved.
    pub(crate) taken: u64,
}

impl ThreadLimit {
    /// The lowest of `limits`. Of two equal ones, the one that would abort the process.
    pub(crate) fn of(limits: &Limits) -> ThreadLimit {
        let all = ThreadLimit::all(limits).into_iter();
        all.min_by_key(|limit| limit.threads).unwrap_or(ThreadLimit::UNKNOWN)
    }

    /// The thread limit that results from each of the limits.
    pub(crate) fn all(limits: &Limits) -> Vec<ThreadLimit> {
        let nproc = limits.nproc.filter(|_| limits.nproc_binds);
        let (group, in_group) = limits.cgroup_pids.unzip();
        let shared = [
            ("RLIMIT_NPROC", nproc, 0),
            (CGROUP, group, in_group.unwrap_or(0)),
            ("kernel.threads-max", limits.threads_max, 0),
            ("kernel.pid_max", limits.pid_max, 0),
        ];
        let by_mappings = limits.max_map_count.map(|value| {
            let allocator = limits.cores.unwrap_or(1).saturating_mul(MAPPINGS_PER_CORE);
            let taken = limits.mappings.unwrap_or(0).saturating_add(allocator);
            ThreadLimit::new(MAP_COUNT, value, taken.saturating_add(MAPPINGS_RESERVED))
        });
        let by_share = shared.into_iter().filter_map(|(limit, value, taken)| {
            Some(ThreadLimit::new(limit, value?, taken + THREADS_RESERVED))
        });
        by_mappings.into_iter().chain(by_share).collect()
    }

    /// The value that the limit needs for this many threads, with the current usage.
    pub(crate) fn value_for(&self, threads: u64) -> u64 {
        let for_threads = if self.limit == MAP_COUNT {
            threads.saturating_mul(MAPPINGS_PER_THREAD)
        } else {
            // The inverse of reserving a share.
            threads.saturating_add(threads.div_ceil(SHARE_RESERVED - 1))
        };
        for_threads.saturating_add(self.taken)
    }

    const UNKNOWN: ThreadLimit =
        ThreadLimit { threads: usize::MAX, limit: "no known limit", value: u64::MAX, taken: 0 };

    fn new(limit: &'static str, value: u64, taken: u64) -> ThreadLimit {
        let free = value.saturating_sub(taken);
        let threads = if limit == MAP_COUNT {
            free / MAPPINGS_PER_THREAD
        } else {
            free - free / SHARE_RESERVED
        };
        // One thread is always tried: with so low a limit the kernel's own error says more.
        let threads = usize::try_from(threads.max(1)).unwrap_or(usize::MAX);
        ThreadLimit { threads, limit, value, taken }
    }
}

impl fmt::Display for ThreadLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ThreadLimit { threads, limit, value, .. } = *self;
        if *self == ThreadLimit::UNKNOWN {
            return f.write_str("no known thread limit");
        }
        let noun = if threads == 1 { "thread" } else { "threads" };
        write!(f, "{threads} {noun} ({limit} is {value}, ")?;
        if limit == MAP_COUNT {
            write!(f, "a thread takes {MAPPINGS_PER_THREAD} mappings)")
        } else {
            write!(f, "a {SHARE_RESERVED}th is reserved for other processes)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A typical machine: 2 cores, `vm.max_map_count` is the lowest limit.
    const USUAL: Limits = Limits {
        nproc: Some(96_365),
        nproc_binds: true,
        threads_max: Some(192_731),
        pid_max: Some(4_194_304),
        cgroup_pids: None,
        max_map_count: Some(32_768),
        mappings: Some(40),
        cores: Some(2),
    };

    #[test]
    fn mappings_are_the_usual_limit_and_the_text_says_so() {
        let limit = ThreadLimit::of(&USUAL);
        assert_eq!(limit.threads, (32_768 - 40 - 32 - 512) / 4);
        assert_eq!(
            limit.to_string(),
            "8046 threads (vm.max_map_count is 32768, a thread takes 4 mappings)"
        );
    }

    #[test]
    fn the_limit_is_below_the_number_at_which_the_process_aborted() {
        assert!(ThreadLimit::of(&USUAL).threads < 8_166);
    }

    #[test]
    fn the_lowest_limit_is_named_with_its_own_value() {
        let limit = ThreadLimit::of(&Limits { cgroup_pids: Some((100, 0)), ..USUAL });
        assert_eq!(
            limit.to_string(),
            "87 threads (cgroup pids.max is 100, a 16th is reserved for other processes)"
        );
        let pid_max = ThreadLimit::of(&Limits { pid_max: Some(512), ..USUAL });
        assert_eq!((pid_max.limit, pid_max.value), ("kernel.pid_max", 512));
        let threads_max = ThreadLimit::of(&Limits { threads_max: Some(512), ..USUAL });
        assert_eq!(threads_max.limit, "kernel.threads-max");
    }

    #[test]
    fn the_process_limit_applies_to_a_user_and_not_to_root() {
        let bound = Limits { nproc: Some(1_024), ..USUAL };
        assert_eq!(ThreadLimit::of(&bound).limit, "RLIMIT_NPROC");
        assert_eq!(ThreadLimit::of(&bound).threads, 1_024 - 8 - 63);
        let root = Limits { nproc_binds: false, ..bound };
        assert_eq!(ThreadLimit::of(&root).limit, "vm.max_map_count");
    }

    #[test]
    fn existing_mappings_reduce_the_limit() {
        let full = Limits { mappings: Some(20_040), ..USUAL };
        assert_eq!(ThreadLimit::of(&USUAL).threads - ThreadLimit::of(&full).threads, 20_000 / 4);
    }

    #[test]
    fn other_processes_of_the_control_group_reduce_the_limit() {
        let single = ThreadLimit::of(&Limits { cgroup_pids: Some((160, 0)), ..USUAL });
        let among_others = ThreadLimit::of(&Limits { cgroup_pids: Some((160, 80)), ..USUAL });
        assert_eq!((single.threads, among_others.threads), (143, 68));
    }

    #[test]
    fn a_limit_raised_to_the_reported_value_allows_the_threads() {
        let limits = Limits { nproc: Some(100), cgroup_pids: Some((100, 60)), ..USUAL };
        for limit in ThreadLimit::all(&limits) {
            for threads in [1, 50, 8_000, 20_001] {
                let value = limit.value_for(threads);
                let raised = ThreadLimit::new(limit.limit, value, limit.taken);
                let (allowed, threads) = (raised.threads, usize::try_from(threads).unwrap());
                assert!((threads..=threads + 1).contains(&allowed), "{raised:?} for {threads}");
            }
        }
    }

    #[test]
    fn an_exhausted_limit_still_allows_one_thread_to_be_tried() {
        let full = Limits { mappings: Some(40_000), ..USUAL };
        assert_eq!(
            ThreadLimit::of(&full).to_string(),
            "1 thread (vm.max_map_count is 32768, a thread takes 4 mappings)"
        );
        let none = Limits { cgroup_pids: Some((0, 0)), ..USUAL };
        assert_eq!(ThreadLimit::of(&none).threads, 1);
    }

    #[test]
    fn without_readable_limits_no_limit_is_claimed() {
        let limit = ThreadLimit::of(&Limits::default());
        assert_eq!(limit.threads, usize::MAX);
        assert_eq!(limit.to_string(), "no known thread limit");
    }
}
