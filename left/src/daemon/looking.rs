//! When the share is looked at: at what is marked as soon as it is due, and at
//! everything now and then, or again and again where nothing makes marks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::{DaemonError, Input};
use crate::engine::Event;
use crate::events::Reporter;
use crate::path::shown;
use crate::scanner::{Again, Observation, ScanEnd, Scanner};
use crate::share::Share;
use crate::watcher::{Mark, Trouble, Watcher};

/// While it watches, everything is looked at this often at most.
const FULL_EVERY_MIN: Duration = Duration::from_secs(60);

/// And this often at least: something may be written without an event.
const FULL_EVERY_MAX: Duration = Duration::from_secs(3600);

/// While it watches, looking at everything takes a four-thousandth of a core:
/// a daemon that is left alone is to use less than a thousandth in all.
const FULL_REST_FACTOR: u32 = 4000;

/// After a look at what is marked, twice its cost is left to others.
const MARKED_REST_FACTOR: u32 = 2;

/// Between two looks at a small share that is not watched.
const POLL_EVERY_MIN: Duration = Duration::from_millis(200);

/// Even the largest share that is not watched is looked at this often.
const POLL_EVERY_MAX: Duration = Duration::from_secs(300);

/// Looking at a share that is not watched takes at most a fiftieth of one core.
const POLL_REST_FACTOR: u32 = 50;

/// Between two looks at a share where files are changing right now, and the
/// share of a core for it.
const RESTLESS_EVERY: Duration = Duration::from_millis(50);
const RESTLESS_REST_FACTOR: u32 = 4;

/// At the start, files that are changing right then are waited for this long after
/// the first look that found some.
const RESTLESS_AT_START_MAX: Duration = Duration::from_secs(1);

/// When more has to be looked at again than is remembered one by one, the next
/// look at everything comes after this time, and each further one after twice.
const MORE_FIRST: Duration = Duration::from_secs(1);

/// Until watching is tried again, at first and at most.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Whether the share is still there is asked with every event, and this often
/// because a folder above it may have moved.
const PRESENCE_EVERY: Duration = Duration::from_secs(2);

/// What the problem of not watching is about; no path can be it.
const ABOUT_WATCHING: &[u8] = b"/watching";

/// What the looking needs of the daemon.
pub(super) struct Looking {
    pub(super) scanner: Scanner,
    pub(super) share: Arc<Share>,
    pub(super) watcher: Arc<Watcher>,
    pub(super) reporter: Arc<Reporter>,
    pub(super) stop: Arc<AtomicBool>,
    /// The watcher's, for when there is something to do.
    pub(super) woken: Receiver<()>,
    pub(super) inputs: SyncSender<Input>,
    /// One for each batch of observations that the engine has not taken yet.
    pub(super) observing: SyncSender<()>,
}

/// When what is to be done.
struct Plan {
    scanned: bool,
    /// A look found files that were changing right then, and is over since then.
    restless_since: Option<Instant>,
    full_due: Instant,
    /// Marks wait until then.
    marked_after: Instant,
    more: Duration,
    watching_since: Option<Instant>,
    retry: Duration,
    retry_due: Instant,
}

/// Nobody wants to know any more.
struct Ended;

