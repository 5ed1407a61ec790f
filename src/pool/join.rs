//! Waiting for several children at once.

use crate::ownership::closing::drop_catching;
use crate::ownership::{ErrorKind, Promise, Site, TaskError};

/// Waits for the first of several children to end, cancels the others, and answers its outcome once
/// all of them are over.
///
/// The first end counts, whether it is a success or not.
///
/// # Errors
/// As [`Promise::join`]. [`TaskError::Refused`] gives back one promise that is not the current
/// task's; the others are cancelled as far as they are.
///
/// # Panics
/// When `promises` is empty: there is nothing to wait for.
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
                let stranger = promises.swap_remove(index);
                cancel_all(promises);
                return Err(TaskError::Refused(stranger, error));
            }
        }
    }
    let Some(me) = me else { unreachable!("at least one promise was checked") };
    let any_ended = |promises: &[Promise<T>]| promises.iter().position(Promise::has_ended);
    me.wait_until(|| any_ended(&promises).is_some() || me.is_cancelled(), None);
    let Some(winner) = any_ended(&promises) else {
        // Cancelled while waiting: the children are cancelled at this task's own end.
        let error = me.refusal(ErrorKind::Cancelled, None, site);
        let one = promises.swap_remove(0);
        cancel_all(promises);
        return Err(TaskError::Refused(one, error));
    };
    let winner = promises.swap_remove(winner);
    cancel_all(promises);
    winner.join()
}

/// Cancels children: all are asked before the first is waited for. Outcomes are dropped, and a
/// destructor that panics keeps none of the others from being cancelled.
#[track_caller]
pub(crate) fn cancel_all<T>(promises: Vec<Promise<T>>) {
    for promise in &promises {
        // Refused only to a stranger, whose promise the join below refuses as well.
        let _ = promise.request_cancel();
    }
    for promise in promises {
        let task = promise.task();
        drop_catching(&task, promise.cancel());
    }
}

/// Joins children in order. When the current task is cancelled meanwhile, so are they.
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
