//! What the applier does all day.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::Input;
use crate::apply::{Job, Outcome, apply};
use crate::engine::Event;
use crate::index::Index;
use crate::path::RelPath;
use crate::share::Share;
use crate::trash::{evict, unix_seconds};
use crate::watcher::Watcher;

/// The trash is looked through at most this often, unless the disk is full.
const EVICT_EVERY: Duration = Duration::from_secs(600);

/// Files put in place together.
const BATCH_JOBS: usize = 256;

pub(super) fn apply_all(
    share: &Share,
    index: &Index,
    watcher: &Watcher,
    jobs: &Receiver<Box<Job>>,
    inputs: &SyncSender<Input>,
) {
    let mut evicted = Instant::now();
    while let Ok(first) = jobs.recv() {
        let rest = jobs.try_iter().take(BATCH_JOBS - 1);
        let batch: Vec<_> = std::iter::once(first).chain(rest).map(|job| *job).collect();
        // A look at what is in place and not yet on record would read it again.
        let paths: Vec<RelPath> = batch.iter().map(|job: &Job| job.path.clone()).collect();
        watcher.hold(&paths);
        let applied = apply(share, index, batch);
        let is_full = applied.iter().any(|(_, outcome)| {
            matches!(outcome, Outcome::Failed(error) if error.kind() == io::ErrorKind::StorageFull)
        });
        if is_full || evicted.elapsed() >= EVICT_EVERY {
            evicted = Instant::now();
            // What the index cannot forget now it forgets the next time.
            let _ = evict(share, index, unix_seconds(share), is_full);
        }
        let applied = Event::Applied(applied);
        let told = inputs.send(Input::Event(applied));
        watcher.release(&paths);
        if told.is_err() {
            return;
        }
    }
}
