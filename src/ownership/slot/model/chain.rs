//! Models of the chain of tasks on one thread, and of resources that return to a task that was cancelled or
//! drained meanwhile.
//!
//! In each model one thread cancels or drains the outer task while the other moves a socket between
//! it and a child. The canceller must reach the socket wherever it is, or the mover must.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;

use echown_report::{Event, Site};

use super::explore;
use super::moves::Family;
use crate::ownership::error::{Error, ErrorKind};
use crate::ownership::record::Managed;
use crate::ownership::task::exit;
use crate::ownership::task::{self, Task};
use crate::ownership::{Owned, Registry, TaskError};

/// A socket of the current task's, and its peer. A shut socket is seen by its peer.
fn socket(registry: &Registry) -> (Owned<UnixStream>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (registry.own_fd(ours).unwrap(), theirs)
}

/// Explores a model in which the outer task of a family owns a socket and runs.
fn explore_with_socket(
    bound: Option<usize>,
    model: impl Fn(&Family, &Owned<UnixStream>) + Send + Sync + 'static,
) {
    explore(bound, move || {
        let family = Family::new();
        let entered = family.parent.enter();
        let (owned, _peer) = socket(&family.registry);
        model(&family, &owned);
        drop(owned);
        drop(entered);
    });
}

/// Gives the socket to the child.
fn give(family: &Family, owned: &Owned<UnixStream>) -> Result<(), Error> {
    let held: [Arc<dyn Managed>; 1] = [owned.handle().held()];
    task::give(&family.parent, &family.child, &held, Event::Given, Site::here())
}

/// Whether reading from the socket would block: nothing has shut it.
fn would_block(owned: &Owned<UnixStream>) -> bool {
    let read = owned.with(|stream| stream.read(&mut [0])).unwrap();
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn cancelling(task: &Arc<Task>) -> thread::JoinHandle<()> {
    let task = Arc::clone(task);
    thread::spawn(move || task.request_cancel())
}

fn draining(task: &Arc<Task>) -> thread::JoinHandle<()> {
    let task = Arc::clone(task);
    thread::spawn(move || task.request_drain())
}

/// Gives the socket to the child, which runs `f` inline.
fn inline(family: &Family, owned: &Owned<UnixStream>, f: impl FnOnce()) {
    if give(family, owned).is_ok() {
        let ended = exit::run(&family.child, f, std::convert::identity);
        if let Err(TaskError::Panicked(panic)) = ended {
            std::panic::resume_unwind(panic.into_payload());
        }
    }
}

#[test]
fn model_l_a_cancel_reaches_what_was_given_to_an_inline_child() {
    explore_with_socket(None, |family, owned| {
        let canceller = cancelling(&family.parent);
        let mut canceller = Some(canceller);
        inline(family, owned, || {
            canceller.take().unwrap().join().unwrap();
            assert_eq!(owned.check().unwrap_err().kind(), ErrorKind::Cancelled);
        });
        if let Some(canceller) = canceller {
            canceller.join().unwrap();
        }
        // By whichever way: flagged here, or finalized by the child.
        assert_eq!(owned.check().unwrap_err().kind(), ErrorKind::Cancelled);
    });
}

#[test]
fn model_l_a_drain_reaches_what_was_given_to_an_inline_child() {
    explore_with_socket(Some(3), |family, owned| {
        let drainer = draining(&family.parent);
        inline(family, owned, || {
            drainer.join().unwrap();
            assert!(!would_block(owned));
        });
    });
}

#[test]
fn model_l_a_drain_reaches_what_an_inline_child_transfers() {
    explore_with_socket(Some(3), |family, owned| {
        give(family, owned).unwrap();
        let drainer = draining(&family.parent);
        let up = || owned.transfer().unwrap();
        exit::run(&family.child, up, std::convert::identity).unwrap();
        drainer.join().unwrap();
        assert!(!would_block(owned));
    });
}

#[test]
fn model_l_a_cancelled_task_never_uses_what_its_inline_child_transfers() {
    explore_with_socket(None, |family, owned| {
        give(family, owned).unwrap();
        let canceller = cancelling(&family.parent);
        let moved = exit::run(&family.child, || owned.transfer(), std::convert::identity);
        if let Ok(Err(error)) = moved {
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        }
        canceller.join().unwrap();
        assert_eq!(owned.check().unwrap_err().kind(), ErrorKind::Cancelled);
    });
}

#[test]
fn model_m_what_a_failed_spawn_hands_back_is_cancelled_with_its_task() {
    explore(None, || {
        let family = Family::new();
        let (held, _) = family.own(&family.parent);
        let things = [Arc::clone(&held)];
        let canceller = cancelling(&family.parent);
        let given = task::give(&family.parent, &family.child, &things, Event::Given, Site::here());
        if given.is_ok() {
            task::return_all(&family.child, &family.parent, &things, Site::here());
        }
        canceller.join().unwrap();
        let slot = &held.record().slot;
        assert!(slot.is_cancelled());
        assert_eq!(slot.load().owner(), family.parent.id().get());
        super::moves::assert_on_the_owners_account(&family, &held);
    });
}

#[test]
fn model_m_what_is_dropped_elsewhere_during_a_failed_spawn_is_closed_once() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.parent);
        let things = [Arc::clone(&held)];
        task::give(&family.parent, &family.child, &things, Event::Given, Site::here()).unwrap();
        let elsewhere = {
            let (held, parent) = (Arc::clone(&held), Arc::clone(&family.parent));
            thread::spawn(move || {
                super::moves::drop_elsewhere(&held, &parent, super::super::SlotState::Held)
            })
        };
        task::return_all(&family.child, &family.parent, &things, Site::here());
        assert!(elsewhere.join().unwrap(), "nothing else closes it");
        assert_eq!(number.closes(), 1);
        for task in [&family.parent, &family.child] {
            assert_eq!(task.account().entries().count(), 0);
        }
    });
}

#[test]
fn model_m_what_a_failed_spawn_hands_back_is_drained_with_its_task() {
    explore_with_socket(Some(3), |family, owned| {
        let drainer = draining(&family.parent);
        give(family, owned).unwrap();
        let held: [Arc<dyn Managed>; 1] = [owned.handle().held()];
        task::return_all(&family.child, &family.parent, &held, Site::here());
        drainer.join().unwrap();
        assert!(!would_block(owned));
    });
}

#[test]
fn model_n_a_child_that_is_cancelled_before_it_has_a_thread_ends_once() {
    explore(None, || {
        let family = Family::new();
        let (held, number) = family.own(&family.parent);
        let things = [Arc::clone(&held)];
        task::give(&family.parent, &family.child, &things, Event::Given, Site::here()).unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let runs = Arc::clone(&ran);
        family.child.set_job(move |child| {
            let body = || assert!(!runs.swap(true, Ordering::Relaxed), "it runs twice");
            let _ = exit::run(child, body, std::convert::identity);
        });
        let canceller = cancelling(&family.child);
        family.child.execute();
        canceller.join().unwrap();
        assert!(family.child.has_ended());
        assert_eq!(number.closes(), 1);
        assert_eq!(family.child.account().entries().count(), 0);
    });
}
