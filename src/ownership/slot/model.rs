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

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering as StdOrdering};

use loom::sync::Condvar;
use loom::thread;

use super::{PINS_BITS, Purpose, Slot, State};
use crate::ownership::account::Phase;
use crate::ownership::custody::{Event, Site};
use crate::ownership::ending;
use crate::ownership::record::{Held, Record};
use crate::ownership::registry::Registry;
use crate::ownership::task::{self, Origin, Task};
use crate::ownership::violation::{Error, ErrorKind};
use crate::ownership::{Level, Owned, Policy};
use crate::sync::{Mutex, lock};
use crate::sys::watched::Watched;

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
    slot.await_pins();
    number.close();
    number.reuse();
    slot.closed();
}

const PARENT: u64 = 1;
const CHILD: u64 = 2;

// The slot alone.

#[test]
fn model_a_of_two_operators_the_one_that_is_not_the_owner_is_refused() {
    explore(Some(4), || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        let stranger = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                if slot.held_by(CHILD) {
                    number.call();
                    unreachable!("a stranger was let in");
                }
                assert!(slot.enter(CHILD).is_err() && slot.offer(CHILD).is_err());
                assert!(slot.hand_over(CHILD, 3).is_err() && slot.begin_close(CHILD).is_err());
            })
        };
        assert!(slot.held_by(PARENT));
        number.call();
        slot.begin_close(PARENT).unwrap();
        close(&slot, &number);
        stranger.join().unwrap();
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_b_what_a_child_did_before_its_transfer_happened_before_the_parent_finds_itself_owner() {
    explore(None, || {
        let slot = Arc::new(Slot::new(CHILD));
        // Exclusive: a child's write to the value, which the parent reads.
        let value = Arc::new(Watched::new());
        let child = {
            let (slot, value) = (Arc::clone(&slot), Arc::clone(&value));
            thread::spawn(move || {
                assert!(slot.held_by(CHILD));
                value.exclude(|| ());
                slot.hand_over(CHILD, PARENT).unwrap();
                assert!(!slot.held_by(CHILD));
            })
        };
        if slot.held_by(PARENT) {
            value.exclude(|| ());
        }
        child.join().unwrap();
    });
}

#[test]
fn model_b_a_new_owner_that_closes_without_a_check_closes_after_the_old_owners_last_use() {
    explore(None, || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        let child = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                if slot.begin_close(CHILD).is_ok() {
                    close(&slot, &number);
                }
            })
        };
        number.call();
        slot.hand_over(PARENT, CHILD).unwrap();
        child.join().unwrap();
    });
}

fn a_pinning_visitor_never_meets_the_newcomer(purpose: Purpose) {
    explore(None, move || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        // The kernel's table has a lock of its own, under which numbers are freed and handed out.
        let table = Arc::new(Mutex::new(()));
        let visitor = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                if slot.pin(PARENT, purpose).is_ok() {
                    number.call();
                    slot.unpin();
                }
            })
        };
        let newcomer = {
            let (number, table) = (Arc::clone(&number), Arc::clone(&table));
            thread::spawn(move || {
                let _table = lock(&table);
                if number.occupant.load(StdOrdering::Relaxed) == NOBODY {
                    number.reuse();
                }
            })
        };
        slot.begin_close(PARENT).unwrap();
        slot.await_pins();
        {
            let _table = lock(&table);
            number.close();
        }
        slot.closed();
        visitor.join().unwrap();
        newcomer.join().unwrap();
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_c_a_cancellers_shutdown_never_hits_the_newcomer() {
    a_pinning_visitor_never_meets_the_newcomer(Purpose::Cancel);
}

#[test]
fn model_c_a_description_never_asks_about_the_newcomer() {
    a_pinning_visitor_never_meets_the_newcomer(Purpose::Look);
}

#[test]
fn model_c_two_visitors_are_both_waited_for() {
    explore(Some(2), || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        let visitors = [Purpose::Cancel, Purpose::Look].map(|purpose| {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                if slot.pin(PARENT, purpose).is_ok() {
                    number.call();
                    slot.unpin();
                }
            })
        });
        slot.begin_close(PARENT).unwrap();
        close(&slot, &number);
        for visitor in visitors {
            visitor.join().unwrap();
        }
    });
}

