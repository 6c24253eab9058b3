//! What was removed lately, and for how long it is kept.
//!
//! The trash is a convenience on top: nothing relies on it. What lies there is
//! known to the index by name; the oldest goes first.

use std::io;
use std::time::UNIX_EPOCH;

use rustix::io::Errno;

use crate::disk::{Disk, Handle, Rename};
use crate::index::{Change, IndexError, Store, Trashed};
use crate::path::RelPath;

/// Seconds for which something is kept.
const KEPT_SECONDS: u64 = 30 * 24 * 3600;

/// The share of the file system that the trash may have: a tenth.
const SPACE_DIVISOR: u64 = 10;

/// Removed in one commit.
const BATCH: usize = 256;

/// The present in seconds since 1970.
pub fn unix_seconds(share: &impl Disk) -> u64 {
    let since = share.wall().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Removes what is older than 30 days, and the oldest until the rest is at most
/// a tenth of the file system; all of it where `is_full`.
pub fn evict(
    share: &impl Disk,
    index: &impl Store,
    now: u64,
    is_full: bool,
) -> Result<(), IndexError> {
    let space = share.space().map_or(u64::MAX, |space| space.total_bytes);
    let bound = if is_full { 0 } else { space / SPACE_DIVISOR };
    let mut total = 0u64;
    walk(index, |_, trashed| {
        total = total.saturating_add(trashed.size)
    })?;
    let mut gone = Vec::new();
    walk(index, |name, trashed| {
        if total > bound || now.saturating_sub(trashed.since) > KEPT_SECONDS || is_full {
            total = total.saturating_sub(trashed.size);
            gone.push(name.to_vec());
        }
    })?;
    for names in gone.chunks(BATCH) {
        let mut changes = Vec::new();
        for name in names {
            let _ = share.unlink(share.trash(), name);
            changes.push(Change::Untrash { name: name.clone() });
        }
        index.commit(&changes)?;
    }
    Ok(())
}

/// What lies in the trash, the oldest first.
pub fn list(index: &impl Store) -> Result<Vec<Trashed>, IndexError> {
    let mut all = Vec::new();
    walk(index, |_, trashed| all.push(trashed.clone()))?;
    Ok(all)
}

/// Why something cannot be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Nothing was removed there lately.
    #[error("nothing that was at {0} lies in the trash; `left restore` lists what does")]
    NotThere(RelPath),
    /// The name is taken.
    #[error("there is something at {0} now; move it away first")]
    Taken(RelPath),
    /// The system refuses.
    #[error("cannot put {0} back: {1}")]
    Io(RelPath, #[source] io::Error),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Puts what was removed last at `path` back, where it is a new change of this side.
pub fn restore(share: &impl Disk, index: &impl Store, path: &RelPath) -> Result<(), RestoreError> {
    let mut last = None;
    walk(index, |name, trashed| {
        if trashed.path == *path {
            last = Some(name.to_vec());
        }
    })?;
    let name = last.ok_or_else(|| RestoreError::NotThere(path.clone()))?;
    let failed = |errno: Errno| RestoreError::Io(path.clone(), errno.into());
    let folder = share.make_parent(path).map_err(failed)?;
    let (from, to) = ((share.trash(), &name[..]), (&folder, path.name()));
    match share.rename(from, to, Rename::NoReplace) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Err(RestoreError::Taken(path.clone())),
        Err(Errno::NOENT) => return Err(RestoreError::NotThere(path.clone())),
        Err(errno) => return Err(failed(errno)),
    }
    folder.sync().map_err(failed)?;
    index.commit(&[Change::Untrash { name }])?;
    Ok(())
}

fn walk(index: &impl Store, mut each: impl FnMut(&[u8], &Trashed)) -> Result<(), IndexError> {
    let mut last = Vec::new();
    loop {
        let page = index.trash_after(&last, BATCH)?;
        for (name, trashed) in &page {
            each(name, trashed);
        }
        match page.last() {
            Some((name, _)) => last = name.clone(),
            None => return Ok(()),
        }
    }
}
