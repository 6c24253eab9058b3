//! Steps in one line each, as the display, the history and the reports show them.

use std::fmt::{self, Display, Formatter};

use super::units::{show_duration, show_percent, show_size};
use super::{Action, Amount, Bound, Content, Direction, Expect, How, When};

impl Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Start { on } => write!(f, "start {}", on.join(", ")),
            Action::Stop { on } => write!(f, "stop {}", on.join(", ")),
            Action::Kill { on, when, hold } => {
                write!(f, "kill {}", on.join(", "))?;
                if let Some(when) = when {
                    write!(f, " {}", when.beside(on))?;
                }
                f.write_str(if *hold { ", hold" } else { "" })
            }
            Action::Write {
                on,
                path,
                size,
                content,
                how,
            } => {
                write!(f, "write {on}:{path}, {}", show_size(*size))?;
                f.write_str(match content {
                    Content::Random => "",
                    Content::Text => " of text",
                    Content::Zeros => " of zeros",
                })?;
                f.write_str(match how {
                    How::Renamed => "",
                    How::InPlace => ", in place",
                })
            }
            Action::Put { on, path, from } => write!(f, "put {} as {on}:{path}", from.display()),
            Action::Tree {
                on,
                path,
                files,
                size,
            } => {
                write!(f, "tree {on}:{path}, {files} files of {}", show_size(*size))
            }
            Action::Overwrite {
                on,
                path,
                amount,
                at,
            } => {
                write!(f, "overwrite {amount} of {on}:{path}")?;
                match at {
                    Some(at) => write!(f, " at {}", show_size(*at)),
                    None => Ok(()),
                }
            }
            Action::Together(steps) => {
                let parts: Vec<String> = steps.iter().map(|step| step.action.to_string()).collect();
                write!(f, "together: {}", parts.join("; "))
            }
            Action::Arrives { on, path, name, .. } => {
                write!(f, "arrives {on}:{path}")?;
                match name {
                    Some(name) => write!(f, " as {name}"),
                    None => Ok(()),
                }
            }
            Action::Settle { within, quiet } => {
                let (within, quiet) = (show_duration(*within), show_duration(*quiet));
                write!(f, "settle within {within}, quiet for {quiet}")
            }
            Action::Expect(expect) => write!(f, "expect {expect}"),
            Action::Later { text, .. } => f.write_str(text),
        }
    }
}

impl When {
    /// In a sentence that has named the step's hosts already.
    pub(super) fn beside(&self, on: &[String]) -> String {
        let amount = match &self.of {
            Some(of) => format!("{} of {of}", self.amount),
            None => self.amount.to_string(),
        };
        let direction = match self.direction {
            Direction::Received => "received",
            Direction::Sent => "sent",
        };
        if on == [self.on.clone()] {
            format!("when {amount} {direction}")
        } else {
            format!("when {amount} {direction} by {}", self.on)
        }
    }
}

impl Display for Amount {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Share(share) => f.write_str(&show_percent(*share)),
            Amount::Bytes(bytes) => f.write_str(&show_size(*bytes)),
        }
    }
}

impl Display for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.share, self.bytes) {
            (0.0, bytes) => write!(f, "<= {}", show_size(bytes)),
            (share, 0) => write!(f, "<= {}", show_percent(share)),
            (share, bytes) => write!(f, "<= {} + {}", show_percent(share), show_size(bytes)),
        }
    }
}

impl Display for Expect {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.trees_identical {
            parts.push("trees identical".to_owned());
        }
        if let Some(bound) = &self.resent {
            parts.push(format!("resent {bound}"));
        }
        if self.parts_none {
            parts.push("parts none".to_owned());
        }
        f.write_str(&parts.join(", "))
    }
}
