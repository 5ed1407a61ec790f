//! How many connections fit into this process, known before the first one comes.
//!
//! The failure story: a descriptor or a thread too many is an error that the acceptor survives, but
//! it has then no room for anything else, and one memory mapping too many ends the process (see
//! `pool::ceiling`). So the limits are read once, when the server opens; what is asked for beyond
//! them is lowered to what fits, and at that number clients are refused as at any other.
//!
//! What connections take of the memory is reckoned in `memory`.

use std::fmt;

use super::bind::DESCRIPTORS_PER_ACCEPTOR;
use super::memory::{self, ADDRESS_SPACE, Budget, CGROUP_MEMORY, DATA, Shares};
use crate::echo::Memory;
use crate::pool::ceiling::{CGROUP, Ceiling, MAP_COUNT};
use crate::report::Count;
use crate::sys;
use crate::sys::limits::Limits;
use crate::sys::memory::MemoryLimits;

/// Descriptors that are kept for what is opened later: signals, files that are opened anew, what is
/// looked at under `/proc`, and the reserve of chaos.
const DESCRIPTORS_KEPT_BACK: u64 = 16;

/// The limit that threads have nothing to do with.
const DESCRIPTORS: &str = "RLIMIT_NOFILE";

/// What this process may have.
pub(super) struct Machine {
    /// By each limit of threads.
    threads: Vec<Ceiling>,
    /// Descriptors that may be open, and those that are.
    descriptors: Option<(u64, u64)>,
    /// By each limit of memory.
    memory: Vec<Budget>,
}

/// Threads that serve nobody: those of main, signals, log and reports, and those that the pool keeps
/// for the next job.
const OTHER_THREADS: usize = 8 + 2 * crate::pool::KEEP_IDLE_DEFAULT;

/// What connections need.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    pub(super) tasks_per_connection: usize,
    /// Each has a thread, and in its hand a connection that it has not refused yet.
    pub(super) acceptors: usize,
    /// Stack of a thread, in bytes.
    pub(super) stack_bytes: u64,
    /// What the style takes for each connection.
    pub(super) memory: Memory,
}

impl Needs {
    /// Threads that serve no connection, at the most.
    pub(super) fn other_threads(&self) -> usize {
        self.acceptors.saturating_add(OTHER_THREADS)
    }
}

/// How many connections there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// As many as were asked for, or as fit; at least 1.
    pub(super) connections: usize,
    /// The limits that are too tight for what was asked for, the tightest first.
    pub(super) tight: Vec<Tight>,
    /// How the memory is divided among them.
    pub(super) shares: Shares,
}

/// A limit that is too tight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tight {
    /// Its name, such as `RLIMIT_NOFILE`.
    pub(super) limit: &'static str,
    /// What it is.
    pub(super) value: u64,
    /// How many connections that is enough for.
    pub(super) connections: usize,
    /// What would be enough for all that was asked for.
    pub(super) enough: u64,
    /// What a connection takes of it, where that is not simply one or its tasks.
    pub(super) each: u64,
}

impl Machine {
    /// Reads the limits. To be asked when the server's own descriptors are open.
    /// `reads_symbols`: whether backtraces may be printed, which takes memory once.
    pub(super) fn read(reads_symbols: bool) -> Machine {
        let open = sys::fd::open_numbers().len() as u64;
        Machine {
            threads: Ceiling::each(&Limits::read()),
            descriptors: sys::limits::descriptors().map(|limit| (limit, open)),
            memory: budgets(reads_symbols),
        }
    }

    /// Room for `wanted` connections, or for as many as fit.
    pub(super) fn room(&self, wanted: usize, needs: Needs) -> Room {
        let Needs { tasks_per_connection, acceptors, .. } = needs;
        let tasks = wanted.saturating_mul(tasks_per_connection).saturating_add(acceptors);
        let by_threads = self.threads.iter().map(|ceiling| Tight {
            limit: ceiling.limit,
            value: ceiling.value,
            connections: ceiling.threads.saturating_sub(acceptors) / tasks_per_connection.max(1),
            enough: ceiling.value_for(tasks as u64),
            each: 0,
        });
        let by_descriptors = self.descriptors.map(|(value, open)| {
            let taken = open + DESCRIPTORS_KEPT_BACK + acceptors as u64;
            Tight {
                limit: DESCRIPTORS,
                value,
                connections: usize::try_from(value.saturating_sub(taken)).unwrap_or(usize::MAX),
                enough: taken.saturating_add(wanted as u64),
                each: 0,
            }
        });
        let by_memory = self.memory.iter().map(|budget| budget.tight(wanted, &needs));
        let all = by_threads.chain(by_descriptors).chain(by_memory);
        let mut tight: Vec<Tight> = all
            // One client is always tried: a limit so low is better met as the kernel's own error.
            .map(|tight| Tight { connections: tight.connections.max(1), ..tight })
            .filter(|tight| tight.connections < wanted)
            .collect();
        tight.sort_by_key(|tight| tight.connections);
        let connections = tight.first().map_or(wanted, |tight| tight.connections);
        Room { connections, tight, shares: memory::shares(&self.memory, connections, &needs) }
    }
}

