//! Sites: places in the source.

use std::fmt;
use std::panic::Location;

use echown_fd::escape;

/// A place in the source, as recorded by `#[track_caller]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Site(&'static Location<'static>);

impl Site {
    /// The place of the caller.
    #[inline]
    #[track_caller]
    #[must_use]
    pub fn here() -> Site {
        Site(Location::caller())
    }

    /// Path of the source file, as passed to the compiler.
    #[must_use]
    pub fn file(self) -> &'static str {
        self.0.file()
    }

    /// Line, counted from 1.
    #[must_use]
    pub fn line(self) -> u32 {
        self.0.line()
    }

    /// Column in characters, counted from 1.
    #[must_use]
    pub fn column(self) -> u32 {
        self.0.column()
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", escape::text(self.file()), self.line(), self.column())
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
