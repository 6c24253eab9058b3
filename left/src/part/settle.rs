//! Puts right what an interruption left of an exchange. What lies under a
//! part's name is then either the new content, or the superseded version, or
//! something a user wrote meanwhile; the last is moved, never removed.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::{PartId, STAGED, set_aside};
use crate::disk::{Disk, Handle, Rename};
use crate::entry::Body;
use crate::events::Reporter;
use crate::index::{Change, IndexError, Store};
use crate::path::{RelPath, STATE_DIR};
use crate::plan::conflict_name;
use crate::record::Record;
use crate::share::PARTS_DIR;
use crate::transfer::blocks::{Geometry, Hashed, hash_file};

/// Settles all exchanges that were under way when the process ended.
pub fn settle_intents(
    share: &impl Disk,
    index: &impl Store,
    reporter: &Reporter,
) -> Result<(), IndexError> {
    for (id, path) in index.intents()? {
        let known = index.get(&path)?;
        if let Err(error) = settle_intent(share, index, reporter, id, &path, known.as_ref()) {
            // The intent stays, and with it the file.
            let text = format!("cannot put back what was replaced at {path}: {error}");
            reporter.problem(path.as_bytes(), &text);
            continue;
        }
        index.commit(&[Change::Forget { id }])?;
    }
    if let Err(error) = settle_staged(share, index) {
        reporter.problem(
            STAGED.as_bytes(),
            &format!("cannot put back what a link or folder replaced: {error}"),
        );
    }
    Ok(())
}

fn settle_intent(
    share: &impl Disk,
    index: &impl Store,
    reporter: &Reporter,
    id: PartId,
    path: &RelPath,
    known: Option<&Record>,
) -> io::Result<()> {
    let name = id.name();
    match share.stat_at(share.parts(), name.as_bytes()) {
        Ok(_) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    }
    if let Some(known) = known
        && is_superseded(share, &name, known)?
    {
        share.unlink(share.parts(), name.as_bytes())?;
        return Ok(());
    }
    let body = look(share, &name)?;
    if matches!(&body, Body::File { id: found, .. } if *found == id.content) {
        return Ok(());
    }
    let kept = rescue(share, index, &name, Some(path), &body)?;
    match &kept {
        Kept::InShare(copy) => reporter.conflict(path, copy),
        Kept::Aside(_) => reporter.problem(
            kept.to_string().as_bytes(),
            &format!("what was at {path} is kept as {kept}, because it has no place in the share"),
        ),
    }
    Ok(())
}

/// A file that a link or folder of the peer replaced, when the process ended
/// before it could be looked at, goes to the top of the share.
fn settle_staged(share: &impl Disk, index: &impl Store) -> io::Result<()> {
    let found = match share.stat_at(share.parts(), STAGED.as_bytes()) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if found.is_dir() && share.remove_dir(share.parts(), STAGED.as_bytes()).is_ok() {
        return Ok(());
    }
    rescue(share, index, STAGED, None, &Body::Dir).map(drop)
}

/// Whether what lies under a name beside the parts certainly is the version
/// that was known when its replacement was decided, so that it may go.
pub fn is_superseded(share: &impl Disk, name: &str, known: &Record) -> io::Result<bool> {
    let Some(before) = known.stamp else {
        return Ok(false);
    };
    let found = share.stat_at(share.parts(), name.as_bytes())?;
    if found.is_dir() || !found.stamp().same_but_moved(&before) {
        return Ok(false);
    }
    // A stamp that was taken too soon after a write can hide another write.
    match &known.entry.body {
        Body::File { id, .. } if !before.trusted => {
            let now = look(share, name)?;
            Ok(matches!(&now, Body::File { id: found, .. } if found == id))
        }
        _ => Ok(true),
    }
}

/// What lies under a name beside the parts; of what cannot be read only that
/// it is there.
fn look(share: &impl Disk, name: &str) -> io::Result<Body> {
    let Ok(file) = share.open_at(share.parts(), name.as_bytes()) else {
        return Ok(Body::Dir);
    };
    let found = file.stat()?;
    let geometry = Geometry::of(found.size).filter(|_| found.is_file());
    let Some(geometry) = geometry else {
        return Ok(Body::Dir);
    };
    Ok(match hash_file(&file, geometry, 1, &|| true)? {
        Hashed::Whole { id, .. } => Body::File {
            id,
            size: geometry.size,
            mtime: found.mtime,
        },
        Hashed::Torn => Body::Dir,
    })
}

/// Where a user's file was moved.
#[derive(Debug)]
pub enum Kept {
    /// To this path.
    InShare(RelPath),
    /// To this name beside the parts.
    Aside(String),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::InShare(path) => path.fmt(f),
            Kept::Aside(name) => write!(f, "{STATE_DIR}/{PARTS_DIR}/{name}"),
        }
    }
}

/// Moves a user's file from beside the parts to where the user finds it: next
/// to the path it had, else to the top of the share, else to a name in the
/// state folder that nothing touches. Answers where it is now.
pub fn rescue(
    share: &impl Disk,
    index: &impl Store,
    name: &str,
    path: Option<&RelPath>,
    body: &Body,
) -> io::Result<Kept> {
    let beside = path.map(|path| (share.make_parent(path), path.parent()));
    let top = (share.open_dir(None), None);
    let wanted = path.map_or(&b"recovered"[..], RelPath::name);
    for (folder, above) in beside.into_iter().chain([top]) {
        let Ok(folder) = folder else { continue };
        for attempt in 0..100 {
            let copy = conflict_name(wanted, body, index.replica(), attempt);
            let from = (share.parts(), name.as_bytes());
            match share.rename(from, (&folder, &copy), Rename::NoReplace) {
                Ok(()) => {
                    let copy = RelPath::below(above.as_ref(), &copy).map_err(io::Error::other)?;
                    return Ok(Kept::InShare(copy));
                }
                Err(Errno::EXIST) => {}
                Err(_) => break,
            }
        }
    }
    Ok(Kept::Aside(set_aside(share, name)?))
}
