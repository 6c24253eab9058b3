//! `history.jsonl`: what happened, one event a line, written as it happens.

use std::fs::File;
use std::io::Write;

use super::hub::Reporter;
use super::text::json_for_terminals;
use crate::event::{Event, EventKind};

/// The file's name in the folder of a run.
pub const FILE: &str = "history.jsonl";

/// Writes the history of each run into its folder.
#[derive(Debug, Default)]
pub struct History {
    /// None before the first run, and after writing failed.
    file: Option<File>,
}

impl Reporter for History {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        if let EventKind::RunStarted { folder, .. } = &event.kind {
            let path = folder.join(FILE);
            self.file = None;
            let file = File::create(&path)
                .map_err(|why| format!("cannot create {}: {why}", path.display()))?;
            self.file = Some(file);
        }
        if matches!(event.kind, EventKind::Progress { .. }) {
            return Ok(());
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        // One write a line: whoever is killed leaves whole lines behind.
        let written = serde_json::to_string(event)
            .map_err(std::io::Error::from)
            .and_then(|line| {
                let line = json_for_terminals(&line) + "\n";
                file.write_all(line.as_bytes())
            });
        written.map_err(|why| {
            self.file = None;
            format!("cannot write {FILE}, it ends here: {why}")
        })
    }
}
