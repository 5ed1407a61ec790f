//! `Slot`: the state machine of one resource, with the only compare-and-swap in the crate.
//!
//! # The failure this prevents
//!
//! Thread A decides to write to descriptor 9. Thread B closes 9. Thread C accepts a connection and the
//! kernel returns 9 again. A's bytes go to C's peer, and no error is reported. So a number may be used
//! only by its owner, closed only once, and never while another task uses it with permission.
//!
//! # The word
//!
//! The whole state fits one 64-bit word, so every transition is one atomic step:
//!
//! ```text
//! 63            16 15      8  7      6 5      4          3           2     0
//! +---------------+---------+--------+-------+----------+-----------+---------+
//! |  owner (48)   | pins(8) | halves | ready | replaced | cancelled | state(3)|
//! +---------------+---------+--------+-------+----------+-----------+---------+
//! ```
//!
//! - `owner`: the task that holds the resource, or whose account has the offer or the parked resource;
//!   0 for none.
//! - `pins`: how many other threads (a canceller, a description of the resource) use the number right
//!   now. A close waits for them.
//! - `halves`: how many halves of a split resource are still alive.
//! - `cancelled`: the owner was cancelled.
//! - `replaced`: the number no longer refers to this resource.
//! - `ready`: it became ready while it was not parked, so that its owner has to look before it parks it.
//!
//! The table of states and events, and the argument that no number is used after its close, are in
//! `docs/proof.md`. The models in `slot/model` check the shipped source.

use std::fmt;

use crate::sync::{AtomicU64, Ordering, yield_now};

#[cfg(all(test, echown_loom))]
mod model;

const STATE_BITS: u64 = 0b111;
const CANCELLED: u64 = 1 << 3;
const REPLACED: u64 = 1 << 4;
const READY: u64 = 1 << 5;
const HALF_ONE: u64 = 1 << 6;
const HALVES_BITS: u64 = 0b11 << 6;
const PIN_ONE: u64 = 1 << 8;
const PINS_BITS: u64 = 0xff << 8;
const OWNER_SHIFT: u32 = 16;

/// The largest owner that fits in a word. Ids are assigned from 1 upwards: at a million tasks per second
/// they last for nine years.
pub(crate) const OWNER_MAX: u64 = u64::MAX >> OWNER_SHIFT;

/// The state of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum SlotState {
    /// Finalized or disowned; no further operation is possible.
    Released = 0,
    /// One task owns it.
    Held = 1,
    /// Its owner is inside `with`.
    Busy = 2,
    /// On its offerer's account, until a task claims it.
    Offered = 3,
    /// Replaced by its two halves.
    Split = 4,
    /// Being finalized by the thread that won the right to do so.
    Closing = 5,
    /// On the account of a lot's task, until a task unparks it.
    Parked = 6,
}

/// What [`Slot::unpark`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpark {
    /// The caller holds it now.
    Claimed,
    /// A task holds it and will find the mark.
    Marked,
}

