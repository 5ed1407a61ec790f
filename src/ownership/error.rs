//! The checker's error type and all of its messages.

use std::fmt;
use std::io;

use echown_fd::escape;
use echown_report::{Code, Event, Site, TaskLabel};

use super::label::ResourceLabel;

/// What went wrong, as a value to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The current task is not the owner.
    NotOwner,
    /// The resource was released again after it had been released, disowned or finalized.
    DoubleRelease,
    /// The resource was used after it had been released, disowned or finalized.
    UseAfterRelease,
    /// The registry already has an owner on record for this descriptor.
    AlreadyOwned,
    /// The owner is inside `with` on this resource.
    InUse,
    /// The same resource occurs twice in one give list.
    DuplicateGive,
    /// The resource was split; only its halves can be used.
    IsSplit,
    /// The two halves do not belong together.
    MismatchedHalves,
    /// The current task was cancelled.
    Cancelled,
    /// The current task is exiting and cannot acquire resources.
    TaskExiting,
    /// A root task has no parent to transfer to.
    NoParent,
    /// The parent, or the task of a lot, is exiting or was cancelled and cannot acquire resources.
    ParentExiting,
    /// The task is not a child of the current one.
    NotAChild,
    /// A handle was dropped by a task that is not the owner.
    DroppedByNonOwner,
    /// An offer was dropped unclaimed, or was still unclaimed when the root task ended.
    Unclaimed,
    /// The descriptor was closed or replaced outside the registry: its number no longer refers to
    /// this resource.
    FdReplaced,
    /// The descriptor to own is not open.
    NotOpen,
    /// The finalizer failed.
    FinalizerFailed,
    /// The finalizer panicked.
    FinalizerPanicked,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: &[ErrorKind] = &[
        ErrorKind::NotOwner,
        ErrorKind::DoubleRelease,
        ErrorKind::UseAfterRelease,
        ErrorKind::AlreadyOwned,
        ErrorKind::InUse,
        ErrorKind::DuplicateGive,
        ErrorKind::IsSplit,
        ErrorKind::MismatchedHalves,
        ErrorKind::Cancelled,
        ErrorKind::TaskExiting,
        ErrorKind::NoParent,
        ErrorKind::ParentExiting,
        ErrorKind::NotAChild,
        ErrorKind::DroppedByNonOwner,
        ErrorKind::Unclaimed,
        ErrorKind::FdReplaced,
        ErrorKind::NotOpen,
        ErrorKind::FinalizerFailed,
        ErrorKind::FinalizerPanicked,
    ];

    /// The code: reports print it and `echown explain` takes it.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            ErrorKind::NotOwner => Code::NotOwner,
            ErrorKind::DoubleRelease => Code::DoubleRelease,
            ErrorKind::UseAfterRelease => Code::UseAfterRelease,
            ErrorKind::AlreadyOwned => Code::AlreadyOwned,
            ErrorKind::InUse => Code::InUse,
            ErrorKind::DuplicateGive => Code::DuplicateGive,
            ErrorKind::IsSplit => Code::IsSplit,
            ErrorKind::MismatchedHalves => Code::MismatchedHalves,
            ErrorKind::Cancelled => Code::Cancelled,
            ErrorKind::TaskExiting => Code::TaskExiting,
            ErrorKind::NoParent => Code::NoParent,
            ErrorKind::ParentExiting => Code::ParentExiting,
            ErrorKind::NotAChild => Code::NotAChild,
            ErrorKind::DroppedByNonOwner => Code::DroppedByNonOwner,
            ErrorKind::Unclaimed => Code::Unclaimed,
            ErrorKind::FdReplaced => Code::FdReplaced,
            ErrorKind::NotOpen => Code::NotOpen,
            ErrorKind::FinalizerFailed => Code::FinalizerFailed,
            ErrorKind::FinalizerPanicked => Code::FinalizerPanicked,
        }
    }

    /// Whether a rule was broken. A correct program can get the other kinds, too.
    #[must_use]
    pub fn is_violation(self) -> bool {
        !matches!(
            self,
            ErrorKind::Cancelled
                | ErrorKind::TaskExiting
                | ErrorKind::ParentExiting
                | ErrorKind::FinalizerFailed
                | ErrorKind::FinalizerPanicked
        )
    }
}

