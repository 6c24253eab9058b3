//! Looks at the share and says what differs from the index. It changes
//! nothing; the engine decides what an observation means.
//!
//! What was seen is present, absent, unknown or ignored; only what is absent from
//! a complete, error-free listing, and still is when asked for by name, counts
//! as deleted. Unknown says nothing about itself or anything below. What is
//! ignored is not even listed; a record of it is no use any more.

mod again;
mod cursor;
mod dirty;
mod look;
mod rules;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub use again::Again;
use cursor::{Cursor, skip_below};
use look::{Look, QUIET_WAIT_MAX};

use crate::disk::{Disk, Handle};
use crate::entry::Body;
use crate::events::Reporter;
use crate::ignore::Rules;
use crate::index::{Index, IndexError, Store};
use crate::path::{RelPath, STATE_DIR, shown};
use crate::planted::{Bug, makes};
use crate::record::{Record, Stamp};
use crate::share::Share;
use crate::transfer::blocks::ListCache;
use crate::trouble::Trouble;

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
    /// It is none of ours: nothing is to be known of it any more.
    Ignored,
    /// These rules are in the file now. They hold for all that is told after this.
    Rules(Arc<Rules>),
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

/// Who notices what changes in folders; see [`crate::watcher`].
pub trait Watch<F>: Send + Sync {
    /// A folder is about to be listed; `None` is the share itself. What appears
    /// in it from now on is marked.
    fn watch(&self, path: Option<&RelPath>, folder: &F);
    /// A folder cannot be listed, so what happens in it cannot be looked at.
    fn unwatch(&self, path: &RelPath);
    /// Whether what appears in this folder is marked.
    fn is_watched(&self, path: &RelPath) -> bool;
}

/// The scanner's memory between scans.
pub struct Scanner<D: Disk = Share, S = Index> {
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
    /// Told before a folder is listed.
    watcher: Option<Arc<dyn Watch<D::Dir>>>,
    again: Again,
    /// Somebody else saw to it that the file looked at is quiet.
    is_quiet: bool,
    /// What is ignored.
    rules: rules::Known,
}

