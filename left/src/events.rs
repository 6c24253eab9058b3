//! What the daemon tells the world: log lines on stderr, JSON Lines for
//! programs, and the figures behind `left status`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::engine::Held;
use crate::path::{RelPath, escape_bytes};
use crate::status::{Activity, State};

/// Problems kept for the status; a folder of a million unreadable files must
/// not fill the memory.
const PROBLEMS_MAX: usize = 200;

/// Stands for the deletions that are held back; no path can be it.
const HELD: &[u8] = b"/held";

/// Stands for all problems past the bound; no path can be it.
const MORE_PROBLEMS: &str = "/";

/// How much of a file has arrived.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The file's length.
    pub size: u64,
    /// Bytes that need not be received: they already were in the part when this
    /// transfer began, or are zeros.
    pub have: u64,
    /// Bytes that are verified and written now.
    pub done: u64,
}

/// What is to happen when the status changes.
type Wake = Box<dyn Fn() + Send + Sync>;

/// Where everybody reports to.
pub struct Reporter {
    events: Mutex<Option<File>>,
    activity: Mutex<(Activity, Option<State>)>,
    problems: Mutex<BTreeMap<String, String>>,
    held: Mutex<Option<Held>>,
    changed: AtomicBool,
    wake: OnceLock<Wake>,
    is_silent: bool,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Reporter {
    /// Reports to stderr and, if given, to a file of events.
    pub fn new(events: Option<File>) -> Self {
        let reporter = Self::unheard(events, false);
        reporter.update(|_| {});
        reporter
    }

    /// Reports to nobody, for simulations.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self::unheard(None, true)
    }

    fn unheard(events: Option<File>, is_silent: bool) -> Self {
        Self {
            events: Mutex::new(events),
            is_silent,
            activity: Mutex::default(),
            problems: Mutex::default(),
            held: Mutex::default(),
            changed: AtomicBool::new(true),
            wake: OnceLock::new(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        }
    }

    /// One line for a person.
    pub fn log(&self, text: &str) {
        if self.is_silent {
            return;
        }
        // A closed stderr must not end the daemon.
        let _ = writeln!(
            std::io::stderr(),
            "{} {}",
            utc(SystemTime::now()),
            one_line(text)
        );
    }

    /// Changes what goes on, and tells when the state is another one now.
    pub fn update(&self, change: impl FnOnce(&mut Activity)) {
        let mut guard = lock(&self.activity);
        let (activity, told) = &mut *guard;
        let seen = (activity.connected, activity.watching);
        change(activity);
        let state = activity.state();
        if *told != Some(state) {
            *told = Some(state);
            self.emit(json!({"event": "state", "state": state.name()}));
            self.log(&format!("state: {}", state.name()));
            self.mark_changed();
        } else if seen != (activity.connected, activity.watching) {
            self.mark_changed();
        }
    }

    /// What goes on.
    pub fn activity(&self) -> Activity {
        lock(&self.activity).0.clone()
    }

    /// How far a file is.
    pub fn receive(&self, path: &RelPath, progress: Progress) {
        let Progress { size, have, done } = progress;
        self.emit_about(
            "receive",
            path,
            json!({"size": size, "have": have, "done": done}),
        );
    }

    /// A path now is as the peer has it.
    pub fn complete(&self, path: &RelPath, size: u64) {
        self.emit_about("complete", path, json!({"size": size}));
        self.mark_changed();
    }

    /// Both sides changed a path; ours is kept as `copy`.
    pub fn conflict(&self, path: &RelPath, copy: &RelPath) {
        self.log(&format!(
            "conflict: {path} was changed on both sides; the version of this side is kept as {copy}"
        ));
        self.emit_about("conflict", path, json!({"copy": copy.to_wire()}));
    }

    /// Something stands in the way of `about`; told once until it changes.
    pub fn problem(&self, about: &[u8], text: &str) {
        let key = escape_bytes(about);
        let mut problems = lock(&self.problems);
        if problems.get(&key).is_some_and(|known| known == text) {
            return;
        }
        // Past the bound nobody knows what was told already, and telling it
        // again with every look would fill the disk.
        let (key, text) = if problems.len() < PROBLEMS_MAX || problems.contains_key(&key) {
            (key, text)
        } else if problems.contains_key(MORE_PROBLEMS) {
            return;
        } else {
            (
                MORE_PROBLEMS.to_owned(),
                "there are more problems than are told",
            )
        };
        problems.insert(key.clone(), text.to_owned());
        drop(problems);
        self.log(&format!("problem: {text}"));
        self.emit(json!({"event": "problem", "path": key, "text": text}));
        self.mark_changed();
    }

    /// Nothing stands in the way of `about` any more.
    pub fn solved(&self, about: &[u8]) {
        let mut problems = lock(&self.problems);
        // Nearly always there is none, and then nothing is allocated.
        if !problems.is_empty() && problems.remove(&escape_bytes(about)).is_some() {
            // There is room to tell of another one.
            problems.remove(MORE_PROBLEMS);
            self.mark_changed();
        }
    }

    /// The problems that stand.
    pub fn problems(&self) -> Vec<String> {
        lock(&self.problems).values().cloned().collect()
    }

    /// Deletions of the peer are held back, or are no more.
    pub fn hold(&self, held: Option<Held>) {
        match &held {
            Some(held) => {
                self.problem(HELD, &held.to_string());
                let Held { set, count, .. } = held;
                self.emit(json!({"event": "held", "set": set, "count": count}));
            }
            None => self.solved(HELD),
        }
        *lock(&self.held) = held;
        self.mark_changed();
    }

    /// The deletions that are held back.
    pub fn held(&self) -> Option<Held> {
        lock(&self.held).clone()
    }

    /// The peer came or went.
    pub fn peer(&self, event: &str, peer: &str, detail: &str) {
        self.log(&format!(
            "{event}: {peer}{}{detail}",
            if detail.is_empty() { "" } else { ": " }
        ));
        self.emit(json!({"event": event, "peer": peer, "detail": detail}));
        self.mark_changed();
    }

    /// Content has arrived and is verified.
    pub fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.mark_changed();
    }

