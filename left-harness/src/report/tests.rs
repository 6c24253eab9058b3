//! The reports of whole runs, from events written by hand.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::hub::{self, Reporter};
use super::json::{JsonOut, ResultFile, RunResult};
use super::plain::Plain;
use super::screen::{Screen, Style};
use super::summary::Summary;
use super::text::Charset;
use super::{history, json};
use crate::event::{Event, EventKind, Figure, Outcome, Unit};

const MIB: u64 = 1 << 20;

/// A place to write to that can be looked at afterwards.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn run_started(scenario: &str, folder: &Path) -> EventKind {
    EventKind::RunStarted {
        run: "20261122-140512-k3f9".into(),
        scenario: scenario.into(),
        about: "B is killed at 40 % and must resume.".into(),
        lab: "local".into(),
        sut: "left".into(),
        seed: 7,
        folder: folder.into(),
    }
}

fn step_started(step: &str, text: &str, line: usize) -> EventKind {
    let (step, text) = (step.into(), text.into());
    EventKind::StepStarted { step, text, line }
}

fn step_ended(step: &str, outcome: Outcome, note: &str, seconds: f64) -> EventKind {
    let (step, note) = (step.into(), note.into());
    EventKind::StepEnded {
        step,
        outcome,
        note,
        seconds,
    }
}

fn progress(done: u64) -> EventKind {
    EventKind::Progress {
        task: "a → b".into(),
        done,
        total: 256 * MIB,
        unit: Unit::Bytes,
        note: String::new(),
    }
}

fn figure(name: &str, value: f64, unit: &str, text: &str) -> EventKind {
    let (name, unit, text) = (name.into(), unit.into(), text.into());
    EventKind::Figure(Figure {
        name,
        value,
        unit,
        text,
    })
}

/// A run that finds a difference.
fn failed_run(folder: &Path) -> Vec<Event> {
    let kinds = [
        (0.0, run_started("resume", folder)),
        (
            0.0,
            EventKind::PhaseStarted {
                phase: "build".into(),
            },
        ),
        (
            1.5,
            EventKind::PhaseEnded {
                phase: "build".into(),
                outcome: Outcome::Ok,
                note: "left and probe built".into(),
                seconds: 1.5,
            },
        ),
        (1.5, step_started("1", "start a, b", 4)),
        (1.7, step_ended("1", Outcome::Ok, "", 0.2)),
        (1.7, step_started("2", "together", 5)),
        (1.7, step_started("2.1", "write a:big.bin (256 MiB)", 6)),
        (
            1.7,
            step_started("2.2", "kill b when 40% of big.bin received", 7),
        ),
        (1.8, progress(0)),
        (2.0, progress(90 * MIB)),
        (4.1, progress(100 * MIB)),
        (4.2, progress(110 * MIB)),
        (
            4.2,
            EventKind::Process {
                on: "b".into(),
                text: "killed by SIGKILL at 107,890,221 bytes".into(),
            },
        ),
        (
            4.2,
            EventKind::Mark {
                task: "a → b".into(),
                at: 107_890_221,
                label: "killed b".into(),
            },
        ),
        (4.3, step_ended("2.2", Outcome::Ok, "hit at 40.2 %", 2.6)),
        (4.4, step_ended("2.1", Outcome::Ok, "", 2.7)),
        (4.4, step_ended("2", Outcome::Ok, "", 2.7)),
        (6.2, progress(140 * MIB)),
        (17.0, progress(150 * MIB)),
        (18.0, progress(200 * MIB)),
        (
            18.1,
            EventKind::ProgressEnded {
                task: "a → b".into(),
            },
        ),
        (18.1, step_started("3", "settle within 60 s", 9)),
        (
            19.0,
            EventKind::Warning {
                text: "cannot fetch the log of host b".into(),
            },
        ),
        (
            19.1,
            EventKind::Checked {
                what: "trees".into(),
                outcome: Outcome::Fail,
                text: "1 of 51 entries differs".into(),
                details: vec![
                    "big\u{1b}[31m.bin: content differs at offset 4096".into(),
                    "-\told line".into(),
                    "+\tnew line\u{202e}".into(),
                ],
            },
        ),
        (19.1, figure("size", 268_435_456.0, "bytes", "256 MiB")),
        (19.1, figure("resent", 0.0, "bytes", "provisional")),
        (
            19.1,
            figure("resent", 3_355_443.0, "bytes", "3.2 MiB (1.2 %)"),
        ),
        (19.1, figure("TC_1B", 2.7, "s", "2.70 s")),
        (
            19.2,
            EventKind::RunEnded {
                outcome: Outcome::Fail,
                reason: "trees differ".into(),
                seconds: 19.2,
            },
        ),
    ];
    kinds.map(|(at, kind)| Event { at, kind }).into()
}

