//! Sweeps: loops that close a range of numbers, open or not, as programs do before an `exec`. Their
//! failing closes are no double closes.
//!
//! A sweep is a run: one thread closes ascending or descending numbers at one place. It closes some
//! numbers that were never open, or many in succession that are closed.

use super::stacks::Call;

/// The number of runs that are followed at the same time.
const RUNS_MAX: usize = 8;

/// The largest step of a run. A sweep leaves out what it keeps open.
const STEP_MAX: u32 = 4;

/// The length from which a run is a sweep, if at least [`NEVER_OPEN_MIN`] of its numbers were never
/// open.
const LENGTH_MIN: u32 = 3;

/// See [`LENGTH_MIN`]. One number may be a mistake.
const NEVER_OPEN_MIN: u32 = 2;

/// The length from which a run of closed numbers alone is a sweep. Shorter than a table of
/// descriptors, longer than the descriptors in a struct.
const CLOSED_MIN: u32 = 16;

/// What the close of a number found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Open,
    /// Closed, and opened before.
    Closed,
    NeverOpen,
}

#[derive(Clone, Copy)]
struct Run {
    /// The id, counted from 1; 0 if this place is free.
    id: u32,
    closer: Call,
    last: i32,
    is_descending: bool,
    length: u32,
    /// The number of closed numbers since the last open one.
    closed: u32,
    never_open: u32,
    is_sweep: bool,
}

/// The runs that are followed. Valid if all bytes are zero.
pub(super) struct Runs {
    runs: [Run; RUNS_MAX],
    last_id: u32,
}

/// The run to which a close belongs, and whether it is a sweep.
#[derive(Clone, Copy)]
pub(super) struct InRun {
    pub(super) id: u32,
    pub(super) is_sweep: bool,
}

impl Runs {
    /// Adds a close to its run.
    pub(super) fn add(&mut self, closer: Call, number: i32, found: Found) -> InRun {
        let place = match self.runs.iter().position(|run| run.goes_on(closer, number)) {
            Some(place) => place,
            None => {
                self.last_id += 1;
                // The place of an earlier run of this closer, or else of the oldest run.
                let same = self.runs.iter().position(|run| run.closer.is_alike(closer));
                let place = same.unwrap_or(self.last_id as usize % RUNS_MAX);
                self.runs[place] = Run {
                    id: self.last_id,
                    closer,
                    last: number,
                    is_descending: false,
                    length: 0,
                    closed: 0,
                    never_open: 0,
                    is_sweep: false,
                };
                place
            }
        };
        let run = &mut self.runs[place];
        run.is_descending = number < run.last;
        run.last = number;
        run.length += 1;
        match found {
            Found::Open => run.closed = 0,
            Found::Closed => run.closed += 1,
            Found::NeverOpen => {
                run.closed += 1;
                run.never_open += 1;
            }
        }
        let has_never_open = run.length >= LENGTH_MIN && run.never_open >= NEVER_OPEN_MIN;
        run.is_sweep |= has_never_open || run.closed >= CLOSED_MIN;
        InRun { id: run.id, is_sweep: run.is_sweep }
    }
}

impl Run {
    fn goes_on(&self, closer: Call, number: i32) -> bool {
        let step = number.abs_diff(self.last);
        let is_same_way = self.length == 1 || self.is_descending == (number < self.last);
        self.closer.is_alike(closer) && (1..=STEP_MAX).contains(&step) && is_same_way
    }
}
