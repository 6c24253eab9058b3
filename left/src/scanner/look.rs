//! One look at one path: kind, metadata, and content when it may have changed.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;

use super::{Level, Restless, Scanner, Seen, thread_time};
use crate::entry::{Body, MODE_MASK};
use crate::path::RelPath;
use crate::record::{Record, Stamp};
use crate::share::{is_dir, is_file, is_link, stamp};
use crate::transfer::blocks::{Geometry, Hashed, hash_file};

/// A file that changed this recently may still be written.
const QUIET: Duration = Duration::from_millis(50);

/// A file that never rests is looked at after this time all the same.
pub(super) const QUIET_WAIT_MAX: Duration = Duration::from_secs(5);

/// Files remembered as restless; others simply are looked at.
const RESTLESS_MAX: usize = 10_000;

/// A file that is not read twice lightly.
const LARGE_BYTES: u64 = 16 * 1024 * 1024;

/// Two writes within one step can leave the same times. Linux steps by a
/// timer tick, at most 10 ms.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// The step of file systems that keep whole seconds only, FAT's being two.
const COARSE_CLOCK_STEP: Duration = Duration::from_secs(2);

impl Scanner {
    pub(super) fn look(
        &mut self,
        level: &mut Level,
        path: &RelPath,
        record: Option<&Record>,
    ) -> Look {
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
        let began = thread_time();
        let look = self.read(path, now);
        self.occupied += thread_time().saturating_sub(began);
        look
    }

    fn unknown(&mut self, path: &RelPath, errno: Errno) -> Look {
        let why = std::io::Error::from(errno);
        // Not everything that mends it makes an event.
        self.again.told(path);
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
        let age = SystemTime::now().duration_since(changed);
        let is_older_than = |quiet| age.as_ref().is_ok_and(|age| *age >= quiet);
        if self.is_quiet {
            // A stamp as young as the clock's step would not be trusted, and
            // reading a large file twice takes longer than the step.
            return now.size < LARGE_BYTES || age.is_err() || is_older_than(CLOCK_STEP);
        }
        if is_older_than(QUIET) {
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

/// What a look found.
pub(super) enum Look {
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
