//! Capacity check: how many connections the process limits allow, computed before the first one.
//!
//! The failure story: the acceptor survives the error of one descriptor or thread too many, but then has
//! no room for anything else; and one memory mapping too many ends the process. So the limits are read
//! once, when the server opens. A setting beyond them is lowered to what fits, and at that number
//! clients are rejected as at any other limit. `echown-limits` does the calculation.

use echown_limits::{Capacity, DESCRIPTORS, DESCRIPTORS_RESERVED, Parking, Requirements};

use super::ServerSettings;
use super::bind::{DESCRIPTORS_PER_ACCEPTOR, DESCRIPTORS_PER_WAIT};
use crate::echo::Handler;
use crate::pool::{KEEP_IDLE_DEFAULT, STACK_BYTES_DEFAULT};
use crate::report::Plural;

/// Threads that serve no client: main, signals, log, reports, and the idle threads of the pool.
const OTHER_THREADS: usize = 8 + 2 * KEEP_IDLE_DEFAULT;

/// What the program opens and starts in addition to the server, and not before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reserved {
    pub(crate) descriptors: u64,
    pub(crate) threads: usize,
    /// Connections of the server to itself.
    pub(crate) probes: usize,
}

impl std::ops::Add for Reserved {
    type Output = Reserved;

    fn add(self, other: Reserved) -> Reserved {
        Reserved {
            descriptors: self.descriptors + other.descriptors,
            threads: self.threads + other.threads,
            probes: self.probes + other.probes,
        }
    }
}

/// The requirements of a handler's connections.
pub(super) fn requirements(
    acceptors: usize,
    settings: &ServerSettings,
    handler: &dyn Handler,
    reserved: Reserved,
) -> Requirements {
    let probing = reserved.probes * handler.tasks_per_connection();
    let parking = parking(acceptors, settings);
    // Injected faults happen in tasks of their own.
    let is_parked = parking.is_some() && handler.injector().is_none();
    Requirements {
        tasks_per_connection: if is_parked { 0 } else { handler.tasks_per_connection() },
        parking,
        acceptors,
        other_threads: OTHER_THREADS + reserved.threads + probing,
        stack_bytes: STACK_BYTES_DEFAULT as u64,
        own_bytes: handler.memory(),
        pooled_bytes: handler.pooled_memory(),
    }
}

/// The requirements of parking, if the settings ask for it.
fn parking(acceptors: usize, settings: &ServerSettings) -> Option<Parking> {
    let workers = settings.park?.get();
    // A single worker is the acceptor. Several have an epoll instance together, and wait for it.
    let (workers, descriptors) = match workers {
        1 => (0, 0),
        _ => (workers, (workers as u64).saturating_mul(DESCRIPTORS_PER_WAIT).saturating_add(1)),
    };
    Some(Parking {
        workers: acceptors.saturating_mul(workers),
        descriptors: descriptors.saturating_mul(acceptors as u64),
        blocked: settings.park_blocked.get().saturating_mul(acceptors),
    })
}

/// The most tasks that the server has at a time.
pub(super) fn tasks(
    capacity: &Capacity,
    requirements: &Requirements,
    handler: &dyn Handler,
    reserved: Reserved,
) -> usize {
    let connections = capacity.connections.saturating_mul(requirements.tasks_per_connection);
    let probes = reserved.probes.saturating_mul(handler.tasks_per_connection());
    // A single connection that another process has accepted has a task in place of the acceptor.
    let shared = requirements.shared_threads().max(1);
    connections.saturating_add(shared).saturating_add(probes)
}

/// Checks that connections of this handler can be parked here.
///
/// # Errors
/// They cannot. The message says why.
pub(super) fn check_parking(handler: &dyn Handler) -> Result<(), String> {
    if cfg!(not(target_os = "linux")) {
        return Err("connections are parked in an epoll instance, which only Linux has".into());
    }
    match handler.turns() {
        Some(_) => Ok(()),
        None => {
            let name = handler.name();
            Err(format!("connections of `{name}` cannot be parked: it does not serve in turns"))
        }
    }
}

/// How many descriptors this process has open.
pub(super) fn open_descriptors() -> u64 {
    echown_fd::fd::open_numbers().len() as u64
}

