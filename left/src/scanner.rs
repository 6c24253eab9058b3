//! Looks at the share and says what differs from the index. It changes
//! nothing; the engine decides what an observation means.
//!
//! What was seen is present, absent or unknown; only what is absent from a
//! complete, error-free listing, and still is when asked for by name, counts
//! as deleted. Unknown says nothing about itself or anything below.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use crate::entry::{Body, MODE_MASK};
use crate::events::Reporter;
use crate::index::{Index, IndexError};
use crate::path::{RelPath, STATE_DIR, shown};
use crate::record::{Record, Stamp};
use crate::share::{Share, is_dir, is_file, is_link, stamp};
use crate::transfer::blocks::{Geometry, Hashed, ListCache, hash_file};

/// Records read from the index at a time.
const PAGE_RECORDS: usize = 512;

/// Observations handed over at a time, so that a commit is neither tiny nor huge.
const BATCH_OBSERVATIONS: usize = 512;

/// Observations are handed over at least this often, so that many large files
/// are not held back by each other.
const BATCH_AGE: Duration = Duration::from_millis(200);

/// A file that changed this recently may still be written.
const QUIET: Duration = Duration::from_millis(50);

/// A file that never rests is looked at after this time all the same.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(5);

/// Files remembered as restless; others simply are looked at.
const RESTLESS_MAX: usize = 10_000;

/// Two writes within one step can leave the same times. Linux steps by a
/// timer tick, at most 10 ms.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// The step of file systems that keep whole seconds only, FAT's being two.
const COARSE_CLOCK_STEP: Duration = Duration::from_secs(2);

/// What was seen at a path.
#[derive(Debug, Clone)]
pub enum Seen {
    /// It is there.
    Present {
        /// Kind and content.
        body: Body,
        /// Permission bits within [`MODE_MASK`].
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
        /// What merely walking took, without reading what changed.
        walked: Duration,
    },
    /// It was told to stop, or nobody takes observations any more.
    Stopped,
}

/// Where observations go; `Err` when nobody takes them any more.
pub type Sink<'a> = &'a mut dyn FnMut(Vec<Observation>) -> Result<(), ()>;

/// The scanner's memory between scans.
pub struct Scanner {
    share: Arc<Share>,
    index: Arc<Index>,
    lists: Arc<ListCache>,
    reporter: Arc<Reporter>,
    stop: Arc<AtomicBool>,
    restless: HashMap<RelPath, Restless>,
    batch: Vec<Observation>,
    batch_since: Instant,
    /// Time of the current scan that went into reading content and waiting
    /// for the engine.
    occupied: Duration,
}

struct Restless {
    stamp: Stamp,
    same_since: Instant,
    first_seen: Instant,
}

/// One folder on the way down.
struct Level {
    path: Option<RelPath>,
    folder: Option<OwnedFd>,
    names: std::vec::IntoIter<Box<[u8]>>,
}

/// Descriptors kept open on the way down; below, folders are opened again on
/// the way back, so that a deep tree does not use them up.
const OPEN_LEVELS_MAX: usize = 32;

/// The records of the index in step with the walk.
struct Cursor {
    page: std::collections::VecDeque<(RelPath, Record)>,
    last: Option<RelPath>,
    at_end: bool,
}

impl Cursor {
    fn front(&mut self, index: &Index) -> Result<Option<&(RelPath, Record)>, IndexError> {
        if self.page.is_empty() && !self.at_end {
            self.page = index
                .records_after(self.last.as_ref(), PAGE_RECORDS)?
                .into();
            self.at_end = self.page.is_empty();
            if let Some((path, _)) = self.page.back() {
                self.last = Some(path.clone());
            }
        }
        Ok(self.page.front())
    }

    fn pop(&mut self) -> Option<(RelPath, Record)> {
        self.page.pop_front()
    }
}

