//! What cannot be done now: when it is tried again, and what a person is told who can
//! help.

use std::time::{Duration, Instant};

use super::{Action, Engine, News};
use crate::apply::{How, Job};
use crate::index::{Change, IndexError, Store};
use crate::path::RelPath;

/// The first and the longest pause before a path is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What is in the way and not known is told of when it was tried for about this long.
const IN_THE_WAY_TOLD: Duration = Duration::from_secs(3);

impl<S: Store> Engine<S> {
    /// A folder that is to go, or to become something else, holds something.
    pub(super) fn take_not_empty(
        &mut self,
        changes: &mut Vec<Change>,
        job: &Job,
        name: Option<Box<[u8]>>,
    ) -> Result<(), IndexError> {
        self.actions.push(Action::LookAgain);
        self.delay_longer(&job.path);
        let path = &job.path;
        let within = name.and_then(|name| RelPath::below(Some(path), &name).ok());
        let rules = self.store.rules();
        let is_ignored = within.as_ref().zip(rules).is_some_and(|(within, rules)| {
            rules.ignores(within, true) || rules.ignores(within, false)
        });
        if !is_ignored && !self.is_delayed_long(path) {
            // The next look may find it.
        } else if job.how == How::Remove {
            let what = within.map_or("something".to_owned(), |path| path.to_string());
            let why = match is_ignored {
                true => "is ignored",
                false => "is not synchronised",
            };
            let text = format!(
                "the peer deleted folder {path}, which holds {what}, and that {why} here; the \
                 folder stays until that is moved away"
            );
            self.block(path, text);
        } else if let Some(known) = self.store.get(path)? {
            // So it keeps its name, and the peer what it made of it as a conflict copy.
            self.revive(changes, path.clone(), known)?;
        }
        Ok(())
    }

    /// The disk is not as it was when a job was decided.
    pub(super) fn take_changed(&mut self, job: &Job) {
        self.actions.push(Action::LookAgain);
        let known = job.known.as_ref();
        if known.is_some_and(|known| !known.entry.is_deleted()) {
            self.delay(&job.path);
            return;
        }
        self.delay_longer(&job.path);
        if self.is_delayed_long(&job.path) {
            let text = format!(
                "cannot put {} in place, because something of that name is here that is ignored \
                 or otherwise not synchronised; move it away",
                job.path
            );
            self.block(&job.path, text);
        }
    }

    pub(super) fn fail(&mut self, path: &RelPath, error: &std::io::Error) {
        let advice = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                "; make room, it goes on by itself"
            }
            std::io::ErrorKind::PermissionDenied => {
                "; give this user the permission, it goes on by itself"
            }
            _ => "; it is tried again",
        };
        let text = format!("cannot put {path} in place: {error}{advice}");
        self.tell_problem(path.as_bytes(), text);
        self.delay_longer(path);
    }

    /// What is changing is tried again soon.
    fn delay(&mut self, path: &RelPath) {
        self.delayed.insert(path.clone(), self.now + RETRY_FIRST);
    }

    /// What fails is tried again later each time.
    pub(super) fn delay_longer(&mut self, path: &RelPath) {
        let pause = self.pauses.get(path);
        let pause = pause.map_or(RETRY_FIRST, |last| (*last * 2).min(RETRY_MAX));
        self.delayed.insert(path.clone(), self.now + pause);
        self.pauses.insert(path.clone(), pause);
    }

    /// It is done, or something else is wanted.
    pub(super) fn undelay(&mut self, path: &RelPath) {
        self.delayed.remove(path);
        self.pauses.remove(path);
        self.unblock(path);
    }

    /// When the next step is due though nothing happens.
    pub fn wakes_at(&self) -> Option<Instant> {
        let retries = self.delayed.values().copied();
        // With nothing on its way it would have begun.
        let walk = self.wants.wakes_at().filter(|_| {
            let receives = self.session.as_ref().is_some_and(|known| known.receives);
            receives && self.scanned && !self.in_flight.is_empty()
        });
        retries.chain(walk).min()
    }

    /// Whether all that is tried again waits for a person to move something away.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_blocked = |path: &RelPath| {
            let mut blocked = self.blocked.iter();
            blocked.any(|other| path == other || path.is_below(other))
        };
        self.delayed.keys().all(is_blocked)
    }

    pub(super) fn wake_delayed(&mut self) {
        let now = self.now;
        let due: Vec<RelPath> = self
            .delayed
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(path, _)| path.clone())
            .collect();
        if due.is_empty() {
            return;
        }
        for path in due {
            self.delayed.remove(&path);
        }
        self.look_at_all_wants();
        self.look_at_all_removals();
    }

    /// Tells that something that is not synchronised is in the way of a path.
    fn block(&mut self, path: &RelPath, text: String) {
        self.blocked.insert(path.clone());
        self.tell_problem(path.as_bytes(), text);
    }

    /// What was told of it is not so any more.
    pub(super) fn unblock(&mut self, path: &RelPath) {
        if self.blocked.remove(path) {
            self.tell(News::Solved(path.clone()));
        }
    }

    /// Whether a path was tried for so long that a look would have found why.
    fn is_delayed_long(&self, path: &RelPath) -> bool {
        let pause = self.pauses.get(path);
        pause.is_some_and(|pause| *pause >= IN_THE_WAY_TOLD)
    }
}