/// Whether the limit of descriptors leaves one for a client, before anything is opened.
///
/// # Errors
/// The limit, what is needed, and how to raise it.
pub(super) fn check_descriptors(acceptors: usize, connections: usize) -> Result<(), String> {
    let open = sys::fd::open_numbers().len() as u64;
    match sys::limits::descriptors() {
        Some(limit) => are_enough(limit, open, acceptors, connections),
        None => Ok(()),
    }
}

fn are_enough(limit: u64, open: u64, acceptors: usize, connections: usize) -> Result<(), String> {
    // One more for each: what it has accepted and not refused yet.
    let by_acceptors = (acceptors as u64).saturating_mul(DESCRIPTORS_PER_ACCEPTOR + 1);
    let taken = by_acceptors.saturating_add(open + DESCRIPTORS_KEPT_BACK);
    if limit > taken {
        return Ok(());
    }
    let needed = taken.saturating_add(1);
    let enough = taken.saturating_add(connections as u64);
    let noun = Count(acceptors as u64, "acceptor");
    let fewer = if acceptors > 1 { "have fewer --acceptors, or " } else { "" };
    Err(format!(
        "cannot serve a single client: {DESCRIPTORS} is {limit}, and {noun} and one client need \
         {needed} descriptors; {fewer}raise it with `ulimit -n {enough}`"
    ))
}

fn budgets(reads_symbols: bool) -> Vec<Budget> {
    let text = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let [receive, send] = ["tcp_rmem", "tcp_wmem"].map(|name| text(name).unwrap_or_default());
    Budget::each(&MemoryLimits::read(), memory::sockets_max(&receive, &send), reads_symbols)
}

