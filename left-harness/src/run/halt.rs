//! Why a run does not go on: whose fault it is, and what to show for it.

use crate::event::Outcome;

/// What every way to a full disk says of it.
pub const NO_SPACE: &str = "no space left on device";

/// What mends a full disk.
pub const REMEDY: &str = "free some space there, or choose another place with --lab-dir, for \
                          hosts of your own with `folder`";

/// The end of the steps before their end.
#[derive(Debug, Clone)]
pub struct Halt {
    /// Whose fault.
    pub outcome: Outcome,
    /// One sentence.
    pub reason: String,
    /// Lines that show it: the end of a log, a difference.
    pub details: Vec<String>,
}

impl Halt {
    /// The program under test did not do what it must.
    pub fn fail(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Fail, reason)
    }

    /// We cannot tell.
    pub fn inconclusive(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Inconclusive, reason)
    }

    /// The user does not want to go on.
    pub fn interrupted() -> Self {
        Self::new(Outcome::Interrupted, "stopped by the user")
    }

    /// With lines that show it.
    pub fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: reason.into(),
            details: Vec::new(),
        }
    }
}

/// Whatever goes wrong on the way to a host, in the lab or on this machine is
/// never a verdict about the program under test.
impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Self {
        let mut reason = format!("{error:#}");
        if reason.contains(NO_SPACE) {
            reason = format!("{reason}: {REMEDY}");
        }
        Self::new(Outcome::Infrastructure, reason)
    }
}

/// A program that cannot even be executed has not been tested.
impl From<crate::host::probe::ProbeError> for Halt {
    fn from(error: crate::host::probe::ProbeError) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<crate::host::remote::RemoteError> for Halt {
    fn from(error: crate::host::remote::RemoteError) -> Self {
        anyhow::Error::from(error).into()
    }
}
