//! Removing what the peer removed: moved into the trash, looked at, and moved
//! back if a user was faster.

use std::io;

use rustix::io::Errno;

use super::{Job, Outcome};
use crate::disk::{Disk, Rename};
use crate::entry::Body;
use crate::index::{Store, Trashed};
use crate::part::{is_superseded, rescue};
use crate::planted::{Bug, makes};

/// Of the name of what lies in the trash, for a person who looks there.
const NAME_KEPT_BYTES: usize = 200;

/// What a file is called in the trash: in the order of time, and of its own.
pub(super) fn trash_name(job: &Job, now: u64) -> Vec<u8> {
    let name = job.path.name();
    let kept = &name[..name.len().min(NAME_KEPT_BYTES)];
    let mut out = format!("{now:011}-{:010}-", job.slot).into_bytes();
    out.extend_from_slice(kept);
    out
}

pub(super) fn remove<D: Disk>(
    share: &D,
    index: &impl Store,
    folder: &D::Dir,
    job: &Job,
    now: u64,
) -> io::Result<Outcome> {
    let name = job.path.name();
    let Some(known) = &job.known else {
        return Ok(Outcome::Changed);
    };
    let found = match share.stat_at(folder, name) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(Outcome::Removed(None)),
        Err(errno) => return Err(errno.into()),
    };
    if known.entry.body == Body::Dir {
        return match share.remove_dir(folder, name) {
            Ok(()) | Err(Errno::NOENT) => Ok(Outcome::Removed(None)),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let within = share.open_dir(Some(&job.path));
                let name = within.ok().and_then(|within| first_name(share, &within));
                Ok(Outcome::NotEmpty(name))
            }
            Err(Errno::NOTDIR) => Ok(Outcome::Changed),
            Err(errno) => Err(errno.into()),
        };
    }
    let same = job
        .stamp()
        .is_some_and(|before| found.stamp().same_file(&before));
    if !same || found.is_dir() {
        return Ok(Outcome::Changed);
    }
    let trash = share.trash();
    let trash_name = trash_name(job, now);
    let (from, to) = ((folder, name), (trash, &trash_name[..]));
    match share.rename(from, to, Rename::NoReplace) {
        Ok(()) => {}
        // A file system without the flag; nobody else makes names there.
        Err(Errno::INVAL | Errno::NOSYS) => match share.stat_at(trash, &trash_name) {
            Err(Errno::NOENT) => share.rename(from, to, Rename::Plain)?,
            _ => return Ok(Outcome::Changed),
        },
        Err(Errno::NOENT) => return Ok(Outcome::Removed(None)),
        // Of another start within the same second.
        Err(Errno::EXIST) => return Ok(Outcome::Changed),
        Err(errno) => return Err(errno.into()),
    }
    let superseded = match makes(Bug::RemovesUnseen) {
        true => Ok(true),
        false => is_superseded(share, trash, &trash_name, known),
    };
    if matches!(superseded, Ok(true)) {
        let trashed = Trashed::of(known, &job.path, now);
        return Ok(Outcome::Removed(Some((trash_name, trashed))));
    }
    put_back(share, index, folder, &trash_name, job)?;
    superseded.map(|_| Outcome::Changed)
}

/// The first name in a folder, if it has any.
pub(super) fn first_name<D: Disk>(share: &D, folder: &D::Dir) -> Option<Box<[u8]>> {
    share.list(folder).ok()?.into_iter().min()
}

/// Gives a user's file its name back, or another one if that is taken.
fn put_back<D: Disk>(
    share: &D,
    index: &impl Store,
    folder: &D::Dir,
    trash_name: &[u8],
    job: &Job,
) -> io::Result<()> {
    let trash = share.trash();
    let to = (folder, job.path.name());
    match share.rename((trash, trash_name), to, Rename::NoReplace) {
        Ok(()) => Ok(()),
        Err(_) => {
            let body = job.known.as_ref().map(|known| &known.entry.body);
            let body = body.unwrap_or(&Body::Deleted);
            rescue(share, index, trash, trash_name, Some(&job.path), body).map(drop)
        }
    }
}
