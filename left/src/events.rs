//! What the daemon tells the world: log lines on stderr, JSON Lines for
//! programs, and the figures behind `left status`.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::engine::Held;
use crate::log::{Level, Log};
use crate::pairing::{Counts, ShareId};
use crate::path::{RelPath, escape_bytes};
use crate::problems::{By, News, Problem, Problems};
use crate::status::{Activity, State, Status};

/// Stands for the deletions that are held back; no path can be it.
const HELD: &[u8] = b"/held";

/// Stands for a peer that is refused; no path can be it.
pub const REFUSED: &[u8] = b"/peer";

/// Stands for two shares that wait to be joined; no path can be it.
const JOIN: &[u8] = b"/join";

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
    problems: Mutex<Problems>,
    /// The number of the look at everything that is under way, or was last.
    look: AtomicU64,
    held: Mutex<Option<Held>>,
    asked: Mutex<Option<Counts>>,
    changed: AtomicBool,
    wake: OnceLock<Wake>,
    log: Log,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// Bytes in parts of files that are being received.
    in_parts_bytes: AtomicU64,
    to_give: Mutex<ToGive>,
    status: Mutex<Status>,
}

/// What the peer still has to take.
#[derive(Debug, Clone, Copy, Default)]
struct ToGive {
    paths: u64,
    bytes: u64,
    /// What had been sent in all when it said so.
    sent_bytes: u64,
}

impl Reporter {
    /// Reports to stderr and, if given, to a file of events.
    pub fn new(events: Option<File>) -> Self {
        Self::logging(events, Log::to_stderr(Level::Info))
    }

    /// Reports to a log and, if given, to a file of events.
    pub fn logging(events: Option<File>, log: Log) -> Self {
        let reporter = Self::unheard(events, log);
        reporter.update(|_| {});
        reporter
    }

    /// Reports to nobody, for simulations.
    #[cfg(test)]
    pub(crate) fn silent() -> Self {
        Self::unheard(None, Log::silent())
    }