/// A word, with accessors for its fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    fn new(state: SlotState, owner: u64) -> Word {
        debug_assert!(owner <= OWNER_MAX, "task id {owner} exceeds the owner field");
        Word(owner << OWNER_SHIFT | state as u64)
    }

    pub(crate) fn state(self) -> SlotState {
        match self.0 & STATE_BITS {
            0 => SlotState::Released,
            1 => SlotState::Held,
            2 => SlotState::Busy,
            3 => SlotState::Offered,
            4 => SlotState::Split,
            5 => SlotState::Closing,
            6 => SlotState::Parked,
            impossible => unreachable!("slot state {impossible}"),
        }
    }

    pub(crate) fn owner(self) -> u64 {
        self.0 >> OWNER_SHIFT
    }

    pub(crate) fn is_cancelled(self) -> bool {
        self.0 & CANCELLED != 0
    }

    pub(crate) fn is_replaced(self) -> bool {
        self.0 & REPLACED != 0
    }

    fn is_ready(self) -> bool {
        self.0 & READY != 0
    }

    fn pins(self) -> u64 {
        (self.0 & PINS_BITS) / PIN_ONE
    }

    fn halves(self) -> u64 {
        (self.0 & HALVES_BITS) / HALF_ONE
    }

    fn with_state(self, state: SlotState) -> Word {
        Word(self.0 & !STATE_BITS | state as u64)
    }

    fn with_owner(self, owner: u64) -> Word {
        debug_assert!(owner <= OWNER_MAX, "task id {owner} exceeds the owner field");
        Word(self.0 & !(OWNER_MAX << OWNER_SHIFT) | owner << OWNER_SHIFT)
    }

    fn with_halves(self, halves: u64) -> Word {
        Word(self.0 & !HALVES_BITS | (halves * HALF_ONE))
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {}", self.state(), self.owner())?;
        if self.pins() > 0 {
            write!(f, ", {} pins", self.pins())?;
        }
        if self.halves() > 0 {
            write!(f, ", {} halves", self.halves())?;
        }
        if self.is_cancelled() {
            f.write_str(", cancelled")?;
        }
        if self.is_replaced() {
            f.write_str(", replaced")?;
        }
        if self.is_ready() {
            f.write_str(", ready")?;
        }
        Ok(())
    }
}

/// The state of one resource; see the module's documentation.
pub(crate) struct Slot {
    word: AtomicU64,
}

impl Slot {
    /// A slot held by `owner`.
    pub(crate) fn new(owner: u64) -> Slot {
        Slot { word: AtomicU64::new(Word::new(SlotState::Held, owner).0) }
    }

    /// Whether `me` owns the resource and may use it. The check before every operation: one load.
    #[inline]
    pub(crate) fn held_by(&self, me: u64) -> bool {
        self.check(me).is_ok()
    }

    /// [`held_by`](Slot::held_by) that returns the rejected word, so that the error describes what the
    /// check found and not a later state.
    #[inline]
    pub(crate) fn check(&self, me: u64) -> Result<(), Word> {
        // ord: Acquire; partner: the Release half of `update` in `hand_over`. A task that finds itself the
        // owner sees everything that the previous owner did with the resource. With a weaker ordering, a
        // parent could use what its child transferred before the child's last use has happened.
        let word = Word(self.word.load(Ordering::Acquire));
        if word.is_usable_by(me) { Ok(()) } else { Err(word) }
    }

