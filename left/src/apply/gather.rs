//! Content that is on this side already: moved out of the trash, or copied
//! from another path, and hashed before anybody relies on it.

use std::io;

use rustix::io::Errno;

use super::{Elsewhere, Job, Outcome, Source, drop_small_part};
use crate::disk::{Content, Disk, Handle, Rename};
use crate::part::{PartId, open_complete_part, open_part, remove_part};
use crate::path::RelPath;
use crate::record::Stamp;
use crate::transfer::blocks::Geometry;
use crate::transfer::hash::{Hashed, hash_file};

/// Gathers a long content before its job is applied, so that this need not wait for
/// it; else says what came of the job.
pub fn copy(
    share: &impl Disk,
    job: &Job,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<(), Outcome> {
    let gathered = gather(share, job, go_on).and_then(|missing| {
        let (None, Some(id), Some((_, size))) = (missing, job.part(), job.content()) else {
            return Ok(missing);
        };
        // What the kernel could not write it may have dropped; begin again.
        let synced = open_complete_part(share, id, size).and_then(|part| Ok(part.sync()?));
        synced
            .inspect_err(|_| remove_part(share, id))
            .map(|()| None)
    });
    let outcome = match gathered {
        Ok(None) => return Ok(()),
        Ok(Some(elsewhere)) => Outcome::NotHere(elsewhere),
        Err(error) => Outcome::Failed(error),
    };
    drop_small_part(share, job);
    Err(outcome)
}

/// Makes the part of a job from what is on this side, or says what is there instead.
/// A job without a source has its part already. `go_on` ends it early, as a failure.
pub(super) fn gather(
    share: &impl Disk,
    job: &Job,
    go_on: &(dyn Fn() -> bool + Sync),
) -> io::Result<Option<Elsewhere>> {
    let (Some(source), Some(id), Some((content, size))) = (&job.source, job.part(), job.content())
    else {
        return Ok(None);
    };
    let Some(geometry) = Geometry::of(size) else {
        return Ok(Some(Elsewhere::Another));
    };
    let missing = match source {
        Source::Moved(..) => return Ok(None),
        Source::Trash(name, _) => from_trash(share, name, &id.name(), size)?,
        Source::Path(path, before) => from_path(share, path, before, id, go_on)?,
    };
    if missing.is_some() {
        return Ok(missing);
    }
    let part = open_complete_part(share, id, size)?;
    let hashed = hash_file(&part, geometry, 1, go_on)?;
    if !go_on() {
        return Err(ended());
    }
    if matches!(hashed, Hashed::Whole { id, .. } if id == content) {
        return Ok(None);
    }
    match source {
        // Somebody went on writing it after it was removed: it stays in the trash.
        Source::Trash(name, _) => {
            let part = id.name();
            let (from, to) = ((share.parts(), part.as_bytes()), (share.trash(), &name[..]));
            share
                .rename(from, to, Rename::NoReplace)
                .or_else(|errno| match errno {
                    Errno::INVAL | Errno::NOSYS => share.rename(from, to, Rename::Plain),
                    other => Err(other),
                })?;
        }
        Source::Path(..) | Source::Moved(..) => remove_part(share, id),
    }
    Ok(Some(Elsewhere::Another))
}

/// Moves a file out of the trash to where the part belongs. What was gathered
/// of the same content before is worth less.
fn from_trash(
    share: &impl Disk,
    name: &[u8],
    part: &str,
    size: u64,
) -> io::Result<Option<Elsewhere>> {
    match share.stat_at(share.trash(), name) {
        // With a second name it is somebody's file too.
        Ok(found) if found.is_file() && found.links == 1 && found.size == size => {}
        Ok(_) => return Ok(Some(Elsewhere::Another)),
        Err(Errno::NOENT) => return Ok(Some(Elsewhere::Gone)),
        Err(errno) => return Err(errno.into()),
    }
    let to = (share.parts(), part.as_bytes());
    share.rename((share.trash(), name), to, Rename::Plain)?;
    Ok(None)
}

/// Copies a file, if it still is what it was, by the file system's own means where
/// it has any.
fn from_path(
    share: &impl Disk,
    path: &RelPath,
    before: &Stamp,
    id: PartId,
    go_on: &dyn Fn() -> bool,
) -> io::Result<Option<Elsewhere>> {
    let Ok(file) = share.open_file(path) else {
        return Ok(Some(Elsewhere::Gone));
    };
    if !file.stat()?.stamp().same_file(before) {
        return Ok(Some(Elsewhere::Another));
    }
    let part = open_part(share, id)?;
    part.set_len(0)?;
    match share.copy(&file, &part, go_on)? {
        true => Ok(None),
        false => Err(ended()),
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "left is ending")
}
