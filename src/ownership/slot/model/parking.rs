//! Models of parking: workers with events, the lot's own task, cancellers, closers, and a late event for
//! the next owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering as StdOrdering};

use loom::thread;

use echown_report::Site;

use super::super::{PinPurpose, Slot, SlotState, Unpark};
use super::moves::{Family, assert_on_the_owners_account, drop_elsewhere};
use super::{FakeFd, close, explore};
use crate::ownership::error::ErrorKind;
use crate::ownership::task::{self, exit};
use crate::sys::loom_probe::LoomProbe;

const LOT: u64 = 1;
const WORKER: u64 = 2;
const OTHER: u64 = 3;

/// A connection with what has arrived at it. Its owner uses it exclusively.
struct Connection {
    slot: Slot,
    value: LoomProbe,
    /// Events that were not served. Like [`FakeFd`]'s occupant, it orders nothing.
    unread: AtomicU32,
}

impl Connection {
    fn held_by(owner: u64) -> Arc<Connection> {
        Arc::new(Connection {
            slot: Slot::new(owner),
            value: LoomProbe::new(),
            unread: AtomicU32::new(0),
        })
    }

    fn parked() -> Arc<Connection> {
        let connection = Connection::held_by(LOT);
        assert_eq!(connection.slot.park(LOT, LOT), Ok(true));
        connection
    }

    /// Something arrives, and `me` gets the event.
    fn event(&self, me: u64) {
        self.unread.fetch_add(1, StdOrdering::Relaxed);
        if self.slot.unpark(LOT, me) == Ok(Unpark::Claimed) {
            self.serve(me);
        }
    }

    /// Reads all, and parks it, until nothing has arrived meanwhile.
    fn serve(&self, me: u64) {
        loop {
            self.value.exclude(|| self.unread.store(0, StdOrdering::Relaxed));
            if self.slot.park(me, LOT).expect("it is held") {
                break;
            }
        }
    }

    fn assert_served(&self) {
        assert_eq!(self.unread.load(StdOrdering::Relaxed), 0, "an event was lost");
        assert_eq!(self.slot.load().state(), SlotState::Parked);
        assert_eq!(self.slot.unpark(LOT, LOT), Ok(Unpark::Claimed));
        self.value.exclude(|| ());
    }
}

#[test]
fn model_o_of_two_workers_with_an_event_one_at_a_time_serves_and_both_are_served() {
    explore(None, || {
        let connection = Connection::parked();
        let other = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.event(OTHER))
        };
        connection.event(WORKER);
        other.join().unwrap();
        connection.assert_served();
    });
}

#[test]
fn model_o_an_event_during_parking_is_served_by_one_of_both() {
    explore(Some(3), || {
        let connection = Connection::held_by(WORKER);
        let others = [LOT, OTHER].map(|me| {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.event(me))
        });
        connection.serve(WORKER);
        others.into_iter().for_each(|other| other.join().unwrap());
        connection.assert_served();
    });
}

#[test]
fn model_o_a_late_event_follows_the_connection_to_its_next_owner() {
    explore(None, || {
        let connection = Connection::held_by(WORKER);
        let other = {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection.event(LOT))
        };
        connection.value.exclude(|| ());
        connection.slot.hand_over(WORKER, OTHER).unwrap();
        assert!(connection.slot.held_by(OTHER));
        connection.serve(OTHER);
        other.join().unwrap();
        connection.assert_served();
    });
}

