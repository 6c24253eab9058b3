//! The display on a terminal: a line for everything that has ended, and below
//! them, drawn over and over, what goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::bar::Bar;
use super::hub::Reporter;
use super::line::{Line, Lines, Sign};
use super::screen::{self, Screen};
use super::text::{self, Charset};
use crate::event::{Event, EventKind, Outcome, Unit};

/// Bars are drawn at most so many times a second.
const DRAWS_PER_SECOND: u8 = 15;
/// A spinner turns this often.
const TICK: Duration = Duration::from_millis(120);
/// Kept free at the right: some terminals wrap when the last column is written.
const MARGIN: usize = 1;
/// A rate is an average over at least this long, or it is a guess.
const RATE_AFTER: Duration = Duration::from_millis(500);
/// It counts from when this share was done: what comes before is talk about what
/// is to come, and no measure of it.
const RATE_FROM: f64 = 0.005;

/// Draws on standard error.
#[derive(Debug)]
pub struct Progress {
    charset: Charset,
    lines: Lines,
    multi: MultiProgress,
    /// Phases and steps under way, by their names.
    spinners: BTreeMap<String, ProgressBar>,
    tasks: Tasks,
}

/// Long things under way, in the order in which they began.
type Tasks = Vec<(String, Task)>;

#[derive(Debug)]
struct Task {
    bar: ProgressBar,
    shown: Arc<Mutex<Bar>>,
    /// When it came to flow, and how much was done by then.
    flow: Option<(Instant, u64)>,
}

impl Progress {
    /// In the characters of that screen.
    pub fn new(screen: Screen) -> Self {
        let target = ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND);
        Self {
            charset: screen.charset,
            lines: Lines::new(screen.charset),
            multi: MultiProgress::with_draw_target(target),
            spinners: BTreeMap::new(),
            tasks: Vec::new(),
        }
    }

    fn say(&self, line: &Line) {
        let columns = screen::columns().saturating_sub(MARGIN);
        // If the terminal is gone there is nobody to tell.
        let _ = self.multi.println(draw(line, columns, self.charset));
    }

    fn spin(&mut self, key: String, text: String) {
        let charset = self.charset;
        let line = move |state: &ProgressState, out: &mut dyn fmt::Write| {
            // The sign and the blank behind it stand before.
            let columns = screen::columns().saturating_sub(MARGIN + 2);
            let seconds = format!("  {} s", state.elapsed().as_secs());
            let text = charset.fit(&text, columns.saturating_sub(text::width(&seconds)));
            let _ = write!(out, "{text}{seconds}");
        };
        let ticks = match charset {
            Charset::Unicode => "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ",
            Charset::Ascii => "|/-\\ ",
        };
        let style = style("{spinner:.cyan} {line}")
            .tick_chars(ticks)
            .with_key("line", line);
        let spinner = ProgressBar::no_length();
        let spinner = match self.tasks.first() {
            Some((_, task)) => self.multi.insert_before(&task.bar, spinner),
            None => self.multi.add(spinner),
        };
        spinner.set_style(style);
        spinner.enable_steady_tick(TICK);
        if let Some(old) = self.spinners.insert(key, spinner) {
            self.remove(&old);
        }
    }

    fn stop_spinning(&mut self, key: &str) {
        if let Some(spinner) = self.spinners.remove(key) {
            self.remove(&spinner);
        }
    }

    fn remove(&self, bar: &ProgressBar) {
        bar.finish_and_clear();
        self.multi.remove(bar);
    }

    fn task(&mut self, name: &str) -> &mut Task {
        let place = self.tasks.iter().position(|(other, _)| other == name);
        let place = place.unwrap_or_else(|| {
            let task = Task::new(self.charset.show(name), self.charset, &self.multi);
            self.tasks.push((name.to_string(), task));
            self.tasks.len() - 1
        });
        &mut self.tasks[place].1
    }

    fn end_task(&mut self, name: &str) {
        let Some(place) = self.tasks.iter().position(|(other, _)| other == name) else {
            return;
        };
        let (_, task) = self.tasks.remove(place);
        self.remove(&task.bar);
        // A bar with a mark has something to show for good.
        let mut shown = task.shown();
        if !shown.marks.is_empty() {
            (shown.rate, shown.eta) = (None, None);
            let columns = screen::columns().saturating_sub(MARGIN + 2);
            let _ = self
                .multi
                .println(format!("  {}", shown.line(columns, self.charset)));
        }
    }

    fn clear(&mut self) {
        for (_, spinner) in std::mem::take(&mut self.spinners) {
            self.remove(&spinner);
        }
        for name in self
            .tasks
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
        {
            self.end_task(&name);
        }
        let _ = self.multi.clear();
    }
}