    /// Whether any task can use the resource: the reduced check of level `off`.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        // ord: Relaxed; no partner. The result is true before a hand-over as well as after it, so it
        // says nothing about their order, whatever ordering is used.
        let word = Word(self.word.load(Ordering::Relaxed));
        matches!(word.state(), SlotState::Held | SlotState::Busy)
            && word.0 & (CANCELLED | REPLACED) == 0
    }

    /// Whether the owner was cancelled. Checked after every system call.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // ord: Relaxed; no partner here. The shutdown that woke the system call came after the flag, and
        // the lock inside the kernel, which the shutdown released and the woken call acquired, orders the
        // two; see docs/proof.md. Nothing else that the canceller wrote is read.
        self.word.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// The current word, for messages and for choosing a path, never for permission.
    pub(crate) fn load(&self) -> Word {
        // ord: Relaxed; no partner. A path is taken by `update`, which reads the word again. A message
        // reads the record's history under its lock: the entry was made before the word became Released,
        // so a thread that has seen Released finds the entry.
        Word(self.word.load(Ordering::Relaxed))
    }

    /// The one compare-and-swap: retries `change` until its result is stored, or until it returns `None`.
    ///
    /// Returns the word before the change, or the word that was rejected.
    fn update(&self, mut change: impl FnMut(Word) -> Option<Word>) -> Result<Word, Word> {
        let mut word = self.load();
        loop {
            let Some(next) = change(word) else {
                return Err(word);
            };
            // ord: AcqRel on success; partners: `check`, `wait_for_pins`, and this same line. Release, so
            // that the next owner, the other half or the closer sees what this thread did: without it, they
            // could use or close the number before this thread's last use. Acquire, to see what was done
            // before the resource was given up: without it, a claimer, which does not check, could use the
            // resource before its offerer's last use.
            // ord: Relaxed on failure; the fresh word is only the input of the next attempt, and nothing
            // is used before an attempt has succeeded.
            match self.word.compare_exchange_weak(
                word.0,
                next.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(word),
                Err(fresh) => word = Word(fresh),
            }
        }
    }

    /// Held(`from`) -> Held(`to`): give and transfer. Pins stay, because the number does not change. A
    /// cancelled or replaced resource cannot be moved.
    pub(crate) fn hand_over(&self, from: u64, to: u64) -> Result<(), Word> {
        self.update(|word| word.is_usable_by(from).then(|| word.with_owner(to))).map(drop)
    }

    /// Held(`from`) -> Held(`to`), with any flags: undoes a [`hand_over`](Slot::hand_over) to a child
    /// that was not started. The number may have been marked as replaced meanwhile; the resource must
    /// still be on the account of a task that will end.
    pub(crate) fn hand_back(&self, from: u64, to: u64) -> Result<(), Word> {
        self.update(|word| {
            (word.state() == SlotState::Held && word.owner() == from).then(|| word.with_owner(to))
        })
        .map(drop)
    }

    /// Held(`me`) -> Offered(`me`).
    pub(crate) fn offer(&self, me: u64) -> Result<(), Word> {
        self.update(|word| word.is_usable_by(me).then(|| word.with_state(SlotState::Offered)))
            .map(drop)
    }

    /// Offered(`account`) -> Held(`to`).
    pub(crate) fn claim(&self, account: u64, to: u64) -> Result<(), Word> {
        self.update(|word| {
            (word.state() == SlotState::Offered && word.owner() == account)
                .then(|| word.with_state(SlotState::Held).with_owner(to))
        })
        .map(drop)
    }

    /// Offered(`from`) -> Offered(`to`): an unclaimed offer passes to the parent's account.
    pub(crate) fn pass_offer(&self, from: u64, to: u64) -> Result<(), Word> {
        self.update(|word| {
            (word.state() == SlotState::Offered && word.owner() == from)
                .then(|| word.with_owner(to))
        })
        .map(drop)
    }

    /// Held(`me`) -> Parked(`lot`), unless it became ready meanwhile: then the mark is removed, and it stays
    /// with its owner, which has to look again. Returns whether it is parked.
    pub(crate) fn park(&self, me: u64, lot: u64) -> Result<bool, Word> {
        self.update(|word| {
            word.is_usable_by(me).then(|| match word.is_ready() {
                true => Word(word.0 & !READY),
                false => word.with_state(SlotState::Parked).with_owner(lot),
            })
        })
        .map(|before| !before.is_ready())
    }

    /// Parked(`lot`) -> Held(`me`); or the mark `ready`, if a task holds it.
    ///
    /// One step, and one word that both sides change: a resource that became ready is either claimed, or
    /// its owner finds the mark when it parks it. The mark is stored again if it is set, so that the
    /// owner that removes it sees what every marker saw.
    pub(crate) fn unpark(&self, lot: u64, me: u64) -> Result<Unpark, Word> {
        let before = self.update(|word| match word.state() {
            SlotState::Parked => (word.owner() == lot && !word.is_cancelled())
                .then(|| word.with_state(SlotState::Held).with_owner(me)),
            SlotState::Held | SlotState::Busy => Some(Word(word.0 | READY)),
            _ => None,
        })?;
        Ok(match before.state() {
            SlotState::Parked => Unpark::Claimed,
            _ => Unpark::Marked,
        })
    }

    /// Sets the mark `ready`, if a task holds the resource: the part of [`unpark`](Slot::unpark) that a task
    /// can do that accepts nothing more.
    pub(crate) fn mark_ready(&self) -> Result<(), Word> {
        self.update(|word| {
            matches!(word.state(), SlotState::Held | SlotState::Busy)
                .then_some(Word(word.0 | READY))
        })
        .map(drop)
    }

    /// Held(`me`) -> Busy(`me`): the owner enters `with`.
    pub(crate) fn begin_with(&self, me: u64) -> Result<(), Word> {
        self.update(|word| word.is_usable_by(me).then(|| word.with_state(SlotState::Busy)))
            .map(drop)
    }

    /// Busy -> Held: the owner returns from `with`. Flags that were set meanwhile stay.
    pub(crate) fn end_with(&self) {
        let left = self.update(|word| {
            (word.state() == SlotState::Busy).then(|| word.with_state(SlotState::Held))
        });
        debug_assert!(left.is_ok(), "left a slot that was not busy: {left:?}");
    }

    /// Pins the number for a thread that is not the owner's, if `owner` holds it or has it parked on its
    /// account: it is not closed until [`unpin`](Slot::unpin).
    ///
    /// A canceller sets `cancelled` in the same step. So the owner never wakes without the flag, and the
    /// number cannot be closed between the flag and the shutdown.
    pub(crate) fn pin(&self, owner: u64, purpose: PinPurpose) -> Result<(), Word> {
        loop {
            let result = self.update(|word| {
                let live =
                    matches!(word.state(), SlotState::Held | SlotState::Busy | SlotState::Parked);
                (live
                    && word.owner() == owner
                    && !word.is_replaced()
                    && word.0 & PINS_BITS != PINS_BITS)
                    .then(|| match purpose {
                        PinPurpose::Cancel => Word((word.0 | CANCELLED) + PIN_ONE),
                        PinPurpose::Inspect => Word(word.0 + PIN_ONE),
                    })
            });
            match result {
                // All 255 pins are in use, each for a few system calls that do not block.
                Err(word) if word.0 & PINS_BITS == PINS_BITS => yield_now(),
                other => {
                    #[cfg(all(test, not(echown_loom)))]
                    pins::count(other.is_ok().into());
                    return other.map(drop);
                }
            }
        }
    }

    /// Removes a pin.
    pub(crate) fn unpin(&self) {
        // ord: Release; partner: the Acquire load in `wait_for_pins`. The closer must see our use of
        // the number as over before it closes it.
        let before = Word(self.word.fetch_sub(PIN_ONE, Ordering::Release));
        #[cfg(all(test, not(echown_loom)))]
        pins::count(-1);
        debug_assert!(before.pins() > 0, "unpinned without a pin: {before:?}");
    }

    /// Held(`owner`), Offered(`owner`) or Parked(`owner`) -> Closing. Only the caller that gets `Ok`
    /// finalizes, once, after [`wait_for_pins`](Slot::wait_for_pins) and before
    /// [`end_close`](Slot::end_close).
    ///
    /// May be called by the owner's thread and by the exclusive holder of the handle or the offer.
    pub(crate) fn begin_close(&self, owner: u64) -> Result<Word, Word> {
        self.update(|word| {
            let open =
                matches!(word.state(), SlotState::Held | SlotState::Offered | SlotState::Parked);
            (open && word.owner() == owner).then(|| word.with_state(SlotState::Closing))
        })
    }

    /// Waits until no other thread uses the number. This ends: no new pin is granted while closing, and
    /// each granted pin is removed after system calls that do not block. Those describe this resource,
    /// or shut down what its owner had when it was cancelled or drained.
    pub(crate) fn wait_for_pins(&self) {
        // ord: Acquire; partner: the Release of `unpin`. With a weaker ordering the close could happen
        // before the canceller's shutdown, which would then hit the next owner of the number.
        while self.word.load(Ordering::Acquire) & PINS_BITS != 0 {
            yield_now();
        }
    }

    /// Closing -> Released.
    pub(crate) fn end_close(&self) {
        let closed = self.update(|word| {
            (word.state() == SlotState::Closing).then_some(Word::new(SlotState::Released, 0))
        });
        debug_assert!(closed.is_ok(), "closed a slot that was not closing: {closed:?}");
    }

    /// Marks that the number no longer refers to this resource. Returns true for the first caller.
    pub(crate) fn mark_replaced(&self) -> bool {
        self.update(|word| {
            let open = !matches!(word.state(), SlotState::Released | SlotState::Closing);
            (open && !word.is_replaced()).then_some(Word(word.0 | REPLACED))
        })
        .is_ok()
    }

    /// Held(`me`) -> Split with two halves and without an owner.
    pub(crate) fn split(&self, me: u64) -> Result<(), Word> {
        self.update(|word| {
            word.is_usable_by(me)
                .then(|| word.with_state(SlotState::Split).with_owner(0).with_halves(2))
        })
        .map(drop)
    }

    /// Removes one half. Returns true for the last one, whose caller then closes the whole.
    pub(crate) fn drop_half(&self) -> bool {
        let left = self.update(|word| match (word.state(), word.halves()) {
            (SlotState::Split, 2) => Some(word.with_halves(1)),
            (SlotState::Split, 1) => Some(word.with_halves(0).with_state(SlotState::Closing)),
            _ => None,
        });
        match left {
            Ok(before) => before.halves() == 1,
            Err(word) => unreachable!("a half was dropped of a whole that is {word:?}"),
        }
    }

    /// Split -> Held(`me`), by the task that owns both halves.
    pub(crate) fn rejoin(&self, me: u64) -> Result<(), Word> {
        self.update(|word| {
            (word.state() == SlotState::Split && word.halves() == 2)
                .then(|| word.with_state(SlotState::Held).with_owner(me).with_halves(0))
        })
        .map(drop)
    }
}

