//! Capacity of parked connections: the threads that they share, instead of one each.
//!
//! The failure story: each write that blocks takes a thread and a descriptor. If they were not counted,
//! clients that do not read would take the descriptors that the limit of connections promises to others.

use super::{DESCRIPTORS, LimitingFactor, Requirements, SystemLimits};

/// Threads that serve connections, and that a parked connection does not have.
#[derive(Clone, Copy, Debug)]
pub struct Parking {
    /// Threads that serve connections with input, in addition to the acceptors.
    pub workers: usize,
    /// Descriptors that acceptors and workers open when they start.
    pub descriptors: u64,
    /// The most threads for writes that block. Each has a descriptor.
    pub writers: usize,
    /// How many cancelled writers may not have ended yet when others take their places.
    pub ending: usize,
}

impl Parking {
    /// The threads of this many writers, and of those before them that end; as many descriptors.
    pub fn threads_of(&self, writers: usize) -> usize {
        writers.saturating_add(writers.min(self.ending))
    }

    /// How many writers there can be with this many threads.
    pub(super) fn writers_with(&self, threads: usize) -> usize {
        threads.saturating_sub(self.ending).max(threads / 2)
    }
}

impl Requirements {
    /// How many writers `requested` connections can have: each at most one.
    pub(super) fn writers_wanted(&self, requested: usize) -> usize {
        self.parking.map_or(0, |parking| parking.writers.min(requested).max(1))
    }

    /// Threads that are no connection's own.
    pub fn shared_threads(&self, writers: usize) -> usize {
        let parking = self
            .parking
            .map_or(0, |parking| parking.workers.saturating_add(parking.threads_of(writers)));
        parking.saturating_add(self.acceptors)
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
        let Some(parking) = requirements.parking else { return Vec::new() };
        let wanted = requirements.writers_wanted(requested);
        let share = if requirements.tasks_per_connection > 0 { 4 } else { 1 };
        let by_threads = self.threads.iter().map(|ceiling| {
            let left = ceiling.threads.saturating_sub(requirements.shared_threads(0));
            let all = requested.saturating_mul(requirements.tasks_per_connection);
            let all = all.saturating_add(requirements.shared_threads(wanted));
            LimitingFactor {
                limit: ceiling.limit,
                value: ceiling.value,
                allowed: parking.writers_with(left / share),
                sufficient: ceiling.value_for(all as u64),
                each: 0,
            }
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
                allowed: parking.writers_with(usize::try_from(left / 4).unwrap_or(usize::MAX)),
                sufficient: all,
                each: 0,
            }
        });
        let by_memory = self.memory.iter().map(|budget| LimitingFactor {
            allowed: parking.writers_with(budget.quarter_of_threads(requirements)),
            each: 0,
            ..budget.limiting_factor(requested, &requirements.with_writers(wanted))
        });
        let (own, shared) = by_threads.partition::<Vec<_>, _>(|_| share == 1);
        let shared = shared.into_iter().chain(by_descriptors).chain(by_memory);
        let mut limiting: Vec<LimitingFactor> = own
            .into_iter()
            .chain(shared.filter(|factor| is_too_low(factor.limit)))
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

    const PARKING: Parking = Parking { workers: 0, descriptors: 0, writers: 256, ending: 64 };

    const PARKED: Requirements =
        Requirements { parking: Some(PARKING), tasks_per_connection: 0, ..REQUIREMENTS };

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
        // 10 open, 16 reserved; a connection that is about to be rejected per acceptor; those of workers and
        // writers, also of writers that end.
        let parking = Some(Parking { workers: 3, descriptors: 7, ..PARKING });
        let requirements = Requirements { acceptors: 2, parking, ..PARKED };
        let capacity = machine(USUAL, 20_000).capacity(50_000, requirements);
        assert_eq!(capacity.connections, 20_000 - 10 - 16 - 2 - 7 - 256 - 64);
    }

    #[test]
    fn where_few_descriptors_are_left_writers_get_a_quarter() {
        let Capacity { connections, writers, limiting, limiting_writers, .. } =
            machine(USUAL, 64).capacity(1_024, PARKED);
        // 37 are left, and each writer takes another one while the one before it ends.
        assert_eq!((connections, writers), (29, 4));
        assert_eq!(
            messages(&limiting),
            ["RLIMIT_NOFILE is 64, enough for 29; raise it with `ulimit -n 1371`"]
        );
        assert_eq!(
            messages(&limiting_writers),
            ["RLIMIT_NOFILE is 64, enough for 4; raise it with `ulimit -n 1371`"]
        );
        let capacity = machine(USUAL, 1_371).capacity(1_024, PARKED);
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

    #[test]
    fn connections_with_tasks_of_their_own_share_the_threads_with_writers() {
        let requirements = Requirements { tasks_per_connection: 1, ..PARKED };
        let capacity = machine(USUAL, 100_000).capacity(1_000, requirements);
        assert_eq!((capacity.connections, capacity.writers), (1_000, 256));
        let capacity = machine(USUAL, 100_000).capacity(10_000, requirements);
        assert_eq!((capacity.connections, capacity.writers), (8_046 - 1 - 256 - 64, 256));
        let few = ThreadLimits { cgroup_pids: Some((200, 10)), ..USUAL };
        let capacity = machine(few, 100_000).capacity(10_000, requirements);
        let threads = ThreadLimit::of(&few).threads;
        assert_eq!(capacity.connections + 2 * capacity.writers + 1, threads);
        assert_eq!(capacity.writers, (threads - 1) / 4 / 2);
    }

    #[test]
    fn writers_fit_into_their_threads_with_those_before_them_that_end() {
        for threads in 0..500 {
            let writers = PARKING.writers_with(threads);
            assert!(PARKING.threads_of(writers) <= threads, "{writers} with {threads}");
            assert!(PARKING.threads_of(writers + 1) > threads, "{writers} with {threads}");
        }
    }
}