impl Task {
    fn new(label: String, charset: Charset, multi: &MultiProgress) -> Self {
        let shown = Arc::new(Mutex::new(Bar {
            label,
            done: 0,
            total: 0,
            unit: Unit::Bytes,
            note: String::new(),
            marks: Vec::new(),
            rate: None,
            eta: None,
        }));
        let drawn = shown.clone();
        let line = move |_: &ProgressState, out: &mut dyn fmt::Write| {
            let bar = lock(&drawn).clone();
            let columns = screen::columns().saturating_sub(MARGIN + 2);
            let _ = write!(out, "  {}", bar.line(columns, charset));
        };
        let bar = multi.add(ProgressBar::no_length());
        bar.set_style(style("{line}").with_key("line", line));
        Self {
            bar,
            shown,
            flow: None,
        }
    }

    /// Takes news, and what follows from them for the rate.
    fn take(&mut self, done: u64, total: u64, unit: Unit, note: String) {
        let mut shown = lock(&self.shown);
        (shown.done, shown.total, shown.unit, shown.note) = (done, total, unit, note);
        if done == 0 || (done as f64) < total as f64 * RATE_FROM {
            return;
        }
        let (since, before) = *self.flow.get_or_insert((Instant::now(), done));
        if since.elapsed() >= RATE_AFTER {
            let rate = done.saturating_sub(before) as f64 / since.elapsed().as_secs_f64();
            let left = total.saturating_sub(done) as f64;
            shown.rate = Some(rate);
            shown.eta = Some(left / rate).filter(|eta| total > 0 && eta.is_finite());
        }
    }

    fn shown(&self) -> MutexGuard<'_, Bar> {
        lock(&self.shown)
    }
}

fn lock(bar: &Mutex<Bar>) -> MutexGuard<'_, Bar> {
    bar.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; a bad one would only look plain.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A finished line with its colours. What went well is cut to the terminal's
/// width, what did not may wrap: there the end matters.
fn draw(line: &Line, columns: usize, charset: Charset) -> String {
    let sign = line.sign.glyph(charset);
    let body = match line.sign {
        Sign::Ended(Outcome::Ok) | Sign::Info => {
            line.body_within(columns.saturating_sub(text::width(sign) + 1), charset)
        }
        _ => line.body(),
    };
    format!("\x1b[{}m{sign}\x1b[0m {body}", line.sign.colour())
}

impl Reporter for Progress {
    fn event(&mut self, event: &Event) -> Result<(), String> {
        let lines = self.lines.of(event);
        match &event.kind {
            EventKind::PhaseStarted { phase } => {
                self.spin(format!("phase {phase}"), self.charset.show(phase));
            }
            EventKind::PhaseEnded { phase, .. } => self.stop_spinning(&format!("phase {phase}")),
            EventKind::StepStarted { step, .. } => {
                let text = self.lines.step(step);
                self.spin(format!("step {step}"), text);
            }
            EventKind::StepEnded { step, .. } => self.stop_spinning(&format!("step {step}")),
            EventKind::Progress {
                task,
                done,
                total,
                unit,
                note,
            } => {
                let note = self.charset.show(note);
                let task = self.task(task);
                task.take(*done, *total, *unit, note);
                if *total > 0 {
                    task.bar.set_length(*total);
                }
                // Last, and without the lock: it draws.
                task.bar.set_position(*done);
            }
            EventKind::Mark { task, at, label } => {
                let label = self.charset.show(label);
                let task = self.task(task);
                task.shown().marks.push((*at, label));
                task.bar.tick();
            }
            EventKind::ProgressEnded { task } => self.end_task(task),
            // Steps that were under way will never tell their end.
            EventKind::RunStarted { .. } | EventKind::RunEnded { .. } | EventKind::Interrupted => {
                self.clear();
            }
            _ => {}
        }
        for line in &lines {
            self.say(line);
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_well_is_cut_and_what_failed_is_not() {
        let mut line = Line {
            sign: Sign::Ended(Outcome::Ok),
            depth: 1,
            text: "2.1 write big.bin".into(),
            note: "256 MiB".into(),
            seconds: Some(0.84),
        };
        assert_eq!(
            draw(&line, 80, Charset::Unicode),
            "\x1b[32m✓\x1b[0m   2.1 write big.bin: 256 MiB (0.84 s)"
        );
        assert_eq!(
            draw(&line, 22, Charset::Unicode),
            "\x1b[32m✓\x1b[0m   2.1 writ… (0.84 s)"
        );
        line.sign = Sign::Ended(Outcome::Fail);
        assert_eq!(
            draw(&line, 16, Charset::Ascii),
            "\x1b[31mx\x1b[0m   2.1 write big.bin: 256 MiB (0.84 s)"
        );
    }
}
