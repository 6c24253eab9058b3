//! What the applier and the scanner do all day.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::{DaemonError, Input};
use crate::apply::{Job, Outcome, apply};
use crate::engine::Event;
use crate::index::Index;
use crate::path::shown;
use crate::scanner::{ScanEnd, Scanner};
use crate::share::Share;
use crate::trash::{evict, unix_seconds};

/// Between two looks at a small share.
const SCAN_EVERY_MIN: Duration = Duration::from_millis(200);

/// Between two looks at a share where files are changing right now.
const SCAN_EVERY_RESTLESS: Duration = Duration::from_millis(50);

/// Looking at the share takes at most a fiftieth of one core.
const SCAN_REST_FACTOR: u32 = 50;

/// At the start, files that are changing right then are waited for this long.
const RESTLESS_AT_START_MAX: Duration = Duration::from_secs(1);

/// While files are changing, at most a quarter.
const SCAN_RESTLESS_FACTOR: u32 = 4;

/// Even the largest share is looked at this often.
const SCAN_EVERY_MAX: Duration = Duration::from_secs(300);

/// The trash is looked through at most this often, unless the disk is full.
const EVICT_EVERY: Duration = Duration::from_secs(600);

/// Files put in place together.
const BATCH_JOBS: usize = 256;

pub(super) fn apply_all(
    share: &Share,
    index: &Index,
    jobs: &Receiver<Box<Job>>,
    inputs: &SyncSender<Input>,
) {
    let mut evicted = Instant::now();
    while let Ok(first) = jobs.recv() {
        let rest = jobs.try_iter().take(BATCH_JOBS - 1);
        let batch = std::iter::once(first).chain(rest).map(|job| *job).collect();
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
        if inputs.send(Input::Event(applied)).is_err() {
            return;
        }
    }
}

pub(super) fn scan_always(
    scanner: &mut Scanner,
    share: &Share,
    stop: &AtomicBool,
    look_again: &Receiver<()>,
    inputs: &SyncSender<Input>,
) -> Result<(), DaemonError> {
    let send = |event| inputs.send(Input::Event(event)).map_err(|_| ());
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if !share.is_still_there() {
            return Err(DaemonError::Removed(shown(
                share.path().as_os_str().as_encoded_bytes(),
            )));
        }
        let mut sink = |observations| send(Event::Observed(observations));
        let (restless, walked) = match scanner.scan(&mut sink)? {
            ScanEnd::Complete { restless, walked } => (restless, walked),
            ScanEnd::Stopped => return Ok(()),
        };
        // What is not read yet would be fetched though it is here.
        let first_look_is_over = !restless || began.elapsed() >= RESTLESS_AT_START_MAX;
        if first_look_is_over && send(Event::Scanned).is_err() {
            return Ok(());
        }
        let rest = (walked * SCAN_REST_FACTOR).clamp(SCAN_EVERY_MIN, SCAN_EVERY_MAX);
        let rest = if restless {
            SCAN_EVERY_RESTLESS.max(walked * SCAN_RESTLESS_FACTOR)
        } else {
            rest
        };
        match look_again.recv_timeout(rest) {
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}
