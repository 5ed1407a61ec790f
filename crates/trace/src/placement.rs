//! Placement: the tracer and a thread that stops often run on one processor.
//!
//! A stop is a hand-over between two threads. On one processor it costs about 4 us; between two, of
//! which one may sleep, 15 to 100. So a thread that stops often is put on the tracer's processor, and
//! gets its own mask back when it stops less.
//!
//! # Limits
//! One thread at a time is placed. The program's own `sched_setaffinity` and `sched_getaffinity` see the
//! mask of the program, because the tracer undoes the placement before them.

use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Stops that follow one another in less than this are counted.
const NEAR: Duration = Duration::from_micros(300);

/// After how many near stops a thread is placed.
const STOPS: u32 = 4;

/// How long a placed thread may run without a stop.
pub(crate) const IDLE: Duration = Duration::from_millis(5);

/// The state of the placement.
#[derive(Debug)]
pub(crate) struct Placement {
    is_enabled: bool,
    placed: Option<Placed>,
    /// The tracer's own mask.
    own: Option<CpuSet>,
    last_task: i32,
    last_stop: Instant,
    near_stops: u32,
}

#[derive(Debug)]
struct Placed {
    task: i32,
    mask: CpuSet,
    last_stop: Instant,
}

impl Placement {
    /// Nothing is placed. On a machine with one processor nothing ever is.
    pub(crate) fn new(is_enabled: bool) -> Placement {
        let own = sched_getaffinity(None).ok();
        let has_several = own.as_ref().is_some_and(|mask| mask.count() > 1);
        Placement {
            is_enabled: is_enabled && has_several,
            placed: None,
            own,
            last_task: 0,
            last_stop: Instant::now(),
            near_stops: 0,
        }
    }

    /// A task has stopped. Returns whether a placement began.
    pub(crate) fn stopped(&mut self, task: i32, now: Instant) -> bool {
        if !self.is_enabled {
            return false;
        }
        if let Some(placed) = &mut self.placed
            && placed.task == task
        {
            placed.last_stop = now;
            return false;
        }
        let is_near = self.last_task == task && now - self.last_stop < NEAR;
        self.near_stops = if is_near { self.near_stops + 1 } else { 0 };
        (self.last_task, self.last_stop) = (task, now);
        if self.near_stops < STOPS || self.placed.is_some() {
            return false;
        }
        self.near_stops = 0;
        self.place(task, now)
    }

    fn place(&mut self, task: i32, now: Instant) -> bool {
        let Some(pid) = Pid::from_raw(task) else { return false };
        let Ok(mask) = sched_getaffinity(Some(pid)) else { return false };
        let cpu = sched_getcpu();
        let mut one = CpuSet::new();
        one.set(cpu);
        if !mask.is_set(cpu) || sched_setaffinity(Some(pid), &one).is_err() {
            return false;
        }
        let _ = sched_setaffinity(None, &one);
        self.placed = Some(Placed { task, mask, last_stop: now });
        true
    }

    /// Whether a thread is placed.
    pub(crate) fn is_active(&self) -> bool {
        self.placed.is_some()
    }

    /// Undoes the placement if the thread has not stopped for a while.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.placed.as_ref().is_some_and(|placed| now - placed.last_stop >= IDLE) {
            self.undo();
        }
    }

    /// Undoes the placement of a task, before it is asked for its mask or ends.
    pub(crate) fn undo_for(&mut self, task: i32) {
        if self.placed.as_ref().is_some_and(|placed| placed.task == task) {
            self.undo();
        }
    }

    /// Undoes the placement.
    pub(crate) fn undo(&mut self) {
        let Some(placed) = self.placed.take() else { return };
        // It fails if the task is gone.
        if let Some(pid) = Pid::from_raw(placed.task) {
            let _ = sched_setaffinity(Some(pid), &placed.mask);
        }
        if let Some(own) = &self.own {
            let _ = sched_setaffinity(None, own);
        }
    }

    /// Gives the child of a placed thread the mask that its parent had.
    pub(crate) fn created(&self, parent: i32, child: i32) {
        if let Some(placed) = &self.placed
            && placed.task == parent
            && let Some(pid) = Pid::from_raw(child)
        {
            let _ = sched_setaffinity(Some(pid), &placed.mask);
        }
    }
}
