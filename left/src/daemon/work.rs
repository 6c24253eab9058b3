//! What the applier does all day.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender};

use crate::apply::{Job, apply};
use crate::engine::Event;
use crate::index::Index;
use crate::path::RelPath;
use crate::share::Share;
use crate::watcher::Watcher;

/// Files put in place together.
const BATCH_JOBS: usize = 256;

pub(super) fn apply_all(
    share: &Share,
    index: &Index,
    watcher: &Watcher,
    jobs: &Receiver<Box<(Job, Option<File>)>>,
    events: &SyncSender<Event>,
) {
    while let Ok(first) = jobs.recv() {
        let rest = jobs.try_iter().take(BATCH_JOBS - 1);
        let batch: Vec<_> = std::iter::once(first).chain(rest).map(|job| *job).collect();
        // A look at what is in place and not yet on record would read it again.
        let paths: Vec<RelPath> = batch.iter().map(|(job, _)| job.path.clone()).collect();
        watcher.hold(&paths);
        let applied = apply(share, index, batch);
        let told = events.send(Event::Applied(applied));
        watcher.release(&paths);
        if told.is_err() {
            return;
        }
    }
}
