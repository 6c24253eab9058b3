//! `result.json`: what came of a run, as data. Names of fields stay; new ones
//! may be added.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use super::hub::Reporter;
use super::text::json_for_terminals;
use crate::event::{Event, EventKind, Figure, Outcome, lossy};

/// The file's name in the folder of a run.
pub const FILE: &str = "result.json";

/// What came of a run: its events, folded. Outcomes are `ok`, `fail`,
/// `inconclusive`, `skipped`, `infrastructure`, `interrupted`, or null for what
/// did not end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunResult {
    /// `20261122-140512-k3f9`
    pub run: String,
    /// `resume`, or `edges[size=1MiB]`
    pub scenario: String,
    /// The scenario's own sentence.
    pub about: String,
    /// Where the hosts came from.
    pub lab: String,
    /// The program under test.
    pub sut: String,
    /// Of all generated content.
    pub seed: u64,
    /// The verdict; only `ok` is a pass.
    pub outcome: Option<Outcome>,
    /// Why, in one sentence; empty on a pass.
    pub reason: String,
    /// The whole run.
    pub seconds: f64,
    /// Parts of the run outside the steps, in order.
    pub phases: Vec<Phase>,
    /// The scenario's steps, in the order in which they began.
    pub steps: Vec<Step>,
    /// Findings of the checkers, in order.
    pub checks: Vec<Check>,
    /// Name → `{value, unit, text}`.
    #[serde(serialize_with = "as_map")]
    pub figures: Vec<Figure>,
    /// Sentences.
    pub warnings: Vec<String>,
    /// Where everything of this run is kept.
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
}

/// A part of the run outside the scenario's steps.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// `build`
    pub phase: String,
    /// How it went.
    pub outcome: Option<Outcome>,
    /// What came of it.
    pub note: String,
    /// How long it took.
    pub seconds: f64,
}

/// A step of the scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// `3`, or `2.1` inside the second.
    pub step: String,
    /// `kill b when 40% of big.bin received`
    pub text: String,
    /// Line in the scenario's file.
    pub line: usize,
    /// How it went.
    pub outcome: Option<Outcome>,
    /// What came of it.
    pub note: String,
    /// How long it took.
    pub seconds: f64,
}

/// A finding of a checker.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// `trees`, `resent`
    pub what: String,
    /// What it found.
    pub outcome: Outcome,
    /// In one line.
    pub text: String,
    /// Lines that show a difference.
    pub details: Vec<String>,
}

impl RunResult {
    /// Takes one more event into account. A new run begins from nothing.
    pub fn fold(&mut self, event: &Event) {
        match event.kind.clone() {
            EventKind::RunStarted {
                run,
                scenario,
                about,
                lab,
                sut,
                seed,
                folder,
            } => {
                *self = Self {
                    run,
                    scenario,
                    about,
                    lab,
                    sut,
                    seed,
                    folder,
                    ..Self::default()
                };
            }
            EventKind::PhaseStarted { phase } => self.phases.push(Phase {
                phase,
                outcome: None,
                note: String::new(),
                seconds: 0.0,
            }),
            EventKind::PhaseEnded {
                phase,
                outcome,
                note,
                seconds,
            } => {
                let ended = Phase {
                    phase,
                    outcome: Some(outcome),
                    note,
                    seconds,
                };
                let mut begun = self.phases.iter_mut().rev();
                match begun.find(|begun| begun.phase == ended.phase && begun.outcome.is_none()) {
                    Some(begun) => *begun = ended,
                    None => self.phases.push(ended),
                }
            }
            EventKind::StepStarted { step, text, line } => self.steps.push(Step {
                step,
                text,
                line,
                outcome: None,
                note: String::new(),
                seconds: 0.0,
            }),
            EventKind::StepEnded {
                step,
                outcome,
                note,
                seconds,
            } => {
                let mut begun = self.steps.iter_mut().rev();
                if let Some(begun) = begun.find(|begun| begun.step == step) {
                    begun.outcome = Some(outcome);
                    begun.note = note;
                    begun.seconds = seconds;
                }
            }
            EventKind::Checked {
                what,
                outcome,
                text,
                details,
            } => self.checks.push(Check {
                what,
                outcome,
                text,
                details,
            }),
            EventKind::Figure(figure) => {
                // A name stands once: the last word counts.
                match self.figures.iter_mut().find(|old| old.name == figure.name) {
                    Some(old) => *old = figure,
                    None => self.figures.push(figure),
                }
            }
            EventKind::Warning { text } => self.warnings.push(text),
            EventKind::RunEnded {
                outcome,
                reason,
                seconds,
            } => {
                self.outcome = Some(outcome);
                self.reason = reason;
                self.seconds = seconds;
            }
            EventKind::Progress { .. }
            | EventKind::ProgressEnded { .. }
            | EventKind::Mark { .. }
            | EventKind::Process { .. }
            | EventKind::Interrupted => {}
        }
    }

    /// The content of `result.json`.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        let mut text = json_for_terminals(&text);
        text.push('\n');
        Ok(text)
    }
}

fn as_map<S: Serializer>(figures: &[Figure], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Value<'a> {
        value: f64,
        unit: &'a str,
        text: &'a str,
    }
    to.collect_map(figures.iter().map(|figure| {
        let value = Value {
            value: figure.value,
            unit: &figure.unit,
            text: &figure.text,
        };
        (&figure.name, value)
    }))
}

/// Writes `result.json` at the end of each run.
#[derive(Debug, Default)]
pub struct ResultFile {
    result: RunResult,
}

impl Reporter for ResultFile {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        self.result.fold(event);
        if !matches!(event.kind, EventKind::RunEnded { .. }) {
            return Ok(());
        }
        let path = self.result.folder.join(FILE);
        let part = self.result.folder.join(format!("{FILE}.part"));
        // Renamed in: whoever finds the file finds all of it.
        let text = self.result.to_json().map_err(|why| why.to_string())?;
        fs::write(&part, text)
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|why| format!("cannot write {}: {why}", path.display()))
    }
}

/// Prints the same in one line a run, instead of a summary.
#[derive(Debug)]
pub struct JsonOut<W> {
    out: W,
    result: RunResult,
}

impl<W: Write> JsonOut<W> {
    /// To there.
    pub fn new(out: W) -> Self {
        Self {
            out,
            result: RunResult::default(),
        }
    }
}

impl<W: Write + Send> Reporter for JsonOut<W> {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        self.result.fold(event);
        if !matches!(event.kind, EventKind::RunEnded { .. }) {
            return Ok(());
        }
        // One line a run: several runs are JSON Lines.
        let text = serde_json::to_string(&self.result).map_err(|why| why.to_string())?;
        let text = json_for_terminals(&text) + "\n";
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(|why| format!("cannot write the result to standard output: {why}"))
    }
}
