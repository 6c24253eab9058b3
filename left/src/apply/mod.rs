//! The one place that changes the share: puts complete content, folders, links
//! and metadata where they belong, and only where the disk still is as it was
//! when that was decided.

mod exchange;
mod gather;
mod remove;

use std::collections::HashMap;
use std::io;

use rustix::io::Errno;

use exchange::{Exchanged, exchange};
pub use gather::copy;
use gather::gather;
use remove::{remove, trash_name};

use crate::disk::{Content, Disk, Handle, Rename, Stat};
use crate::entry::{Body, ContentId, Entry, MODE_MASK};
use crate::ignore::Rules;
use crate::index::{Change, Store, Trashed};
use crate::part::{PartId, open_complete_part, remove_part};
use crate::path::RelPath;
use crate::planted::{Bug, makes};
use crate::record::{Record, Stamp};
use crate::trash::unix_seconds;

/// How a job changes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In place of what is there.
    Install,
    /// What is there is kept under the name of a conflict copy.
    InstallKeepingOurs,
    /// Mode and mtime only.
    SetMetadata,
    /// Into the trash; a folder only when it is empty.
    Remove,
}

/// Where on this side a content lies that need not be received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the trash, under this name: it is moved.
    Trash(Vec<u8>, Trashed),
    /// It was in the trash under this name, and is in the part by now.
    Moved(Vec<u8>, Trashed),
    /// At another path, which looked like this: it is copied.
    Path(RelPath, Stamp),
}

/// One path to be changed.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where.
    pub path: RelPath,
    /// What the index knew when this was decided.
    pub known: Option<Record>,
    /// The peer's entry that it was decided on.
    pub theirs: Entry,
    /// What the path is to be, with the version it then has.
    pub target: Entry,
    /// How.
    pub how: How,
    /// Which of several parts with the same content, see [`PartId`]; of a removal
    /// what its name in the trash begins with.
    pub slot: u32,
    /// Where the content is to be had on this side.
    pub source: Option<Source>,
}

impl Job {
    /// What comes of it is neither what this side has nor what the peer offered, so that
    /// it gets a number of its own when it is done.
    pub fn is_change_of_ours(&self) -> bool {
        self.target.version != self.theirs.version
    }

    /// The content that has to be received first.
    pub fn content(&self) -> Option<(ContentId, u64)> {
        match (self.how, &self.target.body) {
            (How::Install | How::InstallKeepingOurs, Body::File { id, size, .. }) => {
                Some((*id, *size))
            }
            _ => None,
        }
    }

    /// Where that content is gathered.
    pub fn part(&self) -> Option<PartId> {
        let (content, _) = self.content()?;
        Some(PartId {
            content,
            slot: self.slot,
        })
    }

    fn part_name(&self) -> String {
        self.part().map(PartId::name).unwrap_or_default()
    }

    /// What the disk should look like before.
    fn stamp(&self) -> Option<Stamp> {
        let known = self.known.as_ref()?;
        known.stamp.filter(|_| !known.entry.is_deleted())
    }
}

/// What came of a job.
#[derive(Debug)]
pub enum Outcome {
    /// The path is as it should be.
    Done {
        /// What the disk looks like now.
        stamp: Stamp,
        /// Where the losing version of a conflict is kept.
        copy: Option<RelPath>,
    },
    /// It is gone, and lies in the trash under this name, if there was anything.
    Removed(Option<(Vec<u8>, Trashed)>),
    /// The folder that is to go, or to become something else, holds something: this
    /// name, if it can be read.
    NotEmpty(Option<Box<[u8]>>),
    /// The content is not where it was said to be on this side.
    NotHere(Elsewhere),
    /// The disk is not as it was when this was decided: look again, decide again.
    Changed,
    /// The system refused; it is tried again later.
    Failed(io::Error),
}

/// What there is where a content was said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nothing.
    Gone,
    /// Something else.
    Another,
}

/// Syncing the whole file system costs less than this many files one by one.
const SYNC_EACH_MAX: usize = 8;

