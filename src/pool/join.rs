//! Join and cancel functions for several children at once.

use crate::ownership::closing::drop_catching;
use crate::ownership::{ErrorKind, Promise, Site, TaskError};

/// Waits until the first of several children ends, cancels the others, and returns the first result
/// when all of them have ended.
///
/// The first end counts, whether it is a success or not.
///
/// # Errors
/// See [`Promise::join`]. [`TaskError::Refused`] returns one promise of a task that is not a child of
/// the current task. The children among the others are cancelled.
///
/// # Panics
/// If `promises` is empty.
#[track_caller]
pub fn first<T>(promises: impl IntoIterator<Item = Promise<T>>) -> Result<T, TaskError<T>> {
    let site = Site::here();
    let mut promises: Vec<Promise<T>> = promises.into_iter().collect();
    assert!(!promises.is_empty(), "first of no promises");
    let mut me = None;
    for index in 0..promises.len() {
        match promises[index].check_parent(site) {
            Ok(parent) => me = Some(parent),
            Err(error) => {
                let not_a_child = promises.swap_remove(index);
                cancel_all(promises);
                return Err(TaskError::Refused(not_a_child, error));
            }
        }
    }
    let Some(me) = me else { unreachable!("at least one promise was checked") };
    let any_ended = |promises: &[Promise<T>]| promises.iter().position(Promise::has_ended);
    me.wait_until(|| any_ended(&promises).is_some() || me.is_cancelled(), None);
    let Some(winner) = any_ended(&promises) else {
        // Cancelled while waiting. The end of this task cancels the child whose promise is returned.
        let error = me.refusal(ErrorKind::Cancelled, None, site);
        let one = promises.swap_remove(0);
        cancel_all(promises);
        return Err(TaskError::Refused(one, error));
    };
    let winner = promises.swap_remove(winner);
    cancel_all(promises);
    winner.join()
}

/// Cancels children: requests all cancellations first, then waits. The results are dropped. A panic
/// in one result's destructor does not keep the other children from being cancelled.
#[track_caller]
pub(crate) fn cancel_all<T>(promises: Vec<Promise<T>>) {
    for promise in &promises {
        // Fails only if this task is not the parent, and then `cancel` below fails, too.
        let _ = promise.request_cancel();
    }
    for promise in promises {
        let task = promise.task();
        drop_catching(&task, promise.cancel());
    }
}

/// Joins children in order. If the current task is cancelled meanwhile, so are they.
#[track_caller]
pub(super) fn join_all<T>(promises: Vec<Promise<T>>) -> Vec<Result<T, TaskError<T>>> {
    let mut outcomes = Vec::with_capacity(promises.len());
    let mut waiting = promises.into_iter();
    while let Some(promise) = waiting.next() {
        match promise.join() {
            Err(TaskError::Refused(promise, error)) if error.kind() == ErrorKind::Cancelled => {
                let rest: Vec<Promise<T>> = std::iter::once(promise).chain(waiting).collect();
                for promise in &rest {
                    let _ = promise.request_cancel();
                }
                outcomes.extend(rest.into_iter().map(Promise::cancel));
                return outcomes;
            }
            outcome => outcomes.push(outcome),
        }
    }
    outcomes
}
