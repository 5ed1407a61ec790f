//! Capacity of parked connections: the threads that they share, instead of one each.
//!
//! The failure story: each write that blocks takes a thread and a descriptor. If they were not counted,
//! clients that do not read would take the descriptors that the limit of connections promises to others.

use super::{DESCRIPTORS, LimitingFactor, Requirements, SystemLimits};

/// Threads that serve connections, and that a parked connection does not have.
#[derive(Clone, Copy, Debug)]
pub struct Parking {
    /// Threads that serve connections with input, in addition to the acceptors. Each has a descriptor.
    pub workers: usize,
    /// The most threads for writes that block. Each has a descriptor.
    pub writers: usize,
}

impl Parking {
    /// Its descriptors with this many acceptors and writers: each thread that serves has one of an epoll.
    pub fn descriptors(&self, acceptors: usize, writers: usize) -> u64 {
        [acceptors, self.workers, writers].iter().fold(0, |sum, more| sum + *more as u64)
    }
}

impl Requirements {
    /// How many writers `requested` connections can have: each at most one.
    pub(super) fn writers_wanted(&self, requested: usize) -> usize {
        self.parking.map_or(0, |parking| parking.writers.min(requested).max(1))
    }

    /// The same requirements with another number of writers.
    pub(super) fn with_writers(&self, writers: usize) -> Requirements {
        let parking = self.parking.map(|parking| Parking { writers, ..parking });
        Requirements { parking, ..*self }
    }
}

impl SystemLimits {
    /// The limits that are too low for the writers that `requested` connections want, the lowest first.
    /// They get the threads that are left; where connections and writers do not both fit, writers get a
    /// quarter.
    pub(super) fn limiting_writers(
        &self,
        requested: usize,
        requirements: &Requirements,
    ) -> Vec<LimitingFactor> {
        let Some(Parking { workers, .. }) = requirements.parking else { return Vec::new() };
        let wanted = requirements.writers_wanted(requested);
        let taken = requirements.acceptors.saturating_add(workers);
        let by_threads = self.threads.iter().map(|ceiling| LimitingFactor {
            limit: ceiling.limit,
            value: ceiling.value,
            allowed: ceiling.threads.saturating_sub(taken),
            sufficient: ceiling.value_for(taken.saturating_add(wanted) as u64),
            each: 0,
        });
        let is_too_low = |limit: &str| {
            let mut others = self.factors(requested, requirements, wanted);
            others.any(|factor| factor.limit == limit && factor.allowed < requested)
        };
        let by_descriptors = self.descriptors.iter().map(|(value, open)| {
            let left = value.saturating_sub(requirements.descriptors(*open, 0));
            let all = requirements.descriptors(*open, wanted).saturating_add(requested as u64);
            LimitingFactor {
                limit: DESCRIPTORS,
                value: *value,
                allowed: usize::try_from(left / 4).unwrap_or(usize::MAX),
                sufficient: all,
                each: 0,
            }
        });
        let by_memory =
            self.memory.iter().map(|budget| budget.writers(requested, wanted, requirements));
        let shared = by_descriptors.chain(by_memory).filter(|factor| is_too_low(factor.limit));
        let mut limiting: Vec<LimitingFactor> = by_threads
            .chain(shared)
            .map(|factor| LimitingFactor { allowed: factor.allowed.max(1), ..factor })
            .filter(|factor| factor.allowed < wanted)
            .collect();
        limiting.sort_by_key(|factor| factor.allowed);
        limiting
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Capacity, REQUIREMENTS};
    use super::*;
    use crate::threads::{ThreadLimit, ThreadLimits, USUAL};

    const PARKED: Requirements =
        Requirements { parking: Some(Parking { workers: 0, writers: 256 }), ..REQUIREMENTS };

    /// A system whose mappings allow 8,046 threads, with 10 descriptors open.
    fn machine(limits: ThreadLimits, descriptors: u64) -> SystemLimits {
        let threads = ThreadLimit::all(&limits);
        SystemLimits { threads, descriptors: Some((descriptors, 10)), memory: Vec::new() }
    }

    fn messages(limiting: &[LimitingFactor]) -> Vec<String> {
        limiting.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn parked_connections_need_descriptors_and_no_threads() {
        let capacity = machine(USUAL, 20_000).capacity(18_000, PARKED);
        assert_eq!((capacity.connections, capacity.writers), (18_000, 256));
        assert_eq!((capacity.limiting, capacity.limiting_writers), (Vec::new(), Vec::new()));
        assert_eq!(machine(USUAL, 20_000).capacity(18_000, REQUIREMENTS).connections, 8_045);
        // 10 open, 16 reserved; a connection that is about to be rejected and an epoll per acceptor; 3
        // more workers and the writers have one each.
        let parking = Some(Parking { workers: 3, writers: 256 });
        let requirements = Requirements { acceptors: 2, parking, ..REQUIREMENTS };
        let capacity = machine(USUAL, 20_000).capacity(50_000, requirements);
        assert_eq!(capacity.connections, 20_000 - 10 - 16 - 2 * 2 - 3 - 256);
    }

    #[test]
    fn where_few_descriptors_are_left_writers_get_a_quarter() {
        let Capacity { connections, writers, limiting, limiting_writers, .. } =
            machine(USUAL, 64).capacity(1_024, PARKED);
        // 36 are left.
        assert_eq!((connections, writers), (27, 9));
        assert_eq!(
            messages(&limiting),
            ["RLIMIT_NOFILE is 64, enough for 27; raise it with `ulimit -n 1308`"]
        );
        assert_eq!(
            messages(&limiting_writers),
            ["RLIMIT_NOFILE is 64, enough for 9; raise it with `ulimit -n 1308`"]
        );
        let capacity = machine(USUAL, 1_308).capacity(1_024, PARKED);
        assert_eq!((capacity.connections, capacity.writers), (1_024, 256));
        assert!(capacity.limiting_writers.is_empty());
    }

    #[test]
    fn a_thread_limit_lowers_writers_and_no_connections() {
        let few = ThreadLimits { cgroup_pids: Some((80, 10)), ..USUAL };
        let capacity = machine(few, 20_000).capacity(18_000, PARKED);
        assert_eq!(capacity.connections, 18_000);
        assert!((1..70).contains(&capacity.writers), "{}", capacity.writers);
        let [message] = &messages(&capacity.limiting_writers)[..] else { panic!("one limit") };
        assert!(message.starts_with("cgroup pids.max is 80, enough for "), "{message}");
        let sufficient = capacity.limiting_writers[0].sufficient;
        let raised = ThreadLimits { cgroup_pids: Some((sufficient, 10)), ..USUAL };
        assert_eq!(machine(raised, 20_000).capacity(18_000, PARKED).writers, 256);
    }

    #[test]
    fn writers_are_no_more_than_connections_and_at_least_one() {
        assert_eq!(machine(USUAL, 20_000).capacity(10, PARKED).writers, 10);
        let capacity = machine(USUAL, 30).capacity(10, PARKED);
        assert_eq!((capacity.connections, capacity.writers), (1, 1));
    }
}
