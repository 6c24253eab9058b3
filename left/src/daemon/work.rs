//! What the applier does all day.

use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use super::Input;
use crate::apply::{Job, Outcome, apply};
use crate::engine::Event;
use crate::index::Index;
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

pub(super) fn apply_all(
    share: &Share,
    index: &Index,
    watcher: &Watcher,
    work: &Receiver<Work>,
    inputs: &SyncSender<Input>,
) {
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
            let _ = evict(share, index, unix_seconds(share), lacks_room);
        }
        if batch.is_empty() {
            continue;
        }
        // A look at what is in place and not yet on record would read it again.
        let paths: Vec<RelPath> = batch.iter().map(|job: &Job| job.path.clone()).collect();
        watcher.hold(&paths);
        let mut applied = apply(share, index, batch);
        for (_, outcome) in &mut applied {
            if let Outcome::Failed(error) = outcome {
                let plain = std::mem::replace(error, std::io::ErrorKind::Other.into());
                *error = told_apart(share, plain);
            }
        }
        let applied = Event::Applied(applied);
        let told = inputs.send(Input::Event(applied));
        watcher.release(&paths);
        if told.is_err() {
            return;
        }
    }
}
