//! `Driver`: runs machines on a thread, each as an inline task of the machine that requested it.
//!
//! The machine that has the payload is the current task of the thread, so that the payload's descriptor
//! is its own. A request runs the helper as an inline child, which is given the descriptor; a reply
//! ends this child, which transfers the descriptor to its parent. So the stack is as deep as the
//! hierarchy of machines, however many requests are served.
//!
//! ```text
//! lock ─> events, until the queue is empty ─> unlock ─> wait in the current task ─> lock ...
//!           │ request: run_inline             A cancel or drain of the thread's task reaches the
//!           v reply: transfer, return         machine that waits: it runs in that task's place.
//! ```
//!
//! The lock is held from one wait to the next, so that the events that one wait causes are adjacent in
//! the trace.
//!
//! # Failures
//!
//! A cancelled task can neither start a child nor get anything back. A machine whose task cannot start
//! runs in the task of its requester; a descriptor that cannot be transferred is released by the
//! machine that has it. The machines go on either way, until each is idle again. A wait that panics
//! counts as a failed descriptor (`D2`); its panic is resumed when the machines are idle.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Actions, Event, MachineId, Machines, WaitFor};
use crate::ownership::{Registry, Resource, RunInlineError, TaskError};

/// What the machines of a program serve: a connection with all that belongs to it. At any moment one
/// machine has it.
pub(crate) trait Payload {
    /// The resource that moves with it, if there is one now.
    fn resource(&self) -> Option<Resource>;

    /// Transfers the resource to the parent of the current task, or releases it.
    fn transfer(&mut self);

    /// Waits. Returns the event for the machine.
    fn wait(&mut self, wait_for: WaitFor) -> Event;
}

/// Runs the machines that serve one payload, on the thread that calls it.
pub(crate) struct Driver<'a, T: Actions<Payload: Payload>> {
    machines: &'a Mutex<Machines<T>>,
    registry: &'a Registry,
    /// Called after each unlock.
    after_unlock: &'a dyn Fn(),
    /// The lock, from one wait to the next.
    locked: Option<MutexGuard<'a, Machines<T>>>,
    payload: T::Payload,
    /// The first panic of a wait.
    panic: Option<Box<dyn Any + Send>>,
}

impl<'a, T: Actions<Payload: Payload>> Driver<'a, T> {
    /// Runs the machine that `begin` returns, and every machine that it requests, until it has nothing to
    /// wait for. The current task owns the resource of `payload`, and owns it again afterwards. Calls
    /// `after_unlock` each time that `machines` were unlocked.
    pub(crate) fn run(
        machines: &'a Mutex<Machines<T>>,
        registry: &'a Registry,
        payload: T::Payload,
        after_unlock: &'a dyn Fn(),
        begin: impl FnOnce(&mut Machines<T>) -> Option<MachineId>,
    ) -> T::Payload {
        let mut driver =
            Driver { machines, registry, after_unlock, locked: None, payload, panic: None };
        if let Some(first) = begin(driver.lock().0) {
            driver.call(first, None);
        }
        driver.unlock();
        match driver.panic {
            Some(panic) => resume_unwind(panic),
            None => driver.payload,
        }
    }

    /// Runs a machine as a child of the current task.
    fn call(&mut self, me: MachineId, requester: Option<MachineId>) {
        let name = self.lock().0.scheduler.name(me).to_owned();
        let give = self.payload.resource();
        let ended = self.registry.run_inline(&name, give, || {
            self.act(me, requester);
            self.payload.transfer();
        });
        match ended {
            Err(RunInlineError::Refused(_)) => self.act(me, requester),
            Err(RunInlineError::Failed(TaskError::Panicked(panic))) => {
                self.lock().0.scheduler.discard();
                resume_unwind(panic.into_payload());
            }
            // A leak has been reported, and a cancelled task has released what it had.
            Ok(()) | Err(RunInlineError::Failed(_)) => {}
        }
    }

    /// Runs a machine in the current task: delivers events and waits, until it replies to its requester
    /// or has nothing to wait for.
    fn act(&mut self, me: MachineId, requester: Option<MachineId>) {
        loop {
            let (machines, payload) = self.lock();
            match machines.run(Some(payload)) {
                Some(receiver) if Some(receiver) == requester => return,
                Some(receiver) => self.call(receiver, Some(me)),
                None => {
                    let Some(wait_for) = machines.scheduler.wait_for.take() else { return };
                    self.unlock();
                    let payload = &mut self.payload;
                    let waited = catch_unwind(AssertUnwindSafe(|| payload.wait(wait_for)));
                    let event = waited.unwrap_or_else(|panic| {
                        self.panic.get_or_insert(panic);
                        Event::D(2)
                    });
                    let machines = self.lock().0;
                    if machines.actions.is_stopped() {
                        return;
                    }
                    machines.scheduler.enqueue(me, event);
                }
            }
        }
    }

    fn lock(&mut self) -> (&mut Machines<T>, &mut T::Payload) {
        let locked = self
            .locked
            .get_or_insert_with(|| self.machines.lock().unwrap_or_else(PoisonError::into_inner));
        (locked, &mut self.payload)
    }

    fn unlock(&mut self) {
        self.locked = None;
        (self.after_unlock)();
    }
}