impl Word {
    /// Held by `me`, and neither cancelled nor replaced.
    #[inline]
    fn is_usable_by(self, me: u64) -> bool {
        self.0 & !(PINS_BITS | READY) == me << OWNER_SHIFT | SlotState::Held as u64
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

/// A pin that is removed on drop, also while unwinding.
pub(crate) struct PinGuard<'a>(&'a Slot);

impl Slot {
    /// [`pin`](Slot::pin) with a guard that removes the pin.
    pub(crate) fn pin_guard(&self, owner: u64, purpose: PinPurpose) -> Option<PinGuard<'_>> {
        self.pin(owner, purpose).ok()?;
        Some(PinGuard(self))
    }
}

impl Drop for PinGuard<'_> {
    fn drop(&mut self) {
        self.0.unpin();
    }
}

/// The purpose of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinPurpose {
    /// To shut down the descriptor, with the flag that makes its owner return `Cancelled`.
    Cancel,
    /// To read its addresses from the kernel, or to shut down its reading.
    Inspect,
}

/// Counts the pins of a thread, for tests.
#[cfg(all(test, not(echown_loom)))]
pub(crate) mod pins {
    use std::cell::Cell;

    thread_local! {
        static HELD: Cell<isize> = const { Cell::new(0) };
        static MOST: Cell<isize> = const { Cell::new(0) };
    }

    pub(super) fn count(more: isize) {
        HELD.set(HELD.get() + more);
        MOST.set(MOST.get().max(HELD.get()));
    }

    /// The maximum number of pins that this thread held at one moment while `f` ran, and `f`'s result.
    pub(crate) fn most<R>(f: impl FnOnce() -> R) -> (isize, R) {
        MOST.set(HELD.get());
        let result = f();
        (MOST.get(), result)
    }
}
