//! loom models of the shipped slot, the shipped account, and the shipped moves between accounts.
//!
//! loom runs each model under every order of steps and with every value that the memory model allows
//! for a load. [`FakeFd`] models the kernel: using the number is a shared access, closing or reusing it
//! is an exclusive one, and loom reports two accesses that nothing orders.
//!
//! ```sh
//! RUSTFLAGS="--cfg echown_loom" cargo test --lib --release model -- --nocapture
//! ```
//!
//! # Limits
//!
//! - The threads of a model are coroutines of one thread, so thread-locals are shared: at most one thread
//!   of a model may use the current task.
//! - If a model has a preemption bound, orders with more forced switches are not tried.
//! - loom implements most of C++11's rules for atomics; its load buffering is incomplete.
//!
//! `docs/proof.md` lists the weakened orderings and the models that fail for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering as StdOrdering};

use super::Slot;
use crate::sys::loom_probe::LoomProbe;

mod alone;
mod chain;
mod moves;
mod parking;

/// Explores `model`, exhaustively or with at most `preemption_bound` forced switches.
#[track_caller]
fn explore(preemption_bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let name = std::thread::current().name().unwrap_or("model").to_owned();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemption_bound;
    // Only the overflow model needs this many: it takes all pins, one by one.
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
const REUSED: u32 = 2;
const CLOSED: u32 = 0;

/// One entry of the kernel's descriptor table.
///
/// The occupant is deliberately not a loom atomic: it stores the kernel's state in this order of steps,
/// and orders nothing.
struct FakeFd {
    entry: LoomProbe,
    occupant: AtomicU32,
    closes: AtomicU32,
}

impl FakeFd {
    fn open() -> Arc<FakeFd> {
        Arc::new(FakeFd {
            entry: LoomProbe::new(),
            occupant: AtomicU32::new(RESOURCE),
            closes: AtomicU32::new(0),
        })
    }

    /// A system call on the number: a read, a write, a shutdown.
    fn call(&self) {
        self.entry.share(|| {
            let occupant = self.occupant.load(StdOrdering::Relaxed);
            assert_eq!(occupant, RESOURCE, "a call used a replaced or closed number");
        });
    }

    fn close(&self) {
        self.entry.exclude(|| {
            let occupant = self.occupant.swap(CLOSED, StdOrdering::Relaxed);
            assert_eq!(occupant, RESOURCE, "closed what was not the resource");
            self.closes.fetch_add(1, StdOrdering::Relaxed);
        });
    }

    /// The kernel reuses the number.
    fn reuse(&self) {
        self.entry.exclude(|| self.occupant.store(REUSED, StdOrdering::Relaxed));
    }

    fn closes(&self) -> u32 {
        self.closes.load(StdOrdering::Relaxed)
    }
}

/// The steps of every finalizing path after it has won the close.
fn close(slot: &Slot, number: &FakeFd) {
    slot.wait_for_pins();
    number.close();
    number.reuse();
    slot.end_close();
}
