//! The number of threads that this process can start.
//!
//! Most limits return EAGAIN for one thread too many. Beyond `vm.max_map_count` the new thread fails to
//! map its signal stack, and the standard library aborts the process from inside it. So the blocking
//! client checks this limit before it starts a thread for each connection.

use std::fmt;

use procfs::process::Process;

/// Mappings of one thread of the standard library: its stack and its signal stack, each with a guard
/// page.
const MAPPINGS_PER_THREAD: u64 = 4;

/// Mappings reserved for later: the allocator's arenas, files, large blocks of memory.
const MAPPINGS_RESERVED: u64 = 544;

/// The kernel's default, where `/proc` cannot be read.
const MAX_MAP_COUNT_DEFAULT: u64 = 65_530;

/// How many threads can be started, by `vm.max_map_count`.
pub(crate) struct ClientThreadLimit {
    pub(crate) threads: u64,
    max_map_count: u64,
}

impl ClientThreadLimit {
    pub(crate) fn read() -> ClientThreadLimit {
        let max_map_count = procfs::sys::vm::max_map_count().unwrap_or(MAX_MAP_COUNT_DEFAULT);
        let maps = Process::myself().and_then(|process| process.maps());
        let used = maps.map_or(0, |maps| maps.into_iter().count() as u64);
        let free = max_map_count.saturating_sub(used + MAPPINGS_RESERVED);
        ClientThreadLimit { threads: free / MAPPINGS_PER_THREAD, max_map_count }
    }
}

impl fmt::Display for ClientThreadLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClientThreadLimit { threads, max_map_count } = self;
        write!(
            f,
            "{threads} threads (vm.max_map_count is {max_map_count}, and a thread takes \
             {MAPPINGS_PER_THREAD} mappings)"
        )
    }
}
