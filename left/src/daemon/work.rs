//! What the applier does all day, and who copies for it what is long.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::Input;
use crate::apply::{Job, Outcome, apply, copy};
use crate::disk::Disk;
use crate::engine::Event;
use crate::index::{Index, Store};
use crate::path::RelPath;
use crate::share::Share;
use crate::trash::{evict, unix_seconds};
use crate::trouble::told_apart;
use crate::watcher::Watcher;

/// The trash is looked through at most this often, unless there is no room.
const EVICT_EVERY: Duration = Duration::from_secs(600);

/// Files put in place together.
const BATCH_JOBS: usize = 256;

/// What the applier is told.
pub(super) enum Work {
    /// Change the share.
    Job(Box<Job>),
    /// What lies in the trash goes.
    MakeRoom,
}

/// What those who change the share need.
pub(super) struct Working<D = Share, S = Index> {
    pub share: Arc<D>,
    pub index: Arc<S>,
    pub inputs: SyncSender<Input>,
}

impl<D: Disk, S: Store> Working<D, S> {
    /// Puts what was received or copied in place. Whoever looks at the share is told
    /// of the paths before and after.
    pub(super) fn apply_all(&self, work: &Receiver<Work>, watcher: &impl Placing) {
        let mut evicted = Instant::now();
        while let Ok(first) = work.recv() {
            let mut batch = Vec::new();
            let mut lacks_room = false;
            let rest = work.try_iter().take(BATCH_JOBS - 1);
            for work in std::iter::once(first).chain(rest) {
                match work {
                    Work::Job(job) => batch.push(*job),
                    Work::MakeRoom => lacks_room = true,
                }
            }
            if lacks_room || evicted.elapsed() >= EVICT_EVERY {
                evicted = Instant::now();
                // What the index cannot forget now it forgets the next time.
                let now = unix_seconds(&*self.share);
                let _ = evict(&*self.share, &*self.index, now, lacks_room);
            }
            if batch.is_empty() {
                continue;
            }
            // A look at what is in place and not yet on record would read it again.
            let paths: Vec<RelPath> = batch.iter().map(|job: &Job| job.path.clone()).collect();
            watcher.hold(&paths);
            let applied = apply(&*self.share, &*self.index, batch);
            let told = self.tell_applied(applied);
            watcher.release(&paths);
            if told.is_err() {
                return;
            }
        }
    }

    /// Copies one content after the other, until `go_on` says that the end has come;
    /// what was begun is begun again by the next process.
    pub(super) fn copy_all(&self, jobs: &Receiver<Box<Job>>, go_on: &(dyn Fn() -> bool + Sync)) {
        while let Ok(job) = jobs.recv() {
            let told = match copy(&*self.share, &job, go_on) {
                Ok(()) => self
                    .inputs
                    .send(Input::Event(Event::Copied(job)))
                    .or(Err(())),
                Err(_) if !go_on() => return,
                Err(outcome) => self.tell_applied(vec![(*job, outcome)]),
            };
            if told.is_err() {
                return;
            }
        }
    }

    fn tell_applied(&self, mut applied: Vec<(Job, Outcome)>) -> Result<(), ()> {
        for (_, outcome) in &mut applied {
            if let Outcome::Failed(error) = outcome {
                let plain = std::mem::replace(error, std::io::ErrorKind::Other.into());
                *error = told_apart(&*self.share, plain);
            }
        }
        let applied = Event::Applied(applied);
        self.inputs.send(Input::Event(applied)).or(Err(()))
    }
}

/// Whoever must not look at what is just put in place.
pub(super) trait Placing {
    fn hold(&self, paths: &[RelPath]);
    fn release(&self, paths: &[RelPath]);
}

impl Placing for Watcher {
    fn hold(&self, paths: &[RelPath]) {
        Watcher::hold(self, paths);
    }

    fn release(&self, paths: &[RelPath]) {
        Watcher::release(self, paths);
    }
}

#[cfg(test)]
mod tests;
