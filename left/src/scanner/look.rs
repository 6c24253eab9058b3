//! One look at one path: kind, metadata, and content when it may have changed.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::{Level, Restless, Scanner, Seen};
use crate::disk::{Disk, Handle, Stat};
use crate::entry::{Body, MODE_MASK};
use crate::index::Store;
use crate::path::RelPath;
use crate::planted::{Bug, makes};
use crate::record::{Record, Stamp};
use crate::transfer::blocks::Geometry;
use crate::transfer::hash::{Hashed, hash_file};
use crate::trouble::Trouble;

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

impl<D: Disk, S: Store> Scanner<D, S> {
    pub(super) fn look(
        &mut self,
        level: &mut Level<D::Dir>,
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
        let stat = match self.share.stat_at(folder, path.name()) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Look::Gone,
            Err(errno) => return self.unknown(path, errno),
        };
        if self.ignores_in_folder(path, stat.is_dir()) {
            self.reporter.solved(path.as_bytes());
            self.unwatch_ignored(path);
            return Look::Ignored;
        }
        let now = stat.stamp();
        let cached = record.and_then(|record| record.stamp);
        let unchanged = cached.is_some_and(|cached| cached.trusted && cached.same_file(&now));
        if stat.is_dir() && self.share.is_foreign(&stat) {
            self.reporter.problem_seen(
                path.as_bytes(),
                &format!("{path} is a mount point; it is not synchronised"),
            );
            return Look::Unknown;
        }
        if stat.is_dir() {
            // Only the mode of a folder is of interest; what is in it shows itself.
            let same = record.is_some_and(|record| {
                record.entry.body == Body::Dir
                    && record.stamp.is_some_and(|stamp| {
                        // Another folder under the same name is one that a job must know.
                        (stamp.mode, stamp.ino) == (now.mode, now.ino)
                    })
            });
            let seen = (!same).then(|| present(Body::Dir, &stat, now));
            return Look::Folder(seen);
        }
        if unchanged {
            return Look::Same;
        }
        if stat.is_link() {
            return match self.share.read_link(folder, path.name()) {
                Ok(target) => {
                    let body = Body::Link { target };
                    self.reporter.solved_seen(path.as_bytes());
                    Look::Differs(present(body, &stat, now))
                }
                Err(errno) => self.unknown(path, errno),
            };
        }
        if !stat.is_file() {
            self.reporter.problem_seen(
                path.as_bytes(),
                &format!("{path} is a pipe, socket or device; it is not synchronised"),
            );
            return Look::Unknown;
        }
        if cached.is_some_and(|cached| cached.same_file(&now))
            && is_in_the_future(&now, self.share.wall())
        {
            // The clock was set back: nothing can be told from these times,
            // and reading the file at every look would help little.
            return Look::Same;
        }
        let began = self.share.thread_time();
        let look = self.read(path, now);
        self.occupied += self.share.thread_time().saturating_sub(began);
        if stat.links > 1 && record.is_some_and(|known| was_written_in_place(known, &now, &look)) {
            // Its other names make no event, and nothing says which they are.
            self.again.everything = true;
        }
        look
    }

    fn unknown(&mut self, path: &RelPath, errno: Errno) -> Look {
        let why = std::io::Error::from(errno);
        // Not everything that mends it makes an event.
        self.again.told(path);
        self.reporter.problem_seen(
            path.as_bytes(),
            &format!(
                "cannot read {path}: {why}; it is left as it is until it can be read: {}",
                Trouble::of(&why).advice()
            ),
        );
        Look::Unknown
    }

    /// Hashes a file that differs from its stamp, if it rests.
    fn read(&mut self, path: &RelPath, listed: Stamp) -> Look {
        if !self.rests(path, &listed) {
            return Look::Restless;
        }
        let Some(geometry) = Geometry::of(listed.size) else {
            self.reporter.problem_seen(
                path.as_bytes(),
                &format!("{path} is above 16 TiB; it is not synchronised"),
            );
            return Look::Unknown;
        };
        let read = (|| {
            let file = self.share.open_file(path)?;
            let before = file.stat()?.stamp();
            let began = self.share.wall();
            let stop = &self.stop;
            let go_on = || {
                let same = file
                    .stat()
                    .is_ok_and(|stat| stat.stamp().same_file(&before));
                same && !stop.load(Ordering::Relaxed)
            };
            if !before.same_file(&listed) {
                return Ok(None);
            }
            let hashed = hash_file(&file, geometry, self.share.hash_threads(), &go_on)?;
            let after = file.stat()?;
            std::io::Result::Ok(match hashed {
                Hashed::Whole { id, list } if after.stamp().same_file(&listed) => {
                    Some((id, list, after, began))
                }
                // What was hashed is torn; it is never published.
                _ => None,
            })
        })();
        match read {
            Ok(Some((id, list, stat, began))) => {
                // One from the future would have to prove at each look that it rests.
                if last_change(&listed) <= began {
                    self.restless.remove(path);
                }
                self.reporter.solved_seen(path.as_bytes());
                if let Some(list) = list {
                    self.lists.keep(id, list);
                }
                let trusted = is_older_than_step(&stat, began);
                let size = stat.size;
                let body = Body::File {
                    id,
                    size,
                    mtime: stat.mtime,
                };
                Look::Differs(present(
                    body,
                    &stat,
                    Stamp {
                        trusted,
                        ..stat.stamp()
                    },
                ))
            }
            Ok(None) => Look::Restless,
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT) => Look::Gone,
                _ if makes(Bug::UnreadableIsGone) => Look::Differs(Seen::Absent),
                errno => self.unknown(path, errno.unwrap_or(Errno::IO)),
            },
        }
    }

    /// Whether nobody seems to be writing the file right now.
    pub(super) fn rests(&mut self, path: &RelPath, now: &Stamp) -> bool {
        // A time in the future says nothing.
        let age = self.share.wall().duration_since(last_change(now));
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
        let clock = self.share.now();
        let known = self
            .restless
            .entry(path.clone())
            .or_insert_with(|| Restless {
                stamp: *now,
                same_since: clock,
                first_seen: clock,
            });
        if !known.stamp.same_file(now) {
            known.stamp = *now;
            known.same_since = clock;
        }
        clock.duration_since(known.same_since) >= QUIET
            || clock.duration_since(known.first_seen) >= QUIET_WAIT_MAX
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
    Ignored,
}