/// Performs jobs together, so that many small files share their syncs. The
/// part of each job that has content is complete.
pub fn apply(share: &impl Disk, index: &impl Store, jobs: Vec<Job>) -> Vec<(Job, Outcome)> {
    let ended = apply_all(share, index, jobs);
    for (job, outcome) in &ended {
        if !matches!(outcome, Outcome::Done { .. }) {
            drop_small_part(share, job);
        }
    }
    ended
}

/// The next attempt has a part of its own; this one would stay.
fn drop_small_part(share: &impl Disk, job: &Job) {
    if let Some(id) = job.part().filter(|id| id.slot != 0) {
        remove_part(share, id);
    }
}

fn apply_all<D: Disk>(share: &D, index: &impl Store, jobs: Vec<Job>) -> Vec<(Job, Outcome)> {
    let mut ready = Vec::new();
    let mut ended = Vec::new();
    let rules = index.rules();
    for job in jobs {
        // It may have become ignored since that was decided.
        let is_ignored = rules.as_ref().is_some_and(|rules| is_ignored(&job, rules));
        if is_ignored && !makes(Bug::ChangesIgnored) {
            ended.push((job, Outcome::Changed));
            continue;
        }
        match gather(share, &job, &|| true) {
            Ok(None) => {}
            Ok(Some(elsewhere)) => {
                ended.push((job, Outcome::NotHere(elsewhere)));
                continue;
            }
            Err(error) => {
                ended.push((job, Outcome::Failed(error)));
                continue;
            }
        }
        match open_dressed(share, &job) {
            Ok(part) => ready.push((job, part)),
            Err(error) => ended.push((job, Outcome::Failed(error))),
        }
    }
    // Content is durable before it gets a name: a crash never shows an empty
    // or torn file.
    let parts: Vec<&D::File> = ready.iter().filter_map(|(_, part)| part.as_ref()).collect();
    if let Err(errno) = make_durable(share, &parts) {
        // What the kernel could not write it may have dropped; begin again.
        for (job, part) in ready {
            if let (Some(_), Some(id)) = (part, job.part()) {
                remove_part(share, id);
            }
            ended.push((job, Outcome::Failed(errno.into())));
        }
        return ended;
    }
    let now = unix_seconds(share);
    let intents: Vec<Change> = ready
        .iter()
        .filter(|(job, _)| job.stamp().is_some())
        .filter_map(|(job, _)| {
            let path = job.path.clone();
            if job.how == How::Remove {
                let name = trash_name(job, now);
                return is_trashed(job).then_some(Change::Removing { name, path });
            }
            let id = job.part()?;
            Some(Change::Intend { id, path })
        })
        .collect();
    if let Err(error) = index.commit(&intents) {
        let text = error.to_string();
        let failed = ready
            .into_iter()
            .map(|(job, _)| (job, Outcome::Failed(io::Error::other(text.clone()))));
        ended.extend(failed);
        return ended;
    }
    let mut folders: HashMap<Option<RelPath>, D::Dir> = HashMap::new();
    let mut place_one = |(job, part): (Job, Option<D::File>)| {
        let outcome = match perform(share, index, &mut folders, &job, part.as_ref(), now) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        (job, outcome)
    };
    // Folders that are to go may hold what is to go before them.
    let (emptied, ready): (Vec<_>, Vec<_>) = ready
        .into_iter()
        .partition(|(job, _)| job.how == How::Remove && !is_trashed(job));
    let mut placed: Vec<_> = ready.into_iter().map(&mut place_one).collect();
    // Names are durable before the index says so. What is in the trash first, so
    // that it is somewhere at every moment.
    if placed
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Removed(Some(_))))
        && let Err(errno) = share.trash().sync()
    {
        let failed = placed
            .into_iter()
            .map(|(job, _)| job)
            .chain(emptied.into_iter().map(|(job, _)| job))
            .map(|job| (job, Outcome::Failed(errno.into())));
        return ended.into_iter().chain(failed).collect();
    }
    placed.extend(emptied.into_iter().map(&mut place_one));
    let unsynced: Vec<&Option<RelPath>> = folders
        .iter()
        .filter(|(_, folder)| folder.sync().is_err())
        .map(|(path, _)| path)
        .collect();
    for (job, outcome) in &mut placed {
        let is_over = matches!(outcome, Outcome::Done { .. } | Outcome::Removed(_));
        if is_over && unsynced.contains(&&job.path.parent()) {
            // The scanner finds the equal content and nothing is sent again.
            *outcome = Outcome::Changed;
        }
    }
    // What was put back is no removal any more.
    let back: Vec<Change> = placed
        .iter()
        .filter(|(job, outcome)| {
            is_trashed(job)
                && job.stamp().is_some()
                && !matches!(outcome, Outcome::Removed(Some(_)))
        })
        .map(|(job, _)| Change::Removed {
            name: trash_name(job, now),
        })
        .collect();
    // If that fails it is looked at once more at the next start.
    let _ = index.commit(&back);
    ended.extend(placed);
    ended
}

