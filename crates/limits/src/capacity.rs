//! Capacity: how many connections the limits of the process allow, and which limit to raise for more.
//!
//! A connection takes a descriptor, threads and memory; one that is parked while it waits takes no
//! thread. `budget` computes the memory, `parking` what parked connections share.

mod budget;
mod parking;

use std::fmt;

use crate::memory::MemoryLimits;
use crate::threads::{CGROUP, MAP_COUNT, MAPPINGS_PER_THREAD, ThreadLimit, ThreadLimits};
pub use budget::MemoryShares;
use budget::{ADDRESS_SPACE, CGROUP_MEMORY, DATA, MemoryBudget};
pub use parking::Parking;

/// Descriptors reserved for later use: signals, reopened files, files under `/proc`, and chaos.
pub const DESCRIPTORS_RESERVED: u64 = 16;

/// The descriptor limit.
pub const DESCRIPTORS: &str = "RLIMIT_NOFILE";

/// The resource limits of this process.
#[derive(Debug, Default)]
pub struct SystemLimits {
    /// One entry per limit on threads.
    threads: Vec<ThreadLimit>,
    /// The descriptor limit, and how many descriptors are open.
    pub descriptors: Option<(u64, u64)>,
    /// One entry per limit on memory.
    memory: Vec<MemoryBudget>,
}

/// The requirements of connections.
#[derive(Clone, Copy)]
pub struct Requirements {
    /// Each has a thread. 0 if connections are parked, and none needs a task.
    pub tasks_per_connection: usize,
    /// Threads that accept connections. Each has one that is about to be rejected.
    pub acceptors: usize,
    /// Further threads that serve no connection.
    pub other_threads: usize,
    /// Stack of a thread, in bytes.
    pub stack_bytes: u64,
    /// The maximum memory of one connection for its own buffers.
    pub own_bytes: u64,
    /// Memory that each connection adds to the buffers that all share.
    pub pooled_bytes: u64,
    /// The threads that connections share; `None` if each has its own.
    pub parking: Option<Parking>,
}

/// How many connections are possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// As many as requested, or as many as fit; at least 1.
    pub connections: usize,
    /// The limits that are too low for the request, the lowest first.
    pub limiting: Vec<LimitingFactor>,
    /// How memory is divided among connections.
    pub shares: MemoryShares,
    /// Connections that may wait for their clients to read: as many as requested, or as fit into a quarter of the
    /// memory; at least 1. 0 if connections are not parked.
    pub blocked: usize,
}

/// A limit that allows fewer connections than requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitingFactor {
    /// Its name, such as `RLIMIT_NOFILE`.
    pub limit: &'static str,
    /// Its value.
    pub value: u64,
    /// How many it allows.
    pub allowed: usize,
    /// The value that would allow all requested ones.
    pub sufficient: u64,
    /// How much of it a connection takes, unless that is one descriptor or the connection's tasks.
    pub each: u64,
}

impl SystemLimits {
    /// Reads the limits. `open`: how many descriptors are open. `reads_symbols`: whether backtraces may
    /// be printed, which takes memory once.
    pub fn read(open: u64, reads_symbols: bool) -> SystemLimits {
        SystemLimits {
            threads: ThreadLimit::all(&ThreadLimits::read()),
            descriptors: crate::descriptors().map(|limit| (limit, open)),
            memory: budgets(reads_symbols),
        }
    }

    /// Capacity for `requested` connections, or for as many as fit.
    pub fn capacity(&self, requested: usize, requirements: Requirements) -> Capacity {
        let requirements = requirements.fitting(self);
        let mut limiting: Vec<LimitingFactor> = self
            .factors(requested, &requirements)
            // Always allow one client: the kernel's own error is a better report of such a low
            // limit.
            .map(|limiting| LimitingFactor { allowed: limiting.allowed.max(1), ..limiting })
            .filter(|limiting| limiting.allowed < requested)
            .collect();
        limiting.sort_by_key(|limiting| limiting.allowed);
        let connections = limiting.first().map_or(requested, |limiting| limiting.allowed);
        let shares = budget::shares(&self.memory, connections, &requirements);
        let blocked = requirements.parking.map_or(0, |parking| parking.blocked);
        Capacity { connections, limiting, shares, blocked }
    }