#[test]
fn model_d_the_new_owner_of_what_was_moved_in_time_is_not_cancelled_with_the_old_one() {
    explore(None, || {
        let slot = Arc::new(Slot::new(CHILD));
        let number = Number::open();
        let canceller = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                let pinned = slot.pin(CHILD, Purpose::Cancel).is_ok();
                if pinned {
                    number.call();
                    slot.unpin();
                }
                pinned
            })
        };
        let moved = slot.hand_over(CHILD, PARENT);
        let pinned = canceller.join().unwrap();
        assert_eq!(moved.is_ok(), !pinned, "exactly one of the two comes first");
        assert_eq!(slot.is_cancelled(), pinned);
        match moved {
            Ok(()) => assert!(slot.held_by(PARENT)),
            Err(word) => assert!(word.is_cancelled() && word.owner() == CHILD),
        }
    });
}

/// One half's end, as `HalfCell::finalize` does it.
fn end_half(half: &Slot, whole: &Slot, number: &Number, owner: u64) {
    half.begin_close(owner).unwrap();
    half.await_pins();
    number.call();
    if whole.leave_split() {
        close(whole, number);
    }
    half.closed();
}

#[test]
fn model_e_the_later_half_closes_once_and_after_all_uses_of_both() {
    explore(Some(3), || {
        let whole = Arc::new(Slot::new(PARENT));
        whole.split(PARENT).unwrap();
        let (reading, writing) = (Arc::new(Slot::new(PARENT)), Arc::new(Slot::new(CHILD)));
        let number = Number::open();
        let writer = {
            let (half, whole, number) = (writing, Arc::clone(&whole), Arc::clone(&number));
            thread::spawn(move || {
                assert!(half.held_by(CHILD));
                number.call();
                end_half(&half, &whole, &number, CHILD);
            })
        };
        let canceller = {
            let (half, number) = (Arc::clone(&reading), Arc::clone(&number));
            thread::spawn(move || {
                if half.pin(PARENT, Purpose::Cancel).is_ok() {
                    number.call();
                    half.unpin();
                }
            })
        };
        if reading.held_by(PARENT) {
            number.call();
        }
        end_half(&reading, &whole, &number, PARENT);
        writer.join().unwrap();
        canceller.join().unwrap();
        assert_eq!(number.closes(), 1);
        assert_eq!(whole.look().state(), State::Released);
    });
}

#[test]
fn model_e_a_pin_from_before_the_split_is_waited_for_by_the_later_half() {
    explore(None, || {
        let whole = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        let visitor = {
            let (whole, number) = (Arc::clone(&whole), Arc::clone(&number));
            thread::spawn(move || {
                if whole.pin(PARENT, Purpose::Look).is_ok() {
                    number.call();
                    whole.unpin();
                }
            })
        };
        whole.split(PARENT).unwrap();
        assert!(!whole.leave_split(), "the first half leaves the number open");
        assert!(whole.leave_split());
        close(&whole, &number);
        visitor.join().unwrap();
    });
}

