//! Putting something in the place of what is there: exchanged, looked at, and
//! exchanged back if a user was faster.

use std::io;

use rustix::io::Errno;

use super::{How, Job, make_folder};
use crate::disk::{Disk, Handle, Rename};
use crate::entry::Body;
use crate::index::Store;
use crate::part::{STAGED, is_superseded, rescue};
use crate::path::RelPath;
use crate::plan::conflict_name;
use crate::planted::{Bug, makes};
use crate::record::Stamp;

/// What came of an exchange.
pub(super) enum Exchanged {
    /// It is in place; here is the copy that keeps the loser of a conflict.
    Yes(Option<RelPath>),
    /// What is there is not what was decided against.
    No,
}

/// Exchanges what is there with what is to be there, and looks at what came
/// out: if it is not what was decided against, a user was faster and gets it
/// back.
pub(super) fn exchange<D: Disk>(
    share: &D,
    index: &impl Store,
    folder: &D::Dir,
    job: &Job,
    known: &Stamp,
) -> io::Result<Exchanged> {
    let name = job.path.name();
    match share.stat_at(folder, name) {
        Ok(now) if now.stamp().same_file(known) => {}
        // What was in a folder, and went before it, has moved its times.
        Ok(now) if now.is_dir() && now.ino == known.ino => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(Exchanged::No),
        Err(errno) => return Err(errno.into()),
    }
    let staged = stage(share, job)?;
    let copy = match job.how {
        How::InstallKeepingOurs => {
            let copy = keep_copy(share, index, folder, job)?;
            // Durable before the other name goes: a power cut may lose one
            // change of names and keep a later one.
            if let Err(errno) = folder.sync() {
                drop_copy(share, folder, name, copy.name(), known);
                return Err(errno.into());
            }
            Some(copy)
        }
        _ => None,
    };
    let exchanged = exchange_staged(share, index, folder, &staged, job);
    match (exchanged, copy) {
        (Ok(true), copy) => {
            if staged == STAGED {
                // Nobody would know any more, after a power cut, what came back there.
                share.parts().sync()?;
            }
            Ok(Exchanged::Yes(copy))
        }
        (other, copy) => {
            // What keeps its name needs no second one.
            if let Some(copy) = copy {
                drop_copy(share, folder, name, copy.name(), known);
            }
            other.map(|_| Exchanged::No)
        }
    }
}

/// The exchange itself; `false` when what came out went back.
pub(super) fn exchange_staged<D: Disk>(
    share: &D,
    index: &impl Store,
    folder: &D::Dir,
    staged: &str,
    job: &Job,
) -> io::Result<bool> {
    let name = job.path.name();
    let (from, to) = ((share.parts(), staged.as_bytes()), (folder, name));
    let exchange = || share.rename(from, to, Rename::Exchange);
    match exchange() {
        Ok(()) => {}
        // A file system that cannot exchange: the check above has to do.
        Err(Errno::INVAL | Errno::NOSYS) => {
            share.rename(from, to, Rename::Plain)?;
            return Ok(true);
        }
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    let known = job.known.as_ref();
    let superseded = match known {
        Some(known) if known.entry.body == Body::Dir => {
            match share.remove_dir(share.parts(), staged.as_bytes()) {
                Ok(()) => return Ok(true),
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(false),
                Err(errno) => Err(errno.into()),
            }
        }
        Some(_) if makes(Bug::ReplacesUnseen) => Ok(true),
        Some(known) => is_superseded(share, share.parts(), staged.as_bytes(), known),
        None => Ok(false),
    };
    if matches!(superseded, Ok(true)) {
        // What cannot be removed now is cleaned up later.
        let _ = share.unlink(share.parts(), staged.as_bytes());
        return Ok(true);
    }
    match exchange() {
        Ok(()) => superseded,
        Err(errno) => {
            // Nobody looks under this name for a file of the user.
            let body = known.map_or(&Body::Dir, |known| &known.entry.body);
            let parts = share.parts();
            let kept = rescue(
                share,
                index,
                parts,
                staged.as_bytes(),
                Some(&job.path),
                body,
            )?;
            let why = io::Error::from(errno);
            Err(io::Error::other(format!(
                "what was changed meanwhile cannot be put back: {why}; it is kept as {kept}"
            )))
        }
    }
}

/// Takes the name of a conflict copy away again, if the same file certainly
/// still has its own.
fn drop_copy<D: Disk>(share: &D, folder: &D::Dir, name: &[u8], copy: &[u8], known: &Stamp) {
    let is_known = |name: &[u8]| {
        share
            .stat_at(folder, name)
            .is_ok_and(|found| found.ino == known.ino && found.links > 1)
    };
    if is_known(name) && is_known(copy) {
        let _ = share.unlink(folder, copy);
    }
}

/// Makes what is to be exchanged in, beside the parts; answers its name.
fn stage(share: &impl Disk, job: &Job) -> io::Result<String> {
    let parts = share.parts();
    match &job.target.body {
        Body::File { .. } => return Ok(job.part_name()),
        Body::Link { target } => {
            clear_staged(share)?;
            share.make_link(parts, STAGED.as_bytes(), target)?;
        }
        Body::Dir => {
            clear_staged(share)?;
            make_folder(share, parts, STAGED.as_bytes(), job.target.mode)?;
        }
        Body::Deleted => return Err(Errno::INVAL.into()),
    }
    Ok(STAGED.to_owned())
}

/// Removes what an exchange that failed has left; a file is never ours.
fn clear_staged(share: &impl Disk) -> io::Result<()> {
    let (parts, name) = (share.parts(), STAGED.as_bytes());
    match share.stat_at(parts, name) {
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
        Ok(found) if found.is_dir() => Ok(share.remove_dir(parts, name)?),
        Ok(found) if found.is_link() => Ok(share.unlink(parts, name)?),
        Ok(_) => Err(Errno::EXIST.into()),
    }
}

/// Gives the losing version its second name before it loses the first, so
/// that no moment is without it.
fn keep_copy<D: Disk>(
    share: &D,
    index: &impl Store,
    folder: &D::Dir,
    job: &Job,
) -> io::Result<RelPath> {
    let ours = job
        .known
        .as_ref()
        .map_or(Body::Deleted, |known| known.entry.body.clone());
    for attempt in 0..100 {
        let mut name = conflict_name(job.path.name(), &ours, index.replica(), attempt);
        if makes(Bug::CopyOverwrites) {
            name = b"a.conflict".to_vec();
        }
        let path = RelPath::below(job.path.parent().as_ref(), &name).map_err(io::Error::other)?;
        match share.link((folder, job.path.name()), (folder, &name)) {
            Ok(()) => return Ok(path),
            Err(Errno::EXIST) if makes(Bug::CopyOverwrites) => {
                share.unlink(folder, &name)?;
                share.link((folder, job.path.name()), (folder, &name))?;
                return Ok(path);
            }
            Err(Errno::EXIST) => {
                // An earlier attempt that was cut short has made it already.
                let there = share.stat_at(folder, &name)?;
                let known = job.stamp();
                if known.is_some_and(|known| known.ino == there.ino) {
                    return Ok(path);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}
