//! One resource's state machine: the only compare-and-swap in the crate.
//!
//! # The failure this prevents
//!
//! Thread A decides to write to descriptor 9. Thread B closes 9. Thread C accepts a connection and
//! is handed 9 again. A's bytes go to C's peer, and nobody is told. So a number may be used only
//! by its owner, closed only once, and never while somebody who is entitled to it has it in hand.
//!
//! # The word
//!
//! Everything that decides this fits one 64-bit word, so that every transition is one step:
//!
//! ```text
//! 63            16 15      8  7      6 5        4         3        2     0
//! +---------------+---------+--------+--------+-----------+---------+
//! |  owner (48)   | pins(8) | halves | robbed | cancelled | state(3)|
//! +---------------+---------+--------+--------+-----------+---------+
//! ```
//!
//! - `owner`: the task that holds the resource, or on whose account an offer stands; 0 for none.
//! - `pins`: how many others (a canceller, somebody describing the resource) use the number right
//!   now. Closing waits for them.
//! - `halves`: how many halves of a split resource are still alive.
//! - `cancelled`: the owner was cancelled; `robbed`: the number no longer is this resource.
//!
//! The table of states and events, and why no number is used after its close, are in
//! `docs/proof.md`; the models at the end of this room check the shipped source.

use std::fmt;

use crate::sync::{AtomicU64, Ordering, yield_now};

#[cfg(all(test, echown_loom))]
mod model;

const STATE_BITS: u64 = 0b111;
const CANCELLED: u64 = 1 << 3;
const REPLACED: u64 = 1 << 4;
const HALF_ONE: u64 = 1 << 6;
const HALVES_BITS: u64 = 0b11 << 6;
const PIN_ONE: u64 = 1 << 8;
const PINS_BITS: u64 = 0xff << 8;
const OWNER_SHIFT: u32 = 16;

/// The largest owner a word can hold. Ids are counted up from 1: at a million tasks a second this
/// lasts for nine years.
pub(crate) const OWNER_MAX: u64 = u64::MAX >> OWNER_SHIFT;

/// Where a resource stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum SlotState {
    /// Finalized or disowned; nothing can be done any more.
    Released = 0,
    /// One task owns it.
    Held = 1,
    /// Its owner is inside `with`.
    Busy = 2,
    /// Given up for whoever claims it, on its offerer's account.
    Offered = 3,
    /// Two halves stand for it.
    Split = 4,
    /// Somebody won the right to finalize it and is doing so.
    Closing = 5,
}

/// A word, taken apart.
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
            f.write_str(", robbed")?;
        }
        Ok(())
    }
}

/// One resource's state; see the module's introduction.
pub(crate) struct Slot {
    word: AtomicU64,
}

impl Slot {
    /// A slot held by `owner`.
    pub(crate) fn new(owner: u64) -> Slot {
        Slot { word: AtomicU64::new(Word::new(SlotState::Held, owner).0) }
    }

    /// Whether `me` owns the resource and nothing forbids its use. The check in front of every
    /// operation: one load.
    #[inline]
    pub(crate) fn held_by(&self, me: u64) -> bool {
        self.check(me).is_ok()
    }

    /// As [`held_by`](Slot::held_by); answers the word that was refused, so that the refusal says
    /// what was found and not what has become of it since.
    #[inline]
    pub(crate) fn check(&self, me: u64) -> Result<(), Word> {
        // ord: Acquire; partner: the Release half of `change` in `hand_over`. A task that finds
        // itself owner sees all that the previous owner did with the resource. Weaker, a parent
        // could use what its child transferred before the child's last use has happened.
        let word = Word(self.word.load(Ordering::Acquire));
        if word.is_usable_by(me) { Ok(()) } else { Err(word) }
    }