/// Whether what is there, or what is to be there, is ignored. A tombstone is of no kind.
fn is_ignored(job: &Job, rules: &Rules) -> bool {
    let known = job.known.as_ref().map(|known| &known.entry);
    let target = Some(&job.target).filter(|target| !target.is_deleted());
    let mut entries = known.into_iter().chain(target);
    entries.any(|entry| rules.ignores(&job.path, entry.body == Body::Dir))
}

/// Whether a removal goes through the trash.
fn is_trashed(job: &Job) -> bool {
    let known = job.known.as_ref();
    job.how == How::Remove && known.is_some_and(|known| known.entry.body != Body::Dir)
}

/// Opens the part of a job with content, and gives it the metadata of the file
/// that it becomes.
fn open_dressed<D: Disk>(share: &D, job: &Job) -> io::Result<Option<D::File>> {
    let (Some((_, size)), Some(id)) = (job.content(), job.part()) else {
        return Ok(None);
    };
    let part = open_complete_part(share, id, size)?;
    part.set_mode(job.target.mode)?;
    if let Some(mtime) = job.target.mtime() {
        part.set_mtime(mtime)?;
    }
    Ok(Some(part))
}

fn make_durable<D: Disk>(share: &D, parts: &[&D::File]) -> Result<(), Errno> {
    if makes(Bug::NamesBeforeSync) {
        return Ok(());
    }
    if parts.len() > SYNC_EACH_MAX && share.sync_all_tells_errors() {
        return share.sync_all();
    }
    for part in parts {
        part.sync()?;
    }
    Ok(())
}

fn perform<D: Disk>(
    share: &D,
    index: &impl Store,
    folders: &mut HashMap<Option<RelPath>, D::Dir>,
    job: &Job,
    part: Option<&D::File>,
    now: u64,
) -> io::Result<Outcome> {
    use std::collections::hash_map::Entry::{Occupied, Vacant};
    if job.how == How::SetMetadata {
        return set_metadata(share, job);
    }
    if share.folds_case() && !is_spelled(share, &job.path)? {
        return Err(spelled_otherwise());
    }
    let folder = match folders.entry(job.path.parent()) {
        Occupied(known) => known.into_mut(),
        Vacant(new) if job.how == How::Remove => match share.open_parent(&job.path) {
            Ok(folder) => new.insert(folder),
            // Gone with its folder.
            Err(Errno::NOENT) => return Ok(Outcome::Removed(None)),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Outcome::Changed),
            Err(errno) => return Err(errno.into()),
        },
        Vacant(new) => new.insert(share.make_parent(&job.path)?),
    };
    let once = || match job.how {
        How::Remove => remove(share, index, folder, job, now),
        _ => place(share, index, folder, job, part),
    };
    match once() {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            in_writable_folder(folder, once).unwrap_or(Err(error))
        }
        other => other,
    }
}

/// A folder that came from the peer without write permission still gets its
/// content: it is made writable for the moment. `None` when that is not ours
/// to do.
fn in_writable_folder<T>(folder: &impl Handle, work: impl FnOnce() -> T) -> Option<T> {
    let mode = folder.stat().ok()?.permissions();
    if mode & 0o300 == 0o300 {
        return None;
    }
    folder.set_mode(mode | 0o300).ok()?;
    let done = work();
    folder.set_mode(mode).ok()?;
    Some(done)
}