#[test]
fn model_f_of_two_closers_one_wins() {
    explore(None, || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        let closer = |slot: &Arc<Slot>, number: &Arc<Number>| {
            let (slot, number) = (Arc::clone(slot), Arc::clone(number));
            move || {
                let won = slot.begin_close(PARENT).is_ok();
                if won {
                    close(&slot, &number);
                }
                won
            }
        };
        let elsewhere = thread::spawn(closer(&slot, &number));
        let here = closer(&slot, &number)();
        assert!(here != elsewhere.join().unwrap(), "one and only one finalizes");
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_g_an_offer_is_claimed_once_and_after_the_offerers_last_use() {
    explore(None, || {
        let slot = Arc::new(Slot::new(PARENT));
        let value = Arc::new(Watched::new());
        let claims = Arc::new(AtomicU32::new(0));
        let claimer = |me: u64| {
            let (slot, value, claims) =
                (Arc::clone(&slot), Arc::clone(&value), Arc::clone(&claims));
            move || {
                if slot.claim(PARENT, me).is_ok() {
                    value.exclude(|| ());
                    claims.fetch_add(1, StdOrdering::Relaxed);
                }
            }
        };
        let claimers = [thread::spawn(claimer(CHILD)), thread::spawn(claimer(3))];
        value.exclude(|| ());
        slot.offer(PARENT).unwrap();
        for claimer in claimers {
            claimer.join().unwrap();
        }
        assert!(claims.load(StdOrdering::Relaxed) <= 1);
    });
}

#[test]
fn model_g_an_offer_is_either_claimed_or_closed_unclaimed() {
    explore(None, || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        slot.offer(PARENT).unwrap();
        let claimer = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                let claimed = slot.claim(PARENT, CHILD).is_ok();
                if claimed {
                    assert!(slot.held_by(CHILD));
                    number.call();
                }
                claimed
            })
        };
        let closed = slot.begin_close(PARENT).is_ok();
        if closed {
            close(&slot, &number);
        }
        assert!(closed != claimer.join().unwrap());
    });
}

#[test]
fn model_h_a_flag_set_while_the_owner_is_inside_with_is_not_lost() {
    explore(None, || {
        let slot = Arc::new(Slot::new(PARENT));
        let canceller = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                let pinned = slot.pin(PARENT, Purpose::Cancel);
                if pinned.is_ok() {
                    slot.unpin();
                }
                assert!(pinned.is_ok(), "held or busy, it is there: {pinned:?}");
            })
        };
        if slot.enter(PARENT).is_ok() {
            slot.leave();
        }
        canceller.join().unwrap();
        assert!(slot.is_cancelled());
        assert!(!slot.held_by(PARENT) && slot.enter(PARENT).is_err());
    });
}

#[test]
fn model_h_a_theft_noticed_while_the_owner_is_inside_with_is_marked_once() {
    explore(Some(4), || {
        let slot = Arc::new(Slot::new(PARENT));
        let finder = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.rob())
        };
        if slot.enter(PARENT).is_ok() {
            slot.leave();
        }
        let here = slot.rob();
        assert!(here != finder.join().unwrap(), "one of the two found it first");
        assert!(!slot.held_by(PARENT) && slot.pin(PARENT, Purpose::Cancel).is_err());
    });
}

#[test]
fn model_j_the_pin_after_the_last_one_waits_and_spoils_no_neighbouring_field() {
    explore(Some(2), || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = Number::open();
        let most = PINS_BITS / super::PIN_ONE;
        for _ in 0..most {
            slot.pin(PARENT, Purpose::Look).unwrap();
        }
        assert_eq!(slot.look().owner(), PARENT);
        let late = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                slot.pin(PARENT, Purpose::Look).unwrap();
                assert_eq!(slot.look().owner(), PARENT, "pins run over into the owner");
                number.call();
                slot.unpin();
            })
        };
        slot.unpin();
        late.join().unwrap();
        for _ in 1..most {
            slot.unpin();
        }
        assert_eq!((slot.look().owner(), slot.look().pins()), (PARENT, 0));
        slot.begin_close(PARENT).unwrap();
        close(&slot, &number);
    });
}

#[test]
fn model_k_a_call_that_a_cancellers_shutdown_woke_knows_that_it_was_cancelled() {
    explore(None, || {
        let slot = Arc::new(Slot::new(CHILD));
        // The socket's lock and wait queue, inside the kernel.
        let socket = Arc::new((Mutex::new(false), Condvar::new()));
        let canceller = {
            let (slot, socket) = (Arc::clone(&slot), Arc::clone(&socket));
            thread::spawn(move || {
                slot.pin(CHILD, Purpose::Cancel).unwrap();
                *lock(&socket.0) = true;
                socket.1.notify_all();
                slot.unpin();
            })
        };
        let mut is_shut = lock(&socket.0);
        while !*is_shut {
            is_shut = socket.1.wait(is_shut).unwrap();
        }
        drop(is_shut);
        assert!(slot.is_cancelled(), "a false end of the stream");
        canceller.join().unwrap();
    });
}

// The shipped moves between accounts, with the shipped tasks and locks.

