//! The history of a number: its last events.

use super::misuse::EventKind;
use super::stacks::Call;

/// Numbers from this one on are not recorded. Four times the maximum of `select`.
pub(super) const NUMBERS_MAX: usize = 4096;

/// The length of a history.
pub(super) const EVENTS_MAX: usize = 8;

/// One event.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) kind: EventKind,
    pub(super) call: Call,
}

impl Event {
    pub(super) const NONE: Event = Event { kind: EventKind::None, call: Call::NONE };
}

/// The last events of a number. Valid if all bytes are zero.
#[derive(Clone, Copy)]
pub(super) struct History {
    count: u32,
    events: [Event; EVENTS_MAX],
}

impl History {
    /// Adds an event, and returns its number, counted from 1.
    pub(super) fn add(&mut self, event: Event) -> u32 {
        self.events[self.count as usize % EVENTS_MAX] = event;
        self.count += 1;
        self.count
    }

    /// The number of the last event.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn set_kind(&mut self, number: u32, kind: EventKind) {
        if let Some(event) = self.event(number) {
            event.kind = kind;
        }
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Some(event) = self.event(number) {
            *event = Event::NONE;
            if number == self.count {
                self.count -= 1;
            }
        }
    }

    /// The events in their order.
    pub(super) fn events(&self) -> impl Iterator<Item = Event> + '_ {
        let first = self.count.saturating_sub(EVENTS_MAX as u32);
        let all = (first..self.count).map(|number| self.events[number as usize % EVENTS_MAX]);
        all.filter(|event| event.kind != EventKind::None)
    }

    fn event(&mut self, number: u32) -> Option<&mut Event> {
        let is_kept = number > 0 && self.count - number < EVENTS_MAX as u32;
        is_kept.then(|| &mut self.events[(number - 1) as usize % EVENTS_MAX])
    }
}