impl Scanner {
    /// A scanner that ends early when `stop` is set.
    pub fn new(
        share: Arc<Share>,
        index: Arc<Index>,
        lists: Arc<ListCache>,
        reporter: Arc<Reporter>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            share,
            index,
            lists,
            reporter,
            stop,
            restless: HashMap::new(),
            batch: Vec::new(),
            batch_since: Instant::now(),
            occupied: Duration::ZERO,
        }
    }

    /// Looks at everything once.
    pub fn scan(&mut self, sink: Sink<'_>) -> Result<ScanEnd, IndexError> {
        self.restless
            .retain(|_, restless| restless.first_seen.elapsed() < QUIET_WAIT_MAX * 2);
        self.batch.clear();
        self.occupied = Duration::ZERO;
        let began = Instant::now();
        let mut cursor = Cursor {
            page: Default::default(),
            last: None,
            at_end: false,
        };
        let mut restless = false;
        let mut levels = Vec::new();
        if let Some(level) = self.list(None) {
            levels.push(level);
        } else {
            let walked = began.elapsed();
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
                Look::Differs(seen) => {
                    let compared_with = record.as_ref().map(|record| record.seq);
                    self.batch.push(Observation {
                        path: path.clone(),
                        compared_with,
                        seen,
                    });
                }
                Look::Unknown => skip_below(&mut cursor, &self.index, &path)?,
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
                        None => skip_below(&mut cursor, &self.index, &path)?,
                    }
                }
            }
            let due =
                self.batch.len() >= BATCH_OBSERVATIONS || self.batch_since.elapsed() >= BATCH_AGE;
            if due && self.hand_over(sink).is_err() {
                return Ok(ScanEnd::Stopped);
            }
        }
        while let Some((path, record)) = {
            cursor.front(&self.index)?;
            cursor.pop()
        } {
            self.note_absent(&path, &record);
        }
        match self.hand_over(sink) {
            Ok(()) => {
                let walked = began.elapsed().saturating_sub(self.occupied);
                Ok(ScanEnd::Complete { restless, walked })
            }
            Err(()) => Ok(ScanEnd::Stopped),
        }
    }

    fn hand_over(&mut self, sink: Sink<'_>) -> Result<(), ()> {
        self.batch_since = Instant::now();
        if self.batch.is_empty() {
            return Ok(());
        }
        let handed = sink(std::mem::take(&mut self.batch));
        self.occupied += self.batch_since.elapsed();
        self.batch_since = Instant::now();
        handed
    }

    /// The record of `path`; everything the index has before it is absent.
    fn advance(
        &mut self,
        cursor: &mut Cursor,
        path: &RelPath,
    ) -> Result<Option<Record>, IndexError> {
        loop {
            let Some((known, _)) = cursor.front(&self.index)? else {
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
    fn list(&self, path: Option<&RelPath>) -> Option<Level> {
        let about = path.map_or(&b"."[..], |path| path.as_bytes());
        let listed = self.share.open_dir(path).and_then(|folder| {
            if self.share.is_foreign(&fstat(&folder)?) {
                return Err(Errno::XDEV);
            }
            let mut names: Vec<Box<[u8]>> = Vec::new();
            for item in Dir::read_from(&folder)? {
                let item = item?;
                let name = item.file_name().to_bytes();
                let is_state = path.is_none() && name == STATE_DIR.as_bytes();
                if name != b"." && name != b".." && !is_state {
                    names.push(name.into());
                }
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

    fn look(&mut self, level: &mut Level, path: &RelPath, record: Option<&Record>) -> Look {
        let folder = match &level.folder {
            Some(folder) => folder,
            None => match self.share.open_dir(level.path.as_ref()) {
                Ok(folder) => level.folder.insert(folder),
                Err(errno) => return self.unknown(path, errno),
            },
        };
        let stat = match statat(folder, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Look::Gone,
            Err(errno) => return self.unknown(path, errno),
        };
        let now = stamp(&stat);
        let cached = record.and_then(|record| record.stamp);
        let unchanged = cached.is_some_and(|cached| cached.trusted && cached.same_file(&now));
        if is_dir(&stat) && self.share.is_foreign(&stat) {
            self.reporter.problem(
                path.as_bytes(),
                &format!("{path} is a mount point; it is not synchronised"),
            );
            return Look::Unknown;
        }
        if is_dir(&stat) {
            // Only the mode of a folder is of interest; what is in it shows itself.
            let same = record.is_some_and(|record| {
                record.entry.body == Body::Dir
                    && record.stamp.is_some_and(|stamp| stamp.mode == now.mode)
            });
            let seen = (!same).then(|| present(Body::Dir, &stat, now));
            return Look::Folder(seen);
        }
        if unchanged {
            return Look::Same;
        }
        if is_link(&stat) {
            return match readlinkat(folder, path.name(), Vec::new()) {
                Ok(target) => {
                    let body = Body::Link {
                        target: target.as_bytes().into(),
                    };
                    self.reporter.solved(path.as_bytes());
                    Look::Differs(present(body, &stat, now))
                }
                Err(errno) => self.unknown(path, errno),
            };
        }
        if !is_file(&stat) {
            self.reporter.problem(
                path.as_bytes(),
                &format!("{path} is a pipe, socket or device; it is not synchronised"),
            );
            return Look::Unknown;
        }
        if cached.is_some_and(|cached| cached.same_file(&now)) && is_in_the_future(&now) {
            // The clock was set back: nothing can be told from these times,
            // and reading the file at every look would help little.
            return Look::Same;
        }
        let began = Instant::now();
        let look = self.read(path, now);
        self.occupied += began.elapsed();
        look
    }

    fn unknown(&self, path: &RelPath, errno: Errno) -> Look {
        let why = std::io::Error::from(errno);
        self.reporter.problem(
            path.as_bytes(),
            &format!("cannot read {path}: {why}; it is left as it is until it can be read"),
        );
        Look::Unknown
    }

    /// Hashes a file that differs from its stamp, if it rests.
    fn read(&mut self, path: &RelPath, listed: Stamp) -> Look {
        if !self.rests(path, &listed) {
            return Look::Restless;
        }
        let Some(geometry) = Geometry::of(listed.size) else {
            self.reporter.problem(
                path.as_bytes(),
                &format!("{path} is above 1 TiB; it is not synchronised"),
            );
            return Look::Unknown;
        };
        let read = (|| {
            let file = self.share.open_file(path)?;
            let before = fstat(&file)?;
            let began = SystemTime::now();
            let stop = &self.stop;
            let go_on = || {
                let same = fstat(&file).is_ok_and(|stat| stamp(&stat).same_file(&stamp(&before)));
                same && !stop.load(Ordering::Relaxed)
            };
            if !stamp(&before).same_file(&listed) {
                return Ok(None);
            }
            let hashed = hash_file(&file, geometry, threads(), &go_on)?;
            let after = fstat(&file)?;
            std::io::Result::Ok(match hashed {
                Hashed::Whole { id, list } if stamp(&after).same_file(&listed) => {
                    Some((id, list, after, began))
                }
                // What was hashed is torn; it is never published.
                _ => None,
            })
        })();
        match read {
            Ok(Some((id, list, stat, began))) => {
                self.restless.remove(path);
                self.reporter.solved(path.as_bytes());
                if let Some(list) = list {
                    self.lists.keep(id, list);
                }
                let trusted = is_older_than_step(&stat, began);
                let size = stat.st_size as u64;
                let body = Body::File {
                    id,
                    size,
                    mtime: crate::share::mtime(&stat),
                };
                Look::Differs(present(
                    body,
                    &stat,
                    Stamp {
                        trusted,
                        ..stamp(&stat)
                    },
                ))
            }
            Ok(None) => Look::Restless,
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT) => Look::Gone,
                errno => self.unknown(path, errno.unwrap_or(Errno::IO)),
            },
        }
    }

    /// Whether nobody seems to be writing the file right now.
    fn rests(&mut self, path: &RelPath, now: &Stamp) -> bool {
        let changed = now.ctime.max(now.mtime);
        let changed = UNIX_EPOCH + Duration::new(changed.secs.max(0) as u64, changed.nanos);
        // A time in the future says nothing.
        if SystemTime::now()
            .duration_since(changed)
            .is_ok_and(|age| age >= QUIET)
        {
            return true;
        }
        if !self.restless.contains_key(path) && self.restless.len() >= RESTLESS_MAX {
            return true;
        }
        let known = self
            .restless
            .entry(path.clone())
            .or_insert_with(|| Restless {
                stamp: *now,
                same_since: Instant::now(),
                first_seen: Instant::now(),
            });
        if !known.stamp.same_file(now) {
            known.stamp = *now;
            known.same_since = Instant::now();
        }
        known.same_since.elapsed() >= QUIET || known.first_seen.elapsed() >= QUIET_WAIT_MAX
    }
}

enum Look {
    Same,
    Differs(Seen),
    Folder(Option<Seen>),
    Restless,
    Gone,
    Unknown,
}

fn present(body: Body, stat: &Stat, stamp: Stamp) -> Seen {
    let mode = if is_link(stat) {
        0
    } else {
        stat.st_mode & MODE_MASK
    };
    Seen::Present { body, mode, stamp }
}

fn skip_below(cursor: &mut Cursor, index: &Index, folder: &RelPath) -> Result<(), IndexError> {
    while let Some((path, _)) = cursor.front(index)? {
        if !path.is_below(folder) {
            break;
        }
        cursor.pop();
    }
    Ok(())
}

/// Whether a later write could not leave the same change time any more.
fn is_older_than_step(stat: &Stat, began: SystemTime) -> bool {
    let ctime = stamp(stat).ctime;
    let step = if ctime.nanos == 0 {
        COARSE_CLOCK_STEP
    } else {
        CLOCK_STEP
    };
    let changed = UNIX_EPOCH + Duration::new(ctime.secs.max(0) as u64, ctime.nanos);
    began.duration_since(changed).is_ok_and(|age| age > step)
}

fn is_in_the_future(stamp: &Stamp) -> bool {
    let changed = UNIX_EPOCH + Duration::new(stamp.ctime.secs.max(0) as u64, stamp.ctime.nanos);
    changed > SystemTime::now() + COARSE_CLOCK_STEP
}

/// Two threads keep a disk and two cores busy; more would only get in the
/// way of the machine's owner.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{ContentId, Entry};
    use crate::index::Change;
    use crate::version::{ReplicaId, VersionVector};
    use std::fs::File;

    struct Place {
        dir: tempfile::TempDir,
        index: Arc<Index>,
        scanner: Scanner,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let share = Arc::new(Share::open(dir.path()).unwrap());
        let (index, _) = Index::open(&dir.path().join(".left/index"), (ReplicaId(1), 1)).unwrap();
        let index = Arc::new(index);
        let scanner = Scanner::new(
            share,
            index.clone(),
            Arc::default(),
            Arc::new(Reporter::new(None)),
            Arc::default(),
        );
        Place {
            dir,
            index,
            scanner,
        }
    }

    impl Place {
        fn write(&self, name: &str, text: &str, age: Duration) {
            let path = self.dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }

        /// Looks until nothing is restless, and takes what was seen as it is.
        fn look(&mut self) -> Vec<(String, bool)> {
            let mut seen = Vec::new();
            loop {
                let mut found = Vec::new();
                let mut sink = |observations: Vec<Observation>| {
                    found.extend(observations);
                    Ok(())
                };
                let end = self.scanner.scan(&mut sink).unwrap();
                let version = VersionVector::from_pairs([(ReplicaId(1), 1)]);
                for Observation {
                    path, seen: what, ..
                } in found
                {
                    seen.push((path.to_string(), matches!(what, Seen::Present { .. })));
                    let (body, mode, stamp) = match what {
                        Seen::Present { body, mode, stamp } => (body, mode, Some(stamp)),
                        Seen::Absent => (Body::Deleted, 0, None),
                    };
                    let entry = Entry {
                        body,
                        mode,
                        version: version.clone(),
                    };
                    self.index
                        .commit(&[Change::Put { path, entry, stamp }])
                        .unwrap();
                }
                if matches!(
                    end,
                    ScanEnd::Complete {
                        restless: false,
                        ..
                    }
                ) {
                    return seen;
                }
            }
        }

        fn id(&self, name: &str) -> ContentId {
            let path = RelPath::parse(name.as_bytes()).unwrap();
            match self.index.get(&path).unwrap().unwrap().entry.body {
                Body::File { id, .. } => id,
                other => panic!("{other:?}"),
            }
        }
    }

    fn present(names: &[&str]) -> Vec<(String, bool)> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), true))
            .collect()
    }

    #[test]
    fn everything_is_seen_once_in_the_order_of_paths() {
        let mut place = place();
        for name in ["b", "a/y", "a/x/deep", "a.txt"] {
            place.write(name, name, Duration::ZERO);
        }
        let mut seen = place.look();
        seen.sort();
        assert_eq!(
            seen,
            present(&["a", "a.txt", "a/x", "a/x/deep", "a/y", "b"])
        );
        // A young stamp is not trusted, so files may be read again, but they
        // are the same.
        let again = place.look();
        assert!(again.iter().all(|(_, present)| *present), "{again:?}");
    }

    #[test]
    fn what_is_gone_is_absent_and_only_that() {
        let mut place = place();
        for name in ["a/x", "a/y", "b", "c/z"] {
            place.write(name, name, Duration::ZERO);
        }
        place.look();
        std::fs::remove_dir_all(place.dir.path().join("a")).unwrap();
        std::fs::remove_file(place.dir.path().join("b")).unwrap();
        let seen = place.look();
        let absent: Vec<_> = seen
            .iter()
            .filter(|(_, present)| !present)
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(absent, ["a", "a/x", "a/y", "b"]);
        assert!(place.look().iter().all(|(_, present)| *present));
    }

    #[test]
    fn src_racy_timestamp_a_write_of_the_same_size_and_mtime_is_noticed() {
        let mut place = place();
        place.write("file", "one", Duration::ZERO);
        place.look();
        let path = place.dir.path().join("file");
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, "two").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        place.look();
        assert_eq!(place.id("file").0, *blake3::hash(b"two").as_bytes());
    }

    #[test]
    fn a_folder_where_a_file_was_and_the_reverse() {
        let mut place = place();
        place.write("x", "file", Duration::ZERO);
        place.write("y/inside", "file", Duration::ZERO);
        place.look();
        std::fs::remove_file(place.dir.path().join("x")).unwrap();
        std::fs::remove_dir_all(place.dir.path().join("y")).unwrap();
        place.write("x/inside", "file", Duration::ZERO);
        place.write("y", "file", Duration::ZERO);
        let seen = place.look();
        for expected in [
            ("x", true),
            ("x/inside", true),
            ("y", true),
            ("y/inside", false),
        ] {
            assert!(
                seen.contains(&(expected.0.to_owned(), expected.1)),
                "{expected:?} in {seen:?}"
            );
        }
    }
}