    /// Content was sent.
    pub fn sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.mark_changed();
    }

    /// Bytes of content received and sent since the start.
    pub fn moved_bytes(&self) -> (u64, u64) {
        let read = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        (read(&self.received_bytes), read(&self.sent_bytes))
    }

    /// Has `wake` called by whoever changes the status first after
    /// [`Reporter::take_changed`]. Only the first one counts.
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Whether the status changed since this was asked last. To be asked before
    /// the status is read: what changes after that is told again.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// The status should be written again.
    pub fn mark_changed(&self) {
        if !self.changed.swap(true, Ordering::AcqRel)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }

    fn emit_about(&self, event: &str, path: &RelPath, mut fields: Value) {
        fields["event"] = event.into();
        fields["path"] = path.to_wire().into();
        self.emit(fields);
    }

    fn emit(&self, mut fields: Value) {
        let mut events = lock(&self.events);
        let Some(file) = events.as_mut() else { return };
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        fields["time_ms"] = (since.as_millis() as u64).into();
        let mut line = fields.to_string();
        line.push('\n');
        if let Err(error) = file.write_all(line.as_bytes()) {
            // A full disk must not end the daemon; the log says it once.
            *events = None;
            drop(events);
            self.log(&format!(
                "cannot write events: {error}; no further events are written"
            ));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A log line stays one line whatever is in it.
fn one_line(text: &str) -> String {
    crate::path::shown(text.as_bytes())
}

/// A time as `2026-01-31T23:59:59.123Z`.
pub fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, secs) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Counted from 1 March of year 0, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_calendar_dates() {
        let at = |secs| utc(UNIX_EPOCH + Duration::from_secs(secs));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59.000Z");
    }

    #[test]
    fn a_problem_is_told_once_and_can_be_solved() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("events");
        let reporter = Reporter::new(Some(File::create(&name).unwrap()));
        reporter.problem(b"x", "cannot read x");
        reporter.problem(b"x", "cannot read x");
        assert_eq!(reporter.problems(), ["cannot read x"]);
        reporter.solved(b"x");
        assert!(reporter.problems().is_empty());
        let events = std::fs::read_to_string(name).unwrap();
        assert_eq!(
            events
                .lines()
                .filter(|line| line.contains("problem"))
                .count(),
            1
        );
    }

    #[test]
    fn who_writes_the_status_is_woken_once_for_all_changes_until_it_looks() {
        let reporter = Reporter::silent();
        let woken = std::sync::Arc::new(AtomicU64::new(0));
        let counter = woken.clone();
        reporter.wake_by(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let woken = || woken.load(Ordering::Relaxed);
        assert!(reporter.take_changed());
        assert_eq!(woken(), 0);
        reporter.update(|activity| activity.opened = true);
        reporter.received(5);
        reporter.problem(b"x", "cannot read x");
        assert_eq!(woken(), 1);
        assert!(reporter.take_changed());
        assert!(!reporter.take_changed());
        reporter.update(|activity| activity.opened = true);
        reporter.problem(b"x", "cannot read x");
        assert_eq!(woken(), 1);
        // The state stays the same, and the status does not.
        reporter.update(|activity| activity.watching = true);
        assert_eq!(woken(), 2);
    }

    #[test]
    fn more_problems_than_can_be_remembered_do_not_flood_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("events");
        let reporter = Reporter::new(Some(File::create(&name).unwrap()));
        for _look in 0..3 {
            for n in 0..PROBLEMS_MAX + 50 {
                reporter.problem(format!("f{n}").as_bytes(), "cannot read it");
            }
        }
        let events = std::fs::read_to_string(name).unwrap();
        let told = events
            .lines()
            .filter(|line| line.contains("\"problem\""))
            .count();
        assert_eq!(told, PROBLEMS_MAX + 1);
        assert_eq!(reporter.problems().len(), PROBLEMS_MAX + 1);
    }
}