impl fmt::Display for Tight {
    /// `RLIMIT_NOFILE is 64, enough for 40; raise it with "ulimit -n 1048"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tight { limit, value, connections, enough, each } = self;
        write!(f, "{limit} is {value}, enough for {connections}; ")?;
        if *each > 0 {
            write!(f, "a connection may take {} KiB: ", each / 1024)?;
        }
        match *limit {
            DESCRIPTORS => write!(f, "raise it with `ulimit -n {enough}`"),
            // The shell's numbers are KiB.
            ADDRESS_SPACE => write!(f, "raise it with `ulimit -v {}`", enough.div_ceil(1024)),
            DATA => write!(f, "raise it with `ulimit -d {}`", enough.div_ceil(1024)),
            CGROUP_MEMORY => write!(
                f,
                "raise it to {} MiB (MemoryMax= of a systemd unit, --memory of a container)",
                enough >> 20
            ),
            "RLIMIT_NPROC" => write!(f, "raise it with `ulimit -u {enough}`"),
            CGROUP => write!(
                f,
                "raise it to {enough} (TasksMax= of a systemd unit, --pids-limit of a container)"
            ),
            MAP_COUNT => write!(
                f,
                "a thread takes 4 mappings, and one too many would end the process: raise it with \
                 `sysctl {limit}={enough}`"
            ),
            _ => write!(f, "raise it with `sysctl {limit}={enough}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs {
        tasks_per_connection: 1,
        acceptors: 1,
        stack_bytes: 256 << 10,
        memory: Memory { own: 80 << 10, pooled: 0 },
    };

    /// A machine whose mappings carry 8,046 threads, with 10 descriptors open.
    fn machine(limits: Limits, descriptors: u64) -> Machine {
        let descriptors = Some((descriptors, 10));
        Machine { threads: Ceiling::each(&limits), descriptors, memory: Vec::new() }
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
    fn what_fits_is_not_touched() {
        let room = machine(usual(), 20_000).room(1_024, NEEDS);
        let shares = Shares::default();
        assert_eq!(room, Room { connections: 1_024, tight: Vec::new(), shares });
    }

    #[test]
    fn descriptors_are_told_with_what_would_be_enough() {
        let room = machine(usual(), 64).room(1_024, NEEDS);
        assert_eq!(room.connections, 64 - 10 - 16 - 1);
        let said: Vec<String> = room.tight.iter().map(Tight::to_string).collect();
        assert_eq!(said, ["RLIMIT_NOFILE is 64, enough for 37; raise it with `ulimit -n 1051`"]);
        assert_eq!(machine(usual(), 1_051).room(1_024, NEEDS).connections, 1_024);
    }

    #[test]
    fn mappings_are_met_before_the_abort_and_all_that_is_too_tight_is_told_at_once() {
        let room = machine(usual(), 9_000).room(10_000, NEEDS);
        assert_eq!(room.connections, 8_045);
        let said: Vec<String> = room.tight.iter().map(Tight::to_string).collect();
        assert_eq!(
            said,
            [
                "vm.max_map_count is 32768, enough for 8045; a thread takes 4 mappings, and one too \
                 many would end the process: raise it with `sysctl vm.max_map_count=40588`",
                "RLIMIT_NOFILE is 9000, enough for 8973; raise it with `ulimit -n 10027`",
            ]
        );
        let raised = Limits { max_map_count: Some(40_588), ..usual() };
        assert_eq!(machine(raised, 10_027).room(10_000, NEEDS).connections, 10_000);
    }

    #[test]
    fn a_style_with_two_tasks_for_a_connection_has_half_the_room() {
        let needs = Needs { tasks_per_connection: 2, acceptors: 2, ..NEEDS };
        let room = machine(usual(), 20_000).room(10_000, needs);
        assert_eq!(room.connections, (8_046 - 2) / 2);
    }

    #[test]
    fn every_limit_has_its_remedy() {
        for (limits, remedy) in [
            (Limits { nproc: Some(100), ..usual() }, "`ulimit -u "),
            (Limits { cgroup_pids: Some((100, 50)), ..usual() }, "TasksMax="),
            (Limits { threads_max: Some(100), ..usual() }, "`sysctl kernel.threads-max="),
            (Limits { pid_max: Some(301), ..usual() }, "`sysctl kernel.pid_max="),
        ] {
            let room = machine(limits, 20_000).room(1_024, NEEDS);
            assert!(room.tight[0].to_string().contains(remedy), "{:?}", room.tight);
        }
    }

    #[test]
    fn too_few_descriptors_for_one_client_are_an_error_that_says_how_many_are_enough() {
        assert_eq!(are_enough(26, 4, 1, 1_024), Ok(()));
        let refused = are_enough(25, 4, 1, 1_024).unwrap_err();
        assert_eq!(
            refused,
            "cannot serve a single client: RLIMIT_NOFILE is 25, and 1 acceptor and one client need \
             26 descriptors; raise it with `ulimit -n 1049`"
        );
        let refused = are_enough(20_000, 4, 100_000, 1_024).unwrap_err();
        assert!(refused.ends_with("have fewer --acceptors, or raise it with `ulimit -n 501044`"));
        // What is refused before anything is opened is what would leave no room afterwards.
        let room = |limit| {
            let (threads, memory) = (Vec::new(), Vec::new());
            Machine { threads, descriptors: Some((limit, 8)), memory }.room(2, NEEDS)
        };
        assert_eq!((room(26).connections, room(27).connections), (1, 2));
    }

    #[test]
    fn memory_has_its_remedies_and_says_what_a_connection_takes() {
        let limit = Some(sys::memory::Limit { bytes: 64 << 20, taken: 2 << 20 });
        for (limits, remedy) in [
            (MemoryLimits { cgroup: limit, ..MemoryLimits::default() }, "(MemoryMax= of a systemd"),
            (MemoryLimits { address_space: limit, ..MemoryLimits::default() }, "`ulimit -v "),
            (MemoryLimits { data: limit, ..MemoryLimits::default() }, "`ulimit -d "),
        ] {
            let memory = Budget::each(&limits, 10 << 20, false);
            let room = Machine { memory, ..machine(usual(), 20_000) }.room(1_024, NEEDS);
            let said = room.tight[0].to_string();
            assert!(said.contains(remedy) && said.contains("a connection may take "), "{said}");
            assert_eq!(room.connections, room.tight[0].connections);
        }
    }

    #[test]
    fn limits_that_are_too_low_for_anything_still_let_one_be_tried() {
        let full = Limits { mappings: Some(40_000), ..usual() };
        assert_eq!(machine(full, 5).room(1_024, NEEDS).connections, 1);
    }

    #[test]
    fn where_nothing_can_be_read_nothing_is_lowered() {
        let threads = Ceiling::each(&Limits::default());
        let unknown = Machine { threads, descriptors: None, memory: Vec::new() };
        assert_eq!(unknown.room(usize::MAX, NEEDS).connections, usize::MAX);
    }
}
