//! Looks at the share and says what differs from the index. It changes
//! nothing; the engine decides what an observation means.
//!
//! What was seen is present, absent or unknown; only what is absent from a
//! complete, error-free listing, and still is when asked for by name, counts
//! as deleted. Unknown says nothing about itself or anything below.

mod cursor;
mod look;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use cursor::{Cursor, skip_below};
use look::{Look, QUIET_WAIT_MAX};

use crate::disk::{Disk, Handle};
use crate::entry::Body;
use crate::events::Reporter;
use crate::index::{Index, IndexError, Store};
use crate::path::{RelPath, STATE_DIR, shown};
use crate::record::{Record, Stamp};
use crate::share::Share;
use crate::transfer::blocks::ListCache;

/// Records read from the index at a time.
const PAGE_RECORDS: usize = 512;

/// Observations handed over at a time, so that a commit is neither tiny nor huge.
const BATCH_OBSERVATIONS: usize = 512;

/// Observations are handed over at least this often, so that many large files
/// are not held back by each other.
const BATCH_AGE: Duration = Duration::from_millis(200);

/// What was seen at a path.
#[derive(Debug, Clone)]
pub enum Seen {
    /// It is there.
    Present {
        /// Kind and content.
        body: Body,
        /// Permission bits within [`crate::entry::MODE_MASK`].
        mode: u32,
        /// For the stat cache.
        stamp: Stamp,
    },
    /// It certainly is not there.
    Absent,
}

/// Something that differs from the index.
#[derive(Debug, Clone)]
pub struct Observation {
    /// Where.
    pub path: RelPath,
    /// The sequence number of the record it was compared with. If the record
    /// is another one by now, the observation is void.
    pub compared_with: Option<u64>,
    /// What was seen.
    pub seen: Seen,
}

/// How a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanEnd {
    /// Everything was looked at; some files may still be restless.
    Complete {
        /// Whether files were left for a moment because they are changing.
        restless: bool,
        /// The processor time of merely walking, without reading what changed.
        walked: Duration,
    },
    /// It was told to stop, or nobody takes observations any more.
    Stopped,
}

/// Where observations go; `Err` when nobody takes them any more.
pub type Sink<'a> = &'a mut dyn FnMut(Vec<Observation>) -> Result<(), ()>;

/// The scanner's memory between scans.
pub struct Scanner<D = Share, S = Index> {
    share: Arc<D>,
    index: Arc<S>,
    lists: Arc<ListCache>,
    reporter: Arc<Reporter>,
    stop: Arc<AtomicBool>,
    restless: HashMap<RelPath, Restless>,
    batch: Vec<Observation>,
    batch_since: Instant,
    /// Folders that are gone, outermost first, with what is in their place. They are
    /// told of after what was in them: whoever takes them apart elsewhere then hears
    /// of the content first.
    gone_folders: Vec<(RelPath, Record, Option<Seen>)>,
    /// Processor time of the current scan that went into reading content.
    occupied: Duration,
}

struct Restless {
    stamp: Stamp,
    same_since: Instant,
    first_seen: Instant,
}

/// One folder on the way down.
struct Level<F> {
    path: Option<RelPath>,
    folder: Option<F>,
    names: std::vec::IntoIter<Box<[u8]>>,
}

/// Descriptors kept open on the way down; below, folders are opened again on
/// the way back, so that a deep tree does not use them up.
const OPEN_LEVELS_MAX: usize = 32;

impl<D: Disk, S: Store> Scanner<D, S> {
    /// A scanner that ends early when `stop` is set.
    pub fn new(
        share: Arc<D>,
        index: Arc<S>,
        lists: Arc<ListCache>,
        reporter: Arc<Reporter>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let batch_since = share.now();
        Self {
            share,
            index,
            lists,
            reporter,
            stop,
            restless: HashMap::new(),
            batch: Vec::new(),
            batch_since,
            gone_folders: Vec::new(),
            occupied: Duration::ZERO,
        }
    }

