//! Memory budget: how many connections fit into the memory limits of the process.
//!
//! The failure story: running out of memory gives no warning. A control group kills the process; at
//! `RLIMIT_AS`, a thread start or any small allocation aborts it. So the maximum memory of a
//! connection is computed in advance: its threads, its buffers, and the kernel's buffers of its
//! socket. If a control group has no room for fully grown socket buffers, their size is limited.
//!
//! The figures were measured with `benches/idle.py` and a control group (Linux 6.18, x86-64, glibc
//! 2.36, a build without optimization, which takes more) and rounded up.
//!
//! # Limits
//!
//! Memory that chaos leaks on purpose is not counted, and neither is memory of a custom handler
//! beyond its stated figure. Without a memory limit of the process, nothing is lowered: other
//! programs share the machine's own memory and swap.

use crate::memory::{MemoryLimit, MemoryLimits};

use super::{LimitingFactor, Requirements};

/// A control group's limit, by its name in version 2.
pub const CGROUP_MEMORY: &str = "cgroup memory.max";

/// Address space.
pub const ADDRESS_SPACE: &str = "RLIMIT_AS";

/// Private writable mappings.
pub const DATA: &str = "RLIMIT_DATA";

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Memory of a thread that runs a task: 25 KiB in the kernel (stack, page tables, the thread itself)
/// and 17 KiB of its own stack, thread-locals and records.
const THREAD_BYTES: u64 = 48 * KIB;

/// Address space of a thread in addition to its stack: a signal stack, guard pages, its first
/// allocations. 16 to 20 KiB were measured.
const THREAD_MAPPED_BYTES: u64 = 32 * KIB;

/// Memory of a connection in addition to threads and buffers: the socket, its file, its records.
const CONNECTION_BYTES: u64 = 8 * KIB;

/// Memory of a parked connection in addition to that: what its thread would have on its stack.
const PARKED_BYTES: u64 = KIB;

/// Memory reserved for everything else: the custody table of all connections, reports, the log, the
/// main thread; and for address space, the space that the pool keeps free next to a new thread's
/// stack.
const RESERVED_BYTES: u64 = 8 * MIB;
const KEPT_BACK_MAPPED_BYTES: u64 = 16 * MIB;

/// One part in this many of a control group's limit is reserved as well, for page cache in use and
/// for the kernel's per-processor counts that are not summed up yet.
const RESERVED_SHARE: u64 = 16;

/// The smallest limit for each of the two buffers of a socket. The announced window is half of it: some
/// Ethernet segments, or half of a loopback segment.
const SOCKET_BUFFER_MIN: u64 = 64 * KIB;

/// The share of one memory limit that is available to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    limit: &'static str,
    /// The value of the limit.
    bytes: u64,
    /// Not available to connections: in use, or reserved.
    taken: u64,
    /// Whether the limit counts the kernel's memory, and mapped memory only once it is touched.
    is_cgroup: bool,
    /// The kernel's maximum for the two buffers of a socket together.
    sockets_max: u64,
}

/// How memory is divided among connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryShares {
    /// Limit for each of the two buffers of a socket. `None`: the kernel decides.
    pub socket_buffer: Option<u64>,
    /// The memory of all connections together for buffers that the handler shares among them.
    /// `None`: no limit.
    pub pooled: Option<u64>,
}

