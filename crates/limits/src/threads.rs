//! The system's thread limit, computed before any thread is started.
//!
//! The failure story: beyond most limits a thread start fails with an ordinary EAGAIN. Beyond
//! `vm.max_map_count` the new thread fails to map its signal stack, and the standard library aborts
//! the whole process from inside that thread. The abort cannot be caught, so the pool must stay below
//! this limit. The other limits are read only to name them: they also count other processes, and
//! exceeding them is an ordinary error.

use std::fmt;
use std::fs::File;
use std::io::Read as _;

use crate::{cgroup, number};

/// The limits on the number of threads of this process. `None`: no limit, or unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadLimits {
    /// Soft `RLIMIT_NPROC`: processes and threads of this user, all processes together.
    pub nproc: Option<u64>,
    /// Whether `RLIMIT_NPROC` is enforced on this process at all; the kernel exempts root.
    pub nproc_binds: bool,
    /// `kernel.threads-max`: threads in the whole system.
    pub threads_max: Option<u64>,
    /// `kernel.pid_max`: one more than the highest number; every thread takes a number.
    pub pid_max: Option<u64>,
    /// The lowest remaining `pids.max` of the process's control group and its ancestors, with the
    /// number of tasks in that group.
    pub cgroup_pids: Option<(u64, u64)>,
    /// `vm.max_map_count`: memory mappings of this process.
    pub max_map_count: Option<u64>,
    /// The current number of mappings of this process.
    pub mappings: Option<u64>,
    /// Cores that this process may run on; the allocator makes mappings per core.
    pub cores: Option<u64>,
}

/// `vm.max_map_count` if it cannot be read: the kernel's default.
const MAX_MAP_COUNT_ASSUMED: u64 = 65_530;

/// The number of mappings if it cannot be counted: more than a program has at startup.
const MAPPINGS_ASSUMED: u64 = 256;

impl ThreadLimits {
    /// Reads the limits: `getrlimit`, `capget` and files below `/proc` and the control groups'
    /// mounts.
    pub fn read() -> ThreadLimits {
        use rustix::process::{Resource, getrlimit};

        if !cfg!(target_os = "linux") {
            return ThreadLimits::default();
        }
        let cores = std::thread::available_parallelism().ok();
        ThreadLimits {
            nproc: getrlimit(Resource::Nproc).current,
            nproc_binds: nproc_binds(),
            threads_max: number("/proc/sys/kernel/threads-max"),
            pid_max: number("/proc/sys/kernel/pid_max"),
            cgroup_pids: cgroup_pids(),
            max_map_count: max_map_count().or(Some(MAX_MAP_COUNT_ASSUMED)),
            mappings: mappings().or(Some(MAPPINGS_ASSUMED)),
            cores: cores.and_then(|cores| u64::try_from(cores.get()).ok()),
        }
    }
}

/// The effect of an unreadable `/proc`, as a sentence for the log; `None` if it can be read.
pub fn without_proc() -> Option<String> {
    let error = File::open("/proc/self/maps").err().filter(|_| cfg!(target_os = "linux"))?;
    Some(format!(
        "failed to read /proc ({error}): limits of control groups and of the system are unknown, \
         vm.max_map_count is taken to be {MAX_MAP_COUNT_ASSUMED}, and descriptors are shown without \
         paths; mount it with `mount -t proc proc /proc`, or set --max-connections"
    ))
}

/// The current number of mappings and `vm.max_map_count`, in the order `(max, now)`, if both can be
/// read.
pub fn mappings_and_max() -> Option<(u64, u64)> {
    max_map_count().zip(mappings())
}

fn max_map_count() -> Option<u64> {
    number("/proc/sys/vm/max_map_count")
}

fn mappings() -> Option<u64> {
    // Read in pieces, because the file has megabytes if there are many threads. The kernel returns
    // at most a page at a time.
    let mut maps = File::open("/proc/self/maps").ok()?;
    let mut piece = [0; 4096];
    let mut lines = 0;
    loop {
        match maps.read(&mut piece).ok()? {
            0 => return Some(lines),
            bytes => lines += piece[..bytes].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

fn cgroup_pids() -> Option<(u64, u64)> {
    let limits = cgroup::dirs("pids").into_iter().filter_map(|dir| {
        Some((number(dir.join("pids.max"))?, number(dir.join("pids.current")).unwrap_or(0)))
    });
    limits.min_by_key(|(max, current): &(u64, u64)| max.saturating_sub(*current))
}

/// Whether `RLIMIT_NPROC` is enforced: the rule of `copy_process` in the kernel's `fork.c`.
///
/// Exempt are the real user 0 and processes with `CAP_SYS_RESOURCE` or `CAP_SYS_ADMIN`, all as seen
/// from the initial user namespace. So the limit applies to root in a rootless container.
fn nproc_binds() -> bool {
    let initial = is_in_initial_namespace();
    !(initial && (rustix::process::getuid().is_root() || has_exempting_capability()))
}

#[cfg(target_os = "linux")]
fn has_exempting_capability() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};

    let exempting = CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
    capabilities(None).is_ok_and(|sets| sets.effective.intersects(exempting))
}

#[cfg(not(target_os = "linux"))]
fn has_exempting_capability() -> bool {
    false
}

/// Whether this process has the rights of root on this machine: not those that root has in a user
/// namespace, as in a rootless container.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root() && is_in_initial_namespace()
}

/// Whether this process is in the initial user namespace.
fn is_in_initial_namespace() -> bool {
    // A kernel without user namespaces does not have this file, and only the initial namespace.
    std::fs::read_to_string("/proc/self/uid_map").map_or(true, |map| maps_every_user(&map))
}