/// Checks, before anything is opened, that the descriptor limit leaves one for a client.
///
/// # Errors
/// The limit is too low. The message contains the requirement and how to raise it.
pub(super) fn check_descriptors(
    acceptors: usize,
    settings: &ServerSettings,
    reserved: Reserved,
) -> Result<(), String> {
    let open = open_descriptors() + reserved.descriptors;
    match echown_limits::descriptors() {
        Some(limit) => check_limit(limit, open, acceptors, settings),
        None => Ok(()),
    }
}

fn check_limit(
    limit: u64,
    open: u64,
    acceptors: usize,
    settings: &ServerSettings,
) -> Result<(), String> {
    // One more for each: the accepted connection that is about to be rejected.
    let by_acceptors = (acceptors as u64).saturating_mul(DESCRIPTORS_PER_ACCEPTOR + 1);
    let by_parking = parking(acceptors, settings).map_or(0, |parking| {
        let waiting = (acceptors as u64).saturating_mul(DESCRIPTORS_PER_WAIT);
        waiting.saturating_add(parking.descriptors)
    });
    let taken = by_acceptors.saturating_add(by_parking).saturating_add(open + DESCRIPTORS_RESERVED);
    if limit > taken {
        return Ok(());
    }
    let needed = taken.saturating_add(1);
    let sufficient = taken.saturating_add(settings.max_connections as u64);
    let noun = Plural(acceptors as u64, "acceptor");
    let fewer = if acceptors > 1 { "use fewer --acceptors, or " } else { "" };
    Err(format!(
        "cannot serve a single client: {DESCRIPTORS} is {limit}, and {noun} and one client need \
         {needed} descriptors; {fewer}raise it with `ulimit -n {sufficient}`"
    ))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use echown_limits::SystemLimits;

    use super::*;
    use crate::echo::Plain;

    #[test]
    fn too_few_descriptors_for_one_client_are_an_error_that_says_how_many_are_enough() {
        let settings = ServerSettings::default();
        assert_eq!(check_limit(26, 4, 1, &settings), Ok(()));
        let error = check_limit(25, 4, 1, &settings).unwrap_err();
        assert_eq!(
            error,
            "cannot serve a single client: RLIMIT_NOFILE is 25, and 1 acceptor and one client need \
             26 descriptors; raise it with `ulimit -n 1049`"
        );
        let error = check_limit(20_000, 4, 100_000, &settings).unwrap_err();
        assert!(error.ends_with("use fewer --acceptors, or raise it with `ulimit -n 501044`"));
        // Parked, it also needs what the acceptor waits with.
        let parked = ServerSettings { park: Some(NonZeroUsize::MIN), ..settings.clone() };
        assert_eq!(check_limit(29, 4, 1, &parked), Ok(()));
        let error = check_limit(28, 4, 1, &parked).unwrap_err();
        assert!(error.contains("1 acceptor and one client need 29 descriptors"), "{error}");
        // A configuration is rejected before anything is opened exactly if it would leave no
        // capacity.
        let mut limits = SystemLimits::default();
        let mut capacity = |limit| {
            limits.descriptors = Some((limit, 8));
            limits.capacity(2, requirements(1, &settings, &Plain, Reserved::default()))
        };
        assert_eq!((capacity(26).connections, capacity(27).connections), (1, 2));
    }

    #[test]
    fn parked_connections_need_threads_only_for_turns() {
        let two = NonZeroUsize::new(2).unwrap();
        let settings = ServerSettings { park: Some(two), ..ServerSettings::default() };
        let reserved = Reserved { probes: 1, ..Reserved::default() };
        let needed = requirements(3, &settings, &Plain, reserved);
        let capacity = SystemLimits::default().capacity(18_000, needed);
        // 3 acceptors with two workers each, and a probe.
        assert_eq!(tasks(&capacity, &needed, &Plain, reserved), 3 + 3 * 2 + 1);
        let descriptors = needed.parking.map(|parking| parking.descriptors);
        assert_eq!(descriptors, Some(3 * (1 + 2 * 3)));
        let unparked = ServerSettings::default();
        let needed = requirements(3, &unparked, &Plain, reserved);
        let capacity = SystemLimits::default().capacity(18_000, needed);
        assert_eq!(tasks(&capacity, &needed, &Plain, reserved), 3 + 18_000 + 1);
    }
}
