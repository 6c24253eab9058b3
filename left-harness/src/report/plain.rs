//! The display where nothing can be drawn over: lines, each one written once.

use std::collections::BTreeMap;
use std::io::Write;

use super::hub::Reporter;
use super::line::Lines;
use super::text::{self, Charset};
use crate::event::{Event, EventKind, Unit};

/// A quarter of a bar is worth a line if it took so long, in seconds.
const QUARTER_SECONDS_MIN: f64 = 2.0;
/// And there is a line as often as this if anything moves, in seconds.
const LINE_SECONDS_MAX: f64 = 10.0;

/// Writes the lines.
#[derive(Debug)]
pub struct Plain<W> {
    out: W,
    charset: Charset,
    lines: Lines,
    tasks: BTreeMap<String, Task>,
}

/// A long thing under way.
#[derive(Debug)]
struct Task {
    said_at: f64,
    quarter: u64,
    total: u64,
    unit: Unit,
}

impl<W: Write> Plain<W> {
    /// To there, in such characters.
    pub fn new(out: W, charset: Charset) -> Self {
        Self {
            out,
            charset,
            lines: Lines::new(charset),
            tasks: BTreeMap::new(),
        }
    }

    fn say(&mut self, word: &str, text: &str) {
        // If nobody reads any more there is nobody to tell.
        let _ = writeln!(self.out, "{word:<8} {text}");
    }

    fn progress(&mut self, at: f64, task: &str, done: u64, total: u64, unit: Unit) {
        let now = Task {
            said_at: at,
            quarter: quarter(done, total),
            total,
            unit,
        };
        let Some(before) = self.tasks.get_mut(task) else {
            self.tasks.insert(task.to_string(), now);
            return;
        };
        (before.total, before.unit) = (total, unit);
        let waited = at - before.said_at;
        let is_next = now.quarter > before.quarter && now.quarter < 4;
        if !(is_next && waited >= QUARTER_SECONDS_MIN || waited >= LINE_SECONDS_MAX) {
            return;
        }
        *before = now;
        let task = self.charset.show(task);
        self.say("progress", &format!("{task}: {}", share(done, total, unit)));
    }
}

fn quarter(done: u64, total: u64) -> u64 {
    let quarter = u128::from(done) * 4 / u128::from(total.max(1));
    u64::try_from(quarter.min(4)).unwrap_or(4)
}

/// `102.9 MiB of 256 MiB (40.2 %)`
fn share(done: u64, total: u64, unit: Unit) -> String {
    let show = |n| match unit {
        Unit::Bytes => text::bytes(n),
        Unit::Items => n.to_string(),
    };
    if total == 0 {
        return show(done);
    }
    let percent = done as f64 * 100.0 / total as f64;
    format!("{} of {} ({percent:.1} %)", show(done), show(total))
}

impl<W: Write + Send> Reporter for Plain<W> {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        for line in self.lines.of(event) {
            self.say(line.sign.word(), &line.body());
        }
        match &event.kind {
            EventKind::Progress {
                task,
                done,
                total,
                unit,
                ..
            } => self.progress(event.at, task, *done, *total, *unit),
            EventKind::ProgressEnded { task } => {
                self.tasks.remove(task);
            }
            EventKind::Mark { task, at, label } => {
                let (total, unit) = self
                    .tasks
                    .get(task)
                    .map_or((0, Unit::Bytes), |task| (task.total, task.unit));
                let text = format!(
                    "{} at {}, {}",
                    self.charset.show(label),
                    share(*at, total, unit),
                    self.charset.show(task)
                );
                self.say("mark", &text);
            }
            EventKind::RunStarted { .. } => self.tasks.clear(),
            _ => {}
        }
        let _ = self.out.flush();
        Ok(())
    }
}
