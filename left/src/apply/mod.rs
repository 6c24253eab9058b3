//! The one place that changes the share: puts complete content, folders, links
//! and metadata where they belong, and only where the disk still is as it was
//! when that was decided.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, fchmod, fstat,
    fsync, futimens, linkat, mkdirat, openat, renameat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::entry::{Body, ContentId, Entry, Mtime};
use crate::index::{Change, Index};
use crate::part::{PartId, STAGED, is_superseded, remove_part, rescue};
use crate::path::RelPath;
use crate::plan::conflict_name;
use crate::record::{Record, Stamp};
use crate::share::{Share, is_dir, is_link, stamp};

/// How a job changes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In place of what is there.
    Install,
    /// What is there is kept under the name of a conflict copy.
    InstallKeepingOurs,
    /// Mode and mtime only.
    SetMetadata,
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
    /// Which of several parts with the same content; see [`PartId`].
    pub slot: u32,
}

impl Job {
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
    /// The disk is not as it was when this was decided: look again, decide again.
    Changed,
    /// The system refused; it is tried again later.
    Failed(io::Error),
}

/// Syncing the whole file system costs less than this many files one by one.
const SYNC_EACH_MAX: usize = 8;

/// Performs jobs together, so that many small files share their syncs. A part
/// comes with each job that has content.
pub fn apply(share: &Share, index: &Index, jobs: Vec<(Job, Option<File>)>) -> Vec<(Job, Outcome)> {
    let ended = apply_all(share, index, jobs);
    for (job, outcome) in &ended {
        // The next attempt has a part of its own; this one would stay.
        let id = job.part().filter(|id| id.slot != 0);
        if let (Some(id), false) = (id, matches!(outcome, Outcome::Done { .. })) {
            remove_part(share, id);
        }
    }
    ended
}

fn apply_all(share: &Share, index: &Index, jobs: Vec<(Job, Option<File>)>) -> Vec<(Job, Outcome)> {
    let mut ready = Vec::new();
    let mut ended = Vec::new();
    for (job, part) in jobs {
        match part
            .as_ref()
            .map_or(Ok(()), |part| dress(part, &job.target))
        {
            Ok(()) => ready.push((job, part)),
            Err(error) => ended.push((job, Outcome::Failed(error))),
        }
    }
    // Content is durable before it gets a name: a crash never shows an empty
    // or torn file.
    let parts: Vec<&File> = ready.iter().filter_map(|(_, part)| part.as_ref()).collect();
    if let Err(error) = make_durable(share, &parts) {
        // What the kernel could not write it may have dropped; begin again.
        for (job, part) in ready {
            if let (Some(_), Some(id)) = (part, job.part()) {
                remove_part(share, id);
            }
            ended.push((
                job,
                Outcome::Failed(io::Error::new(error.kind(), error.to_string())),
            ));
        }
        return ended;
    }
    let intents: Vec<Change> = ready
        .iter()
        .filter(|(job, _)| job.stamp().is_some())
        .filter_map(|(job, _)| {
            let id = job.part()?;
            Some(Change::Intend {
                id,
                path: job.path.clone(),
            })
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
    let mut folders: HashMap<Option<RelPath>, OwnedFd> = HashMap::new();
    let mut placed = Vec::new();
    for (job, part) in ready {
        let outcome = match perform(share, index, &mut folders, &job, part.as_ref()) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(error),
        };
        placed.push((job, outcome));
    }
    // Names are durable before the index says so.
    let unsynced: Vec<&Option<RelPath>> = folders
        .iter()
        .filter(|(_, folder)| fsync(folder).is_err())
        .map(|(path, _)| path)
        .collect();
    for (job, outcome) in &mut placed {
        if matches!(outcome, Outcome::Done { .. }) && unsynced.contains(&&job.path.parent()) {
            // The scanner finds the equal content and nothing is sent again.
            *outcome = Outcome::Changed;
        }
    }
    ended.extend(placed);
    ended
}

/// Gives a part the length and metadata of the file it becomes.
fn dress(part: &File, target: &Entry) -> io::Result<()> {
    let Body::File { size, mtime, .. } = &target.body else {
        return Ok(());
    };
    if part.metadata()?.len() != *size {
        part.set_len(*size)?;
    }
    fchmod(part, Mode::from_raw_mode(target.mode))?;
    set_mtime(part, *mtime)
}

fn set_mtime(file: &impl std::os::fd::AsFd, mtime: Mtime) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: i64::from(mtime.nanos) as _,
        },
    };
    Ok(futimens(file, &times)?)
}

fn make_durable(share: &Share, parts: &[&File]) -> io::Result<()> {
    if parts.len() > SYNC_EACH_MAX && syncfs_tells_errors() {
        return Ok(rustix::fs::syncfs(share.parts())?);
    }
    for part in parts {
        fsync(part)?;
    }
    Ok(())
}

/// Before Linux 5.8 `syncfs` hides what went wrong.
fn syncfs_tells_errors() -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
}

