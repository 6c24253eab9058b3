//! Content that is on this side already: moved out of the trash, or copied
//! from another path, and hashed before anybody relies on it.

use std::io;

use rustix::io::Errno;

use super::{Job, Source};
use crate::disk::{Content, Disk, Handle, Rename};
use crate::part::{open_complete_part, open_part, remove_part};
use crate::transfer::blocks::{Geometry, Hashed, hash_file};

/// Makes the part of a job from what is on this side; `false` when it is not
/// what it seemed to be. A job without a source has its part already.
pub(super) fn gather(share: &impl Disk, job: &Job) -> io::Result<bool> {
    let (Some(source), Some(id), Some((content, size))) = (&job.source, job.part(), job.content())
    else {
        return Ok(true);
    };
    let Some(geometry) = Geometry::of(size) else {
        return Ok(false);
    };
    let gathered = match source {
        Source::Trash(name, _) => from_trash(share, name, &id.name(), size)?,
        Source::Path(path, before) => match share.open_file(path) {
            Ok(file) => {
                let same = file.stat()?.stamp().same_file(before);
                same && copy(share, &file, &open_part(share, id)?)?
            }
            Err(_) => false,
        },
    };
    if !gathered {
        return Ok(false);
    }
    let part = open_complete_part(share, id, size)?;
    let hashed = hash_file(&part, geometry, 1, &|| true)?;
    if matches!(hashed, Hashed::Whole { id, .. } if id == content) {
        return Ok(true);
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
        Source::Path(..) => remove_part(share, id),
    }
    Ok(false)
}

/// Moves a file out of the trash to where the part belongs. What was gathered
/// of the same content before is worth less.
fn from_trash(share: &impl Disk, name: &[u8], part: &str, size: u64) -> io::Result<bool> {
    match share.stat_at(share.trash(), name) {
        // With a second name it is somebody's file too.
        Ok(found) if found.is_file() && found.links == 1 && found.size == size => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    let to = (share.parts(), part.as_bytes());
    share.rename((share.trash(), name), to, Rename::Plain)?;
    Ok(true)
}

/// Copies, by the file system's own means where it has any.
fn copy<D: Disk>(share: &D, from: &D::File, to: &D::File) -> io::Result<bool> {
    to.set_len(0)?;
    share.copy(from, to)?;
    Ok(true)
}