    fn unheard(events: Option<File>, log: Log) -> Self {
        Self {
            events: Mutex::new(events),
            log,
            activity: Mutex::default(),
            problems: Mutex::default(),
            look: AtomicU64::new(0),
            held: Mutex::default(),
            asked: Mutex::default(),
            changed: AtomicBool::new(true),
            wake: OnceLock::new(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            in_parts_bytes: AtomicU64::new(0),
            to_give: Mutex::default(),
            status: Mutex::default(),
        }
    }

    /// One line for a person, about what goes on.
    pub fn log(&self, text: &str) {
        self.log.write(Level::Info, text);
    }

    /// One line for a person that somebody should look at.
    pub fn warn(&self, text: &str) {
        self.log.write(Level::Warn, text);
    }

    /// Where log lines go.
    pub fn logged(&self) -> &Log {
        &self.log
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
        if self.log.takes(Level::Debug) {
            let text = format!("{path} is as the peer has it, {size} bytes");
            self.log.write(Level::Debug, &text);
        }
        self.emit_about("complete", path, json!({"size": size}));
        self.mark_changed();
    }

    /// Both sides changed a path; ours is kept as `copy`.
    pub fn conflict(&self, path: &RelPath, copy: &RelPath) {
        self.warn(&format!(
            "conflict: {path} was changed on both sides; the version of this side is kept as {copy}"
        ));
        self.emit_about("conflict", path, json!({"copy": copy.to_wire()}));
    }

    /// Something stands in the way of `about`; told once until it changes.
    pub fn problem(&self, about: &[u8], text: &str) {
        self.problem_by(By::Itself, about, text);
    }

    /// As [`Reporter::problem`], of something that a look at the share met: it is
    /// over when the next look at everything does not meet it.
    pub fn problem_seen(&self, about: &[u8], text: &str) {
        let look = self.look.load(Ordering::Relaxed);
        self.problem_by(By::Look(look), about, text);
    }

    fn problem_by(&self, by: By, about: &[u8], text: &str) {
        let key = escape_bytes(about);
        let news = lock(&self.problems).add(&key, text, by);
        // Past the bound nobody knows what was told already, and telling it
        // again with every look would fill the disk.
        let (key, text) = match news {
            News::Known => return,
            News::This => (key.as_str(), text),
            News::More => ("/", "there are more problems than are told one by one"),
        };
        self.warn(&format!("problem: {text}"));
        self.emit(json!({"event": "problem", "path": key, "text": text}));
        self.mark_changed();
    }

    /// Whether something stands in the way of `about` already.
    pub fn has_problem(&self, about: &[u8]) -> bool {
        lock(&self.problems).has(&escape_bytes(about))
    }

    /// Nothing stands in the way of `about` any more.
    pub fn solved(&self, about: &[u8]) {
        self.solved_by(about, Problems::solve);
    }

    /// A look at the share met nothing in the way of `about`.
    pub fn solved_seen(&self, about: &[u8]) {
        self.solved_by(about, Problems::solve_seen);
    }

    fn solved_by(&self, about: &[u8], solve: impl FnOnce(&mut Problems, &str) -> bool) {
        let mut problems = lock(&self.problems);
        // Nearly always there is none, and then nothing is allocated.
        if !problems.is_empty() && solve(&mut problems, &escape_bytes(about)) {
            drop(problems);
            self.mark_changed();
        }
    }

    /// What stands in the way of `about`.
    pub fn problem_of(&self, about: &[u8]) -> Option<String> {
        lock(&self.problems).text_of(&escape_bytes(about))
    }

    /// Everything is about to be looked at.
    pub fn look_begins(&self) {
        self.look.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything was looked at: what was not met again is over.
    pub fn look_ends(&self) {
        if lock(&self.problems).solve_before(self.look.load(Ordering::Relaxed)) {
            self.mark_changed();
        }
    }

    /// The problems that stand, as many as are kept, and how many there are.
    pub fn problems(&self) -> (Vec<Problem>, u64) {
        let problems = lock(&self.problems);
        (problems.listed(), problems.count())
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

    /// Two shares meet, and much differs: a person is asked whether to join them.
    pub fn ask_to_join(&self, counts: Counts) {
        if lock(&self.asked).replace(counts) == Some(counts) {
            return;
        }
        let text = format!(
            "this share and the peer's were never joined, and much differs: {counts}. Nothing is \
             changed yet. If they are to be joined, so that both have all and what differs twice: \
             `left join --yes` on either side; if not, end left"
        );
        self.problem(JOIN, &text);
        let Counts {
            only_here,
            only_there,
            differ,
        } = counts;
        self.emit(json!({
            "event": "join-asked", "only_here": only_here, "only_there": only_there, "differ": differ,
        }));
        self.mark_changed();
    }

    /// The two shares are one now.
    pub fn joined(&self, share: ShareId) {
        *lock(&self.asked) = None;
        self.solved(JOIN);
        self.log(&format!("joined with the peer, as share {}", share.short()));
        self.emit(json!({"event": "joined", "share": share.to_string()}));
        self.mark_changed();
    }

    /// What two shares have that wait for a person's word.
    pub fn asked(&self) -> Option<Counts> {
        *lock(&self.asked)
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

    /// How things are; for [`Reporter::status`].
    pub fn keep_status(&self, status: Status) {
        *lock(&self.status) = status;
    }

    /// How things were lately, with the problems there are now: also when the file of
    /// that could not be written.
    pub fn status(&self) -> Status {
        let (problems, problem_count) = self.problems();
        Status {
            state: self.activity().state().name().to_owned(),
            problems,
            problem_count,
            ..lock(&self.status).clone()
        }
    }

    /// So much more lies in the parts of files that are being received.
    pub fn in_parts(&self, bytes: u64) {
        self.in_parts_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So much does no more: the file is complete, or is not received any more.
    pub fn out_of_parts(&self, bytes: u64) {
        self.in_parts_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that have arrived for files that are not in place yet.
    pub fn arrived_bytes(&self) -> u64 {
        let in_parts = self.in_parts_bytes.load(Ordering::Relaxed);
        in_parts.saturating_add(lock(&self.activity).0.landing_bytes)
    }

    /// The peer still has to take so much.
    pub fn to_give(&self, paths: u64, bytes: u64) {
        *lock(&self.to_give) = ToGive {
            paths,
            bytes,
            sent_bytes: self.sent_bytes.load(Ordering::Relaxed),
        };
        self.mark_changed();
    }

    /// Paths and bytes that the peer still has to take, less what was sent since it
    /// said so.
    pub fn left_to_give(&self) -> (u64, u64) {
        let known = *lock(&self.to_give);
        let since = self.sent_bytes.load(Ordering::Relaxed) - known.sent_bytes;
        (known.paths, known.bytes.saturating_sub(since))
    }

    /// Bytes of content received and sent since the start.
    pub fn moved_bytes(&self) -> [u64; 2] {
        [&self.received_bytes, &self.sent_bytes].map(|bytes| bytes.load(Ordering::Relaxed))
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
            self.warn(&format!(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_told_once_and_can_be_solved() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("events");
        let reporter = Reporter::logging(Some(File::create(&name).unwrap()), Log::silent());
        reporter.problem(b"x", "cannot read x");
        reporter.problem(b"x", "cannot read x");
        let problems = reporter.problems().0;
        assert_eq!(problems[0].path.as_deref(), Some("x"));
        assert_eq!(problems[0].text, "cannot read x");
        reporter.solved(b"x");
        assert_eq!(reporter.problems(), (Vec::new(), 0));
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
}