/// Which folders a walk goes down into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Into {
    All,
    /// Of the others, what changes in them is known already.
    Unwatched,
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
        let rules = rules::Known::new(index.rules());
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
            watcher: None,
            again: Again::default(),
            is_quiet: false,
            rules,
        }
    }

    /// Lets `watcher` watch each folder before it is listed.
    pub fn watched_by(mut self, watcher: Arc<dyn Watch<D::Dir>>) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// What has to be looked at again although nothing tells of it.
    pub fn take_again(&mut self) -> Again {
        std::mem::take(&mut self.again)
    }

    /// Looks at everything once.
    pub fn scan(&mut self, sink: Sink<'_>) -> Result<ScanEnd, IndexError> {
        let began = self.begin();
        self.is_quiet = false;
        match self.look_at_rules() {
            rules::News::Unsure => {
                self.again.unsure = true;
                Ok(self.end(began, sink))
            }
            _ => self.scan_all(began, sink),
        }
    }

    fn scan_all(&mut self, began: Duration, sink: Sink<'_>) -> Result<ScanEnd, IndexError> {
        self.is_quiet = false;
        self.reporter.look_begins();
        if let Some(top) = self.list(None) {
            if self.walk(top, Into::All, sink)?.is_err() {
                return Ok(ScanEnd::Stopped);
            }
            self.reporter.look_ends();
        }
        Ok(self.end(began, sink))
    }

    fn begin(&mut self) -> Duration {
        let now = self.share.now();
        self.restless
            .retain(|_, restless| now.duration_since(restless.first_seen) < QUIET_WAIT_MAX * 2);
        self.batch.clear();
        self.gone_folders.clear();
        self.again = Again::default();
        self.occupied = Duration::ZERO;
        self.share.thread_time()
    }

    fn end(&mut self, began: Duration, sink: Sink<'_>) -> ScanEnd {
        match self.hand_over(sink) {
            Ok(()) => ScanEnd::Complete {
                restless: self.again.restless,
                walked: self
                    .share
                    .thread_time()
                    .saturating_sub(began)
                    .saturating_sub(self.occupied),
            },
            Err(()) => ScanEnd::Stopped,
        }
    }

    /// Looks at everything in a listed folder, in step with the index; the
    /// inner `Err` says that it was stopped.
    fn walk(
        &mut self,
        top: Level<D::Dir>,
        into: Into,
        sink: Sink<'_>,
    ) -> Result<Result<(), ()>, IndexError> {
        let mut cursor = Cursor::below(top.path.clone());
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Err(()));
            }
            let Some(name) = level.names.next() else {
                levels.pop();
                continue;
            };
            let path = match RelPath::below(level.path.as_ref(), &name) {
                Ok(path) => path,
                Err(error) => {
                    self.reporter.problem_seen(
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
                Look::Restless => self.again.restless(path),
                Look::Differs(seen) => match record {
                    Some(known) if known.entry.body == Body::Dir => {
                        self.tell_gone_folders(Some(&path));
                        self.gone_folders.push((path, known, Some(seen)));
                    }
                    record => self.observe(path, record.as_ref(), seen),
                },
                Look::Unknown => skip_below(&mut cursor, &*self.index, &path)?,
                Look::Ignored => {
                    let live = record.filter(|record| !record.entry.is_deleted());
                    if let Some(known) = live {
                        let seen = self.seen_instead(&path, &known);
                        self.tell_gone_folders(Some(&path));
                        self.gone_folders.push((path, known, Some(seen)));
                    }
                }
                Look::Folder(seen) => {
                    if let Some(seen) = seen {
                        self.observe(path.clone(), record.as_ref(), seen);
                    }
                    if into == Into::Unwatched && self.is_watched(&path) {
                        skip_below(&mut cursor, &*self.index, &path)?;
                        continue;
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
            if self.hand_over_if_due(sink).is_err() {
                return Ok(Err(()));
            }
        }
        self.note_rest_absent(&mut cursor, sink)
    }

    /// Everything the cursor still has is absent.
    fn note_rest_absent(
        &mut self,
        cursor: &mut Cursor,
        sink: Sink<'_>,
    ) -> Result<Result<(), ()>, IndexError> {
        while let Some((path, record)) = {
            cursor.front(&*self.index)?;
            cursor.pop()
        } {
            self.note_absent(&path, &record);
            if self.hand_over_if_due(sink).is_err() {
                return Ok(Err(()));
            }
        }
        self.tell_gone_folders(None);
        Ok(Ok(()))
    }

    fn observe(&mut self, path: RelPath, record: Option<&Record>, seen: Seen) {
        if !matches!(seen, Seen::Ignored) {
            self.again.told(&path);
        }
        self.batch.push(Observation {
            path,
            compared_with: record.map(|record| record.seq),
            seen,
        });
    }

    fn is_watched(&self, path: &RelPath) -> bool {
        let watcher = self.watcher.as_ref();
        watcher.is_some_and(|watcher| watcher.is_watched(path))
    }

    fn hand_over_if_due(&mut self, sink: Sink<'_>) -> Result<(), ()> {
        let waited = self.share.now().duration_since(self.batch_since);
        let due = self.batch.len() >= BATCH_OBSERVATIONS || waited >= BATCH_AGE;
        if due { self.hand_over(sink) } else { Ok(()) }
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
        if matches!(self.seen_instead(path, record), Seen::Ignored) {
            self.observe(path.clone(), Some(record), Seen::Ignored);
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
                Some(seen) => self.observe(folder, Some(&record), seen),
            }
        }
    }

    fn tell_if_absent(&mut self, path: &RelPath, record: &Record) {
        // It may have been put in place after its folder was listed.
        let asked = self.share.stat(path);
        let is_absent = matches!(asked, Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP));
        if is_absent || makes(Bug::UnlistedIsEmpty) {
            self.observe(path.clone(), Some(record), Seen::Absent);
        }
    }

    /// The sorted names in a folder; `None` when they are not all known.
    fn list(&mut self, path: Option<&RelPath>) -> Option<Level<D::Dir>> {
        let about = path.map_or(&b"."[..], |path| path.as_bytes());
        let listed = self.share.open_dir(path).and_then(|folder| {
            if self.share.is_foreign(&folder.stat()?) {
                return Err(Errno::XDEV);
            }
            if let Some(watcher) = &self.watcher {
                watcher.watch(path, &folder);
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
                self.reporter.solved_seen(about);
                Some(Level {
                    path: path.cloned(),
                    folder: Some(folder),
                    names: names.into_iter(),
                })
            }
            // It vanished since its parent was listed; the next scan tells.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(Errno::XDEV) => {
                self.reporter.problem_seen(
                    about,
                    &format!("{} is a mount point; it is not synchronised", shown(about)),
                );
                None
            }
            Err(_) if makes(Bug::UnlistedIsEmpty) => Some(Level {
                path: path.cloned(),
                folder: None,
                names: Vec::new().into_iter(),
            }),
            Err(errno) => {
                let why = std::io::Error::from(errno);
                if let (Some(watcher), Some(path)) = (&self.watcher, path) {
                    // Once it can be read, it is walked to its end.
                    watcher.unwatch(path);
                }
                self.again.everything |= path.is_none();
                path.into_iter().for_each(|path| self.again.told(path));
                self.reporter.problem_seen(about, &format!("cannot list folder {}: {why}; nothing in it is synchronised until it can be read: {}", shown(about), Trouble::of(&why).advice()));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