fn place<D: Disk>(
    share: &D,
    index: &impl Store,
    folder: &D::Dir,
    job: &Job,
    part: Option<&D::File>,
) -> io::Result<Outcome> {
    let name = job.path.name();
    let before = part.map(Handle::stat).transpose()?;
    if let Some(before) = &before {
        // It goes by its name, under which somebody may have put something else.
        let named = share.stat_at(share.parts(), job.part_name().as_bytes())?;
        if named.ino != before.ino {
            return Err(io::Error::other("its part was replaced by something else"));
        }
    }
    let copy = match job.stamp() {
        None => match create(share, folder, job)? {
            true => None,
            false => return Ok(Outcome::Changed),
        },
        Some(known) => match exchange(share, index, folder, job, &known)? {
            Exchanged::Yes(copy) => copy,
            Exchanged::No => return Ok(Outcome::Changed),
            Exchanged::NotEmpty(name) => return Ok(Outcome::NotEmpty(name)),
        },
    };
    let (Some(part), Some(before)) = (part, before) else {
        // By name: there may be something else of a user already, so that it is looked
        // at once more.
        let now = share.stat_at(folder, name)?;
        let is_it = match job.target.body {
            Body::Dir => now.is_dir(),
            _ => now.is_link(),
        };
        let stamp = Stamp {
            trusted: false,
            ino: if is_it { now.ino } else { 0 },
            ..now.stamp()
        };
        return Ok(Outcome::Done { stamp, copy });
    };
    // By descriptor: under the name there may be a newer file already.
    let now = part.stat()?;
    if now.stamp().same_but_moved(&before.stamp()) {
        return Ok(done(&now, copy));
    }
    // Somebody changed it as soon as it had its name. What it was before is
    // remembered, so that the change shows.
    let stamp = Stamp {
        trusted: false,
        ..before.stamp()
    };
    Ok(Outcome::Done { stamp, copy })
}