impl MemoryBudget {
    /// One budget per limit; `sockets_max` is the kernel's maximum for the two buffers of a socket
    /// together.
    pub fn each(limits: &MemoryLimits, sockets_max: u64, reads_symbols: bool) -> Vec<MemoryBudget> {
        let symbols = limits.symbols().filter(|_| reads_symbols).unwrap_or_default();
        let budget =
            |limit: &'static str, of: Option<MemoryLimit>, symbols: u64, is_cgroup: bool| {
                let MemoryLimit { bytes, taken } = of?;
                let kept =
                    if is_cgroup { RESERVED_BYTES } else { KEPT_BACK_MAPPED_BYTES } + symbols;
                let share = if is_cgroup { bytes / RESERVED_SHARE } else { 0 };
                let taken = taken.saturating_add(kept).saturating_add(share);
                Some(MemoryBudget { limit, bytes, taken, is_cgroup, sockets_max })
            };
        let limits = [
            budget(CGROUP_MEMORY, limits.cgroup, symbols[0], true),
            budget(ADDRESS_SPACE, limits.address_space, symbols[1], false),
            budget(DATA, limits.data, symbols[2], false),
        ];
        limits.into_iter().flatten().collect()
    }

    /// Bytes available to connections.
    pub(super) fn available(&self, requirements: &Requirements) -> u64 {
        self.bytes.saturating_sub(self.taken).saturating_sub(self.other_threads_bytes(requirements))
    }

    /// Bytes for threads that serve no connection, and for what connections share.
    fn other_threads_bytes(&self, requirements: &Requirements) -> u64 {
        let Requirements { acceptors, other_threads, parking, own_bytes, .. } = *requirements;
        let threads = |count: usize, bytes: u64| bytes.saturating_mul(count as u64);
        let each = self.thread_bytes(requirements);
        let others = threads(acceptors.saturating_add(other_threads), each);
        // The buffers belong to the threads that serve.
        parking.map_or(others, |parking| {
            let further = threads(parking.workers, each + own_bytes);
            let further = further.saturating_add(requirements.blocked_bytes());
            others.saturating_add(threads(acceptors, own_bytes)).saturating_add(further)
        })
    }

    fn thread_bytes(&self, requirements: &Requirements) -> u64 {
        if self.is_cgroup { THREAD_BYTES } else { requirements.stack_bytes + THREAD_MAPPED_BYTES }
    }

    /// The maximum memory of a connection, except for the buffers of its socket.
    fn bytes_without_sockets(&self, requirements: &Requirements) -> u64 {
        let Requirements { own_bytes, pooled_bytes, tasks_per_connection, .. } = *requirements;
        if tasks_per_connection == 0 {
            return (CONNECTION_BYTES + PARKED_BYTES).saturating_add(pooled_bytes);
        }
        let threads = self.thread_bytes(requirements).saturating_mul(tasks_per_connection as u64);
        [CONNECTION_BYTES, own_bytes, pooled_bytes].into_iter().fold(threads, u64::saturating_add)
    }

    /// The limit for both buffers of a socket such that `requested` connections fit if possible; `None` where
    /// no limit is required.
    fn socket_limit(&self, requested: usize, requirements: &Requirements) -> Option<u64> {
        if !self.is_cgroup {
            return None;
        }
        let share = self.available(requirements) / (requested as u64).max(1);
        let for_sockets = share.saturating_sub(self.bytes_without_sockets(requirements));
        (for_sockets < self.sockets_max).then(|| for_sockets.max(2 * SOCKET_BUFFER_MIN))
    }

    fn per_connection(&self, requested: usize, requirements: &Requirements) -> u64 {
        let without_limit = if self.is_cgroup { self.sockets_max } else { 0 };
        self.bytes_without_sockets(requirements)
            .saturating_add(self.socket_limit(requested, requirements).unwrap_or(without_limit))
    }

    /// How many connections this limit allows.
    pub fn limiting_factor(&self, requested: usize, requirements: &Requirements) -> LimitingFactor {
        let each = self.per_connection(requested, requirements);
        let allowed = self.available(requirements) / each;
        let share = if self.is_cgroup { self.bytes / RESERVED_SHARE } else { 0 };
        let others = (self.taken - share).saturating_add(self.other_threads_bytes(requirements));
        let sufficient = (requested as u64).saturating_mul(each).saturating_add(others);
        // The inverse of reserving a share.
        let share = if self.is_cgroup { sufficient.div_ceil(RESERVED_SHARE - 1) } else { 0 };
        // Memory in use differs a little from run to run.
        let sufficient = sufficient.saturating_add(share).div_ceil(MIB).saturating_add(1) * MIB;
        LimitingFactor {
            limit: self.limit,
            value: self.bytes,
            allowed: usize::try_from(allowed).unwrap_or(usize::MAX),
            sufficient,
            each,
        }
    }

    /// How memory is divided among this many connections.
    fn shares(&self, connections: usize, requirements: &Requirements) -> MemoryShares {
        let each = self.per_connection(connections, requirements) - requirements.pooled_bytes;
        let pooled =
            self.available(requirements).saturating_sub(each.saturating_mul(connections as u64));
        MemoryShares {
            socket_buffer: self.socket_limit(connections, requirements).map(|both| both / 2),
            pooled: (requirements.pooled_bytes > 0).then_some(pooled),
        }
    }
}

