//! What those get who do what they may not: one error, with all its wording.

use std::fmt;
use std::io;

use super::custody::{Event, Site};
use super::record::ResourceLabel;
use super::task::TaskLabel;
use crate::sys::escape;

/// What went wrong, as a value to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The current task is not the owner.
    NotOwner,
    /// The resource was already released or disowned.
    Released,
    /// The registry has this number on record already.
    AlreadyOwned,
    /// The owner is inside `with` on this resource.
    InUse,
    /// The same resource stands twice in one list of things to give.
    GivenTwice,
    /// The resource was split; only its halves can be used.
    IsSplit,
    /// The two halves do not belong together.
    NotItsOtherHalf,
    /// The current task was cancelled.
    Cancelled,
    /// The current task is at its end and takes nothing any more.
    Ending,
    /// A root task has no parent to transfer to.
    NoParent,
    /// The parent is at its end, or was cancelled, and takes nothing any more.
    ParentEnding,
    /// The task is not a child of the current one.
    NotAChild,
    /// A handle was dropped by a task that is not the owner.
    DroppedElsewhere,
    /// An offer was dropped unclaimed, or nobody claimed it before the root ended.
    Unclaimed,
    /// The number no longer means this resource: it was closed or replaced behind the registry's
    /// back.
    Theft,
    /// The kernel doesn't know the number that was to be owned.
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
        ErrorKind::Released,
        ErrorKind::AlreadyOwned,
        ErrorKind::InUse,
        ErrorKind::GivenTwice,
        ErrorKind::IsSplit,
        ErrorKind::NotItsOtherHalf,
        ErrorKind::Cancelled,
        ErrorKind::Ending,
        ErrorKind::NoParent,
        ErrorKind::ParentEnding,
        ErrorKind::NotAChild,
        ErrorKind::DroppedElsewhere,
        ErrorKind::Unclaimed,
        ErrorKind::Theft,
        ErrorKind::NotOpen,
        ErrorKind::FinalizerFailed,
        ErrorKind::FinalizerPanicked,
    ];

    /// A short, stable word: what reports call it and `echown explain` knows it by.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            ErrorKind::NotOwner => "not-owner",
            ErrorKind::Released => "released",
            ErrorKind::AlreadyOwned => "already-owned",
            ErrorKind::InUse => "in-use",
            ErrorKind::GivenTwice => "given-twice",
            ErrorKind::IsSplit => "is-split",
            ErrorKind::NotItsOtherHalf => "not-its-other-half",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Ending => "ending",
            ErrorKind::NoParent => "no-parent",
            ErrorKind::ParentEnding => "parent-ending",
            ErrorKind::NotAChild => "not-a-child",
            ErrorKind::DroppedElsewhere => "dropped-elsewhere",
            ErrorKind::Unclaimed => "unclaimed",
            ErrorKind::Theft => "theft",
            ErrorKind::NotOpen => "not-open",
            ErrorKind::FinalizerFailed => "finalizer-failed",
            ErrorKind::FinalizerPanicked => "finalizer-panicked",
        }
    }

    /// Whether somebody broke a rule, as opposed to an answer that a correct program gets too.
    #[must_use]
    pub fn is_violation(self) -> bool {
        !matches!(
            self,
            ErrorKind::Cancelled
                | ErrorKind::Ending
                | ErrorKind::ParentEnding
                | ErrorKind::FinalizerFailed
                | ErrorKind::FinalizerPanicked
        )
    }
}

/// The facts of a refusal. Everything optional is left out of the text when it is unknown.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) kind: ErrorKind,
    /// What it is about, in words: `fd 7 (tcp stream)`.
    pub(crate) subject: Option<ResourceLabel>,
    /// Who did it.
    pub(crate) actor: TaskLabel,
    /// Who is entitled, or who came first.
    pub(crate) owner: Option<TaskLabel>,
    /// Where the owner got it, or where the first release happened.
    pub(crate) earlier: Option<Site>,
    /// How it came to its end, for a use after that.
    pub(crate) end: Option<Event>,
    /// Where the refused call was made.
    pub(crate) site: Site,
    /// Further words, such as a finalizer's own message.
    pub(crate) detail: Option<String>,
}