/// The data of an error. The text leaves out every optional field that is unknown.
#[derive(Clone, Debug)]
pub(crate) struct ErrorData {
    pub(crate) kind: ErrorKind,
    /// The resource: `fd 7 (tcp stream)`.
    pub(crate) subject: Option<ResourceLabel>,
    /// The task that made the call.
    pub(crate) actor: TaskLabel,
    /// The owner, or for a released resource the task that released it.
    pub(crate) owner: Option<TaskLabel>,
    /// Where the owner got it, or where the first release happened.
    pub(crate) earlier: Option<Site>,
    /// How the resource was released.
    pub(crate) end: Option<Event>,
    /// Where the call was made.
    pub(crate) site: Site,
    /// Further text, such as the message of a finalizer's error.
    pub(crate) detail: Option<String>,
}

/// An operation that the registry rejected. Names the resource, what was expected, what was found,
/// and where.
///
/// Operations that return an [`io::Error`], such as reads and writes, wrap it;
/// [`Error::in_io`] unwraps it.
#[derive(Clone)]
pub struct Error(Box<ErrorData>);

impl Error {
    pub(crate) fn new(data: ErrorData) -> Error {
        Error(Box::new(data))
    }

    pub(crate) fn data(&self) -> &ErrorData {
        &self.0
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where the rejected call was made.
    #[must_use]
    pub fn site(&self) -> Site {
        self.0.site
    }

    /// Where the owner acquired the resource, or where it was first released.
    #[must_use]
    pub fn earlier_site(&self) -> Option<Site> {
        self.0.earlier
    }

    /// The task that owns the resource, or that released it, if known.
    #[must_use]
    pub fn owner(&self) -> Option<&TaskLabel> {
        self.0.owner.as_ref()
    }

    /// The registry's error inside an [`io::Error`], if there is one.
    #[must_use]
    pub fn in_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ErrorData { kind, subject, actor, owner, earlier, end, detail, .. } = &*self.0;
        match subject {
            Some(subject) => write!(f, "{subject} ")?,
            None => f.write_str("operation ")?,
        }
        let at = |f: &mut fmt::Formatter<'_>, what: &str| match earlier {
            Some(site) => write!(f, " ({what} at {site})"),
            None => Ok(()),
        };
        let entitled = |f: &mut fmt::Formatter<'_>| match owner {
            Some(owner) => write!(f, ", expected owner {owner}"),
            None => f.write_str(", which has no owner"),
        };
        match kind {
            ErrorKind::NotOwner => {
                write!(f, "used by {actor}")?;
                entitled(f)?;
                at(f, "owned")?;
            }
            ErrorKind::DoubleRelease | ErrorKind::UseAfterRelease => {
                let verb = match (kind, end) {
                    (ErrorKind::UseAfterRelease, _) => "used",
                    (_, None | Some(Event::Released)) => "released again",
                    _ => "released",
                };
                let (what, place) = match end {
                    Some(Event::Disowned) => ("it was disowned", "disowned"),
                    Some(Event::Dropped) => ("its handle was dropped", "in the task spawned"),
                    Some(Event::Finalized) => {
                        ("it was finalized", "at the end of the task spawned")
                    }
                    Some(Event::Rejoined) => ("the whole was rejoined", "rejoined"),
                    _ => ("its release", "first released"),
                };
                write!(f, "{verb} by {actor} after {what}")?;
                if let Some(owner) = owner {
                    write!(f, " by {owner}")?;
                }
                at(f, place)?;
            }
            ErrorKind::AlreadyOwned => {
                write!(f, "owned again by {actor}")?;
                if let Some(owner) = owner {
                    write!(f, ", owner is {owner}")?;
                }
                at(f, "first owned")?;
            }
            ErrorKind::InUse => write!(f, "is in use by {actor} inside `with`")?,
            ErrorKind::DuplicateGive => write!(f, "occurs twice in the give list of {actor}")?,
            ErrorKind::IsSplit => {
                write!(f, "used whole by {actor}, but it is split")?;
                at(f, "split")?;
            }
            ErrorKind::MismatchedHalves => {
                write!(f, "rejoined by {actor} with a half of another socket")?
            }
            ErrorKind::Cancelled => write!(f, "rejected: {actor} was cancelled")?,
            ErrorKind::TaskExiting => write!(f, "rejected: {actor} is exiting")?,
            ErrorKind::NoParent => {
                write!(f, "transferred by {actor}, a root task, which has no parent")?
            }
            ErrorKind::ParentExiting => {
                write!(f, "kept by {actor}: its parent is exiting and cannot acquire resources")?;
            }
            ErrorKind::NotAChild => {
                write!(f, "joined by {actor}")?;
                if let Some(owner) = owner {
                    write!(f, ", expected its parent {owner}")?;
                }
            }
            ErrorKind::DroppedByNonOwner => {
                write!(f, "dropped by {actor}")?;
                entitled(f)?;
                at(f, "owned")?;
            }
            ErrorKind::Unclaimed => {
                f.write_str("offered, but never claimed")?;
                at(f, "owned")?;
            }
            ErrorKind::FdReplaced => {
                f.write_str("was closed or replaced outside the registry")?;
                at(f, "owned")?;
            }
            ErrorKind::NotOpen => write!(f, "cannot be owned by {actor}: it is not open")?,
            ErrorKind::FinalizerFailed => f.write_str("failed to finalize")?,
            ErrorKind::FinalizerPanicked => {
                f.write_str("failed to finalize: its finalizer panicked")?
            }
        }
        if let Some(detail) = detail {
            write!(f, ": {}", escape::text(detail))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self}; at {})", self.kind(), self.site())
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        // Never `Interrupted`: the standard library's loops would retry it indefinitely.
        let kind = match error.kind() {
            ErrorKind::NotOwner | ErrorKind::NotAChild => io::ErrorKind::PermissionDenied,
            ErrorKind::AlreadyOwned => io::ErrorKind::AlreadyExists,
            ErrorKind::InUse => io::ErrorKind::ResourceBusy,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// An error together with the value that the call did not take.
pub struct Refused<V> {
    error: Error,
    value: Option<V>,
}

impl<V> Refused<V> {
    pub(crate) fn new(error: Error, value: Option<V>) -> Refused<V> {
        Refused { error, value }
    }

    /// The error.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The value; `None` if a cancelled or exiting task passed it, because then it was finalized
    /// immediately.
    #[must_use]
    pub fn into_value(self) -> Option<V> {
        self.value
    }

    /// The error and the value.
    #[must_use]
    pub fn into_parts(self) -> (Error, Option<V>) {
        (self.error, self.value)
    }

    pub(crate) fn map<W>(self, change: impl FnOnce(V) -> W) -> Refused<W> {
        Refused { error: self.error, value: self.value.map(change) }
    }
}

impl<V> fmt::Display for Refused<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<V> fmt::Debug for Refused<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl<V> std::error::Error for Refused<V> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<V> From<Refused<V>> for Error {
    fn from(refused: Refused<V>) -> Error {
        refused.error
    }
}

impl<V> From<Refused<V>> for io::Error {
    fn from(refused: Refused<V>) -> io::Error {
        refused.error.into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use echown_report::{RunFinding, TestVerdict};

    use super::*;

    #[test]
    fn each_code_is_one_kind_of_error_or_a_verdict_of_tests_or_of_runs() {
        let errors = ErrorKind::ALL.iter().map(|kind| kind.code());
        let verdicts = TestVerdict::ALL.iter().map(|verdict| verdict.code());
        let runs = RunFinding::CODES.iter().copied();
        let only_runs = runs.filter(|code| *code == Code::OpenAtExit);
        let used: Vec<Code> = errors.chain(verdicts).chain(only_runs).collect();
        assert_eq!(used.len(), Code::ALL.len(), "two of them have the same code, or none has one");
        assert_eq!(used.into_iter().collect::<BTreeSet<_>>(), Code::ALL.iter().copied().collect());
    }
}
