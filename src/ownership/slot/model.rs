//! What loom found out about the shipped slot, the shipped account, and the shipped moves between
//! accounts.
//!
//! loom runs each model under every order of steps and every answer that the memory model allows
//! for a load. The kernel is played by [`Number`]: using the number is a shared access, closing it
//! or handing it out again is an exclusive one, and loom reports two accesses that nothing orders.
//!
//! ```sh
//! RUSTFLAGS="--cfg echown_loom" cargo test --lib --release model -- --nocapture
//! ```
//!
//! Three limits. Threads of a model are coroutines of one thread, so that thread-locals are shared:
//! at most one thread of a model may ask for the current task. Where a model names a preemption
//! bound, orders with more forced switches than that were not tried. And loom orders atomics by
//! C++11's rules as far as it knows them; its load-buffering is not complete.
//!
//! The table of weakened orderings, and which of these models objects to each, is in
//! `docs/proof.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering as StdOrdering};

use super::Slot;
use crate::sys::watched::Watched;

mod alone;
mod chain;
mod moves;

/// Explores `model`: exhaustively, or with at most so many forced switches.
#[track_caller]
fn explore(preemption_bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let name = std::thread::current().name().unwrap_or("model").to_owned();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemption_bound;
    // The overflow model alone takes all the pins there are, one by one.
    builder.max_branches = 20_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let begun = std::time::Instant::now();
    builder.check(move || {
        counted.fetch_add(1, StdOrdering::Relaxed);
        model();
    });
    let orders = orders.load(StdOrdering::Relaxed);
    eprintln!("{name}: {orders} executions in {:.2?}", begun.elapsed());
}

const RESOURCE: u32 = 1;
const NEWCOMER: u32 = 2;
const NOBODY: u32 = 0;

/// One entry of the kernel's descriptor table.
///
/// The occupant is no loom atomic on purpose: it tells what the kernel has there in this order of
/// steps, and orders nothing.
struct Number {
    entry: Watched,
    occupant: AtomicU32,
    closes: AtomicU32,
}

impl Number {
    fn open() -> Arc<Number> {
        Arc::new(Number {
            entry: Watched::new(),
            occupant: AtomicU32::new(RESOURCE),
            closes: AtomicU32::new(0),
        })
    }

    /// A system call on the number: a read, a write, a shutdown.
    fn call(&self) {
        self.entry.share(|| {
            let occupant = self.occupant.load(StdOrdering::Relaxed);
            assert_eq!(occupant, RESOURCE, "a call went to the newcomer, or to a closed number");
        });
    }

    fn close(&self) {
        self.entry.exclude(|| {
            let occupant = self.occupant.swap(NOBODY, StdOrdering::Relaxed);
            assert_eq!(occupant, RESOURCE, "closed what was not the resource");
            self.closes.fetch_add(1, StdOrdering::Relaxed);
        });
    }

    /// The kernel hands the number out again.
    fn reuse(&self) {
        self.entry.exclude(|| self.occupant.store(NEWCOMER, StdOrdering::Relaxed));
    }

    fn closes(&self) -> u32 {
        self.closes.load(StdOrdering::Relaxed)
    }
}

/// What every finalizing path does once it has won the close.
fn close(slot: &Slot, number: &Number) {
    slot.wait_for_pins();
    number.close();
    number.reuse();
    slot.end_close();
}
