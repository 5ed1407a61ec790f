//! Unwraps expected errors: an error of the registry, or the failure of a task.

use std::io;

use echown::ownership::{Error, LeakReport, Refused, TaskError};
use echown::pool::SpawnError;

/// Extracts the registry's error from the error that a call returned.
pub trait IntoRefusal {
    fn into_refusal(self) -> Error;
}

impl IntoRefusal for Error {
    fn into_refusal(self) -> Error {
        self
    }
}

impl<V> IntoRefusal for Refused<V> {
    fn into_refusal(self) -> Error {
        self.error().clone()
    }
}

impl<F> IntoRefusal for SpawnError<F> {
    fn into_refusal(self) -> Error {
        let refusal = self.refusal().cloned();
        refusal.unwrap_or_else(|| panic!("not an error of the registry: {self}"))
    }
}

impl IntoRefusal for io::Error {
    fn into_refusal(self) -> Error {
        let refusal = Error::in_io(&self).cloned();
        refusal.unwrap_or_else(|| panic!("not an error of the registry: {self}"))
    }
}

impl<T> IntoRefusal for TaskError<T> {
    fn into_refusal(self) -> Error {
        match self {
            TaskError::Refused(_, error) => error,
            other => panic!("not an error of the registry: {other}"),
        }
    }
}

/// The registry's error, which the call must have returned.
#[track_caller]
pub fn refusal<T, E: IntoRefusal>(outcome: Result<T, E>) -> Error {
    match outcome {
        Ok(_) => panic!("expected an error, but the call succeeded"),
        Err(error) => error.into_refusal(),
    }
}

/// The failure, with which the task must have exited.
#[track_caller]
pub fn failure<T>(outcome: Result<T, TaskError<T>>) -> TaskError<T> {
    match outcome {
        Ok(_) => panic!("expected a failure, but the task succeeded"),
        Err(failure) => failure,
    }
}

/// The message of the panic, with which the task must have exited.
#[track_caller]
pub fn panic_message<T>(outcome: Result<T, TaskError<T>>) -> String {
    match failure(outcome) {
        TaskError::Panicked(panic) => panic.message().to_owned(),
        other => panic!("expected a panic, got: {other}"),
    }
}

/// The task's value and its leak report. The task must have leaked.
#[track_caller]
pub fn leaked<T>(outcome: Result<T, TaskError<T>>) -> (T, LeakReport) {
    match failure(outcome) {
        TaskError::Leaked(value, report) => (value, report),
        other => panic!("expected a leak, got: {other}"),
    }
}

#[track_caller]
pub fn assert_cancelled<T>(outcome: Result<T, TaskError<T>>) {
    match failure(outcome) {
        TaskError::Cancelled => {}
        other => panic!("expected a cancellation, got: {other}"),
    }
}

/// A report's text without the ages of its resources, which differ from run to run.
pub fn without_ages(text: &str) -> String {
    let ends_in_age = |line: &str| line.ends_with(" ago") || line.contains(" ago (thread ");
    let ageless = |line: &str| match (line.rfind(", "), ends_in_age(line)) {
        (Some(comma), true) => line[..comma].to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(ageless).collect::<Vec<_>>().join("\n")
}