/// A resource on a task's account whose finalizer closes a modelled number.
struct Thing {
    record: Record,
    number: Arc<Number>,
}

impl Held for Thing {
    fn record(&self) -> &Record {
        &self.record
    }

    fn finalize(&self, _: &Task, _: Site) -> Result<(), Error> {
        self.number.close();
        self.number.reuse();
        Ok(())
    }

    fn abandon(&self) {}
}

/// Two tasks, parent and child, in a quiet registry: refusals are looked at by the models.
struct Family {
    registry: Registry,
    parent: Arc<Task>,
    child: Arc<Task>,
}

impl Family {
    fn new() -> Family {
        let registry = Registry::builder().level(Level::Off).on_violation(Policy::Ignore).build();
        let task = |name: &str, origin, parent| {
            Task::new(name.into(), origin, registry.id(), parent, Site::here())
        };
        let parent = task("parent", Origin::LocalRoot, None);
        let child = task("child", Origin::Child, Some(Arc::clone(&parent)));
        Family { registry, parent, child }
    }

    /// Something that `owner` owns.
    fn own(&self, owner: &Task) -> (Arc<dyn Held>, Arc<Number>) {
        let number = Number::open();
        let record = Record::new(self.registry.clone(), "thing", None, owner, Site::here());
        let held: Arc<dyn Held> = Arc::new(Thing { record, number: Arc::clone(&number) });
        held.record().set_position(owner.account().push(Arc::clone(&held)));
        (held, number)
    }
}

/// How often `held` stands on the account.
fn entries(task: &Task, held: &Arc<dyn Held>) -> usize {
    task.account().entries().filter(|entry| entry.record().id == held.record().id).count()
}

/// Slot and accounts agree: the owner, and nobody else, has the entry.
fn assert_on_the_owners_account(family: &Family, held: &Arc<dyn Held>) {
    let owner = held.record().slot.look().owner();
    for task in [&family.parent, &family.child] {
        let expected = usize::from(task.id().get() == owner);
        assert_eq!(entries(task, held), expected, "{task:?}, owner {owner}");
    }
}

/// A drop elsewhere: what `Handle::drop` does, by whoever has the handle exclusively.
fn drop_elsewhere(held: &Arc<dyn Held>, me: &Task, wanted: State) -> bool {
    let won = task::begin_close(held, Some(wanted)).is_ok();
    if won {
        held.record().slot.await_pins();
        held.finalize(me, Site::here()).unwrap();
        held.record().slot.closed();
    }
    won
}

