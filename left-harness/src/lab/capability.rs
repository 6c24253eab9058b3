//! What a machine has or lacks, in a form that a user can act on.

/// One thing that a lab or a fault needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// `OpenSSH server`
    pub name: &'static str,
    /// Whether it is there.
    pub state: Have,
}

/// Whether something is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Have {
    /// It is; which one, or where.
    Yes(String),
    /// It is not.
    No {
        /// What was tried, and what came of it.
        why: String,
        /// The command, or the sentence, that mends it.
        mend: String,
    },
}

impl Capability {
    /// It is there.
    pub fn yes(name: &'static str, note: impl Into<String>) -> Self {
        Self {
            name,
            state: Have::Yes(note.into()),
        }
    }

    /// It is missing.
    pub fn no(name: &'static str, why: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            name,
            state: Have::No {
                why: why.into(),
                mend: mend.into(),
            },
        }
    }

    /// Why it cannot be used and what mends that, in one sentence; nothing where it is there.
    pub fn missing(&self) -> Option<String> {
        match &self.state {
            Have::Yes(_) => None,
            Have::No { why, mend } => Some(format!("{}: {why}; {mend}", self.name)),
        }
    }
}
