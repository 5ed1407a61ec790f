//! The error of a run that could not be started or measured nothing.

use std::fmt;

use crate::error_kind;
use crate::plan::Target;

/// A run or a server could not be started, or nothing was measured.
#[derive(Debug)]
pub struct LoadError(String);

impl LoadError {
    pub(crate) fn new(text: impl Into<String>) -> LoadError {
        LoadError(text.into())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// The error for a server that cannot be connected to, with advice.
pub(crate) fn no_connection(target: &Target, why: &str) -> LoadError {
    let advice = match (why, target) {
        (error_kind::REFUSED | error_kind::NO_SOCKET, _) => format!(
            ": no server listens there; start one (`echown serve --listen {target}`), or leave the \
             address out: then `echown bench` starts its own"
        ),
        (error_kind::TIMED_OUT, _) => ": check the address, the network and its firewalls".into(),
        (error_kind::UNANSWERED | error_kind::CLOSED, _) => {
            ": the server accepts connections and does not reply; check its protocol (--style)"
                .into()
        }
        _ => String::new(),
    };
    LoadError::new(format!("failed to connect to {target}: {why}{advice}"))
}
