//! What stands in the way of a job that only a person can move away, and what is told
//! of it.

use std::time::Duration;

use super::again::{RETRY_MAX, RETRY_SOON_MAX};
use super::{Action, Engine, News};
use crate::apply::{How, Job};
use crate::index::{Change, IndexError, Store};
use crate::path::RelPath;

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
        self.delay(&job.path, RETRY_MAX);
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
            self.delay(&job.path, RETRY_SOON_MAX);
            return;
        }
        self.delay(&job.path, RETRY_MAX);
        if self.is_delayed_long(&job.path) {
            let text = format!(
                "cannot put {} in place, because something of that name is here that is ignored \
                 or otherwise not synchronised; move it away",
                job.path
            );
            self.block(&job.path, text);
        }
    }

    /// It is done, or something else is wanted.
    pub(super) fn undelay(&mut self, path: &RelPath) {
        self.forget_delay(path);
        self.unblock(path);
    }

    /// Whether all that is tried again waits for a person to move something away.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_blocked = |path: &RelPath| {
            let mut blocked = self.blocked.iter();
            blocked.any(|other| path == other || path.is_below(other))
        };
        self.delayed
            .iter()
            .filter(|(_, delay)| delay.waits())
            .all(|(path, _)| is_blocked(path))
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
        let delay = self.delayed.get(path);
        delay.is_some_and(|delay| delay.pause >= IN_THE_WAY_TOLD)
    }
}