/// How memory is divided so that every limit is respected.
pub fn shares(
    budgets: &[MemoryBudget],
    connections: usize,
    requirements: &Requirements,
) -> MemoryShares {
    let lower = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
    budgets.iter().map(|budget| budget.shares(connections, requirements)).fold(
        MemoryShares::default(),
        |all, one| MemoryShares {
            socket_buffer: lower(all.socket_buffer, one.socket_buffer),
            pooled: lower(all.pooled, one.pooled),
        },
    )
}

/// The kernel's maximum for the two buffers of a TCP socket together. `tcp_rmem` and `tcp_wmem` are
/// the contents of `/proc/sys/net/ipv4/tcp_rmem` and `tcp_wmem`: three numbers, the last of which is
/// the maximum.
pub fn sockets_max(tcp_rmem: &str, tcp_wmem: &str) -> u64 {
    /// Used if the files cannot be read: Linux's defaults for a machine with much memory.
    const DEFAULTS: [u64; 2] = [6 * MIB, 4 * MIB];
    let most = |text: &str| text.split_whitespace().nth(2).and_then(|most| most.parse().ok());
    most(tcp_rmem).unwrap_or(DEFAULTS[0]) + most(tcp_wmem).unwrap_or(DEFAULTS[1])
}

#[cfg(test)]
mod tests {
    use super::super::{Parking, REQUIREMENTS, SystemLimits};
    use super::*;

    const SOCKETS_MAX: u64 = 10 * MIB;

    fn limit(mib: u64) -> Option<MemoryLimit> {
        Some(MemoryLimit { bytes: mib * MIB, taken: 2 * MIB })
    }

    fn cgroup(mib: u64) -> MemoryBudget {
        let limits = MemoryLimits { cgroup: limit(mib), ..MemoryLimits::default() };
        MemoryBudget::each(&limits, SOCKETS_MAX, false)[0]
    }

    fn address_space(mib: u64) -> MemoryBudget {
        let limits = MemoryLimits { address_space: limit(mib), ..MemoryLimits::default() };
        MemoryBudget::each(&limits, SOCKETS_MAX, false)[0]
    }

    #[test]
    fn a_small_group_limits_sockets_first_and_then_connections() {
        let budget = cgroup(64);
        let limiting = budget.limiting_factor(1024, &REQUIREMENTS);
        // 64 less 2 in use, 8 and a 16th reserved, and 41 threads; 264 KiB each.
        assert_eq!((limiting.allowed, limiting.each), (186, 264 * KIB));
        let shares = shares(&[budget], limiting.allowed, &REQUIREMENTS);
        assert_eq!(shares.socket_buffer.unwrap() / KIB, 64);
        assert_eq!(shares.pooled, None);
    }

    #[test]
    fn a_large_group_has_room_for_all_with_larger_buffers_or_without_a_limit() {
        let budget = cgroup(2048);
        assert!(budget.limiting_factor(1024, &REQUIREMENTS).allowed >= 1024);
        let held = shares(&[budget], 1024, &REQUIREMENTS).socket_buffer.unwrap();
        assert!((512 * KIB..SOCKETS_MAX / 2).contains(&held), "{held}");
        let budget = cgroup(64 * 1024);
        assert!(budget.limiting_factor(1024, &REQUIREMENTS).allowed >= 1024);
        assert_eq!(shares(&[budget], 1024, &REQUIREMENTS), MemoryShares::default());
    }

    #[test]
    fn the_shares_stay_within_the_limit() {
        let broadcast = Requirements {
            tasks_per_connection: 2,
            own_bytes: 700 * KIB,
            pooled_bytes: 256 * KIB,
            ..REQUIREMENTS
        };
        for requirements in [REQUIREMENTS, broadcast] {
            for mib in [32, 64, 200, 1000, 5000, 100_000] {
                let budget = cgroup(mib);
                let connections = budget.limiting_factor(1024, &requirements).allowed.min(1024);
                let MemoryShares { socket_buffer, pooled } =
                    shares(&[budget], connections, &requirements);
                let sockets = socket_buffer.map_or(SOCKETS_MAX, |one| 2 * one);
                let each = THREAD_BYTES * requirements.tasks_per_connection as u64
                    + CONNECTION_BYTES
                    + requirements.own_bytes
                    + sockets;
                let all = each * connections as u64 + pooled.unwrap_or(0);
                let most = mib * MIB - 2 * MIB - RESERVED_BYTES - mib * MIB / RESERVED_SHARE;
                assert!(all <= most, "{all} of {most} with {mib} MiB");
                let least = requirements.pooled_bytes * connections as u64;
                assert!(pooled.unwrap_or(0) >= least, "{pooled:?} with {mib} MiB");
            }
        }
    }

