//! Content that is on this side already: moved out of the trash, or copied
//! from another path, and hashed before anybody relies on it.

use std::fs::File;
use std::io;

use rustix::fs::{AtFlags, RenameFlags, fstat, renameat, renameat_with, statat};
use rustix::io::Errno;

use super::{Job, Source};
use crate::part::{open_complete_part, open_part, remove_part};
use crate::share::{Share, is_file, stamp};
use crate::transfer::blocks::{Geometry, Hashed, hash_file};

/// Makes the part of a job from what is on this side; `false` when it is not
/// what it seemed to be. A job without a source has its part already.
pub(super) fn gather(share: &Share, job: &Job) -> io::Result<bool> {
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
                let same = stamp(&fstat(&file)?).same_file(before);
                same && copy(&file, &open_part(share, id)?)?
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
            let (parts, trash) = (share.parts(), share.trash());
            renameat_with(
                parts,
                id.name(),
                trash,
                name.as_slice(),
                RenameFlags::NOREPLACE,
            )
            .or_else(|errno| match errno {
                Errno::INVAL | Errno::NOSYS => renameat(parts, id.name(), trash, name.as_slice()),
                other => Err(other),
            })?;
        }
        Source::Path(..) => remove_part(share, id),
    }
    Ok(false)
}

/// Moves a file out of the trash to where the part belongs. What was gathered
/// of the same content before is worth less.
fn from_trash(share: &Share, name: &[u8], part: &str, size: u64) -> io::Result<bool> {
    match statat(share.trash(), name, AtFlags::SYMLINK_NOFOLLOW) {
        // With a second name it is somebody's file too.
        Ok(found) if is_file(&found) && found.st_nlink == 1 && found.st_size as u64 == size => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    renameat(share.trash(), name, share.parts(), part)?;
    Ok(true)
}

/// Copies, by the file system's own means where it has any.
fn copy(mut from: &File, mut to: &File) -> io::Result<bool> {
    to.set_len(0)?;
    // Within one file system this becomes `copy_file_range`, and a reflink
    // where there are such.
    io::copy(&mut from, &mut to)?;
    Ok(true)
}
