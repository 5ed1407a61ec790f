//! `InputError`: the error of an option, a variable or a file that cannot be read.

use std::error::Error;
use std::fmt;

/// The error of text that is not what it should be: an option, a variable or a file. The message says
/// what is expected; the source is the error of the system or the parser, if there was one.
///
/// # Examples
/// ```
/// let error = "yaml:out".parse::<echown_report::Destination>().unwrap_err();
/// assert!(error.to_string().starts_with("unknown format `yaml`, expected one of: text, "));
/// ```
#[derive(Debug)]
pub struct InputError {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl InputError {
    /// An error with this message.
    pub fn new(text: impl Into<String>) -> InputError {
        InputError { text: text.into(), source: None }
    }

    /// An error with this message, which includes that of its source.
    pub fn with_source(
        text: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> InputError {
        InputError { text: text.into(), source: Some(source.into()) }
    }
}

/// Errors with the same message are equal.
impl PartialEq for InputError {
    fn eq(&self, other: &InputError) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for InputError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