/// Whether the file that was known is there still, with another content.
fn was_written_in_place(known: &Record, now: &Stamp, look: &Look) -> bool {
    let Look::Differs(Seen::Present { body, .. }) = look else {
        return false;
    };
    let is_another = match (&known.entry.body, body) {
        (Body::File { id: had, .. }, Body::File { id, .. }) => had != id,
        _ => false,
    };
    is_another && known.stamp.is_some_and(|stamp| stamp.ino == now.ino)
}

fn present(body: Body, stat: &Stat, stamp: Stamp) -> Seen {
    let mode = if stat.is_link() {
        0
    } else {
        stat.mode & MODE_MASK
    };
    Seen::Present { body, mode, stamp }
}

/// Whether a later write could not leave the same change time any more.
pub(super) fn is_older_than_step(stat: &Stat, began: SystemTime) -> bool {
    let ctime = stat.ctime;
    let step = if ctime.nanos == 0 {
        COARSE_CLOCK_STEP
    } else {
        CLOCK_STEP
    };
    let changed = UNIX_EPOCH + Duration::new(ctime.secs.max(0) as u64, ctime.nanos);
    makes(Bug::TrustsYoungStamps) || began.duration_since(changed).is_ok_and(|age| age > step)
}

pub(super) fn last_change(stamp: &Stamp) -> SystemTime {
    let changed = stamp.ctime.max(stamp.mtime);
    UNIX_EPOCH + Duration::new(changed.secs.max(0) as u64, changed.nanos)
}

fn is_in_the_future(stamp: &Stamp, now: SystemTime) -> bool {
    let changed = UNIX_EPOCH + Duration::new(stamp.ctime.secs.max(0) as u64, stamp.ctime.nanos);
    changed > now + COARSE_CLOCK_STEP
}
