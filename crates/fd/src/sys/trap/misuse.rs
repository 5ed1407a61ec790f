//! How descriptor numbers are misused, and what happens to them.

/// How a number was misused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Misuse {
    /// It was closed again.
    #[default]
    DoubleClose = 0,
    /// It was used after it was closed.
    UseAfterClose,
    /// It was closed while another thread waited for input on it.
    ClosedInUse,
    /// It was open, and `dup2` or `dup3` closed it.
    Overwritten,
}

/// What happened to a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// Nothing; no event in a report has it.
    None = 0,
    /// A call opened it.
    Opened,
    /// A call sent it to another process or thread.
    PassedOn,
    /// A call closed it.
    Closed,
    /// A call tried to close it, and it was closed.
    ClosedAgain,
    /// A call tried to use it, and it was closed.
    Used,
    /// A call waited for input on it.
    InUse,
}
