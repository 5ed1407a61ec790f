//! The error of a run that could not be started or measured nothing.

use std::error::Error;
use std::fmt;

use crate::error_kind;
use crate::plan::Target;

/// A run or a server could not be started, or nothing was measured.
///
/// The message is complete: it contains that of the `source`, if there is one.
#[derive(Debug)]
pub struct LoadError {
    text: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl LoadError {
    pub(crate) fn new(text: impl Into<String>) -> LoadError {
        LoadError { text: text.into(), cause: None }
    }

    pub(crate) fn caused_by(self, cause: impl Error + Send + Sync + 'static) -> LoadError {
        LoadError { cause: Some(Box::new(cause)), ..self }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for LoadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

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

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_system_error_behind_a_failed_run_can_be_examined() {
        let cause = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = LoadError::new(format!("failed to start: {cause}")).caused_by(cause);
        assert_eq!(error.to_string(), "failed to start: permission denied");
        let source = error.source().and_then(<dyn Error>::downcast_ref::<io::Error>);
        assert_eq!(source.map(io::Error::kind), Some(io::ErrorKind::PermissionDenied));
        assert!(LoadError::new("stopped").source().is_none());
    }
}
