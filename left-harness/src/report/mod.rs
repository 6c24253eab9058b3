//! What a user and a script see of a run, made from its events alone.
//!
//! [`hub`] hands each event to the reporters, on a thread of its own: a slow
//! terminal or disk never holds a run up. [`text`], [`screen`], [`line`] and
//! [`bar`] say how things look; [`progress`] and [`plain`] draw while it runs,
//! [`summary`] speaks at the end, [`history`] and [`json`] keep it.
//! Whatever comes from a host or a file name is escaped before it is shown.

pub mod text;

pub mod screen;

pub mod line;

pub mod bar;

pub mod hub;

pub mod history;

pub mod json;

pub mod plain;

pub mod progress;

pub mod summary;

use std::io;

pub use hub::{EventSink, Hub, Reporter};
pub use json::RunResult;

/// What the end of a run puts on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The verdict and the figures, for people.
    Summary,
    /// What is in `result.json`, one document a run.
    Json,
}

/// Starts everything that reports on the runs of one command: progress on
/// standard error, `closing` on standard output, history.jsonl and result.json
/// in the folder of each run. [`Hub::finish`] ends it.
pub fn start(closing: Closing) -> (EventSink, Hub) {
    let errors = screen::Screen::of_stderr();
    let out = screen::Screen::of_stdout();
    let mut reporters: Vec<Box<dyn Reporter>> = Vec::new();
    // The files first: they are complete when the summary names their folder.
    reporters.push(Box::new(history::History::default()));
    reporters.push(Box::new(json::ResultFile::default()));
    // Then the display, whose bars are gone before the summary speaks.
    match errors.style {
        screen::Style::Live => reporters.push(Box::new(progress::Progress::new(errors))),
        screen::Style::Plain => {
            reporters.push(Box::new(plain::Plain::new(io::stderr(), errors.charset)));
        }
    }
    match closing {
        Closing::Summary => reporters.push(Box::new(summary::Summary::new(io::stdout(), out))),
        Closing::Json => reporters.push(Box::new(json::JsonOut::new(io::stdout()))),
    }
    hub::start(reporters)
}

#[cfg(test)]
mod tests;
