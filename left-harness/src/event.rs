//! What happens in a run, as one stream: the history, the progress display and
//! every report are made from it, and nothing else prints.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Something happened.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Seconds since the run began.
    pub at: f64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// A run begins. Its folder exists.
    RunStarted {
        /// `20261122-140512-k3f9`
        run: String,
        /// `resume`, or `edges[size=1MiB]`
        scenario: String,
        /// The scenario's own sentence.
        about: String,
        /// `local`
        lab: String,
        /// `left`
        sut: String,
        /// Of all generated content.
        seed: u64,
        /// Where everything of this run is kept.
        #[serde(serialize_with = "lossy")]
        folder: PathBuf,
    },
    /// A part of the run outside the scenario's steps begins (build, lab up, deploy, …).
    PhaseStarted {
        /// `build`
        phase: String,
    },
    /// And ends.
    PhaseEnded {
        /// `build`
        phase: String,
        /// How it went.
        outcome: Outcome,
        /// `left and probe built`, `deployed nothing: 2 files are already there`
        note: String,
        /// How long it took.
        seconds: f64,
    },
    /// A step of the scenario is invoked.
    StepStarted {
        /// `3`, or `2.1` for the first one inside the second, a `together`.
        step: String,
        /// `kill b when 40% of big.bin received`
        text: String,
        /// Line in the scenario's file.
        line: usize,
    },
    /// And completes.
    StepEnded {
        /// As in `StepStarted`.
        step: String,
        /// How it went.
        outcome: Outcome,
        /// `hit at 40.2 %: 107,890,221 of 268,435,456 bytes`
        note: String,
        /// How long it took.
        seconds: f64,
    },
    /// Something long goes on. Sent many times a second; not kept in the history.
    Progress {
        /// Stands for one bar: `build`, `deploy a`, `write a:big.bin`, `a → b`.
        task: String,
        /// Done so far.
        done: u64,
        /// Of so much; 0 where nobody knows.
        total: u64,
        /// What is counted.
        unit: Unit,
        /// `Compiling redb`; may be empty.
        note: String,
    },
    /// The long thing has ended, well or not; its bar may go.
    ProgressEnded {
        /// As in `Progress`.
        task: String,
    },
    /// A place on a bar worth seeing: the kill in a transfer.
    Mark {
        /// The bar.
        task: String,
        /// Where on it, in its unit.
        at: u64,
        /// `killed b`
        label: String,
    },
    /// A process of the SUT began, ended or died.
    Process {
        /// The host.
        on: String,
        /// `started pid 4711`, `killed by SIGKILL at 107,890,221 bytes`
        text: String,
    },
    /// The user should know, though it decides nothing.
    Warning {
        /// One sentence.
        text: String,
    },
    /// A finding of a checker.
    Checked {
        /// `trees`, `resent`, `parts`, `MD5_1B`
        what: String,
        /// Pass, fail or inconclusive.
        outcome: Outcome,
        /// One line: `identical: 51 entries, 500 MiB`
        text: String,
        /// Lines that show a difference; empty when there is none.
        details: Vec<String>,
    },
    /// A figure worth quoting.
    Figure(Figure),
    /// The user asked to stop; cleaning up.
    Interrupted,
    /// The run is over and torn down.
    RunEnded {
        /// The verdict.
        outcome: Outcome,
        /// Why, in one sentence; empty on a pass.
        reason: String,
        /// The whole run.
        seconds: f64,
    },
}

/// A path as text. One that is not UTF-8 must not cost the whole line.
pub(crate) fn lossy<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// How something went. Only `Ok` is green.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Done, or passed.
    Ok,
    /// The program under test did not do what it must.
    Fail,
    /// We cannot tell.
    Inconclusive,
    /// Not run, and why is said.
    Skipped,
    /// The lab, the network to it or this machine failed, not the program under test.
    Infrastructure,
    /// The user stopped it.
    Interrupted,
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Shown as MiB, with a rate.
    Bytes,
    /// Shown as n/m.
    Items,
}

/// A number with a name, for people and for comparing runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// `TC_1B`, `resent`, `kill offset`
    pub name: String,
    /// In `unit`; 1 or 0 for a pass or fail.
    pub value: f64,
    /// `s`, `bytes`, `%`, `pass`
    pub unit: String,
    /// As people read it: `3.2 MiB (1.2 %)`
    pub text: String,
}
