//! How many threads this process can have, known before they are started.
//!
//! The failure story: most limits answer one thread too many with an ordinary EAGAIN, but beyond
//! `vm.max_map_count` the new thread fails to map its signal stack, and the standard library aborts
//! the whole process from inside it. Nobody can catch that, so nobody may get there. The other
//! limits are read in order to name them; they count other processes too and are met as errors.

use std::fmt;

use crate::sys::limits::Limits;

/// Mappings that one thread of the standard library takes: its stack and its signal stack, each
/// with a guard page. Measured: 8,166 threads where 32,768 mappings are allowed.
pub(super) const MAPPINGS_PER_THREAD: u64 = 4;

/// Mappings that the allocator may make per core: glibc has up to 8 arenas, each in two parts.
const MAPPINGS_PER_CORE: u64 = 16;

/// Mappings kept for what is mapped later: libraries, files, large blocks of memory, the program's
/// own threads outside the pool, and threads that have left the pool but not yet the kernel.
/// 512 is enough for 128 threads and costs 128 of 8,000.
const MAPPINGS_KEPT_BACK: u64 = 512;

/// One part in this many of a limit that is shared with other processes is left to them: a server
/// that takes the last process number also takes the shell with which to look at it.
const SHARE_KEPT_BACK: u64 = 16;

/// Threads of such a limit that the program has outside the pool: main, two for signals, the
/// writers of log, reports and trace, and one that is only tried.
const THREADS_KEPT_BACK: u64 = 8;

/// The one limit whose unit is not a thread.
pub(crate) const MAP_COUNT: &str = "vm.max_map_count";

/// The one limit that is no variable and no resource of a process.
pub(crate) const CGROUP: &str = "cgroup pids.max";

/// The most threads a pool should ever have here, and which limit says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadLimit {
    /// Threads; at least 1, `usize::MAX` if no limit is known.
    pub(crate) threads: usize,
    /// Name of the tightest limit, such as `vm.max_map_count`.
    pub(crate) limit: &'static str,
    /// That limit's value in its own unit (mappings, processes, numbers).
    pub(crate) value: u64,
    /// What is not for the pool's threads, in the same unit: taken already, or kept back.
    pub(crate) taken: u64,
}

impl ThreadLimit {
    /// Finds the tightest of `limits`; of two that allow the same, the one that would abort.
    pub(crate) fn of(limits: &Limits) -> ThreadLimit {
        let all = ThreadLimit::all(limits).into_iter();
        all.min_by_key(|ceiling| ceiling.threads).unwrap_or(ThreadLimit::UNKNOWN)
    }

    /// What each of the limits allows by itself.
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
            ThreadLimit::new(MAP_COUNT, value, taken.saturating_add(MAPPINGS_KEPT_BACK))
        });
        let by_share = shared.into_iter().filter_map(|(limit, value, taken)| {
            Some(ThreadLimit::new(limit, value?, taken + THREADS_KEPT_BACK))
        });
        by_mappings.into_iter().chain(by_share).collect()
    }

    /// What the limit would have to be for so many threads, as things are now.
    pub(crate) fn value_for(&self, threads: u64) -> u64 {
        let for_threads = if self.limit == MAP_COUNT {
            threads.saturating_mul(MAPPINGS_PER_THREAD)
        } else {
            // The inverse of keeping a share back.
            threads.saturating_add(threads.div_ceil(SHARE_KEPT_BACK - 1))
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
            free - free / SHARE_KEPT_BACK
        };
        // One thread is always tried: a limit so low is better met as the kernel's own error.
        let threads = usize::try_from(threads.max(1)).unwrap_or(usize::MAX);
        ThreadLimit { threads, limit, value, taken }
    }
}

impl fmt::Display for ThreadLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ThreadLimit { threads, limit, value, .. } = *self;
        if *self == ThreadLimit::UNKNOWN {
            return f.write_str("no known limit of threads");
        }
        let noun = if threads == 1 { "thread" } else { "threads" };
        write!(f, "{threads} {noun} ({limit} is {value}, ")?;
        if limit == MAP_COUNT {
            write!(f, "a thread takes {MAPPINGS_PER_THREAD} mappings)")
        } else {
            write!(f, "a {SHARE_KEPT_BACK}th is left to others)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine as it is often met: 2 cores, `vm.max_map_count` is the tightest limit.
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
    fn mappings_are_the_usual_ceiling_and_the_sentence_says_why() {
        let ceiling = ThreadLimit::of(&USUAL);
        assert_eq!(ceiling.threads, (32_768 - 40 - 32 - 512) / 4);
        assert_eq!(
            ceiling.to_string(),
            "8046 threads (vm.max_map_count is 32768, a thread takes 4 mappings)"
        );
    }

    #[test]
    fn the_ceiling_stays_below_the_number_at_which_the_process_was_seen_to_abort() {
        assert!(ThreadLimit::of(&USUAL).threads < 8_166);
    }

    #[test]
    fn the_tightest_limit_is_named_with_its_own_value() {
        let ceiling = ThreadLimit::of(&Limits { cgroup_pids: Some((100, 0)), ..USUAL });
        assert_eq!(
            ceiling.to_string(),
            "87 threads (cgroup pids.max is 100, a 16th is left to others)"
        );
        let pid_max = ThreadLimit::of(&Limits { pid_max: Some(512), ..USUAL });
        assert_eq!((pid_max.limit, pid_max.value), ("kernel.pid_max", 512));
        let threads_max = ThreadLimit::of(&Limits { threads_max: Some(512), ..USUAL });
        assert_eq!(threads_max.limit, "kernel.threads-max");
    }

    #[test]
    fn the_limit_of_processes_binds_a_user_and_not_root() {
        let bound = Limits { nproc: Some(1_024), ..USUAL };
        assert_eq!(ThreadLimit::of(&bound).limit, "RLIMIT_NPROC");
        assert_eq!(ThreadLimit::of(&bound).threads, 1_024 - 8 - 63);
        let root = Limits { nproc_binds: false, ..bound };
        assert_eq!(ThreadLimit::of(&root).limit, "vm.max_map_count");
    }

    #[test]
    fn what_is_mapped_already_is_not_counted_on() {
        let full = Limits { mappings: Some(20_040), ..USUAL };
        assert_eq!(ThreadLimit::of(&USUAL).threads - ThreadLimit::of(&full).threads, 20_000 / 4);
    }

    #[test]
    fn what_else_lives_in_the_control_group_is_not_counted_on() {
        let alone = ThreadLimit::of(&Limits { cgroup_pids: Some((160, 0)), ..USUAL });
        let among_others = ThreadLimit::of(&Limits { cgroup_pids: Some((160, 80)), ..USUAL });
        assert_eq!((alone.threads, among_others.threads), (143, 68));
    }

    #[test]
    fn a_limit_that_is_raised_as_said_allows_what_was_wanted() {
        let limits = Limits { nproc: Some(100), cgroup_pids: Some((100, 60)), ..USUAL };
        for ceiling in ThreadLimit::all(&limits) {
            for threads in [1, 50, 8_000, 20_001] {
                let value = ceiling.value_for(threads);
                let raised = ThreadLimit::new(ceiling.limit, value, ceiling.taken);
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
    fn where_nothing_can_be_read_nothing_is_claimed() {
        let ceiling = ThreadLimit::of(&Limits::default());
        assert_eq!(ceiling.threads, usize::MAX);
        assert_eq!(ceiling.to_string(), "no known limit of threads");
    }
}