#[test]
fn model_o_the_lots_task_and_a_worker_do_not_both_claim() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.parent);
        assert!(task::park_in_own_lot(&family.parent, &*held, Site::here()).unwrap());
        let worker = {
            let (held, number) = (Arc::clone(&held), Arc::clone(&number));
            let (lot, child) = (Arc::clone(&family.parent), Arc::clone(&family.child));
            thread::spawn(move || {
                let outcome = task::unpark(&child, &lot, &held, Site::here()).unwrap();
                let is_mine = outcome == Some(Unpark::Claimed);
                assert_eq!(is_mine, held.record().slot.held_by(child.id().get()));
                if is_mine {
                    number.call();
                }
                is_mine
            })
        };
        let outcome = task::unpark_in_own_lot(&family.parent, &*held, Site::here()).unwrap();
        let is_mine = outcome == Some(Unpark::Claimed);
        assert_eq!(is_mine, held.record().slot.held_by(family.parent.id().get()));
        if is_mine {
            number.call();
        }
        assert_ne!(worker.join().unwrap(), is_mine, "one of the two claims it");
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_o_a_parked_resource_is_claimed_before_the_lots_cancel_or_flagged_by_it() {
    explore(None, || {
        let family = Family::new();
        let (held, _) = family.own(&family.parent);
        task::park_in_own_lot(&family.parent, &*held, Site::here()).unwrap();
        let canceller = {
            let lot = Arc::clone(&family.parent);
            thread::spawn(move || lot.request_cancel())
        };
        let claimed = task::unpark(&family.child, &family.parent, &held, Site::here()).unwrap();
        canceller.join().unwrap();
        let slot = &held.record().slot;
        assert_eq!(claimed, (!slot.is_cancelled()).then_some(Unpark::Claimed));
        assert_eq!(slot.held_by(family.child.id().get()), claimed.is_some());
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_o_parking_comes_before_the_lots_cancel_which_flags_it_or_is_rejected() {
    explore(None, || {
        let family = Family::new();
        let (held, _) = family.own(&family.child);
        let canceller = {
            let lot = Arc::clone(&family.parent);
            thread::spawn(move || lot.request_cancel())
        };
        let parked = task::park(&family.child, &family.parent, &held, Site::here());
        canceller.join().unwrap();
        let slot = &held.record().slot;
        match parked {
            Ok(is_parked) => assert!(is_parked && slot.is_cancelled()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ParentExiting);
                assert!(slot.held_by(family.child.id().get()));
            }
        }
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_o_the_lots_own_task_takes_no_lock_and_is_flagged_all_the_same() {
    explore(None, || {
        let family = Family::new();
        let lot = &family.parent;
        let (held, number) = family.own(lot);
        let canceller = {
            let lot = Arc::clone(lot);
            thread::spawn(move || lot.request_cancel())
        };
        number.call();
        let outcome = task::park_in_own_lot(lot, &*held, Site::here())
            .and_then(|_| task::unpark_in_own_lot(lot, &*held, Site::here()));
        canceller.join().unwrap();
        assert!(held.record().slot.is_cancelled(), "in whatever state the canceller found it");
        match outcome {
            Ok(outcome) => assert_eq!(outcome, Some(Unpark::Claimed)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
        }
        assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_o_a_claim_against_the_end_of_the_lots_task_closes_it_once() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.parent);
        task::park_in_own_lot(&family.parent, &*held, Site::here()).unwrap();
        let worker = {
            let (held, number) = (Arc::clone(&held), Arc::clone(&number));
            let (lot, child) = (Arc::clone(&family.parent), Arc::clone(&family.child));
            thread::spawn(move || {
                let outcome = task::unpark(&child, &lot, &held, Site::here()).unwrap();
                if outcome == Some(Unpark::Claimed) {
                    number.call();
                    assert!(drop_elsewhere(&held, &child, SlotState::Held));
                }
            })
        };
        let _ = exit::run(&family.parent, || (), std::convert::identity);
        worker.join().unwrap();
        assert_eq!(number.closes(), 1);
        assert_eq!(family.parent.account().entries().count(), 0);
    });
}

#[test]
fn model_o_a_description_of_a_parked_resource_is_waited_for() {
    explore(None, || {
        let slot = Arc::new(Slot::new(LOT));
        let number = FakeFd::open();
        assert_eq!(slot.park(LOT, LOT), Ok(true));
        let visitor = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                let pin = slot.pin_guard(LOT, PinPurpose::Inspect);
                if pin.is_some() {
                    number.call();
                }
            })
        };
        if slot.unpark(LOT, WORKER) == Ok(Unpark::Claimed) {
            number.call();
            slot.begin_close(WORKER).unwrap();
            close(&slot, &number);
        }
        visitor.join().unwrap();
        assert_eq!(number.closes(), 1);
    });
}
