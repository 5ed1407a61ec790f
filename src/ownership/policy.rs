//! The level of checking, and the policy for leaks and violations.

use std::fmt;
use std::str::FromStr;

use echown_fd::escape;
use echown_report::InputError;

/// How much a registry checks and records. Fixed when the registry is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// No owner check before operations, no custody, no reports. Owners are still recorded, so that
    /// finalizing, cancelling and draining work.
    ///
    /// No use is rejected, so a use by a non-owner can race with a close on the owner's thread: the failure
    /// that the other levels exclude is possible again. For measuring the cost of the check.
    Off,
    /// Owner checks, and custody without backtraces.
    #[default]
    On,
    /// Owner checks, custody with a backtrace for every step, and a check of the descriptor's identity
    /// before every operation.
    Full,
}

/// What a registry does with a leak or a violation, in addition to counting it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Nothing.
    Ignore,
    /// Delivers the report.
    #[default]
    Warn,
    /// Delivers the report, and [`finish`](super::Registry::finish) returns exit code 23.
    Fail,
    /// Delivers the report and aborts the process, to get a core dump at the moment of the violation.
    Abort,
}

macro_rules! words {
    ($type:ty, $what:literal, $($word:literal => $value:path),+) => {
        impl FromStr for $type {
            type Err = InputError;

            fn from_str(word: &str) -> Result<Self, InputError> {
                match word {
                    $($word => Ok($value),)+
                    _ => Err(InputError::new(format!(
                        concat!("unknown ", $what, " `{}`, expected one of: {}"),
                        escape::text(word),
                        [$($word),+].join(", ")
                    ))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word,)+ })
            }
        }
    };
}

words!(Level, "level", "off" => Level::Off, "on" => Level::On, "full" => Level::Full);
words!(
    Policy, "policy",
    "ignore" => Policy::Ignore, "warn" => Policy::Warn, "fail" => Policy::Fail, "abort" => Policy::Abort
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_level_is_rejected_with_the_known_ones() {
        assert_eq!("full".parse(), Ok(Level::Full));
        let error = "loud".parse::<Level>().unwrap_err();
        assert_eq!(error.to_string(), "unknown level `loud`, expected one of: off, on, full");
    }
}