    /// Looks at everything once.
    pub fn scan(&mut self, sink: Sink<'_>) -> Result<ScanEnd, IndexError> {
        let now = self.share.now();
        self.restless
            .retain(|_, restless| now.duration_since(restless.first_seen) < QUIET_WAIT_MAX * 2);
        self.batch.clear();
        self.gone_folders.clear();
        self.occupied = Duration::ZERO;
        let began = self.share.thread_time();
        let mut cursor = Cursor::default();
        let mut restless = false;
        let mut levels = Vec::new();
        if let Some(level) = self.list(None) {
            levels.push(level);
        } else {
            let walked = self.share.thread_time().saturating_sub(began);
            return Ok(ScanEnd::Complete { restless, walked });
        }
        while let Some(level) = levels.last_mut() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(ScanEnd::Stopped);
            }
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let path = match RelPath::below(level.path.as_ref(), &name) {
                Ok(path) => path,
                Err(error) => {
                    self.reporter.problem(
                        &name,
                        &format!("cannot synchronise {}: {error}", shown(&name)),
                    );
                    continue;
                }
            };
            // The record is read before the disk is, so that what was put in
            // place in between shows as another sequence number.
            let record = self.advance(&mut cursor, &path)?;
            match self.look(level, &path, record.as_ref()) {
                Look::Same | Look::Gone => {}
                Look::Restless => restless = true,
                Look::Differs(seen) => match record {
                    Some(known) if known.entry.body == Body::Dir => {
                        self.tell_gone_folders(Some(&path));
                        self.gone_folders.push((path, known, Some(seen)));
                    }
                    record => {
                        let compared_with = record.map(|record| record.seq);
                        self.batch.push(Observation {
                            path,
                            compared_with,
                            seen,
                        });
                    }
                },
                Look::Unknown => skip_below(&mut cursor, &*self.index, &path)?,
                Look::Folder(seen) => {
                    if let Some(seen) = seen {
                        let compared_with = record.as_ref().map(|record| record.seq);
                        self.batch.push(Observation {
                            path: path.clone(),
                            compared_with,
                            seen,
                        });
                    }
                    match self.list(Some(&path)) {
                        Some(below) => {
                            levels.push(below);
                            let depth = levels.len();
                            if depth > OPEN_LEVELS_MAX {
                                levels[depth - 2].folder = None;
                            }
                        }
                        None => skip_below(&mut cursor, &*self.index, &path)?,
                    }
                }
            }
            let waited = self.share.now().duration_since(self.batch_since);
            let due = self.batch.len() >= BATCH_OBSERVATIONS || waited >= BATCH_AGE;
            if due && self.hand_over(sink).is_err() {
                return Ok(ScanEnd::Stopped);
            }
        }
        while let Some((path, record)) = {
            cursor.front(&*self.index)?;
            cursor.pop()
        } {
            self.note_absent(&path, &record);
        }
        self.tell_gone_folders(None);
        match self.hand_over(sink) {
            Ok(()) => {
                let walked = self
                    .share
                    .thread_time()
                    .saturating_sub(began)
                    .saturating_sub(self.occupied);
                Ok(ScanEnd::Complete { restless, walked })
            }
            Err(()) => Ok(ScanEnd::Stopped),
        }
    }

    fn hand_over(&mut self, sink: Sink<'_>) -> Result<(), ()> {
        self.batch_since = self.share.now();
        if self.batch.is_empty() {
            return Ok(());
        }
        let handed = sink(std::mem::take(&mut self.batch));
        self.batch_since = self.share.now();
        handed
    }

    /// The record of `path`; everything the index has before it is absent.
    fn advance(
        &mut self,
        cursor: &mut Cursor,
        path: &RelPath,
    ) -> Result<Option<Record>, IndexError> {
        loop {
            let Some((known, _)) = cursor.front(&*self.index)? else {
                return Ok(None);
            };
            match (*known).cmp(path) {
                std::cmp::Ordering::Greater => return Ok(None),
                std::cmp::Ordering::Equal => return Ok(cursor.pop().map(|(_, record)| record)),
                std::cmp::Ordering::Less => {
                    if let Some((known, record)) = cursor.pop() {
                        self.note_absent(&known, &record);
                    }
                }
            }
        }
    }

    fn note_absent(&mut self, path: &RelPath, record: &Record) {
        if record.entry.is_deleted() {
            return;
        }
        self.tell_gone_folders(Some(path));
        if record.entry.body == Body::Dir {
            self.gone_folders.push((path.clone(), record.clone(), None));
            return;
        }
        self.tell_if_absent(path, record);
    }

    /// Tells of the folders that were left on the way to `path`.
    fn tell_gone_folders(&mut self, path: Option<&RelPath>) {
        while let Some((folder, record, instead)) = self
            .gone_folders
            .pop_if(|(folder, ..)| path.is_none_or(|path| !path.is_below(folder)))
        {
            match instead {
                None => self.tell_if_absent(&folder, &record),
                Some(seen) => self.batch.push(Observation {
                    path: folder,
                    compared_with: Some(record.seq),
                    seen,
                }),
            }
        }
    }

    fn tell_if_absent(&mut self, path: &RelPath, record: &Record) {
        // It may have been put in place after its folder was listed.
        let asked = self.share.stat(path);
        if matches!(asked, Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) {
            self.batch.push(Observation {
                path: path.clone(),
                compared_with: Some(record.seq),
                seen: Seen::Absent,
            });
        }
    }

    /// The sorted names in a folder; `None` when they are not all known.
    fn list(&self, path: Option<&RelPath>) -> Option<Level<D::Dir>> {
        let about = path.map_or(&b"."[..], |path| path.as_bytes());
        let listed = self.share.open_dir(path).and_then(|folder| {
            if self.share.is_foreign(&folder.stat()?) {
                return Err(Errno::XDEV);
            }
            let mut names = self.share.list(&folder)?;
            if path.is_none() {
                names.retain(|name| **name != *STATE_DIR.as_bytes());
            }
            names.sort_unstable();
            Ok((folder, names))
        });
        match listed {
            Ok((folder, names)) => {
                self.reporter.solved(about);
                Some(Level {
                    path: path.cloned(),
                    folder: Some(folder),
                    names: names.into_iter(),
                })
            }
            // It vanished since its parent was listed; the next scan tells.
            Err(Errno::NOENT) => None,
            Err(Errno::XDEV) => {
                self.reporter.problem(
                    about,
                    &format!("{} is a mount point; it is not synchronised", shown(about)),
                );
                None
            }
            Err(errno) => {
                let why = std::io::Error::from(errno);
                self.reporter.problem(about, &format!("cannot list folder {}: {why}; nothing in it is synchronised until it can be read", shown(about)));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
