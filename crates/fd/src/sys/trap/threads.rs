//! Where threads were spawned, and pidfds that a `clone` is about to make.
//!
//! A call that starts a thread does not return into the handler. Its stack is stored under the
//! thread pointer of the new thread, which finds it at its first trapped call: the C library sets
//! the signal mask of each new thread. Likewise, the number of a pidfd is read at the next trapped
//! call of the thread that made it.

use std::arch::asm;
use std::sync::atomic::{AtomicBool, Ordering};

use super::lock::Locked;
use super::stacks::Trace;

/// The maximum number of recorded threads; the oldest ones are dropped.
const THREADS_MAX: usize = 256;

/// The maximum number of pidfds that are not read yet: one per thread that starts a process now.
const PIDFDS_MAX: usize = 16;

struct Spawn {
    pointer: u64,
    /// The kernel's id; zero until the thread's first trapped call.
    thread: u32,
    trace: Trace,
}

/// A pidfd whose number the kernel writes to an address.
#[derive(Clone, Copy)]
pub(super) struct Pidfd {
    pub(super) address: u64,
    pub(super) trace: Trace,
}

struct Threads {
    spawns: Vec<Spawn>,
    /// Where the next one is stored.
    next: usize,
    pidfds: Vec<Pidfd>,
}

static THREADS: Locked<Option<Threads>> = Locked::new(None);

/// Whether something waits for a thread's next call.
static HAS_PENDING: AtomicBool = AtomicBool::new(false);

/// Allocates the memory.
pub(super) fn start() {
    let threads = Threads {
        spawns: Vec::with_capacity(THREADS_MAX),
        next: 0,
        pidfds: Vec::with_capacity(PIDFDS_MAX),
    };
    let before = THREADS.with(|it| it.replace(threads));
    drop(before);
}

impl Threads {
    fn spawns(&mut self, pointer: u64, trace: &Trace) {
        let spawn = Spawn { pointer, thread: 0, trace: *trace };
        // One with the same pointer and no thread failed.
        let failed = self.spawns.iter().position(|it| it.pointer == pointer && it.thread == 0);
        match failed.or((self.spawns.len() == THREADS_MAX).then_some(self.next)) {
            Some(place) => self.spawns[place] = spawn,
            None => self.spawns.push(spawn),
        }
        if failed.is_none() {
            self.next = (self.next + 1) % THREADS_MAX;
        }
    }

    fn begins(&mut self, pointer: u64, thread: u32) {
        let is_this = |it: &&mut Spawn| it.pointer == pointer && it.thread == 0;
        if let Some(spawn) = self.spawns.iter_mut().find(is_this) {
            spawn.thread = thread;
        }
    }

    fn has_pending(&self) -> bool {
        !self.pidfds.is_empty() || self.spawns.iter().any(|it| it.thread == 0)
    }
}

/// Records a call that is about to start a thread with this thread pointer, or to make a pidfd.
pub(super) fn clones(pointer: Option<u64>, pidfd: Option<u64>, trace: &Trace) {
    with(|threads| {
        if let Some(pointer) = pointer {
            threads.spawns(pointer, trace);
        }
        if let Some(address) = pidfd.filter(|_| threads.pidfds.len() < PIDFDS_MAX) {
            threads.pidfds.push(Pidfd { address, trace: *trace });
        }
    });
}

pub(super) fn has_pending() -> bool {
    // ord: Relaxed; a thread reads what it stored itself, or what its creator stored before.
    HAS_PENDING.load(Ordering::Relaxed)
}

/// Finds the record of this thread, at one of its trapped calls, and returns a pidfd that it has
/// made before.
pub(super) fn resolve(thread: u32) -> Option<Pidfd> {
    let pointer: u64;
    // SAFETY: on x86-64 the first word of a thread's control block is its own address.
    unsafe { asm!("mov {}, fs:[0]", out(reg) pointer, options(nostack, readonly)) };
    with(|threads| {
        threads.begins(pointer, thread);
        let is_own = |it: &Pidfd| it.trace.thread() == thread;
        let place = threads.pidfds.iter().position(is_own)?;
        Some(threads.pidfds.swap_remove(place))
    })
    .flatten()
}

/// The call that spawned a thread.
pub(super) fn spawned(thread: u32) -> Option<Trace> {
    let of = |threads: &mut Threads| {
        threads.spawns.iter().find(|it| it.thread == thread).map(|it| it.trace)
    };
    with(of).flatten()
}

fn with<R>(f: impl FnOnce(&mut Threads) -> R) -> Option<R> {
    THREADS.with(|threads| {
        let threads = threads.as_mut()?;
        let result = f(threads);
        // ord: Relaxed; see `has_pending`.
        HAS_PENDING.store(threads.has_pending(), Ordering::Relaxed);
        Some(result)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(thread: u32) -> Trace {
        Trace::new(libc::SYS_clone3, thread, [0; 16])
    }

    fn empty() -> Threads {
        Threads { spawns: Vec::new(), next: 0, pidfds: Vec::new() }
    }

    #[test]
    fn a_thread_finds_its_spawn_and_a_reused_pointer_the_later_one() {
        let mut threads = empty();
        threads.spawns(0x10, &trace(1));
        threads.begins(0x20, 7);
        assert!(threads.has_pending());
        threads.begins(0x10, 8);
        assert!(!threads.has_pending());
        threads.spawns(0x10, &trace(2));
        threads.begins(0x10, 9);
        let found: Vec<_> =
            threads.spawns.iter().map(|it| (it.thread, it.trace.thread())).collect();
        assert_eq!(found, [(8, 1), (9, 2)]);
    }

    #[test]
    fn a_failed_spawn_is_replaced_and_the_oldest_is_dropped() {
        let mut threads = empty();
        threads.spawns(0x10, &trace(1));
        threads.spawns(0x10, &trace(2));
        assert_eq!(threads.spawns.len(), 1);
        for pointer in 0..THREADS_MAX as u64 {
            threads.spawns(0x100 + pointer, &trace(3));
        }
        assert_eq!(threads.spawns.len(), THREADS_MAX);
        assert!(threads.spawns.iter().all(|it| it.pointer != 0x10));
    }
}