    /// Whether the resource can be used by anybody at all: the reduced check of level `off`.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        // ord: Relaxed; no partner. The answer is yes before a hand-over as well as after it, so it
        // proves nothing about who came first, and no ordering could make it.
        let word = Word(self.word.load(Ordering::Relaxed));
        matches!(word.state(), SlotState::Held | SlotState::Busy)
            && word.0 & (CANCELLED | REPLACED) == 0
    }

    /// Whether the owner was cancelled; asked after every system call.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // ord: Relaxed; no partner here. What woke the system call (a shutdown) came after the flag,
        // and the lock inside the kernel, which the shutdown left and the woken call entered,
        // orders the two; see docs/proof.md. Nothing else that the canceller did is read.
        self.word.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// The word at this moment, for messages and for choosing a path; never for permission.
    pub(crate) fn load(&self) -> Word {
        // ord: Relaxed; no partner. A path is taken by `change`, which looks again. A message asks
        // the record's history under its lock: the entry was made before the word became Released,
        // so who has seen that finds the entry.
        Word(self.word.load(Ordering::Relaxed))
    }

    /// The one compare-and-swap: applies `change` until it sticks or refuses.
    ///
    /// Answers the word before the change, or the word that was refused.
    fn update(&self, mut change: impl FnMut(Word) -> Option<Word>) -> Result<Word, Word> {
        let mut word = self.load();
        loop {
            let Some(next) = change(word) else {
                return Err(word);
            };
            // ord: AcqRel on success; partners: `check`, `wait_for_pins`, and this same line. Release, so
            // that the next owner, the other half or the closer sees what we did: weaker, it could
            // use or close the number before our last use. Acquire, to see what was done before
            // the resource was let go: weaker, a claimer, who does not check, could use it before its
            // offerer's last use.
            // ord: Relaxed on failure; the fresh word only proposes the next attempt, and nothing
            // is touched before one has succeeded.
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

    /// Held(`from`) -> Held(`to`): give and transfer. Pins stay: they are about the number, which
    /// does not change. A cancelled or robbed resource goes nowhere.
    pub(crate) fn hand_over(&self, from: u64, to: u64) -> Result<(), Word> {
        self.update(|word| word.is_usable_by(from).then(|| word.with_owner(to))).map(drop)
    }

    /// Held(`from`) -> Held(`to`), whatever the flags: undoes a [`hand_over`](Slot::hand_over) to a
    /// child that never came to be. A theft may have been noticed meanwhile; the resource must
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

    /// Held(`me`) -> Busy(`me`): the owner goes into `with`.
    pub(crate) fn begin_with(&self, me: u64) -> Result<(), Word> {
        self.update(|word| word.is_usable_by(me).then(|| word.with_state(SlotState::Busy)))
            .map(drop)
    }

    /// Busy -> Held: the owner comes back. Flags that were set meanwhile stay.
    pub(crate) fn end_with(&self) {
        let left = self.update(|word| {
            (word.state() == SlotState::Busy).then(|| word.with_state(SlotState::Held))
        });
        debug_assert!(left.is_ok(), "left a slot that was not busy: {left:?}");
    }

    /// Pins the number for somebody who is not the owner, as long as `owner` holds it: until
    /// [`unpin`](Slot::unpin) nobody closes it.
    ///
    /// A canceller sets `cancelled` in the same step, so that there is no moment in which the
    /// owner is woken and doesn't know why, nor one in which the number can go.
    pub(crate) fn pin(&self, owner: u64, purpose: PinPurpose) -> Result<(), Word> {
        loop {
            let answer = self.update(|word| {
                let live = matches!(word.state(), SlotState::Held | SlotState::Busy);
                (live
                    && word.owner() == owner
                    && !word.is_replaced()
                    && word.0 & PINS_BITS != PINS_BITS)
                    .then(|| match purpose {
                        PinPurpose::Cancel => Word((word.0 | CANCELLED) + PIN_ONE),
                        PinPurpose::Inspect => Word(word.0 + PIN_ONE),
                    })
            });
            match answer {
                // All 255 pins are taken, each for a few system calls that do not wait.
                Err(word) if word.0 & PINS_BITS == PINS_BITS => yield_now(),
                other => {
                    #[cfg(all(test, not(echown_loom)))]
                    pins::count(other.is_ok().into());
                    return other.map(drop);
                }
            }
        }
    }

    /// Takes a pin back.
    pub(crate) fn unpin(&self) {
        // ord: Release; partner: the Acquire load in `wait_for_pins`. The closer must see our use of
        // the number as over before it closes it.
        let before = Word(self.word.fetch_sub(PIN_ONE, Ordering::Release));
        #[cfg(all(test, not(echown_loom)))]
        pins::count(-1);
        debug_assert!(before.pins() > 0, "unpinned without a pin: {before:?}");
    }

    /// Held(`owner`) or Offered(`owner`) -> Closing: whoever gets `Ok` finalizes, once and alone,
    /// after [`wait_for_pins`](Slot::wait_for_pins) and before [`closed`](Slot::closed).
    ///
    /// Allowed to the owner's thread and to the exclusive holder of the handle or the offer.
    pub(crate) fn begin_close(&self, owner: u64) -> Result<Word, Word> {
        self.update(|word| {
            let open = matches!(word.state(), SlotState::Held | SlotState::Offered);
            (open && word.owner() == owner).then(|| word.with_state(SlotState::Closing))
        })
    }

    /// Waits until nobody has the number in hand. No new pin is granted while closing, and each that
    /// was granted is given back after system calls that do not wait: those that describe this
    /// resource, or those that shut down what its owner had when it was cancelled or drained, so this
    /// ends.
    pub(crate) fn wait_for_pins(&self) {
        // ord: Acquire; partner: the Release of `unpin`. Weaker, the close could overtake the
        // canceller's shutdown, which would then hit whoever got the number next.
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

    /// Marks the number as no longer meaning this resource. True for the one who marked it first.
    pub(crate) fn mark_replaced(&self) -> bool {
        self.update(|word| {
            let open = !matches!(word.state(), SlotState::Released | SlotState::Closing);
            (open && !word.is_replaced()).then_some(Word(word.0 | REPLACED))
        })
        .is_ok()
    }

    /// Held(`me`) -> Split with two halves, owned by nobody itself.
    pub(crate) fn split(&self, me: u64) -> Result<(), Word> {
        self.update(|word| {
            word.is_usable_by(me)
                .then(|| word.with_state(SlotState::Split).with_owner(0).with_halves(2))
        })
        .map(drop)
    }

    /// One half is gone. True for the last one, which then is closing the whole.
    pub(crate) fn drop_half(&self) -> bool {
        let left = self.update(|word| match (word.state(), word.halves()) {
            (SlotState::Split, 2) => Some(word.with_halves(1)),
            (SlotState::Split, 1) => Some(word.with_halves(0).with_state(SlotState::Closing)),
            _ => None,
        });
        match left {
            Ok(before) => before.halves() == 1,
            Err(word) => unreachable!("a half left a whole that is {word:?}"),
        }
    }

    /// Split -> Held(`me`), by the task that has both halves in hand.
    pub(crate) fn rejoin(&self, me: u64) -> Result<(), Word> {
        self.update(|word| {
            (word.state() == SlotState::Split && word.halves() == 2)
                .then(|| word.with_state(SlotState::Held).with_owner(me).with_halves(0))
        })
        .map(drop)
    }
}

impl Word {
    /// Held by `me`, and neither cancelled nor robbed.
    fn is_usable_by(self, me: u64) -> bool {
        self.0 & !PINS_BITS == me << OWNER_SHIFT | SlotState::Held as u64
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.load().fmt(f)
    }
}

/// Somebody else's number in hand, until this is dropped, also by unwinding.
pub(crate) struct PinGuard<'a>(&'a Slot);

impl Slot {
    /// [`pin`](Slot::pin) that takes itself back.
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

/// Why somebody pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinPurpose {
    /// To shut the descriptor down and have its owner answer `Cancelled`.
    Cancel,
    /// To ask the kernel about it, or to end its reading softly.
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

    /// The most pins that this thread held at one moment while `f` ran, and what `f` answered.
    pub(crate) fn most<R>(f: impl FnOnce() -> R) -> (isize, R) {
        MOST.set(HELD.get());
        let answer = f();
        (MOST.get(), answer)
    }
}
