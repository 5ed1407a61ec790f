//! `Run`: what one run of a lesson's program showed.

use serde::{Deserialize, Serialize};

/// The result of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// How it ended.
    pub end: End,
    /// What was found, in order.
    pub findings: Vec<Finding>,
    /// The state of all resources, for a run that did not end.
    pub state: Option<String>,
    /// What happened, in order, as lines of text.
    pub timeline: Option<String>,
    /// The same as a picture in SVG.
    pub picture: Option<String>,
}

/// How a program ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum End {
    /// It returned.
    Returned,
    /// It returned this error.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
    /// It still ran after this many seconds, and was killed.
    Hung(u64),
}

/// A finding.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Finding {
    /// Its code, such as `leak`.
    pub code: String,
    /// The report.
    pub text: String,
}

impl Run {
    /// The codes of the findings, each once, in order. `hang` is one; a run that found nothing else
    /// has `panic` or `error` if that is how it ended.
    #[must_use]
    pub fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = Vec::new();
        for finding in &self.findings {
            if !codes.contains(&&*finding.code) {
                codes.push(&finding.code);
            }
        }
        match self.end {
            End::Hung(_) => codes.push("hang"),
            End::Panicked(_) if codes.is_empty() => codes.push("panic"),
            End::Failed(_) if codes.is_empty() => codes.push("error"),
            _ => {}
        }
        codes
    }
}
