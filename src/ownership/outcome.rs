//! How a task can end other than well.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use echown_fd::escape;

use super::finding::LeakReport;
use super::promise::Promise;
use super::task::TaskLabel;
use super::violation::Error;

/// How a task ended, if not with its value alone.
///
/// What the closure answered is never lost: a leak or forgotten children come with the value.
#[non_exhaustive]
pub enum Failure<T> {
    /// The task ended normally but still owned something, which was finalized.
    Leaked(T, LeakReport),
    /// The task panicked; what it owned was finalized.
    Panicked(Panic),
    /// The task was cancelled; what it owned was finalized.
    Cancelled,
    /// The task ended normally without having joined, cancelled or handed over all its children.
    /// They were cancelled, and what they owned was finalized.
    StillHasChildren(Forgotten<T>),
    /// The question was refused: the promise is not the asking task's to await, or the asking task
    /// was itself cancelled while it waited. The child is as it was, and the promise comes back.
    Refused(Promise<T>, Error),
}

/// Children that their parent forgot.
#[non_exhaustive]
pub struct Forgotten<T> {
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
        Panic { task, message: message(&*payload).to_owned(), payload: Mutex::new(payload) }
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
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}

impl<T> Failure<T> {
    /// The value that the task answered, if it came to answer.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        match self {
            Failure::Leaked(value, _) | Failure::StillHasChildren(Forgotten { value, .. }) => {
                Some(value)
            }
            Failure::Panicked(_) | Failure::Cancelled | Failure::Refused(..) => None,
        }
    }

    /// What was leaked, if anything was.
    #[must_use]
    pub fn leaks(&self) -> Option<&LeakReport> {
        match self {
            Failure::Leaked(_, report) => Some(report),
            Failure::StillHasChildren(forgotten) => forgotten.leaks.as_ref(),
            _ => None,
        }
    }
}

impl<T> fmt::Display for Failure<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Leaked(_, report) => report.fmt(f),
            Failure::Panicked(panic) => {
                write!(f, "{} panicked: {}", panic.task, escape::text(panic.message()))
            }
            Failure::Cancelled => f.write_str("the task was cancelled"),
            Failure::StillHasChildren(forgotten) => {
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
            Failure::Refused(_, error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Debug for Failure<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Failure::Leaked(..) => "Leaked",
            Failure::Panicked(_) => "Panicked",
            Failure::Cancelled => "Cancelled",
            Failure::StillHasChildren(_) => "StillHasChildren",
            Failure::Refused(..) => "Refused",
        };
        write!(f, "{name}({self})")
    }
}

impl<T> std::error::Error for Failure<T> {}
