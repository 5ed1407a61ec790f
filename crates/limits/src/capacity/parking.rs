//! Capacity of parked connections, which have no thread.
//!
//! The failure story: what could not be sent to a client stays in memory until it reads. If that were not
//! limited, clients that do not read would take the memory that the limit of connections promises to
//! others.

use super::{Requirements, SystemLimits};

/// What parked connections share.
#[derive(Clone, Copy, Debug)]
pub struct Parking {
    /// Threads that serve connections with input, in addition to the acceptors.
    pub workers: usize,
    /// Descriptors that acceptors and workers open when they start.
    pub descriptors: u64,
    /// How many connections may wait for their clients to read, with a buffer each.
    pub blocked: usize,
}

impl Requirements {
    /// Threads that are no connection's own.
    pub fn shared_threads(&self) -> usize {
        self.acceptors.saturating_add(self.parking.map_or(0, |parking| parking.workers))
    }

    /// Memory of the connections that wait for their clients to read.
    pub(super) fn blocked_bytes(&self) -> u64 {
        let blocked = self.parking.map_or(0, |parking| parking.blocked);
        self.own_bytes.saturating_mul(blocked as u64)
    }

    /// The same requirements with as many blocked connections as fit into a quarter of the memory; at least
    /// one.
    pub(super) fn fitting(&self, limits: &SystemLimits) -> Requirements {
        let Some(parking) = self.parking else { return *self };
        let none = Requirements { parking: Some(Parking { blocked: 0, ..parking }), ..*self };
        let quarters = limits.memory.iter().map(|budget| budget.available(&none) / 4);
        let blocked = quarters.min().map_or(parking.blocked, |bytes| {
            let fitting = usize::try_from(bytes / self.own_bytes.max(1)).unwrap_or(usize::MAX);
            parking.blocked.min(fitting).max(1)
        });
        Requirements { parking: Some(Parking { blocked, ..parking }), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::REQUIREMENTS;
    use super::*;
    use crate::threads::{ThreadLimit, ThreadLimits, USUAL};

    const PARKING: Parking = Parking { workers: 0, descriptors: 0, blocked: 1024 };

    const PARKED: Requirements =
        Requirements { parking: Some(PARKING), tasks_per_connection: 0, ..REQUIREMENTS };

    /// A system whose mappings allow 8,046 threads, with 10 descriptors open.
    fn machine(limits: ThreadLimits, descriptors: u64) -> SystemLimits {
        let threads = ThreadLimit::all(&limits);
        SystemLimits { threads, descriptors: Some((descriptors, 10)), memory: Vec::new() }
    }

    #[test]
    fn parked_connections_need_descriptors_and_no_threads() {
        let capacity = machine(USUAL, 20_000).capacity(18_000, PARKED);
        assert_eq!((capacity.connections, capacity.blocked), (18_000, 1024));
        assert_eq!(capacity.limiting, Vec::new());
        assert_eq!(machine(USUAL, 20_000).capacity(18_000, REQUIREMENTS).connections, 8_045);
        // 10 open, 16 reserved; a connection that is about to be rejected per acceptor; those of workers.
        let parking = Some(Parking { workers: 3, descriptors: 7, ..PARKING });
        let requirements = Requirements { acceptors: 2, parking, ..PARKED };
        let capacity = machine(USUAL, 20_000).capacity(50_000, requirements);
        assert_eq!(capacity.connections, 20_000 - 10 - 16 - 2 - 7);
    }

    #[test]
    fn a_thread_limit_lowers_no_parked_connections() {
        let few = ThreadLimits { cgroup_pids: Some((80, 10)), ..USUAL };
        assert_eq!(machine(few, 20_000).capacity(18_000, PARKED).connections, 18_000);
    }

    #[test]
    fn connections_with_tasks_of_their_own_need_threads() {
        let requirements = Requirements { tasks_per_connection: 1, ..PARKED };
        let capacity = machine(USUAL, 100_000).capacity(10_000, requirements);
        assert_eq!(capacity.connections, 8_046 - 1);
    }
}
