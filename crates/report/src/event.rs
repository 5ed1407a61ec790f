//! The kinds of steps in a custody.

use std::fmt;

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize))]
#[cfg_attr(feature = "json", serde(rename_all = "snake_case"))]
pub enum Event {
    /// A task became its first owner.
    Acquired,
    /// A parent gave it to a child that it spawned.
    Given,
    /// A child transferred it to its parent.
    Transferred,
    /// Its owner offered it.
    Offered,
    /// A task claimed the offer.
    Claimed,
    /// Its owner parked it in a lot, on the account of the lot's task.
    Parked,
    /// A task unparked it.
    Unparked,
    /// An unclaimed offer passed to the account of the offerer's parent.
    Inherited,
    /// It was split into halves, or created as one half.
    Split,
    /// Two halves were rejoined.
    Rejoined,
    /// It was received from another process.
    Received,
    /// It was sent to another process, which may take over.
    Shared,
    /// Another process took over.
    HandedOver,
    /// A give was undone because the child could not be started.
    Returned,
    /// Its owner gave it up without finalizing it.
    Disowned,
    /// Its owner finalized it.
    Released,
    /// Its handle was dropped, which finalized it.
    Dropped,
    /// The end of its task finalized it.
    Finalized,
    /// Its descriptor was found closed or replaced outside the registry.
    Replaced,
}

impl Event {
    /// Whether one of the step's two parties is another process.
    #[must_use]
    pub fn has_process(self) -> bool {
        matches!(self, Event::Received | Event::Shared | Event::HandedOver)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Event::Acquired => "acquired",
            Event::Given => "given",
            Event::Transferred => "transferred",
            Event::Offered => "offered",
            Event::Claimed => "claimed",
            Event::Parked => "parked",
            Event::Unparked => "unparked",
            Event::Inherited => "inherited",
            Event::Split => "split",
            Event::Rejoined => "rejoined",
            Event::Received => "received",
            Event::Shared => "shared",
            Event::HandedOver => "handed over",
            Event::Returned => "returned",
            Event::Disowned => "disowned",
            Event::Released => "released",
            Event::Dropped => "dropped",
            Event::Finalized => "finalized",
            Event::Replaced => "replaced",
        })
    }
}
