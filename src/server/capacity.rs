//! Capacity check: how many connections the process limits allow, computed before the first one.
//!
//! The failure story: the acceptor survives the error of one descriptor or thread too many, but then has
//! no room for anything else; and one memory mapping too many ends the process (see `pool::thread_limit`). So
//! the limits are read once, when the server opens. A setting beyond them is lowered to what fits, and at
//! that number clients are rejected as at any other limit.
//!
//! `memory` computes how much memory connections need.

mod memory;

use std::fmt;

use super::bind::DESCRIPTORS_PER_ACCEPTOR;
use crate::echo::Memory;
use crate::pool::thread_limit::{CGROUP, MAP_COUNT, ThreadLimit};
use crate::report::Plural;
use crate::sys;
use crate::sys::limits::Limits;
use crate::sys::memory::MemoryLimits;
use memory::{ADDRESS_SPACE, CGROUP_MEMORY, DATA, MemoryBudget, MemoryShares};

/// Descriptors reserved for later use: signals, reopened files, files under `/proc`, and chaos.
const DESCRIPTORS_RESERVED: u64 = 16;

/// The descriptor limit.
const DESCRIPTORS: &str = "RLIMIT_NOFILE";

/// The resource limits of this process.
pub(super) struct SystemLimits {
    /// One entry per limit on threads.
    threads: Vec<ThreadLimit>,
    /// The descriptor limit, and how many descriptors are open.
    descriptors: Option<(u64, u64)>,
    /// One entry per limit on memory.
    memory: Vec<MemoryBudget>,
}

/// Threads that serve no client: main, signals, log, reports, and the idle threads of the pool.
const OTHER_THREADS: usize = 8 + 2 * crate::pool::KEEP_IDLE_DEFAULT;

/// The requirements of connections.
#[derive(Clone, Copy)]
pub(super) struct Requirements {
    pub(super) tasks_per_connection: usize,
    /// Each has a thread, and one accepted connection that is about to be rejected.
    pub(super) acceptors: usize,
    /// Stack of a thread, in bytes.
    pub(super) stack_bytes: u64,
    /// Memory of the handler per connection.
    pub(super) memory: Memory,
}

impl Requirements {
    /// The maximum number of threads that serve no connection.
    pub(super) fn other_threads(&self) -> usize {
        self.acceptors.saturating_add(OTHER_THREADS)
    }
}

/// How many connections are possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// As many as requested, or as many as fit; at least 1.
    pub(super) connections: usize,
    /// The limits that are too low for the request, the lowest first.
    pub(super) limiting: Vec<LimitingFactor>,
    /// How memory is divided among connections.
    pub(super) shares: MemoryShares,
}

/// A limit that allows fewer connections than requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitingFactor {
    /// Its name, such as `RLIMIT_NOFILE`.
    pub(super) limit: &'static str,
    /// Its value.
    pub(super) value: u64,
    /// How many connections it allows.
    pub(super) connections: usize,
    /// The value that would allow all requested connections.
    pub(super) sufficient: u64,
    /// How much of it a connection takes, unless that is one descriptor or the connection's tasks.
    pub(super) each: u64,
}

impl SystemLimits {
    /// Reads the limits. Call this when the server's own descriptors are open. `reads_symbols`: whether
    /// backtraces may be printed, which takes memory once.
    pub(super) fn read(reads_symbols: bool) -> SystemLimits {
        let open = echown_fd::fd::open_numbers().len() as u64;
        SystemLimits {
            threads: ThreadLimit::all(&Limits::read()),
            descriptors: sys::limits::descriptors().map(|limit| (limit, open)),
            memory: budgets(reads_symbols),
        }
    }

    /// Capacity for `requested` connections, or for as many as fit.
    pub(super) fn capacity(&self, requested: usize, requirements: Requirements) -> Capacity {
        let Requirements { tasks_per_connection, acceptors, .. } = requirements;
        let tasks = requested.saturating_mul(tasks_per_connection).saturating_add(acceptors);
        let by_threads = self.threads.iter().map(|ceiling| LimitingFactor {
            limit: ceiling.limit,
            value: ceiling.value,
            connections: ceiling.threads.saturating_sub(acceptors) / tasks_per_connection.max(1),
            sufficient: ceiling.value_for(tasks as u64),
            each: 0,
        });
        let by_descriptors = self.descriptors.map(|(value, open)| {
            let taken = open + DESCRIPTORS_RESERVED + acceptors as u64;
            LimitingFactor {
                limit: DESCRIPTORS,
                value,
                connections: usize::try_from(value.saturating_sub(taken)).unwrap_or(usize::MAX),
                sufficient: taken.saturating_add(requested as u64),
                each: 0,
            }
        });
        let by_memory =
            self.memory.iter().map(|budget| budget.limiting_factor(requested, &requirements));
        let all = by_threads.chain(by_descriptors).chain(by_memory);
        let mut limiting: Vec<LimitingFactor> = all
            // Always allow one client: the kernel's own error is a better report of such a low
            // limit.
            .map(|limiting| LimitingFactor { connections: limiting.connections.max(1), ..limiting })
            .filter(|limiting| limiting.connections < requested)
            .collect();
        limiting.sort_by_key(|limiting| limiting.connections);
        let connections = limiting.first().map_or(requested, |limiting| limiting.connections);
        Capacity {
            connections,
            limiting,
            shares: memory::shares(&self.memory, connections, &requirements),
        }
    }
}