fn report(mut reporter: impl Reporter, events: &[Event]) {
    for event in events {
        reporter.event(event).unwrap();
    }
    reporter.finish();
}

const PLAIN: Screen = Screen {
    style: Style::Plain,
    charset: Charset::Unicode,
};

#[test]
fn plain_display_of_a_run() {
    let paper = Paper::default();
    let events = failed_run(Path::new("runs/x"));
    report(Plain::new(paper.clone(), Charset::Unicode), &events);
    insta::assert_snapshot!(paper.text());
}

#[test]
fn summary_of_a_failed_run() {
    let paper = Paper::default();
    let events = failed_run(Path::new("runs/it's x"));
    report(Summary::new(paper.clone(), PLAIN), &events);
    insta::assert_snapshot!(paper.text());
}

#[test]
fn several_runs_are_closed_by_a_table() {
    let paper = Paper::default();
    let mut events = failed_run(Path::new("runs/x"));
    for (scenario, outcome, reason) in [
        ("smoke", Outcome::Ok, ""),
        (
            "lossy[loss=5%]",
            Outcome::Skipped,
            "loss needs a link that carries packets",
        ),
    ] {
        let kind = run_started(scenario, Path::new("runs/y"));
        events.push(Event { at: 0.0, kind });
        let kind = EventKind::RunEnded {
            outcome,
            reason: reason.into(),
            seconds: 0.125,
        };
        events.push(Event { at: 0.1, kind });
    }
    report(Summary::new(paper.clone(), PLAIN), &events);
    let text = paper.text();
    let table = text.split_once("\nscenario").expect("a table").1;
    insta::assert_snapshot!(format!("scenario{table}"));
}

#[test]
fn long_differences_are_bounded() {
    let paper = Paper::default();
    let mut events = failed_run(Path::new("runs/x"));
    for event in &mut events {
        if let EventKind::Checked { details, .. } = &mut event.kind {
            *details = (0..100_000)
                .map(|n| format!("+{n} {}", "y".repeat(1000)))
                .collect();
        }
    }
    report(Summary::new(paper.clone(), PLAIN), &events);
    let text = paper.text();
    assert!(text.lines().count() < 60);
    assert!(text.lines().all(|line| line.chars().count() < 250));
    assert!(text.contains("99960 more lines in result.json"), "{text}");
}

#[test]
fn result_is_the_fold_of_the_events() {
    let mut result = RunResult::default();
    for event in failed_run(Path::new("runs/x")) {
        result.fold(&event);
    }
    insta::assert_snapshot!(result.to_json().unwrap());
}

