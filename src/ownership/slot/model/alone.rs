//! Models of the slot alone. Their threads are its owners, cancellers, and visitors that pin it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering as StdOrdering};

use loom::sync::Condvar;
use loom::thread;

use super::super::{PIN_ONE, PINS_BITS, PinPurpose, Slot, SlotState};
use super::{CLOSED, FakeFd, close, explore};
use crate::sync::{Mutex, lock};
use crate::sys::loom_probe::LoomProbe;

const PARENT: u64 = 1;
const CHILD: u64 = 2;

#[test]
fn model_a_of_two_operators_the_one_that_is_not_the_owner_is_rejected() {
    explore(Some(4), || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = FakeFd::open();
        let non_owner = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                if slot.held_by(CHILD) {
                    number.call();
                    unreachable!("a non-owner passed the check");
                }
                assert!(slot.begin_with(CHILD).is_err() && slot.offer(CHILD).is_err());
                assert!(slot.hand_over(CHILD, 3).is_err() && slot.begin_close(CHILD).is_err());
            })
        };
        assert!(slot.held_by(PARENT));
        number.call();
        slot.begin_close(PARENT).unwrap();
        close(&slot, &number);
        non_owner.join().unwrap();
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_b_a_childs_writes_before_its_transfer_are_seen_by_the_new_owner() {
    explore(None, || {
        let slot = Arc::new(Slot::new(CHILD));
        // Exclusive: a child's write to the value, which the parent reads.
        let value = Arc::new(LoomProbe::new());
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
fn model_b_a_new_owner_that_closes_unchecked_closes_after_the_old_owners_last_use() {
    explore(None, || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = FakeFd::open();
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

fn a_pinning_visitor_never_uses_a_reused_number(purpose: PinPurpose) {
    explore(None, move || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = FakeFd::open();
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
        let reuser = {
            let (number, table) = (Arc::clone(&number), Arc::clone(&table));
            thread::spawn(move || {
                let _table = lock(&table);
                if number.occupant.load(StdOrdering::Relaxed) == CLOSED {
                    number.reuse();
                }
            })
        };
        slot.begin_close(PARENT).unwrap();
        slot.wait_for_pins();
        {
            let _table = lock(&table);
            number.close();
        }
        slot.end_close();
        visitor.join().unwrap();
        reuser.join().unwrap();
        assert_eq!(number.closes(), 1);
    });
}

#[test]
fn model_c_a_cancellers_shutdown_never_hits_a_reused_number() {
    a_pinning_visitor_never_uses_a_reused_number(PinPurpose::Cancel);
}

#[test]
fn model_c_a_description_never_reads_a_reused_number() {
    a_pinning_visitor_never_uses_a_reused_number(PinPurpose::Inspect);
}

#[test]
fn model_c_two_visitors_are_both_waited_for() {
    explore(Some(2), || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = FakeFd::open();
        let visitors = [PinPurpose::Cancel, PinPurpose::Inspect].map(|purpose| {
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
fn model_d_a_new_owner_is_not_cancelled_with_the_old_one() {
    explore(None, || {
        let slot = Arc::new(Slot::new(CHILD));
        let number = FakeFd::open();
        let canceller = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                let pinned = slot.pin(CHILD, PinPurpose::Cancel).is_ok();
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
fn end_half(half: &Slot, whole: &Slot, number: &FakeFd, owner: u64) {
    half.begin_close(owner).unwrap();
    half.wait_for_pins();
    number.call();
    if whole.drop_half() {
        close(whole, number);
    }
    half.end_close();
}

#[test]
fn model_e_the_later_half_closes_once_and_after_all_uses_of_both() {
    explore(Some(3), || {
        let whole = Arc::new(Slot::new(PARENT));
        whole.split(PARENT).unwrap();
        let (reading, writing) = (Arc::new(Slot::new(PARENT)), Arc::new(Slot::new(CHILD)));
        let number = FakeFd::open();
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
                if half.pin(PARENT, PinPurpose::Cancel).is_ok() {
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
        assert_eq!(whole.load().state(), SlotState::Released);
    });
}

#[test]
fn model_e_a_pin_from_before_the_split_is_waited_for_by_the_later_half() {
    explore(None, || {
        let whole = Arc::new(Slot::new(PARENT));
        let number = FakeFd::open();
        let visitor = {
            let (whole, number) = (Arc::clone(&whole), Arc::clone(&number));
            thread::spawn(move || {
                if whole.pin(PARENT, PinPurpose::Inspect).is_ok() {
                    number.call();
                    whole.unpin();
                }
            })
        };
        whole.split(PARENT).unwrap();
        assert!(!whole.drop_half(), "the first half leaves the number open");
        assert!(whole.drop_half());
        close(&whole, &number);
        visitor.join().unwrap();
    });
}

#[test]
fn model_f_of_two_closers_one_wins() {
    explore(None, || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = FakeFd::open();
        let closer = |slot: &Arc<Slot>, number: &Arc<FakeFd>| {
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
        let value = Arc::new(LoomProbe::new());
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
        let number = FakeFd::open();
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
                let pinned = slot.pin(PARENT, PinPurpose::Cancel);
                if pinned.is_ok() {
                    slot.unpin();
                }
                assert!(pinned.is_ok(), "held or busy, it is there: {pinned:?}");
            })
        };
        if slot.begin_with(PARENT).is_ok() {
            slot.end_with();
        }
        canceller.join().unwrap();
        assert!(slot.is_cancelled());
        assert!(!slot.held_by(PARENT) && slot.begin_with(PARENT).is_err());
    });
}

#[test]
fn model_h_a_replacement_noticed_while_the_owner_is_inside_with_is_marked_once() {
    explore(Some(4), || {
        let slot = Arc::new(Slot::new(PARENT));
        let finder = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || slot.mark_replaced())
        };
        if slot.begin_with(PARENT).is_ok() {
            slot.end_with();
        }
        let here = slot.mark_replaced();
        assert!(here != finder.join().unwrap(), "one of the two marked it first");
        assert!(!slot.held_by(PARENT) && slot.pin(PARENT, PinPurpose::Cancel).is_err());
    });
}

#[test]
fn model_j_the_pin_after_the_last_one_waits_and_spoils_no_neighbouring_field() {
    explore(Some(2), || {
        let slot = Arc::new(Slot::new(PARENT));
        let number = FakeFd::open();
        let most = PINS_BITS / PIN_ONE;
        for _ in 0..most {
            slot.pin(PARENT, PinPurpose::Inspect).unwrap();
        }
        assert_eq!(slot.load().owner(), PARENT);
        let late = {
            let (slot, number) = (Arc::clone(&slot), Arc::clone(&number));
            thread::spawn(move || {
                slot.pin(PARENT, PinPurpose::Inspect).unwrap();
                assert_eq!(slot.load().owner(), PARENT, "pins run over into the owner");
                number.call();
                slot.unpin();
            })
        };
        slot.unpin();
        late.join().unwrap();
        for _ in 1..most {
            slot.unpin();
        }
        assert_eq!((slot.load().owner(), slot.load().pins()), (PARENT, 0));
        slot.begin_close(PARENT).unwrap();
        close(&slot, &number);
    });
}

#[test]
fn model_k_a_call_that_a_cancellers_shutdown_woke_returns_cancelled() {
    explore(None, || {
        let slot = Arc::new(Slot::new(CHILD));
        // The socket's lock and wait queue, inside the kernel.
        let socket = Arc::new((Mutex::new(false), Condvar::new()));
        let canceller = {
            let (slot, socket) = (Arc::clone(&slot), Arc::clone(&socket));
            thread::spawn(move || {
                slot.pin(CHILD, PinPurpose::Cancel).unwrap();
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
