//! `TaskError`: the error of a task that did not end with its value alone.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use echown_fd::escape;
use echown_report::{LeakReport, TaskLabel};

use super::Promise;
use crate::ownership::closing::panic_message;
use crate::ownership::error::Error;

/// The error of a task that did not end with its value alone.
///
/// The closure's return value is never lost: the variants for leaks and unjoined children contain it.
#[non_exhaustive]
pub enum TaskError<T> {
    /// The task ended normally but still owned something, which was finalized.
    Leaked(T, LeakReport),
    /// The task panicked; what it owned was finalized.
    Panicked(Panic),
    /// The task was cancelled; what it owned was finalized.
    Cancelled,
    /// The task ended normally, but had not joined, cancelled or handed over all its children. They
    /// were cancelled, and what they owned was finalized.
    UnjoinedChildren(UnjoinedChildren<T>),
    /// The current task may not wait for the child: it is not the parent, or it was cancelled while it
    /// waited. The child is unchanged. Contains the promise.
    Refused(Promise<T>, Error),
}

/// Children that their parent did not join.
#[non_exhaustive]
pub struct UnjoinedChildren<T> {
    /// The parent's return value.
    pub value: T,
    /// The children. Each was cancelled if it was still running.
    pub children: Box<[TaskLabel]>,
    /// How many further children had ended and are not listed.
    pub children_omitted: u32,
    /// What the parent also leaked.
    pub leaks: Option<LeakReport>,
}

/// A task's panic.
pub struct Panic {
    task: TaskLabel,
    message: String,
    /// The lock makes the error `Sync`, so that `?` converts it into common error types. It is never
    /// contended.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(crate) fn new(task: TaskLabel, payload: Box<dyn Any + Send>) -> Panic {
        Panic { task, message: panic_message(&*payload).to_owned(), payload: Mutex::new(payload) }
    }

    /// The task that panicked.
    #[must_use]
    pub fn task(&self) -> &TaskLabel {
        &self.task
    }

    /// The message, if the payload was a string, as it is from `panic!`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The payload, for [`std::panic::resume_unwind`].
    #[must_use]
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> TaskError<T> {
    /// The task's return value, if it returned one.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        match self {
            TaskError::Leaked(value, _)
            | TaskError::UnjoinedChildren(UnjoinedChildren { value, .. }) => Some(value),
            TaskError::Panicked(_) | TaskError::Cancelled | TaskError::Refused(..) => None,
        }
    }

    /// The report about leaked resources, if there were any.
    #[must_use]
    pub fn leaks(&self) -> Option<&LeakReport> {
        match self {
            TaskError::Leaked(_, report) => Some(report),
            TaskError::UnjoinedChildren(unjoined) => unjoined.leaks.as_ref(),
            _ => None,
        }
    }
}

impl<T> fmt::Display for TaskError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Leaked(_, report) => report.fmt(f),
            TaskError::Panicked(panic) => {
                write!(f, "{} panicked: {}", panic.task, escape::text(panic.message()))
            }
            TaskError::Cancelled => f.write_str("the task was cancelled"),
            TaskError::UnjoinedChildren(unjoined) => {
                f.write_str("the task did not join its children: ")?;
                for (index, child) in unjoined.children.iter().enumerate() {
                    write!(f, "{}{child}", if index > 0 { ", " } else { "" })?;
                }
                if unjoined.children_omitted > 0 {
                    write!(f, " and {} more", unjoined.children_omitted)?;
                }
                match &unjoined.leaks {
                    Some(report) => write!(f, "; {report}"),
                    None => Ok(()),
                }
            }
            TaskError::Refused(_, error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Debug for TaskError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            TaskError::Leaked(..) => "Leaked",
            TaskError::Panicked(_) => "Panicked",
            TaskError::Cancelled => "Cancelled",
            TaskError::UnjoinedChildren(_) => "UnjoinedChildren",
            TaskError::Refused(..) => "Refused",
        };
        write!(f, "{name}({self})")
    }
}

impl<T> std::error::Error for TaskError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TaskError::Refused(_, error) => Some(error),
            _ => None,
        }
    }
}

/// The error of [`Promise::join_flat`].
#[non_exhaustive]
pub enum JoinFlatError<T, E> {
    /// The child did not end with its value alone.
    Task(TaskError<Result<T, E>>),
    /// The child returned this error.
    Returned(E),
}

impl<T, E: fmt::Display> fmt::Display for JoinFlatError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinFlatError::Task(failure) => failure.fmt(f),
            JoinFlatError::Returned(error) => error.fmt(f),
        }
    }
}

impl<T, E: fmt::Debug> fmt::Debug for JoinFlatError<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinFlatError::Task(failure) => failure.fmt(f),
            JoinFlatError::Returned(error) => write!(f, "Returned({error:?})"),
        }
    }
}

impl<T: 'static, E: std::error::Error + 'static> std::error::Error for JoinFlatError<T, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JoinFlatError::Task(failure) => Some(failure),
            JoinFlatError::Returned(error) => Some(error),
        }
    }
}

/// The child's error, or an error that contains the [`TaskError`].
impl<T: Send + Sync + 'static> From<JoinFlatError<T, io::Error>> for io::Error {
    fn from(error: JoinFlatError<T, io::Error>) -> io::Error {
        match error {
            JoinFlatError::Task(failure) => io::Error::other(failure),
            JoinFlatError::Returned(error) => error,
        }
    }
}
