//! Memory: whether an allocation would succeed now, and the allocator's arenas.
//!
//! The failure story: an allocation that fails ends the process, and with `RUST_BACKTRACE` set the
//! process can hang instead (a panic that is being printed holds the lock that the message about
//! the failed allocation takes). So the limits are read in advance (`echown_limits`), and large
//! allocations are fallible.

use std::sync::OnceLock;

use echown_limits::MemoryLimits;

/// Whether the limits have room for the program's symbols. Computed once.
pub(crate) fn has_room_for_symbols() -> bool {
    static HAS_ROOM: OnceLock<bool> = OnceLock::new();
    *HAS_ROOM.get_or_init(|| MemoryLimits::read().symbols().is_some())
}

/// Whether panics print a backtrace, by the standard library's rules.
pub(crate) fn prints_backtraces() -> bool {
    std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

/// Whether this many bytes of address space can be mapped now. They are mapped and unmapped, and
/// not touched.
pub(crate) fn can_map(bytes: usize) -> bool {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping at an address that the kernel chooses affects no other
    // memory.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: exactly the mapping from above, which nothing points into.
    unsafe { libc::munmap(mapped, bytes) };
    true
}

/// Limits glibc's allocator to one arena if `RLIMIT_AS` is set. By default threads create up to
/// eight arenas per core, and each reserves 64 MiB of address space. Must be called before the
/// first thread is started.
#[cfg(feature = "serve")]
pub(crate) fn save_address_space() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if rustix::process::getrlimit(rustix::process::Resource::As).current.is_some() {
        // SAFETY: sets a number inside the allocator, which takes its own lock for that. If it
        // fails, more address space is used.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_allocation_fails_without_an_abort() {
        assert!(can_map(1 << 20));
        assert!(!can_map(1 << 47));
    }
}