/// Creates what was not there; `false` when something is there by now.
fn create<D: Disk>(share: &D, folder: &D::Dir, job: &Job) -> io::Result<bool> {
    let name = job.path.name();
    let made = match &job.target.body {
        Body::File { .. } => {
            let part = job.part_name();
            let (from, to) = ((share.parts(), part.as_bytes()), (folder, name));
            match share.rename(from, to, Rename::NoReplace) {
                // A file system without the flag: a link never replaces either.
                Err(Errno::INVAL | Errno::NOSYS) => share
                    .link(from, to)
                    .and_then(|()| share.unlink(from.0, from.1)),
                other => other,
            }
        }
        Body::Link { target } => share.make_link(folder, name, target),
        // A folder that is there already is as good as a new one.
        Body::Dir => make_folder(share, folder, name, job.target.mode),
        Body::Deleted => Err(Errno::INVAL),
    };
    match made {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::LOOP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether the path, and each folder above it, is either not there or spelled like this.
/// On a file system that folds case what is meant for one would reach the other.
fn is_spelled<D: Disk>(share: &D, path: &RelPath) -> io::Result<bool> {
    let mut above = None;
    for name in path.names() {
        let folder = match share.open_dir(above.as_ref()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        };
        match share.stat_at(&folder, name) {
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
        let listed = share.list(&folder)?;
        if !listed.iter().any(|listed| **listed == *name) {
            return Ok(false);
        }
        above = Some(RelPath::below(above.as_ref(), name).map_err(io::Error::other)?);
    }
    Ok(true)
}

fn spelled_otherwise() -> io::Error {
    io::Error::other(
        "this file system takes its name and another one that is there for the same; \
         rename one of the two, it goes on by itself",
    )
}

/// Makes a folder, if there is none. It has its mode from its first moment on, or that
/// is made durable: a folder that comes out of a power cut with another mode would
/// be taken for one that a user has changed.
fn make_folder<D: Disk>(share: &D, above: &D::Dir, name: &[u8], mode: u32) -> Result<(), Errno> {
    match share.make_dir(above, name, mode | 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let made = share.open_at(above, name)?;
    let now = made.stat()?;
    if !now.is_dir() {
        return Err(Errno::EXIST);
    }
    if now.permissions() & MODE_MASK != mode {
        change_mode(&made, mode)?;
        made.sync()?;
    }
    Ok(())
}

fn set_metadata(share: &impl Disk, job: &Job) -> io::Result<Outcome> {
    let Some(known) = job.stamp() else {
        return Ok(Outcome::Changed);
    };
    let name = job.path.name();
    let opened = share.open_parent(&job.path).and_then(|folder| {
        let before = share.stat_at(&folder, name)?.stamp();
        match share.open_at(&folder, name) {
            // Who owns it may give it another mode though it cannot be read.
            Err(Errno::ACCESS) if (before.ino, before.mode) == (known.ino, known.mode) => {
                let readable = before.mode & 0o7777 | 0o700;
                share.set_mode_at(&folder, name, readable)?;
                Ok((share.open_at(&folder, name)?, before, Some(readable)))
            }
            opened => {
                let file = opened?;
                let now = file.stat()?.stamp();
                Ok((file, now, None))
            }
        }
    });
    let (file, now, readable) = match opened {
        Ok(opened) => opened,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Outcome::Changed),
        Err(errno) => return Err(errno.into()),
    };
    let same = match job.target.body {
        // What is in a folder moves its times; only its mode is looked at.
        Body::Dir => (now.ino, now.mode) == (known.ino, known.mode),
        _ => now.same_file(&known),
    };
    if !same {
        return Ok(Outcome::Changed);
    }
    // Only what differs, so that nothing is set back that a user sets right now.
    let mode_now = readable.unwrap_or(now.mode) & MODE_MASK;
    let mut expected = (mode_now, now.mtime);
    if expected.0 != job.target.mode {
        let mode = || Ok(file.stat()?.permissions() & MODE_MASK);
        match set(job.target.mode, |mode| change_mode(&file, mode), mode)? {
            Some(is) => expected.0 = is,
            None => return Ok(Outcome::Changed),
        }
    }
    if let Some(mtime) = job.target.mtime().filter(|mtime| *mtime != now.mtime) {
        let is = || Ok(file.stat()?.mtime);
        match set(mtime, |mtime| file.set_mtime(mtime), is)? {
            Some(is) => expected.1 = is,
            None => return Ok(Outcome::Changed),
        }
    }
    file.sync()?;
    let now = file.stat()?.stamp();
    // What a user has set since then must not pass for what the file system made of
    // what was asked. And a write between the look and the new mtime would be hidden
    // by it, so the content is read once more.
    let (mode, mtime) = expected;
    let stamp = Stamp {
        mode: now.mode & !MODE_MASK | mode,
        mtime: match job.target.body {
            Body::Dir => now.mtime,
            _ => mtime,
        },
        trusted: false,
        ..now
    };
    Ok(Outcome::Done { stamp, copy: None })
}

/// Sets something of a file, and answers what the file system made of it; `None` if a
/// user set something else right then, which is what it is now.
fn set<T: PartialEq + Copy>(
    asked: T,
    set: impl Fn(T) -> Result<(), Errno>,
    is: impl Fn() -> Result<T, Errno>,
) -> Result<Option<T>, Errno> {
    set(asked)?;
    let first = is()?;
    if first == asked {
        return Ok(Some(first));
    }
    // A file system that cannot keep it keeps it like this each time.
    set(asked)?;
    if is()? == first {
        return Ok(Some(first));
    }
    set(first)?;
    Ok(None)
}

fn done(now: &Stat, copy: Option<RelPath>) -> Outcome {
    let now = now.stamp();
    let trusted = now.would_show_a_write();
    Outcome::Done {
        stamp: Stamp { trusted, ..now },
        copy,
    }
}

/// Sets the synchronised bits; set-user-id and set-group-id stay as they are.
fn change_mode(file: &impl Handle, mode: u32) -> Result<(), Errno> {
    let special = file.stat()?.mode & 0o6000;
    file.set_mode(mode | special)
}

#[cfg(test)]
pub(crate) mod tests;