/// Whether a `uid_map` is that of the initial user namespace, which maps every id to itself.
fn maps_every_user(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Mappings that one thread of the standard library uses: its stack and its signal stack, each with a
/// guard page. Measured: 8,166 threads where 32,768 mappings are allowed.
pub const MAPPINGS_PER_THREAD: u64 = 4;

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
pub const MAP_COUNT: &str = "vm.max_map_count";

/// The one limit that is neither a sysctl variable nor a process resource limit.
pub const CGROUP: &str = "cgroup pids.max";

/// The maximum number of threads that the system allows a pool, and the kernel limit that determines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadLimit {
    /// The number of threads: at least 1, `usize::MAX` if no limit is known.
    pub threads: usize,
    /// The name of the lowest limit, such as `vm.max_map_count`.
    pub limit: &'static str,
    /// That limit's value in its own unit (mappings, processes, ids).
    pub value: u64,
    /// The part that is not available to the pool's threads, in the same unit: used already, or reserved.
    pub taken: u64,
}

impl ThreadLimit {
    /// The lowest of `limits`. Of two equal ones, the one that would abort the process.
    pub fn of(limits: &ThreadLimits) -> ThreadLimit {
        let all = ThreadLimit::all(limits).into_iter();
        all.min_by_key(|limit| limit.threads).unwrap_or(ThreadLimit::UNKNOWN)
    }

    /// The thread limit that results from each of the limits.
    pub fn all(limits: &ThreadLimits) -> Vec<ThreadLimit> {
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
    pub fn value_for(&self, threads: u64) -> u64 {
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

/// A typical machine: 2 cores, `vm.max_map_count` is the lowest limit.
#[cfg(test)]
pub(crate) const USUAL: ThreadLimits = ThreadLimits {
    nproc: Some(96_365),
    nproc_binds: true,
    threads_max: Some(192_731),
    pid_max: Some(4_194_304),
    cgroup_pids: None,
    max_map_count: Some(32_768),
    mappings: Some(40),
    cores: Some(2),
};

#[cfg(test)]
mod tests {
    use super::*;

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
        let limit = ThreadLimit::of(&ThreadLimits { cgroup_pids: Some((100, 0)), ..USUAL });
        assert_eq!(
            limit.to_string(),
            "87 threads (cgroup pids.max is 100, a 16th is reserved for other processes)"
        );
        let pid_max = ThreadLimit::of(&ThreadLimits { pid_max: Some(512), ..USUAL });
        assert_eq!((pid_max.limit, pid_max.value), ("kernel.pid_max", 512));
        let threads_max = ThreadLimit::of(&ThreadLimits { threads_max: Some(512), ..USUAL });
        assert_eq!(threads_max.limit, "kernel.threads-max");
    }

    #[test]
    fn the_process_limit_applies_to_a_user_and_not_to_root() {
        let bound = ThreadLimits { nproc: Some(1_024), ..USUAL };
        assert_eq!(ThreadLimit::of(&bound).limit, "RLIMIT_NPROC");
        assert_eq!(ThreadLimit::of(&bound).threads, 1_024 - 8 - 63);
        let root = ThreadLimits { nproc_binds: false, ..bound };
        assert_eq!(ThreadLimit::of(&root).limit, "vm.max_map_count");
    }

    #[test]
    fn existing_mappings_reduce_the_limit() {
        let full = ThreadLimits { mappings: Some(20_040), ..USUAL };
        assert_eq!(ThreadLimit::of(&USUAL).threads - ThreadLimit::of(&full).threads, 20_000 / 4);
    }

    #[test]
    fn other_processes_of_the_control_group_reduce_the_limit() {
        let single = ThreadLimit::of(&ThreadLimits { cgroup_pids: Some((160, 0)), ..USUAL });
        let among_others = ThreadLimit::of(&ThreadLimits { cgroup_pids: Some((160, 80)), ..USUAL });
        assert_eq!((single.threads, among_others.threads), (143, 68));
    }

    #[test]
    fn a_limit_raised_to_the_reported_value_allows_the_threads() {
        let limits = ThreadLimits { nproc: Some(100), cgroup_pids: Some((100, 60)), ..USUAL };
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
        let full = ThreadLimits { mappings: Some(40_000), ..USUAL };
        assert_eq!(
            ThreadLimit::of(&full).to_string(),
            "1 thread (vm.max_map_count is 32768, a thread takes 4 mappings)"
        );
        let none = ThreadLimits { cgroup_pids: Some((0, 0)), ..USUAL };
        assert_eq!(ThreadLimit::of(&none).threads, 1);
    }

    #[test]
    fn without_readable_limits_no_limit_is_claimed() {
        let limit = ThreadLimit::of(&ThreadLimits::default());
        assert_eq!(limit.threads, usize::MAX);
        assert_eq!(limit.to_string(), "no known thread limit");
    }

    #[test]
    fn only_the_identity_map_is_the_initial_user_namespace() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        assert!(!maps_every_user("         0       1000          1\n"));
        assert!(!maps_every_user("0 1000 1\n1 100000 65536\n"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_its_system_wide_limits() {
        let limits = ThreadLimits::read();
        for (name, value) in [
            ("threads-max", limits.threads_max),
            ("pid_max", limits.pid_max),
            ("max_map_count", limits.max_map_count),
            ("mappings", limits.mappings),
            ("cores", limits.cores),
        ] {
            assert!(value.is_some_and(|value| value > 0), "{name}: {value:?}");
        }
    }
}