    #[test]
    fn address_space_counts_whole_stacks_and_no_sockets() {
        let budget = address_space(200);
        let limiting = budget.limiting_factor(10_000, &REQUIREMENTS);
        assert_eq!(limiting.each, (256 + 32 + 8 + 80) * KIB);
        assert_eq!(limiting.allowed as u64, (182 * MIB - 41 * 288 * KIB) / limiting.each);
        assert_eq!(shares(&[budget], limiting.allowed, &REQUIREMENTS), MemoryShares::default());
    }

    #[test]
    fn parked_connections_take_no_threads_and_blocked_ones_have_their_buffers() {
        let parking = Parking { workers: 0, descriptors: 0, blocked: 256 };
        let requirements =
            Requirements { parking: Some(parking), tasks_per_connection: 0, ..REQUIREMENTS };
        for mib in [64, 200, 1000, 5000] {
            let limits = MemoryLimits { cgroup: limit(mib), ..MemoryLimits::default() };
            let memory = MemoryBudget::each(&limits, SOCKETS_MAX, false);
            let limits = SystemLimits { memory, ..SystemLimits::default() };
            let capacity = limits.capacity(100_000, requirements);
            let sockets = capacity.shares.socket_buffer.map_or(SOCKETS_MAX, |one| 2 * one);
            let each = CONNECTION_BYTES + PARKED_BYTES + sockets;
            let blocked = requirements.own_bytes * capacity.blocked as u64;
            let all = each * capacity.connections as u64 + blocked;
            let most = mib * MIB - 2 * MIB - RESERVED_BYTES - mib * MIB / RESERVED_SHARE;
            assert!(all <= most, "{all} of {most} with {mib} MiB: {capacity:?}");
            assert!(mib < 1000 || capacity.blocked == 256, "{capacity:?}");
            let without = limits.capacity(100_000, REQUIREMENTS).connections;
            assert!(mib == 64 || capacity.connections > without, "{without}: {capacity:?}");
        }
    }

    #[test]
    fn a_limit_that_is_raised_as_advised_is_enough() {
        for requested in [1, 300, 5000, 1_000_000] {
            for budget in [cgroup(64), address_space(64)] {
                let sufficient = budget.limiting_factor(requested, &REQUIREMENTS).sufficient;
                let limit = Some(MemoryLimit { bytes: sufficient, taken: 2 * MIB });
                let raised = if budget.is_cgroup {
                    MemoryLimits { cgroup: limit, ..MemoryLimits::default() }
                } else {
                    MemoryLimits { address_space: limit, ..MemoryLimits::default() }
                };
                let raised = MemoryBudget::each(&raised, SOCKETS_MAX, false)[0];
                assert!(
                    raised.limiting_factor(requested, &REQUIREMENTS).allowed >= requested,
                    "{requested}: {raised:?}"
                );
            }
        }
    }

    #[test]
    fn memory_for_symbols_is_kept_where_backtraces_may_be_printed_and_fit() {
        let left = |mib: u64, reads_symbols: bool| {
            let limits = MemoryLimits { cgroup: limit(mib), ..MemoryLimits::default() };
            MemoryBudget::each(&limits, SOCKETS_MAX, reads_symbols)[0].available(&REQUIREMENTS)
        };
        assert_eq!(left(1000, false) - left(1000, true), 64 * MIB);
        assert_eq!(left(100, false), left(100, true), "they are not read");
    }

    #[test]
    fn the_socket_maximum_is_the_last_of_three_numbers() {
        assert_eq!(sockets_max("4096\t131072\t6000000\n", "4096\t16384\t4000000\n"), 10_000_000);
        assert_eq!(sockets_max("", "nonsense"), 10 * MIB);
    }

    #[test]
    fn nothing_is_lowered_without_a_limit() {
        assert!(MemoryBudget::each(&MemoryLimits::default(), SOCKETS_MAX, true).is_empty());
        assert_eq!(shares(&[], 1024, &REQUIREMENTS), MemoryShares::default());
    }
}
