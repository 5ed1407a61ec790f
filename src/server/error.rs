//! The error of a server.

use std::error::Error;
use std::fmt;

/// Why a server could not listen, or could not accept: the address or the acceptor, the cause, and
/// what to do.
#[derive(Debug)]
pub struct ServerError {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ServerError {
    /// An error without another one as its cause.
    pub(super) fn new(text: String) -> ServerError {
        ServerError { text, source: None }
    }

    /// An error whose text already contains what is to be said about its cause.
    pub(super) fn caused(text: String, source: impl Error + Send + Sync + 'static) -> ServerError {
        ServerError { text, source: Some(source.into()) }
    }

    /// The server could not accept, or could not continue to accept.
    pub(super) fn accepting(source: impl Into<Box<dyn Error + Send + Sync>>) -> ServerError {
        let source = source.into();
        ServerError { text: format!("failed to accept: {source}"), source: Some(source) }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ServerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
