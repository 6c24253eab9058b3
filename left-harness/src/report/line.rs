//! One line for each thing that has happened, the same for every display.

use std::collections::BTreeMap;

use super::text::{self, Charset};
use crate::event::{Event, EventKind, Outcome};

/// What stands at the front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Something ended.
    Ended(Outcome),
    /// Something happened.
    Info,
    /// The user should look.
    Warning,
    /// A run begins.
    Title,
}

/// A line, with its words escaped and not yet put in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// At the front.
    pub sign: Sign,
    /// How deep inside another step.
    pub depth: usize,
    /// What it is about.
    pub text: String,
    /// What came of it; may be empty.
    pub note: String,
    /// How long it took.
    pub seconds: Option<f64>,
}

impl Sign {
    /// One character, or a few.
    pub fn glyph(self, charset: Charset) -> &'static str {
        let (unicode, ascii) = match self {
            Self::Ended(Outcome::Ok) => ("✓", "+"),
            Self::Ended(Outcome::Fail) => ("✗", "x"),
            Self::Ended(Outcome::Inconclusive) => ("?", "?"),
            Self::Ended(Outcome::Skipped) => ("–", "-"),
            Self::Ended(Outcome::Infrastructure) | Self::Warning => ("!", "!"),
            Self::Ended(Outcome::Interrupted) => ("^", "^"),
            Self::Info => ("·", "."),
            Self::Title => ("▸", ">"),
        };
        match charset {
            Charset::Unicode => unicode,
            Charset::Ascii => ascii,
        }
    }

    /// A word that a script can look for.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended(outcome) => outcome_word(outcome),
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Title => "run",
        }
    }

    /// The parameter of the terminal's colour sequence.
    pub fn colour(self) -> &'static str {
        match self {
            Self::Ended(Outcome::Ok) => "32",
            Self::Ended(Outcome::Fail) => "31",
            Self::Ended(_) | Self::Warning => "33",
            Self::Info => "2",
            Self::Title => "1",
        }
    }
}

/// `ok`, `FAIL`, `inconclusive` …
pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "inconclusive",
        Outcome::Skipped => "skipped",
        Outcome::Infrastructure => "infrastructure",
        Outcome::Interrupted => "interrupted",
    }
}

/// Makes the lines; remembers what steps are called.
#[derive(Debug)]
pub struct Lines {
    charset: Charset,
    steps: BTreeMap<String, String>,
}

impl Lines {
    /// In such characters.
    pub fn new(charset: Charset) -> Self {
        Self {
            charset,
            steps: BTreeMap::new(),
        }
    }

    /// The name of a step that has begun: `2.1 write big.bin`.
    pub fn step(&self, step: &str) -> String {
        let text = self.steps.get(step).map_or("", String::as_str);
        self.charset.show(format!("{step} {text}").trim_end())
    }

    /// The lines for an event that ends or tells something; none for the rest.
    pub fn of(&mut self, event: &Event) -> Vec<Line> {
        let mut lines: Vec<_> = self.first(event).into_iter().collect();
        if let EventKind::RunStarted {
            run,
            lab,
            sut,
            seed,
            ..
        } = &event.kind
        {
            let note = format!("lab {lab}, {sut}, seed {seed}");
            lines.push(Line {
                sign: Sign::Info,
                depth: 0,
                text: self.charset.show(run),
                note: self.charset.show(&note),
                seconds: None,
            });
        }
        lines
    }

    fn first(&mut self, event: &Event) -> Option<Line> {
        let (sign, text, note, seconds) = match &event.kind {
            EventKind::RunStarted {
                scenario, about, ..
            } => {
                self.steps.clear();
                (Sign::Title, scenario.clone(), about.clone(), None)
            }
            EventKind::StepStarted { step, text, .. } => {
                self.steps.insert(step.clone(), text.clone());
                return None;
            }
            EventKind::PhaseEnded {
                phase,
                outcome,
                note,
                seconds,
            } => {
                let sign = Sign::Ended(*outcome);
                (sign, phase.clone(), note.clone(), Some(*seconds))
            }
            EventKind::StepEnded {
                step,
                outcome,
                note,
                seconds,
            } => {
                let sign = Sign::Ended(*outcome);
                let line = Line {
                    sign,
                    depth: step.matches('.').count(),
                    text: self.step(step),
                    note: self.charset.show(note),
                    seconds: Some(*seconds),
                };
                return Some(line);
            }
            EventKind::Process { on, text } => (Sign::Info, on.clone(), text.clone(), None),
            EventKind::Warning { text } => (Sign::Warning, text.clone(), String::new(), None),
            EventKind::Checked {
                what,
                outcome,
                text,
                ..
            } => (Sign::Ended(*outcome), what.clone(), text.clone(), None),
            EventKind::Interrupted => {
                let text = "stopping and cleaning up; once more leaves at once";
                (Sign::Warning, text.to_string(), String::new(), None)
            }
            EventKind::PhaseStarted { .. }
            | EventKind::Progress { .. }
            | EventKind::ProgressEnded { .. }
            | EventKind::Mark { .. }
            | EventKind::Figure(_)
            | EventKind::RunEnded { .. } => return None,
        };
        Some(Line {
            sign,
            depth: 0,
            text: self.charset.show(&text),
            note: self.charset.show(&note),
            seconds,
        })
    }
}

impl Line {
    /// Everything behind the sign: text, note and seconds.
    pub fn body(&self) -> String {
        format!("{}{}", self.words(), self.took())
    }

    /// The same within so many columns; the seconds are always there.
    pub fn body_within(&self, columns: usize, charset: Charset) -> String {
        let took = self.took();
        let left = columns.saturating_sub(text::width(&took));
        charset.fit(
            &format!("{}{took}", charset.fit(&self.words(), left)),
            columns,
        )
    }

    fn words(&self) -> String {
        let indent = "  ".repeat(self.depth);
        let colon = if self.note.is_empty() { "" } else { ": " };
        format!("{indent}{}{colon}{}", self.text, self.note)
    }

    fn took(&self) -> String {
        let seconds = self.seconds.map(text::seconds);
        seconds.map_or(String::new(), |seconds| format!(" ({seconds})"))
    }
}