impl Looking {
    /// Looks until it is told to stop.
    pub(super) fn run(mut self) -> Result<(), DaemonError> {
        let now = Instant::now();
        let mut plan = Plan {
            scanned: false,
            restless_since: None,
            full_due: now,
            marked_after: now,
            more: MORE_FIRST,
            watching_since: None,
            retry: RETRY_FIRST,
            retry_due: now,
        };
        while !self.stop.load(Ordering::Relaxed) {
            if !self.share.is_still_there() {
                return Err(DaemonError::Removed(shown(
                    self.share.path().as_os_str().as_encoded_bytes(),
                )));
            }
            let ended = match self.look(&mut plan)? {
                Ok(()) => self.wait(&mut plan),
                ended => ended,
            };
            if ended.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn look(&mut self, plan: &mut Plan) -> Result<Result<(), Ended>, DaemonError> {
        let watching = plan.watching_since.is_some();
        if watching {
            if let Some(trouble) = self.watcher.trouble() {
                self.stop_watching(plan, trouble);
            } else if self.watcher.take_everything() {
                plan.full_due = plan.full_due.min(plan.marked_after + plan.more);
            }
        }
        let now = Instant::now();
        if now >= plan.full_due {
            return self.look_at_everything(plan);
        }
        if watching && now >= plan.marked_after {
            let marks = self.watcher.take_due(now);
            if !marks.is_empty() {
                return self.look_at_marked(plan, &marks);
            }
        }
        Ok(Ok(()))
    }

    fn look_at_marked(
        &mut self,
        plan: &mut Plan,
        marks: &[Mark],
    ) -> Result<Result<(), Ended>, DaemonError> {
        let mut told = false;
        let mut tell = sink(&self.inputs, &self.observing);
        let mut sink = |observations| {
            told = true;
            tell(observations)
        };
        let end = self.scanner.scan_dirty(marks, &mut sink)?;
        let ScanEnd::Complete { walked, .. } = end else {
            return Ok(Err(Ended));
        };
        // What was told of belongs together, and this was the last of it.
        if told && plan.scanned && self.inputs.send(Input::Event(Event::Scanned)).is_err() {
            return Ok(Err(Ended));
        }
        let again = self.scanner.take_again();
        let now = Instant::now();
        if again.everything {
            plan.full_due = plan.full_due.min(now + plan.more);
        }
        self.watcher.look_again(again.paths, now);
        plan.marked_after = now + walked * MARKED_REST_FACTOR;
        Ok(Ok(()))
    }

    fn look_at_everything(&mut self, plan: &mut Plan) -> Result<Result<(), Ended>, DaemonError> {
        let mut begun = plan.watching_since.is_some();
        if !begun && Instant::now() >= plan.retry_due {
            match self.watcher.begin() {
                Ok(()) => begun = true,
                Err(trouble) => self.stop_watching(plan, trouble),
            }
        }
        let end = self
            .scanner
            .scan(&mut sink(&self.inputs, &self.observing))?;
        let ScanEnd::Complete { restless, walked } = end else {
            return Ok(Err(Ended));
        };
        let Again {
            paths,
            everything,
            unsure,
            ..
        } = self.scanner.take_again();
        if begun {
            match self.watcher.trouble() {
                Some(trouble) => self.stop_watching(plan, trouble),
                None => self.watch_on(plan, paths),
            }
        }
        // What is not read yet would be fetched though it is here.
        let waits = restless && {
            let since = plan.restless_since.get_or_insert_with(Instant::now);
            since.elapsed() < RESTLESS_AT_START_MAX
        };
        if !unsure && (plan.scanned || !waits) {
            plan.scanned = true;
            if self.inputs.send(Input::Event(Event::Scanned)).is_err() {
                return Ok(Err(Ended));
            }
        }
        let rest = if unsure {
            RETRY_FIRST
        } else if restless && (!plan.scanned || plan.watching_since.is_none()) {
            RESTLESS_EVERY.max(walked * RESTLESS_REST_FACTOR)
        } else if plan.watching_since.is_none() {
            (walked * POLL_REST_FACTOR).clamp(POLL_EVERY_MIN, POLL_EVERY_MAX)
        } else {
            let full = (walked * FULL_REST_FACTOR).clamp(FULL_EVERY_MIN, FULL_EVERY_MAX);
            if everything {
                let more = plan.more.max(walked * RESTLESS_REST_FACTOR);
                plan.more = (plan.more * 2).min(FULL_EVERY_MIN);
                more.min(full)
            } else {
                plan.more = MORE_FIRST;
                full
            }
        };
        let now = Instant::now();
        plan.full_due = now + rest;
        plan.marked_after = now + walked * MARKED_REST_FACTOR;
        Ok(Ok(()))
    }

    /// Everything was looked at since it began to watch.
    fn watch_on(&self, plan: &mut Plan, again: Vec<crate::path::RelPath>) {
        let now = Instant::now();
        self.watcher.look_again(again, now);
        if plan.watching_since.is_none() {
            plan.watching_since = Some(now);
            self.reporter.solved(ABOUT_WATCHING);
            self.reporter.update(|activity| activity.watching = true);
        }
    }

    /// From now on everything is looked at in turn, until watching works again.
    fn stop_watching(&self, plan: &mut Plan, trouble: Trouble) {
        self.watcher.end();
        let now = Instant::now();
        let worked = plan.watching_since.take();
        plan.retry = if worked.is_some_and(|since| now - since >= RETRY_MAX) {
            RETRY_FIRST
        } else {
            (plan.retry * 2).min(RETRY_MAX)
        };
        plan.retry_due = now + plan.retry;
        // What the last events were about is not known.
        plan.full_due = now;
        self.reporter.problem(ABOUT_WATCHING, &trouble.to_string());
        self.reporter.update(|activity| activity.watching = false);
    }

    fn wait(&self, plan: &mut Plan) -> Result<(), Ended> {
        let now = Instant::now();
        let mut until = plan.full_due.min(now + PRESENCE_EVERY);
        if plan.watching_since.is_some()
            && let Some(due) = self.watcher.next_due()
        {
            until = until.min(due.max(plan.marked_after));
        }
        match self
            .woken
            .recv_timeout(until.saturating_duration_since(now))
        {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Ended),
        }
        if self.watcher.take_asked() {
            let now = Instant::now();
            match plan.watching_since {
                Some(_) => self.watcher.hasten(now),
                None => plan.full_due = now,
            }
        }
        Ok(())
    }
}

/// Hands observations to the engine, and waits while it has many to take.
fn sink(
    inputs: &SyncSender<Input>,
    observing: &SyncSender<()>,
) -> impl FnMut(Vec<Observation>) -> Result<(), ()> {
    |observations| {
        observing.send(()).map_err(|_| ())?;
        let observed = Input::Event(Event::Observed(observations));
        inputs.send(observed).map_err(|_| ())
    }
}
