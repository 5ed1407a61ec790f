//! How a task can end other than well.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use echown_fd::escape;
use echown_report::{LeakReport, TaskLabel};

use super::error::Error;
use super::promise::Promise;

/// How a task ended, if not with its value alone.
///
/// What the closure answered is never lost: a leak or forgotten children come with the value.
#[non_exhaustive]
pub enum TaskError<T> {
    /// The task ended normally but still owned something, which was finalized.
    Leaked(T, LeakReport),
    /// The task panicked; what it owned was finalized.
    Panicked(Panic),
    /// The task was cancelled; what it owned was finalized.
    Cancelled,
    /// The task ended normally without having joined, cancelled or handed over all its children.
    /// They were cancelled, and what they owned was finalized.
    UnjoinedChildren(UnjoinedChildren<T>),
    /// The question was refused: the promise is not the asking task's to await, or the asking task
    /// was itself cancelled while it waited. The child is as it was, and the promise comes back.
    Refused(Promise<T>, Error),
}

/// Children that their parent forgot.
#[non_exhaustive]
pub struct UnjoinedChildren<T> {
    /// What the parent answered.
    pub value: T,
    /// The children, each of which was cancelled if it was still running.
    pub children: Box<[TaskLabel]>,
    /// How many more had ended, which are not named.
    pub children_omitted: u32,
    /// What the parent leaked besides.
    pub leaks: Option<LeakReport>,
}

/// A task's panic.
pub struct Panic {
    task: TaskLabel,
    message: String,
    /// Behind a lock that nobody waits for: it makes a failure `Sync`, so that `?` turns it into
    /// the errors that programs use.
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

/// The text of a panic's payload.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

impl<T> TaskError<T> {
    /// The value that the task answered, if it came to answer.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        match self {
            TaskError::Leaked(value, _)
            | TaskError::UnjoinedChildren(UnjoinedChildren { value, .. }) => Some(value),
            TaskError::Panicked(_) | TaskError::Cancelled | TaskError::Refused(..) => None,
        }
    }

    /// What was leaked, if anything was.
    #[must_use]
    pub fn leaks(&self) -> Option<&LeakReport> {
        match self {
            TaskError::Leaked(_, report) => Some(report),
            TaskError::UnjoinedChildren(forgotten) => forgotten.leaks.as_ref(),
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
            TaskError::UnjoinedChildren(forgotten) => {
                f.write_str("the task forgot its children: ")?;
                for (index, child) in forgotten.children.iter().enumerate() {
                    write!(f, "{}{child}", if index > 0 { ", " } else { "" })?;
                }
                if forgotten.children_omitted > 0 {
                    write!(f, " and {} more", forgotten.children_omitted)?;
                }
                match &forgotten.leaks {
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

impl<T> std::error::Error for TaskError<T> {}