#[test]
fn model_d_a_transfer_comes_before_the_cancel_or_is_refused_as_cancelled() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.child);
        let canceller = {
            let child = Arc::clone(&family.child);
            thread::spawn(move || child.request_cancel())
        };
        number.call();
        let moved = task::transfer(&family.child, &held, Site::here());
        canceller.join().unwrap();
        let slot = &held.record().slot;
        match moved {
            Ok(()) => {
                assert!(slot.held_by(family.parent.id().get()) && !slot.is_cancelled());
                number.call();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                assert!(slot.is_cancelled());
                assert_eq!(slot.look().owner(), family.child.id().get());
            }
        }
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_d_the_parents_cancel_flags_what_was_transferred_or_the_transfer_is_refused() {
    explore(None, || {
        let family = Family::new();
        let (held, _) = family.own(&family.child);
        let canceller = {
            let parent = Arc::clone(&family.parent);
            thread::spawn(move || parent.request_cancel())
        };
        let moved = task::transfer(&family.child, &held, Site::here());
        canceller.join().unwrap();
        let slot = &held.record().slot;
        match moved {
            // It came in before the cancel, which then found it.
            Ok(()) => assert!(slot.is_cancelled()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ParentEnding);
                assert!(slot.held_by(family.child.id().get()));
            }
        }
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_d_a_give_comes_before_the_parents_cancel_or_all_of_it_is_refused() {
    explore(None, || {
        let family = Family::new();
        let things = [family.own(&family.parent).0, family.own(&family.parent).0];
        let canceller = {
            let parent = Arc::clone(&family.parent);
            thread::spawn(move || parent.request_cancel())
        };
        let given = task::give(&family.parent, &family.child, &things, Event::Given, Site::here());
        canceller.join().unwrap();
        for held in &things {
            let slot = &held.record().slot;
            assert_eq!(slot.held_by(family.child.id().get()), given.is_ok());
            assert_eq!(slot.is_cancelled(), given.is_err());
            assert_on_the_owners_account(&family, held);
        }
    });
}

#[test]
fn model_d_moves_up_and_down_at_once_take_the_locks_in_one_order() {
    explore(None, || {
        let family = Family::new();
        let (up, _) = family.own(&family.child);
        let (down, _) = family.own(&family.parent);
        let giver = {
            let (parent, child) = (Arc::clone(&family.parent), Arc::clone(&family.child));
            let down = Arc::clone(&down);
            thread::spawn(move || {
                task::give(&parent, &child, &[down], Event::Given, Site::here()).unwrap();
            })
        };
        task::transfer(&family.child, &up, Site::here()).unwrap();
        giver.join().unwrap();
        assert!(up.record().slot.held_by(family.parent.id().get()));
        assert!(down.record().slot.held_by(family.child.id().get()));
        assert_on_the_owners_account(&family, &up);
        assert_on_the_owners_account(&family, &down);
    });
}

#[test]
fn model_f_the_end_of_the_task_and_a_drop_elsewhere_finalize_once() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.child);
        let elsewhere = {
            let (held, parent) = (Arc::clone(&held), Arc::clone(&family.parent));
            thread::spawn(move || drop_elsewhere(&held, &parent, State::Held))
        };
        let ended = ending::run(&family.child, || ());
        assert!(ended.is_ok(), "level off tells no leaks: {ended:?}");
        elsewhere.join().unwrap();
        assert_eq!(number.closes(), 1);
        assert_eq!(held.record().slot.look().state(), State::Released);
        assert_eq!(entries(&family.child, &held), 0);
    });
}

#[test]
fn model_f_a_drop_elsewhere_follows_what_is_transferred_meanwhile() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.child);
        let elsewhere = {
            let (held, parent) = (Arc::clone(&held), Arc::clone(&family.parent));
            thread::spawn(move || drop_elsewhere(&held, &parent, State::Held))
        };
        let _ = task::transfer(&family.child, &held, Site::here());
        assert!(elsewhere.join().unwrap(), "nobody else closes it");
        assert_eq!(number.closes(), 1);
        for task in [&family.parent, &family.child] {
            assert_eq!(entries(task, &held), 0);
        }
    });
}

#[test]
fn model_f_a_canceller_of_an_ending_task_never_meets_the_newcomer() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.child);
        let canceller = {
            let (child, held, number) =
                (Arc::clone(&family.child), Arc::clone(&held), Arc::clone(&number));
            // `request_cancel` with the modelled number in the place of `Record::shut`.
            thread::spawn(move || {
                let pinned = {
                    let mut account = child.account();
                    account.is_open() && {
                        account.cancelled = true;
                        let slot = &held.record().slot;
                        let listed = account.entries().next().is_some();
                        listed && slot.pin(child.id().get(), Purpose::Cancel).is_ok()
                    }
                };
                if pinned {
                    number.call();
                    held.record().slot.unpin();
                }
            })
        };
        let _ = ending::run(&family.child, || ());
        canceller.join().unwrap();
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_g_an_offer_that_passes_to_the_parent_is_claimed_or_dropped_once() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.child);
        held.record().slot.offer(family.child.id().get()).unwrap();
        let claimer = {
            let held = Arc::clone(&held);
            let registry = family.registry.clone();
            thread::spawn(move || {
                let name = "claimer".into();
                let me = Task::new(name, Origin::LocalRoot, registry.id(), None, Site::here());
                task::claim(&me, &held, Site::here()).unwrap();
                assert!(held.record().slot.held_by(me.id().get()));
                assert_eq!(entries(&me, &held), 1);
                drop_elsewhere(&held, &me, State::Held)
            })
        };
        family.child.account().phase = Phase::Ending;
        task::pass_offers_on(&family.child, Site::here());
        assert!(claimer.join().unwrap());
        assert_eq!(number.closes(), 1);
        for task in [&family.parent, &family.child] {
            assert_eq!(entries(task, &held), 0);
        }
    });
}

