//! Progress messages of a run.

/// A progress message.
#[derive(Clone, Copy, Debug)]
pub enum LoadProgress<'a> {
    /// A wait for something that is usually immediate.
    Waiting(&'a str),
    /// Regular progress.
    Running(&'a str),
}

impl LoadProgress<'_> {
    /// Passes the message on, prefixed with the part of the work that it belongs to.
    pub fn under(self, what: &str, mut progress: impl FnMut(LoadProgress<'_>)) {
        match self {
            LoadProgress::Waiting(text) => {
                progress(LoadProgress::Waiting(&format!("{what}: {text}")));
            }
            LoadProgress::Running(text) => {
                progress(LoadProgress::Running(&format!("{what}: {text}")));
            }
        }
    }
}