fn perform(
    share: &Share,
    index: &Index,
    folders: &mut HashMap<Option<RelPath>, OwnedFd>,
    job: &Job,
    part: Option<&File>,
) -> io::Result<Outcome> {
    if job.how == How::SetMetadata {
        return set_metadata(share, job);
    }
    let above = job.path.parent();
    let folder = match folders.entry(above) {
        std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::hash_map::Entry::Vacant(new) => new.insert(share.make_parent(&job.path)?),
    };
    let first = place(share, index, folder, job, part);
    match first {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            in_writable_folder(folder, || place(share, index, folder, job, part))
                .unwrap_or(Err(error))
        }
        other => other,
    }
}

/// A folder that came from the peer without write permission still gets its
/// content: it is made writable for the moment. `None` when that is not ours
/// to do.
fn in_writable_folder<T>(folder: &OwnedFd, work: impl FnOnce() -> T) -> Option<T> {
    let stat = fstat(folder).ok()?;
    let mode = stat.st_mode & 0o7777;
    if mode & 0o300 == 0o300 {
        return None;
    }
    fchmod(folder, Mode::from_raw_mode(mode | 0o300)).ok()?;
    let done = work();
    fchmod(folder, Mode::from_raw_mode(mode)).ok()?;
    Some(done)
}