/// Checks, before anything is opened, that the descriptor limit leaves one for a client.
///
/// # Errors
/// The limit is too low. The message contains the requirement and how to raise it.
pub(super) fn check_descriptors(acceptors: usize, connections: usize) -> Result<(), String> {
    let open = echown_fd::fd::open_numbers().len() as u64;
    match sys::limits::descriptors() {
        Some(limit) => check_limit(limit, open, acceptors, connections),
        None => Ok(()),
    }
}

fn check_limit(limit: u64, open: u64, acceptors: usize, connections: usize) -> Result<(), String> {
    // One more for each: the accepted connection that is about to be rejected.
    let by_acceptors = (acceptors as u64).saturating_mul(DESCRIPTORS_PER_ACCEPTOR + 1);
    let taken = by_acceptors.saturating_add(open + DESCRIPTORS_RESERVED);
    if limit > taken {
        return Ok(());
    }
    let needed = taken.saturating_add(1);
    let sufficient = taken.saturating_add(connections as u64);
    let noun = Plural(acceptors as u64, "acceptor");
    let fewer = if acceptors > 1 { "use fewer --acceptors, or " } else { "" };
    Err(format!(
        "cannot serve a single client: {DESCRIPTORS} is {limit}, and {noun} and one client need \
         {needed} descriptors; {fewer}raise it with `ulimit -n {sufficient}`"
    ))
}

fn budgets(reads_symbols: bool) -> Vec<MemoryBudget> {
    let text = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let [receive, send] = ["tcp_rmem", "tcp_wmem"].map(|name| text(name).unwrap_or_default());
    MemoryBudget::each(&MemoryLimits::read(), memory::sockets_max(&receive, &send), reads_symbols)
}

