//! What a checker says.

use crate::event::Outcome;

/// The answer of one checker to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `trees`, `resent`, `parts`, `MD5_1B`
    pub what: String,
    /// Pass, fail, or that we cannot tell.
    pub outcome: Outcome,
    /// One line: `identical: 51 entries, 500 MiB`
    pub text: String,
    /// Lines that show a difference; empty when there is none.
    pub details: Vec<String>,
}

impl Finding {
    /// An answer in one line.
    pub fn new(what: &str, outcome: Outcome, text: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            outcome,
            text: text.into(),
            details: Vec::new(),
        }
    }

    /// With lines that show why.
    pub fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}