#[test]
fn model_g_an_offer_dropped_while_it_passes_to_the_parent_is_finalized_once() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.child);
        held.record().slot.offer(family.child.id().get()).unwrap();
        let dropper = {
            let (held, parent) = (Arc::clone(&held), Arc::clone(&family.parent));
            thread::spawn(move || drop_elsewhere(&held, &parent, State::Offered))
        };
        let _ = ending::run(&family.child, || ());
        assert!(dropper.join().unwrap(), "the parent's account keeps it for whoever has the offer");
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_i_own_sees_the_cancel_or_the_canceller_sees_the_entry() {
    explore(None, || {
        let family = Family::new();
        let canceller = {
            let child = Arc::clone(&family.child);
            thread::spawn(move || child.request_cancel())
        };
        // The only thread of the model that asks for the current task.
        let entered = family.child.enter();
        let owned = family.registry.own(());
        canceller.join().unwrap();
        match &owned {
            Ok(owned) => {
                assert_eq!(owned.check().unwrap_err().kind(), ErrorKind::Cancelled);
                assert!(owned.with(|()| ()).is_err());
            }
            Err(refused) => assert_eq!(refused.error().kind(), ErrorKind::Cancelled),
        }
        drop(owned);
        drop(entered);
    });
}

#[test]
fn model_i_with_answers_before_the_cancel_or_is_refused_after_it() {
    explore(None, || {
        let family = Family::new();
        let entered = family.child.enter();
        let owned = family.registry.own(()).unwrap();
        let canceller = {
            let child = Arc::clone(&family.child);
            thread::spawn(move || child.request_cancel())
        };
        if let Err(error) = owned.with(|()| ()) {
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        }
        canceller.join().unwrap();
        assert_eq!(owned.with(|()| ()).unwrap_err().kind(), ErrorKind::Cancelled);
        drop(owned);
        drop(entered);
    });
}

/// A real socket: the canceller's real shutdown is what the owner must not mistake for an end.
fn socket(family: &Family) -> (Owned<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (family.registry.own_fd(ours).unwrap(), theirs)
}

#[test]
fn model_e_a_cancel_during_a_rejoin_flags_whatever_is_left() {
    explore(None, || {
        let family = Family::new();
        let entered = family.child.enter();
        let (whole, _peer) = socket(&family);
        let (reading, writing) = whole.split().unwrap();
        let canceller = {
            let child = Arc::clone(&family.child);
            thread::spawn(move || child.request_cancel())
        };
        let rejoined = reading.rejoin(writing);
        canceller.join().unwrap();
        match rejoined {
            Ok(whole) => {
                assert_eq!(whole.check().unwrap_err().kind(), ErrorKind::Cancelled);
                whole.release().unwrap();
            }
            Err(refused) => {
                let (error, halves) = refused.into_parts();
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                let (reading, writing) = halves.unwrap();
                assert_eq!(reading.check().unwrap_err().kind(), ErrorKind::Cancelled);
                assert_eq!(writing.check().unwrap_err().kind(), ErrorKind::Cancelled);
            }
        }
        assert_eq!(family.child.account().entries().count(), 0);
        drop(entered);
    });
}

#[test]
fn model_e_a_cancel_during_a_split_flags_whatever_is_left() {
    explore(None, || {
        let family = Family::new();
        let entered = family.child.enter();
        let (whole, _peer) = socket(&family);
        let canceller = {
            let child = Arc::clone(&family.child);
            thread::spawn(move || child.request_cancel())
        };
        match whole.split() {
            Ok((reading, writing)) => {
                canceller.join().unwrap();
                assert_eq!(reading.check().unwrap_err().kind(), ErrorKind::Cancelled);
                assert_eq!(writing.check().unwrap_err().kind(), ErrorKind::Cancelled);
            }
            Err(refused) => {
                canceller.join().unwrap();
                assert_eq!(refused.error().kind(), ErrorKind::Cancelled);
            }
        }
        assert_eq!(family.child.account().entries().count(), 0);
        drop(entered);
    });
}