    /// How many connections each limit allows.
    fn factors(
        &self,
        requested: usize,
        requirements: &Requirements,
    ) -> impl Iterator<Item = LimitingFactor> {
        let each = requirements.tasks_per_connection;
        let shared = requirements.shared_threads();
        let tasks = requested.saturating_mul(each).saturating_add(shared);
        let by_threads = self.threads.iter().map(move |ceiling| LimitingFactor {
            limit: ceiling.limit,
            value: ceiling.value,
            allowed: ceiling.threads.saturating_sub(shared).checked_div(each).unwrap_or(usize::MAX),
            sufficient: ceiling.value_for(tasks as u64),
            each: 0,
        });
        let by_descriptors = self.descriptors.map(|(value, open)| {
            let taken = requirements.descriptors(open);
            LimitingFactor {
                limit: DESCRIPTORS,
                value,
                allowed: usize::try_from(value.saturating_sub(taken)).unwrap_or(usize::MAX),
                sufficient: taken.saturating_add(requested as u64),
                each: 0,
            }
        });
        let by_memory =
            self.memory.iter().map(move |budget| budget.limiting_factor(requested, requirements));
        by_threads.chain(by_descriptors).chain(by_memory)
    }
}

impl Requirements {
    /// Descriptors that are no connection's, if `open` are open.
    fn descriptors(&self, open: u64) -> u64 {
        let parking = self.parking.map_or(0, |parking| parking.descriptors);
        open.saturating_add(DESCRIPTORS_RESERVED + self.acceptors as u64).saturating_add(parking)
    }
}

fn budgets(reads_symbols: bool) -> Vec<MemoryBudget> {
    let text = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let [receive, send] = ["tcp_rmem", "tcp_wmem"].map(|name| text(name).unwrap_or_default());
    MemoryBudget::each(&MemoryLimits::read(), budget::sockets_max(&receive, &send), reads_symbols)
}

impl fmt::Display for LimitingFactor {
    /// `RLIMIT_NOFILE is 64, enough for 40; raise it with "ulimit -n 1048"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LimitingFactor { limit, value, allowed, sufficient, each } = self;
        write!(f, "{limit} is {value}, enough for {allowed}; ")?;
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
                "a thread takes {MAPPINGS_PER_THREAD} mappings, and one too many would end the process: \
                 raise it with `sysctl {limit}={sufficient}`"
            ),
            _ => write!(f, "raise it with `sysctl {limit}={sufficient}`"),
        }
    }
}