impl fmt::Display for LimitingFactor {
    /// `RLIMIT_NOFILE is 64, enough for 40; raise it with "ulimit -n 1048"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimitingFactor { limit, value, connections, sufficient, each } = self;
        write!(f, "{limit} is {value}, enough for {connections}; ")?;
        if *each > 0 {
            write!(f, "a connection may take {} KiB: ", each / 1024)?;
        }
        match *limit {
            DESCRIPTORS => write!(f, "raise it with `ulimit -n {sufficient}`"),
            // The shell counts in KiB.
            ADDRESS_SPACE => write!(f, "raise it with `ulimit -v {}`", sufficient.div_ceil(1024)),
            DATA => write!(f, "raise it with `ulimit -d {}`", sufficient.div_ceil(1024)),
            CGROUP_MEMORY => write!(
                f,
                "raise it to {} MiB (MemoryMax= of a systemd unit, --memory of a container)",
                sufficient >> 20
            ),
            "RLIMIT_NPROC" => write!(f, "raise it with `ulimit -u {sufficient}`"),
            CGROUP => write!(
                f,
                "raise it to {sufficient} (TasksMax= of a systemd unit, --pids-limit of a container)"
            ),
            MAP_COUNT => write!(
                f,
                "a thread takes 4 mappings, and one too many would end the process: raise it with \
                 `sysctl {limit}={sufficient}`"
            ),
            _ => write!(f, "raise it with `sysctl {limit}={sufficient}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIREMENTS: Requirements = Requirements {
        tasks_per_connection: 1,
        acceptors: 1,
        stack_bytes: 256 << 10,
        memory: Memory { own: 80 << 10, pooled: 0 },
    };

    /// A system whose mappings allow 8,046 threads, with 10 descriptors open.
    fn machine(limits: Limits, descriptors: u64) -> SystemLimits {
        let descriptors = Some((descriptors, 10));
        SystemLimits { threads: ThreadLimit::all(&limits), descriptors, memory: Vec::new() }
    }

    fn usual() -> Limits {
        Limits {
            nproc: Some(96_365),
            nproc_binds: true,
            threads_max: Some(192_731),
            pid_max: Some(4_194_304),
            cgroup_pids: None,
            max_map_count: Some(32_768),
            mappings: Some(40),
            cores: Some(2),
        }
    }

    #[test]
    fn a_request_within_the_limits_is_not_lowered() {
        let capacity = machine(usual(), 20_000).capacity(1_024, REQUIREMENTS);
        let shares = MemoryShares::default();
        assert_eq!(capacity, Capacity { connections: 1_024, limiting: Vec::new(), shares });
    }

    #[test]
    fn a_descriptor_limit_is_reported_with_the_value_that_would_be_enough() {
        let capacity = machine(usual(), 64).capacity(1_024, REQUIREMENTS);
        assert_eq!(capacity.connections, 64 - 10 - 16 - 1);
        let messages: Vec<String> =
            capacity.limiting.iter().map(LimitingFactor::to_string).collect();
        assert_eq!(
            messages,
            ["RLIMIT_NOFILE is 64, enough for 37; raise it with `ulimit -n 1051`"]
        );
        assert_eq!(machine(usual(), 1_051).capacity(1_024, REQUIREMENTS).connections, 1_024);
    }

    #[test]
    fn mappings_limit_before_the_abort_and_all_limits_are_reported_at_once() {
        let capacity = machine(usual(), 9_000).capacity(10_000, REQUIREMENTS);
        assert_eq!(capacity.connections, 8_045);
        let messages: Vec<String> =
            capacity.limiting.iter().map(LimitingFactor::to_string).collect();
        assert_eq!(
            messages,
            [
                "vm.max_map_count is 32768, enough for 8045; a thread takes 4 mappings, and one too \
                 many would end the process: raise it with `sysctl vm.max_map_count=40588`",
                "RLIMIT_NOFILE is 9000, enough for 8973; raise it with `ulimit -n 10027`",
            ]
        );
        let raised = Limits { max_map_count: Some(40_588), ..usual() };
        assert_eq!(machine(raised, 10_027).capacity(10_000, REQUIREMENTS).connections, 10_000);
    }

    #[test]
    fn a_handler_with_two_tasks_per_connection_has_half_the_capacity() {
        let requirements = Requirements { tasks_per_connection: 2, acceptors: 2, ..REQUIREMENTS };
        let capacity = machine(usual(), 20_000).capacity(10_000, requirements);
        assert_eq!(capacity.connections, (8_046 - 2) / 2);
    }

    #[test]
    fn every_limit_has_its_remedy() {
        for (limits, remedy) in [
            (Limits { nproc: Some(100), ..usual() }, "`ulimit -u "),
            (Limits { cgroup_pids: Some((100, 50)), ..usual() }, "TasksMax="),
            (Limits { threads_max: Some(100), ..usual() }, "`sysctl kernel.threads-max="),
            (Limits { pid_max: Some(301), ..usual() }, "`sysctl kernel.pid_max="),
        ] {
            let capacity = machine(limits, 20_000).capacity(1_024, REQUIREMENTS);
            assert!(capacity.limiting[0].to_string().contains(remedy), "{:?}", capacity.limiting);
        }
    }

    #[test]
    fn too_few_descriptors_for_one_client_are_an_error_that_says_how_many_are_enough() {
        assert_eq!(check_limit(26, 4, 1, 1_024), Ok(()));
        let error = check_limit(25, 4, 1, 1_024).unwrap_err();
        assert_eq!(
            error,
            "cannot serve a single client: RLIMIT_NOFILE is 25, and 1 acceptor and one client need \
             26 descriptors; raise it with `ulimit -n 1049`"
        );
        let error = check_limit(20_000, 4, 100_000, 1_024).unwrap_err();
        assert!(error.ends_with("use fewer --acceptors, or raise it with `ulimit -n 501044`"));
        // A configuration is rejected before anything is opened exactly if it would leave no
        // capacity.
        let capacity = |limit| {
            let (threads, memory) = (Vec::new(), Vec::new());
            SystemLimits { threads, descriptors: Some((limit, 8)), memory }
                .capacity(2, REQUIREMENTS)
        };
        assert_eq!((capacity(26).connections, capacity(27).connections), (1, 2));
    }

    #[test]
    fn memory_has_its_remedies_and_says_what_a_connection_takes() {
        let limit = Some(sys::memory::Limit { bytes: 64 << 20, taken: 2 << 20 });
        for (limits, remedy) in [
            (MemoryLimits { cgroup: limit, ..MemoryLimits::default() }, "(MemoryMax= of a systemd"),
            (MemoryLimits { address_space: limit, ..MemoryLimits::default() }, "`ulimit -v "),
            (MemoryLimits { data: limit, ..MemoryLimits::default() }, "`ulimit -d "),
        ] {
            let memory = MemoryBudget::each(&limits, 10 << 20, false);
            let capacity =
                SystemLimits { memory, ..machine(usual(), 20_000) }.capacity(1_024, REQUIREMENTS);
            let message = capacity.limiting[0].to_string();
            assert!(
                message.contains(remedy) && message.contains("a connection may take "),
                "{message}"
            );
            assert_eq!(capacity.connections, capacity.limiting[0].connections);
        }
    }

    #[test]
    fn limits_that_are_too_low_still_allow_one_connection() {
        let full = Limits { mappings: Some(40_000), ..usual() };
        assert_eq!(machine(full, 5).capacity(1_024, REQUIREMENTS).connections, 1);
    }

    #[test]
    fn unreadable_limits_lower_nothing() {
        let threads = ThreadLimit::all(&Limits::default());
        let unknown = SystemLimits { threads, descriptors: None, memory: Vec::new() };
        assert_eq!(unknown.capacity(usize::MAX, REQUIREMENTS).connections, usize::MAX);
    }
}
