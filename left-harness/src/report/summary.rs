//! The last word on a run, on standard output: the verdict first.

use std::io::{self, Write};

use super::hub::Reporter;
use super::json::RunResult;
use super::line::Sign;
use super::screen::{Screen, Style};
use super::text;
use crate::event::{Event, EventKind, Outcome};

/// Lines of one difference; all of them are in `result.json`.
const DETAILS_MAX: usize = 40;
/// Warnings; all of them are in `result.json`.
const WARNINGS_MAX: usize = 8;
/// Columns of one such line. A line of a difference may be a whole file.
const DETAIL_COLUMNS_MAX: usize = 200;

/// Says it.
#[derive(Debug)]
pub struct Summary<W> {
    out: W,
    screen: Screen,
    result: RunResult,
    /// Scenario, outcome and seconds of each run of the command.
    ended: Vec<(String, Outcome, f64)>,
}

impl<W: Write> Summary<W> {
    /// To there, where it looks like this.
    pub fn new(out: W, screen: Screen) -> Self {
        Self {
            out,
            screen,
            result: RunResult::default(),
            ended: Vec::new(),
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let result = std::mem::take(&mut self.result);
        let outcome = result.outcome.unwrap_or(Outcome::Inconclusive);
        self.ended
            .push((result.scenario.clone(), outcome, result.seconds));
        if self.screen.style == Style::Live {
            writeln!(self.out)?;
        }
        self.verdict(&result, outcome)?;
        self.trouble(&result)?;
        self.figures(&result)?;
        for warning in result.warnings.iter().take(WARNINGS_MAX) {
            let warning = self.show(warning);
            self.signed(Sign::Warning, &warning)?;
        }
        if let Some(more) = result.warnings.len().checked_sub(WARNINGS_MAX + 1) {
            self.signed(Sign::Warning, &format!("{} more warnings", more + 1))?;
        }
        let folder = result.folder.display().to_string();
        writeln!(self.out, "  folder  {}", self.show(&folder))?;
        let history = format!("{folder}/{}", super::history::FILE);
        writeln!(self.out, "  more    less {}", self.show(&quoted(&history)))?;
        self.out.flush()
    }

    fn verdict(&mut self, result: &RunResult, outcome: Outcome) -> io::Result<()> {
        let word = self.paint(Sign::Ended(outcome).colour(), verdict(outcome));
        let scenario = self.show(&result.scenario);
        let seconds = text::seconds(result.seconds);
        write!(self.out, "{word}  {scenario} in {seconds}")?;
        if !result.reason.is_empty() {
            write!(self.out, ": {}", self.show(&result.reason))?;
        }
        writeln!(self.out)
    }

    /// Steps and checks that are not green, with what they show.
    fn trouble(&mut self, result: &RunResult) -> io::Result<()> {
        for phase in &result.phases {
            if let Some(outcome) = phase.outcome.filter(|outcome| *outcome != Outcome::Ok) {
                let text = self.show(&format!("{}: {}", phase.phase, phase.note));
                self.signed(Sign::Ended(outcome), &text)?;
            }
        }
        for step in &result.steps {
            let (outcome, note) = match step.outcome {
                Some(Outcome::Ok) => continue,
                Some(outcome) => (outcome, step.note.as_str()),
                None => (Outcome::Inconclusive, "did not end"),
            };
            let text = self.show(&format!("{} {}: {note}", step.step, step.text));
            let text = format!("{text} (line {})", step.line);
            self.signed(Sign::Ended(outcome), &text)?;
        }
        for check in &result.checks {
            // What passed has its figure, and its line in the progress.
            if check.outcome == Outcome::Ok {
                continue;
            }
            let text = self.show(&format!("{}: {}", check.what, check.text));
            self.signed(Sign::Ended(check.outcome), &text)?;
            for detail in check.details.iter().take(DETAILS_MAX) {
                self.detail(detail)?;
            }
            if let Some(more) = check.details.len().checked_sub(DETAILS_MAX + 1) {
                let text = format!("{} more lines in {}", more + 1, super::json::FILE);
                let ellipsis = self.screen.charset.ellipsis();
                writeln!(self.out, "      {ellipsis} {text}")?;
            }
        }
        Ok(())
    }

    fn detail(&mut self, detail: &str) -> io::Result<()> {
        let shown = self.show(&detail.replace('\t', "    "));
        let shown = self.screen.charset.fit(&shown, DETAIL_COLUMNS_MAX);
        let shown = match detail.as_bytes().first() {
            Some(b'-') => self.paint("31", &shown),
            Some(b'+') => self.paint("32", &shown),
            _ => shown,
        };
        writeln!(self.out, "      {shown}")
    }

    fn figures(&mut self, result: &RunResult) -> io::Result<()> {
        let names: Vec<_> = result.figures.iter().map(|f| self.show(&f.name)).collect();
        let widest = names.iter().map(|name| text::width(name)).max();
        for (name, figure) in names.iter().zip(&result.figures) {
            let gap = widest.unwrap_or(0) - text::width(name);
            let shown = self.show(&figure.text);
            writeln!(self.out, "  {name}{:gap$}  {shown}", "")?;
        }
        Ok(())
    }

    /// The closing table of several runs.
    fn table(&mut self) -> io::Result<()> {
        let names: Vec<_> = self
            .ended
            .iter()
            .map(|(name, ..)| self.show(name))
            .collect();
        let widest = names.iter().map(|name| text::width(name)).max();
        let widest = widest.unwrap_or(0).max("scenario".len());
        writeln!(
            self.out,
            "\n{:widest$}  {:14}  seconds",
            "scenario", "outcome"
        )?;
        for (name, (_, outcome, seconds)) in names.iter().zip(&self.ended) {
            let gap = widest - text::width(name);
            // Padded before it is painted: colours take no columns.
            let word = format!("{:14}", verdict(*outcome));
            let word = self.paint(Sign::Ended(*outcome).colour(), &word);
            writeln!(self.out, "{name}{:gap$}  {word}  {seconds:7.2}", "")?;
        }
        // `5 passed, 1 failed, 19 skipped`: a skip is neither good nor bad, but is seen.
        let mut counts = Vec::new();
        for (outcome, word) in [
            (Outcome::Ok, "passed"),
            (Outcome::Fail, "failed"),
            (Outcome::Inconclusive, "inconclusive"),
            (Outcome::Infrastructure, "infrastructure"),
            (Outcome::Interrupted, "interrupted"),
            (Outcome::Skipped, "skipped"),
        ] {
            let number = self.ended.iter().filter(|ended| ended.1 == outcome).count();
            if number > 0 || outcome == Outcome::Ok {
                counts.push(format!("{number} {word}"));
            }
        }
        writeln!(self.out, "{}", counts.join(", "))?;
        self.out.flush()
    }

    fn signed(&mut self, sign: Sign, shown: &str) -> io::Result<()> {
        let glyph = self.paint(sign.colour(), sign.glyph(self.screen.charset));
        writeln!(self.out, "  {glyph} {shown}")
    }

    fn show(&self, text: &str) -> String {
        self.screen.charset.show(text)
    }

    /// Colours what is escaped already, where colours are wanted.
    fn paint(&self, colour: &str, shown: &str) -> String {
        match self.screen.style {
            Style::Live => format!("\x1b[{colour}m{shown}\x1b[0m"),
            Style::Plain => shown.to_string(),
        }
    }
}

/// The word of a verdict.
pub fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "INCONCLUSIVE",
        Outcome::Skipped => "SKIPPED",
        Outcome::Infrastructure => "INFRASTRUCTURE",
        Outcome::Interrupted => "INTERRUPTED",
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if word.chars().all(is_plain) && !word.is_empty() {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl<W: Write + Send> Reporter for Summary<W> {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        self.result.fold(event);
        if !matches!(event.kind, EventKind::RunEnded { .. }) {
            return Ok(());
        }
        self.run()
            .map_err(|why| format!("cannot write the summary to standard output: {why}"))
    }

    fn finish(&mut self) {
        if self.ended.len() > 1 {
            // If nobody reads any more there is nobody to tell.
            let _ = self.table();
        }
    }
}