/// A refusal of the registry: an ordinary error, which names the thing, what was expected, what was
/// found, and where.
///
/// Reads, writes and all else that answers [`io::Error`] carry it inside;
/// [`Error::in_io`] finds it there.
#[derive(Clone)]
pub struct Error(Box<Facts>);

impl Error {
    pub(crate) fn new(facts: Facts) -> Error {
        Error(Box::new(facts))
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.0
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where the refused call was made.
    #[must_use]
    pub fn site(&self) -> Site {
        self.0.site
    }

    /// Where the owner got the resource, or where the first release happened; what the text ends with.
    #[must_use]
    pub fn earlier_site(&self) -> Option<Site> {
        self.0.earlier
    }

    /// The task that is entitled to what was refused, if that is known.
    #[must_use]
    pub fn owner(&self) -> Option<&TaskLabel> {
        self.0.owner.as_ref()
    }

    /// The registry's refusal inside an [`io::Error`], if there is one.
    #[must_use]
    pub fn in_io(error: &io::Error) -> Option<&Error> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { kind, subject, actor, owner, earlier, end, detail, .. } = &*self.0;
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
            None => f.write_str(", which nobody owns"),
        };
        match kind {
            ErrorKind::NotOwner => {
                write!(f, "used by {actor}")?;
                entitled(f)?;
                at(f, "owned")?;
            }
            ErrorKind::Released => {
                let (what, place) = match end {
                    Some(Event::Disowned) => ("it was disowned", "disowned"),
                    Some(Event::Dropped) => ("its handle was dropped", "in the task spawned"),
                    Some(Event::Finalized) => {
                        ("it was finalized", "at the end of the task spawned")
                    }
                    Some(Event::Rejoined) => ("the whole was rejoined", "rejoined"),
                    _ => ("its release", "first released"),
                };
                write!(f, "used by {actor} after {what}")?;
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
            ErrorKind::GivenTwice => write!(f, "given twice by {actor} in one list")?,
            ErrorKind::IsSplit => {
                write!(f, "used whole by {actor}, but it is split")?;
                at(f, "split")?;
            }
            ErrorKind::NotItsOtherHalf => write!(f, "rejoined by {actor} with a stranger's half")?,
            ErrorKind::Cancelled => write!(f, "refused: {actor} was cancelled")?,
            ErrorKind::Ending => write!(f, "refused: {actor} is at its end")?,
            ErrorKind::NoParent => {
                write!(f, "transferred by {actor}, which is a root: it has no parent")?
            }
            ErrorKind::ParentEnding => {
                write!(f, "kept by {actor}: its parent is at its end and takes nothing")?;
            }
            ErrorKind::NotAChild => {
                write!(f, "awaited by {actor}")?;
                if let Some(owner) = owner {
                    write!(f, ", expected its parent {owner}")?;
                }
            }
            ErrorKind::DroppedElsewhere => {
                write!(f, "dropped by {actor}")?;
                entitled(f)?;
                at(f, "owned")?;
            }
            ErrorKind::Unclaimed => {
                f.write_str("offered, but never claimed")?;
                at(f, "owned")?;
            }
            ErrorKind::Theft => {
                f.write_str("was closed or replaced behind the registry's back")?;
                at(f, "owned")?;
            }
            ErrorKind::NotOpen => write!(f, "refused: {actor} wanted to own what is not open")?,
            ErrorKind::FinalizerFailed => f.write_str("could not be finalized")?,
            ErrorKind::FinalizerPanicked => f.write_str("has a finalizer that panicked")?,
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
        // Never `Interrupted`: the standard library's loops would try again for ever.
        let kind = match error.kind() {
            ErrorKind::NotOwner | ErrorKind::NotAChild => io::ErrorKind::PermissionDenied,
            ErrorKind::AlreadyOwned => io::ErrorKind::AlreadyExists,
            ErrorKind::InUse => io::ErrorKind::ResourceBusy,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// A refusal that gives back what was handed in.
pub struct Refused<V> {
    error: Error,
    value: Option<V>,
}

impl<V> Refused<V> {
    pub(crate) fn new(error: Error, value: Option<V>) -> Refused<V> {
        Refused { error, value }
    }

    /// Why.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What was handed in; `None` when a cancelled or ending task handed it in, because then it
    /// was finalized at once.
    #[must_use]
    pub fn into_value(self) -> Option<V> {
        self.value
    }

    /// Both.
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

impl<V> std::error::Error for Refused<V> {}

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