fn place(
    share: &Share,
    index: &Index,
    folder: &OwnedFd,
    job: &Job,
    part: Option<&File>,
) -> io::Result<Outcome> {
    let name = job.path.name();
    if let Some(part) = part {
        // It goes by its name, under which somebody may have put something else.
        let named = statat(share.parts(), job.part_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        if named.st_ino != fstat(part)?.st_ino {
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
        },
    };
    let now = match part {
        // By descriptor: under the name there may be a newer file already.
        Some(part) => fstat(part)?,
        None => statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?,
    };
    Ok(done(&now, copy))
}

/// Creates what was not there; `false` when something is there by now.
fn create(share: &Share, folder: &OwnedFd, job: &Job) -> io::Result<bool> {
    let name = job.path.name();
    let made = match &job.target.body {
        Body::File { .. } => {
            let part = job.part_name();
            match renameat_with(share.parts(), &part, folder, name, RenameFlags::NOREPLACE) {
                // A file system without the flag: a link never replaces either.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    linkat(share.parts(), &part, folder, name, AtFlags::empty())
                        .and_then(|()| unlinkat(share.parts(), &part, AtFlags::empty()))
                }
                other => other,
            }
        }
        Body::Link { target } => symlinkat(&target[..], folder, name),
        Body::Dir => match mkdirat(folder, name, Mode::from(0o700)) {
            Ok(()) | Err(Errno::EXIST) => match open_to_change(folder, name) {
                // A folder that is there already is as good as a new one.
                Ok(made) if is_dir(&fstat(&made)?) => change_mode(&made, job.target.mode),
                Ok(_) => Err(Errno::EXIST),
                Err(errno) => Err(errno),
            },
            Err(errno) => Err(errno),
        },
        Body::Deleted => Err(Errno::INVAL),
    };
    match made {
        Ok(()) => Ok(true),
        Err(Errno::EXIST | Errno::LOOP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

enum Exchanged {
    Yes(Option<RelPath>),
    No,
}

/// Exchanges what is there with what is to be there, and looks at what came
/// out: if it is not what was decided against, a user was faster and gets it
/// back.
fn exchange(
    share: &Share,
    index: &Index,
    folder: &OwnedFd,
    job: &Job,
    known: &Stamp,
) -> io::Result<Exchanged> {
    let name = job.path.name();
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if stamp(&now).same_file(known) => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(Exchanged::No),
        Err(errno) => return Err(errno.into()),
    }
    let staged = stage(share, job)?;
    let copy = match job.how {
        How::InstallKeepingOurs => Some(keep_copy(index, folder, job)?),
        _ => None,
    };
    let exchanged = exchange_staged(share, index, folder, &staged, job);
    match (exchanged, copy) {
        (Ok(true), copy) => Ok(Exchanged::Yes(copy)),
        (other, copy) => {
            // What keeps its name needs no second one.
            if let Some(copy) = copy {
                drop_copy(folder, name, copy.name(), known);
            }
            other.map(|_| Exchanged::No)
        }
    }
}

/// The exchange itself; `false` when what came out went back.
fn exchange_staged(
    share: &Share,
    index: &Index,
    folder: &OwnedFd,
    staged: &str,
    job: &Job,
) -> io::Result<bool> {
    let name = job.path.name();
    let exchange = || renameat_with(share.parts(), staged, folder, name, RenameFlags::EXCHANGE);
    match exchange() {
        Ok(()) => {}
        // A file system that cannot exchange: the check above has to do.
        Err(Errno::INVAL | Errno::NOSYS) => {
            renameat(share.parts(), staged, folder, name)?;
            return Ok(true);
        }
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    let known = job.known.as_ref();
    let superseded = known.map_or(Ok(false), |known| is_superseded(share, staged, known));
    if matches!(superseded, Ok(true)) {
        // What cannot be removed now is cleaned up later.
        let _ = unlinkat(share.parts(), staged, AtFlags::empty());
        return Ok(true);
    }
    match exchange() {
        Ok(()) => superseded,
        Err(errno) => {
            // Nobody looks under this name for a file of the user.
            let body = known.map_or(&Body::Dir, |known| &known.entry.body);
            let kept = rescue(share, index, staged, Some(&job.path), body)?;
            let why = io::Error::from(errno);
            Err(io::Error::other(format!(
                "what was changed meanwhile cannot be put back: {why}; it is kept as {kept}"
            )))
        }
    }
}

/// Takes the name of a conflict copy away again, if the same file certainly
/// still has its own.
fn drop_copy(folder: &OwnedFd, name: &[u8], copy: &[u8], known: &Stamp) {
    let is_known = |name: &[u8]| {
        statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| stamp(&found).ino == known.ino && found.st_nlink > 1)
    };
    if is_known(name) && is_known(copy) {
        let _ = unlinkat(folder, copy, AtFlags::empty());
    }
}

/// Makes what is to be exchanged in, beside the parts; answers its name.
fn stage(share: &Share, job: &Job) -> io::Result<String> {
    let parts = share.parts();
    match &job.target.body {
        Body::File { .. } => return Ok(job.part_name()),
        Body::Link { target } => {
            clear_staged(share)?;
            symlinkat(&target[..], parts, STAGED)?;
        }
        Body::Dir => {
            clear_staged(share)?;
            mkdirat(parts, STAGED, Mode::from(0o700))?;
            change_mode(&open_to_change(parts, STAGED.as_bytes())?, job.target.mode)?;
        }
        Body::Deleted => return Err(Errno::INVAL.into()),
    }
    Ok(STAGED.to_owned())
}

/// Removes what an exchange that failed has left; a file is never ours.
fn clear_staged(share: &Share) -> io::Result<()> {
    match statat(share.parts(), STAGED, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
        Ok(found) if is_dir(&found) => Ok(unlinkat(share.parts(), STAGED, AtFlags::REMOVEDIR)?),
        Ok(found) if is_link(&found) => Ok(unlinkat(share.parts(), STAGED, AtFlags::empty())?),
        Ok(_) => Err(Errno::EXIST.into()),
    }
}

/// Gives the losing version its second name before it loses the first, so
/// that no moment is without it.
fn keep_copy(index: &Index, folder: &OwnedFd, job: &Job) -> io::Result<RelPath> {
    let ours = job
        .known
        .as_ref()
        .map_or(Body::Deleted, |known| known.entry.body.clone());
    for attempt in 0..100 {
        let name = conflict_name(job.path.name(), &ours, index.replica(), attempt);
        let path = RelPath::below(job.path.parent().as_ref(), &name).map_err(io::Error::other)?;
        match linkat(
            folder,
            job.path.name(),
            folder,
            name.as_slice(),
            AtFlags::empty(),
        ) {
            Ok(()) => return Ok(path),
            Err(Errno::EXIST) => {
                // An earlier attempt that was cut short has made it already.
                let there = statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
                let known = job.stamp();
                if known.is_some_and(|known| known.ino == there.st_ino as u64) {
                    return Ok(path);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}

fn set_metadata(share: &Share, job: &Job) -> io::Result<Outcome> {
    let Some(known) = job.stamp() else {
        return Ok(Outcome::Changed);
    };
    let opened = share
        .open_parent(&job.path)
        .and_then(|folder| open_to_change(&folder, job.path.name()));
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Outcome::Changed),
        Err(errno) => return Err(errno.into()),
    };
    let now = stamp(&fstat(&file)?);
    let same = match job.target.body {
        // What is in a folder moves its times; only its mode is looked at.
        Body::Dir => (now.ino, now.mode) == (known.ino, known.mode),
        _ => now.same_file(&known),
    };
    if !same {
        return Ok(Outcome::Changed);
    }
    change_mode(&file, job.target.mode)?;
    if let Some(mtime) = job.target.mtime() {
        set_mtime(&file, mtime)?;
    }
    fsync(&file)?;
    let now = stamp(&fstat(&file)?);
    // A write between the look and the new mtime would be hidden by it, so
    // the content is read once more.
    Ok(Outcome::Done {
        stamp: Stamp {
            trusted: false,
            ..now
        },
        copy: None,
    })
}

fn done(now: &Stat, copy: Option<RelPath>) -> Outcome {
    let now = stamp(now);
    let trusted = now.would_show_a_write();
    Outcome::Done {
        stamp: Stamp { trusted, ..now },
        copy,
    }
}

/// Opens a file or folder so that its metadata can be changed by descriptor.
fn open_to_change(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    openat(folder, name, flags, Mode::empty())
}

/// Sets the synchronised bits; set-user-id and set-group-id stay as they are.
fn change_mode(file: &OwnedFd, mode: u32) -> Result<(), Errno> {
    let special = fstat(file)?.st_mode & 0o6000;
    fchmod(file, Mode::from_raw_mode(mode | special))
}

#[cfg(test)]
mod tests;