#[test]
fn folder_of_a_run_keeps_history_and_result() {
    let folder = tempfile::tempdir().unwrap();
    let paper = Paper::default();
    let (sink, hub) = hub::start(vec![
        Box::new(history::History::default()),
        Box::new(ResultFile::default()),
        Box::new(JsonOut::new(paper.clone())),
    ]);
    let events = failed_run(folder.path());
    for event in &events {
        sink.send(event.kind.clone());
    }
    hub.finish();
    let kept = std::fs::read_to_string(folder.path().join(history::FILE)).unwrap();
    let progress = |event: &&Event| matches!(event.kind, EventKind::Progress { .. });
    let not_kept = events.iter().filter(progress).count();
    assert_eq!(kept.lines().count(), events.len() - not_kept);
    for line in kept.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            value["at"].is_number() && value["event"].is_string(),
            "{line}"
        );
    }
    let result = std::fs::read_to_string(folder.path().join(json::FILE)).unwrap();
    let value: serde_json::Value = serde_json::from_str(&result).unwrap();
    let printed = paper.text();
    assert_eq!(printed.lines().count(), 1, "a run is one line: {printed}");
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed, value);
    assert_eq!(value["outcome"], "fail");
    assert_eq!(value["figures"]["resent"]["value"], 3_355_443.0);
    sink.warn("nobody hears this, and nobody minds");
}

#[test]
fn unwritable_folder_is_one_warning_and_no_failure() {
    let paper = Paper::default();
    let (sink, hub) = hub::start(vec![
        Box::new(history::History::default()),
        Box::new(Plain::new(paper.clone(), Charset::Unicode)),
    ]);
    for event in failed_run(Path::new("/nonexistent/run")) {
        sink.send(event.kind);
    }
    hub.finish();
    let text = paper.text();
    let warnings: Vec<_> = text
        .lines()
        .filter(|line| line.contains("history.jsonl"))
        .collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].starts_with("warning"), "{text}");
    assert!(text.contains("kill b"), "the run goes on");
}

#[test]
fn hostile_words_never_reach_the_screen_raw() {
    let evil = "\u{1b}]0;x\u{7}\n\r\u{202e}\u{9b}31m\u{2066}";
    let at = 1.0;
    let folder = Path::new("/nonexistent").join(evil);
    let outcome = Outcome::Fail;
    let kinds = vec![
        EventKind::RunStarted {
            run: evil.into(),
            scenario: evil.into(),
            about: evil.into(),
            lab: evil.into(),
            sut: evil.into(),
            seed: 1,
            folder,
        },
        EventKind::PhaseStarted { phase: evil.into() },
        EventKind::PhaseEnded {
            phase: evil.into(),
            outcome,
            note: evil.into(),
            seconds: 1.0,
        },
        step_started("1", evil, 1),
        step_ended("1", outcome, evil, 1.0),
        EventKind::Progress {
            task: evil.into(),
            done: 0,
            total: 10,
            unit: Unit::Items,
            note: evil.into(),
        },
        EventKind::Mark {
            task: evil.into(),
            at: 4,
            label: evil.into(),
        },
        EventKind::Process {
            on: evil.into(),
            text: evil.into(),
        },
        EventKind::Warning { text: evil.into() },
        EventKind::Checked {
            what: evil.into(),
            outcome,
            text: evil.into(),
            details: vec![evil.into()],
        },
        figure(evil, 1.0, evil, evil),
        EventKind::RunEnded {
            outcome,
            reason: evil.into(),
            seconds: 1.0,
        },
    ];
    let events: Vec<_> = kinds.into_iter().map(|kind| Event { at, kind }).collect();
    for charset in [Charset::Unicode, Charset::Ascii] {
        let paper = Paper::default();
        report(Plain::new(paper.clone(), charset), &events);
        let style = Style::Plain;
        report(
            Summary::new(paper.clone(), Screen { style, charset }),
            &events,
        );
        let text = paper.text();
        assert!(text.contains("\\x1b]0;x\\x07\\n\\r\\u{202e}\\u{9b}31m\\u{2066}"));
        let raw = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}".contains(c);
        assert!(!text.contains(raw), "{text:?}");
        assert!(charset == Charset::Unicode || text.is_ascii(), "{text:?}");
        // Each thing on one line: a newline of theirs would make more.
        assert!(text.lines().count() < 25, "{text}");
    }
}
