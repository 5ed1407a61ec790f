//! The shipped moves between accounts, with the shipped tasks and locks.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use loom::thread;

use echown_report::{Event, Site};

use super::super::{PinPurpose, SlotState};
use super::{FakeFd, explore};
use crate::ownership::account::TaskPhase;
use crate::ownership::closing::complete_close;
use crate::ownership::error::{Error, ErrorKind};
use crate::ownership::record::{Labelled, Managed, Record};
use crate::ownership::registry::Registry;
use crate::ownership::task::exit;
use crate::ownership::task::{self, Origin, Task};
use crate::ownership::{Level, Owned, Policy};

/// A resource on a task's account whose finalizer closes a modelled number.
struct Thing {
    record: Record,
    number: Arc<FakeFd>,
}

// A panic fails the whole model, so the state after it does not matter.
impl std::panic::UnwindSafe for Thing {}
impl std::panic::RefUnwindSafe for Thing {}

impl Managed for Thing {
    fn record(&self) -> &Record {
        &self.record
    }

    fn finalize(&self, _: &dyn Labelled, _: Site) -> Result<(), Error> {
        self.number.close();
        self.number.reuse();
        Ok(())
    }

    fn drop_in_fork(&self) {}
}

/// Two tasks, parent and child, in a quiet registry: refusals are looked at by the models.
pub(super) struct Family {
    pub(super) registry: Registry,
    pub(super) parent: Arc<Task>,
    pub(super) child: Arc<Task>,
}

impl Family {
    pub(super) fn new() -> Family {
        let registry = Registry::builder().level(Level::Off).on_violation(Policy::Ignore).build();
        let task = |name: &str, origin, parent| {
            Task::new(name.into(), origin, Some(&registry), parent, Site::here())
        };
        let parent = task("parent", Origin::LocalRoot, None);
        let child = task("child", Origin::Child, Some(Arc::clone(&parent)));
        Family { registry, parent, child }
    }

    /// Something that `owner` owns.
    pub(super) fn own(&self, owner: &Task) -> (Arc<dyn Managed>, Arc<FakeFd>) {
        let number = FakeFd::open();
        let record = Record::new(self.registry.clone(), "thing", None, owner, Site::here());
        let held: Arc<dyn Managed> = Arc::new(Thing { record, number: Arc::clone(&number) });
        held.record().set_position(owner.account().push(Arc::clone(&held)));
        (held, number)
    }
}

/// How often `held` stands on the account.
fn entries(task: &Task, held: &Arc<dyn Managed>) -> usize {
    task.account().entries().filter(|entry| entry.record().id == held.record().id).count()
}

/// Asserts that slot and accounts agree: only the owner has the entry.
pub(super) fn assert_on_the_owners_account(family: &Family, held: &Arc<dyn Managed>) {
    let owner = held.record().slot.load().owner();
    for task in [&family.parent, &family.child] {
        let expected = usize::from(task.id().get() == owner);
        assert_eq!(entries(task, held), expected, "{task:?}, owner {owner}");
    }
}

/// A drop by a non-owner, as `Handle::drop` does it. The caller has the handle exclusively.
pub(super) fn drop_elsewhere(held: &Arc<dyn Managed>, me: &Task, wanted: SlotState) -> bool {
    let won = task::begin_close(held, &[wanted]).is_ok();
    if won {
        complete_close(&**held, me, Event::Dropped, Site::here()).unwrap();
    }
    won
}

#[test]
fn model_d_a_transfer_comes_before_the_cancel_or_is_rejected_as_cancelled() {
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
                assert_eq!(slot.load().owner(), family.child.id().get());
            }
        }
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_d_the_parents_cancel_flags_the_transferred_or_rejects_the_transfer() {
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
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                assert!(slot.held_by(family.child.id().get()));
            }
        }
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_d_a_give_comes_before_the_parents_cancel_or_all_of_it_is_rejected() {
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
            thread::spawn(move || drop_elsewhere(&held, &parent, SlotState::Held))
        };
        let ended = exit::run(&family.child, || (), std::convert::identity);
        assert!(ended.is_ok(), "level off tells no leaks: {ended:?}");
        elsewhere.join().unwrap();
        assert_eq!(number.closes(), 1);
        assert_eq!(held.record().slot.load().state(), SlotState::Released);
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
            thread::spawn(move || drop_elsewhere(&held, &parent, SlotState::Held))
        };
        let _ = task::transfer(&family.child, &held, Site::here());
        assert!(elsewhere.join().unwrap(), "no other path closes it");
        assert_eq!(number.closes(), 1);
        for task in [&family.parent, &family.child] {
            assert_eq!(entries(task, &held), 0);
        }
    });
}

#[test]
fn model_f_a_canceller_of_an_ending_task_never_uses_a_reused_number() {
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
                        listed && slot.pin(child.id().get(), PinPurpose::Cancel).is_ok()
                    }
                };
                if pinned {
                    number.call();
                    held.record().slot.unpin();
                }
            })
        };
        let _ = exit::run(&family.child, || (), std::convert::identity);
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
                let me = Task::new(name, Origin::LocalRoot, Some(&registry), None, Site::here());
                task::claim(&me, &held, Site::here()).unwrap();
                assert!(held.record().slot.held_by(me.id().get()));
                assert_eq!(entries(&me, &held), 1);
                drop_elsewhere(&held, &me, SlotState::Held)
            })
        };
        family.child.account().phase = TaskPhase::Ending;
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
            thread::spawn(move || drop_elsewhere(&held, &parent, SlotState::Offered))
        };
        let _ = exit::run(&family.child, || (), std::convert::identity);
        assert!(
            dropper.join().unwrap(),
            "the parent's account keeps it for the holder of the offer"
        );
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_g_an_offer_that_passes_to_a_parent_that_exits_is_finalized_once() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.child);
        held.record().slot.offer(family.child.id().get()).unwrap();
        let child = {
            let (held, child) = (Arc::clone(&held), Arc::clone(&family.child));
            // The steps of the child's exit that concern an offer.
            thread::spawn(move || {
                child.account().phase = TaskPhase::Ending;
                task::pass_offers_on(&child, Site::here());
                entries(&child, &held) == 1 && drop_elsewhere(&held, &child, SlotState::Offered)
            })
        };
        let _ = exit::run(&family.parent, || (), std::convert::identity);
        child.join().unwrap();
        assert_eq!(number.closes(), 1);
        for task in [&family.parent, &family.child] {
            assert_eq!(entries(task, &held), 0);
        }
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
fn model_i_with_returns_before_the_cancel_or_is_rejected_after_it() {
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

/// A real socket: the owner must not take the canceller's shutdown for the end of the stream.
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