/// One thread per connection, as a plain echo server has it.
#[cfg(test)]
pub(crate) const REQUIREMENTS: Requirements = Requirements {
    tasks_per_connection: 1,
    acceptors: 1,
    other_threads: 40,
    stack_bytes: 256 << 10,
    own_bytes: 80 << 10,
    pooled_bytes: 0,
    parking: None,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryLimit;
    use crate::threads::USUAL;

    /// A system whose mappings allow 8,046 threads, with 10 descriptors open.
    fn machine(limits: ThreadLimits, descriptors: u64) -> SystemLimits {
        let descriptors = Some((descriptors, 10));
        SystemLimits { threads: ThreadLimit::all(&limits), descriptors, memory: Vec::new() }
    }

    #[test]
    fn a_request_within_the_limits_is_not_lowered() {
        let capacity = machine(USUAL, 20_000).capacity(1_024, REQUIREMENTS);
        let shares = MemoryShares::default();
        let limiting = Vec::new();
        let expected = Capacity { connections: 1_024, limiting, shares, blocked: 0 };
        assert_eq!(capacity, expected);
    }

    #[test]
    fn a_descriptor_limit_is_reported_with_the_value_that_would_be_enough() {
        let capacity = machine(USUAL, 64).capacity(1_024, REQUIREMENTS);
        assert_eq!(capacity.connections, 64 - 10 - 16 - 1);
        let messages: Vec<String> =
            capacity.limiting.iter().map(LimitingFactor::to_string).collect();
        assert_eq!(
            messages,
            ["RLIMIT_NOFILE is 64, enough for 37; raise it with `ulimit -n 1051`"]
        );
        assert_eq!(machine(USUAL, 1_051).capacity(1_024, REQUIREMENTS).connections, 1_024);
    }

    #[test]
    fn mappings_limit_before_the_abort_and_all_limits_are_reported_at_once() {
        let capacity = machine(USUAL, 9_000).capacity(10_000, REQUIREMENTS);
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
        let raised = ThreadLimits { max_map_count: Some(40_588), ..USUAL };
        assert_eq!(machine(raised, 10_027).capacity(10_000, REQUIREMENTS).connections, 10_000);
    }

    #[test]
    fn a_handler_with_two_tasks_per_connection_has_half_the_capacity() {
        let requirements = Requirements { tasks_per_connection: 2, acceptors: 2, ..REQUIREMENTS };
        let capacity = machine(USUAL, 20_000).capacity(10_000, requirements);
        assert_eq!(capacity.connections, (8_046 - 2) / 2);
    }

    #[test]
    fn every_limit_has_its_remedy() {
        for (limits, remedy) in [
            (ThreadLimits { nproc: Some(100), ..USUAL }, "`ulimit -u "),
            (ThreadLimits { cgroup_pids: Some((100, 50)), ..USUAL }, "TasksMax="),
            (ThreadLimits { threads_max: Some(100), ..USUAL }, "`sysctl kernel.threads-max="),
            (ThreadLimits { pid_max: Some(301), ..USUAL }, "`sysctl kernel.pid_max="),
        ] {
            let capacity = machine(limits, 20_000).capacity(1_024, REQUIREMENTS);
            assert!(capacity.limiting[0].to_string().contains(remedy), "{:?}", capacity.limiting);
        }
    }

    #[test]
    fn memory_has_its_remedies_and_says_what_a_connection_takes() {
        let limit = Some(MemoryLimit { bytes: 64 << 20, taken: 2 << 20 });
        for (limits, remedy) in [
            (MemoryLimits { cgroup: limit, ..MemoryLimits::default() }, "(MemoryMax= of a systemd"),
            (MemoryLimits { address_space: limit, ..MemoryLimits::default() }, "`ulimit -v "),
            (MemoryLimits { data: limit, ..MemoryLimits::default() }, "`ulimit -d "),
        ] {
            let memory = MemoryBudget::each(&limits, 10 << 20, false);
            let capacity =
                SystemLimits { memory, ..machine(USUAL, 20_000) }.capacity(1_024, REQUIREMENTS);
            let message = capacity.limiting[0].to_string();
            assert!(
                message.contains(remedy) && message.contains("a connection may take "),
                "{message}"
            );
            assert_eq!(capacity.connections, capacity.limiting[0].allowed);
        }
    }

    #[test]
    fn limits_that_are_too_low_still_allow_one_connection() {
        let full = ThreadLimits { mappings: Some(40_000), ..USUAL };
        assert_eq!(machine(full, 5).capacity(1_024, REQUIREMENTS).connections, 1);
    }

    #[test]
    fn unreadable_limits_lower_nothing() {
        let threads = ThreadLimit::all(&ThreadLimits::default());
        let unknown = SystemLimits { threads, descriptors: None, memory: Vec::new() };
        assert_eq!(unknown.capacity(usize::MAX, REQUIREMENTS).connections, usize::MAX);
    }
}
