//! Puts right what an interruption left of an exchange. What lies under a
//! part's name is then either the new content, or the superseded version, or
//! something a user wrote meanwhile; the last is moved, never removed.

use std::fmt;
use std::io;

use rustix::io::Errno;

use super::{PartId, STAGED, set_aside};
use crate::disk::{Disk, Handle, Rename, Stat};
use crate::entry::Body;
use crate::events::Reporter;
use crate::index::{Change, IndexError, Store, Trashed};
use crate::path::{RelPath, STATE_DIR};
use crate::plan::conflict_name;
use crate::planted::{Bug, makes};
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
    // A folder that was replaced, when all that was in it had gone.
    if share.remove_dir(share.parts(), name.as_bytes()).is_ok() {
        return Ok(());
    }
    if let Some(known) = known
        && (makes(Bug::ForgetsUsersFile)
            || is_superseded(share, share.parts(), name.as_bytes(), known)?)
    {
        share.unlink(share.parts(), name.as_bytes())?;
        return Ok(());
    }
    let body = look(share, share.parts(), name.as_bytes())?;
    if matches!(&body, Body::File { id: found, .. } if *found == id.content) {
        return Ok(());
    }
    let kept = rescue(
        share,
        index,
        share.parts(),
        name.as_bytes(),
        Some(path),
        &body,
    )?;
    match &kept {
        Kept::InShare(copy) => reporter.conflict(path, copy),
        Kept::Aside(_) => reporter.problem(
            kept.to_string().as_bytes(),
            &format!("what was at {path} is kept as {kept}, because it has no place in the share"),
        ),
    }
    Ok(())
}

/// Settles moves into the trash that were under way when the process ended.
pub fn settle_removing(
    share: &impl Disk,
    index: &impl Store,
    reporter: &Reporter,
    now: u64,
) -> Result<(), IndexError> {
    for (name, path) in index.removing()? {
        let known = index.get(&path)?;
        let mut changes = vec![Change::Removed { name: name.clone() }];
        let trash = share.trash();
        let settled = match share.stat_at(trash, &name) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
            Ok(_) => match &known {
                // The scanner finds that it is gone.
                Some(known) if is_superseded(share, trash, &name, known).unwrap_or(false) => {
                    let trashed = Trashed::of(known, &path, now);
                    changes.push(Change::Trash { name, trashed });
                    Ok(())
                }
                _ => put_back(share, index, reporter, &name, &path),
            },
        };
        if let Err(error) = settled {
            let text = format!("cannot put back what was to be removed at {path}: {error}");
            reporter.problem(path.as_bytes(), &text);
            continue;
        }
        index.commit(&changes)?;
    }
    Ok(())
}

/// Gives a file its name back, or that of a conflict copy if it is taken.
fn put_back(
    share: &impl Disk,
    index: &impl Store,
    reporter: &Reporter,
    name: &[u8],
    path: &RelPath,
) -> io::Result<()> {
    let trash = share.trash();
    if let Ok(folder) = share.make_parent(path)
        && share
            .rename((trash, name), (&folder, path.name()), Rename::NoReplace)
            .is_ok()
    {
        return Ok(folder.sync()?);
    }
    let body = look(share, trash, name)?;
    match rescue(share, index, trash, name, Some(path), &body)? {
        Kept::InShare(copy) => reporter.conflict(path, &copy),
        kept @ Kept::Aside(_) => reporter.problem(
            kept.to_string().as_bytes(),
            &format!("what was at {path} is kept as {kept}, because it has no place in the share"),
        ),
    }
    Ok(())
}

/// A file that a link or folder of the peer replaced, when the process ended
/// before it could be looked at, goes to the top of the share, unless it is the
/// version that was known.
fn settle_staged(share: &impl Disk, index: &impl Store) -> io::Result<()> {
    let found = match share.stat_at(share.parts(), STAGED.as_bytes()) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if found.is_dir() && share.remove_dir(share.parts(), STAGED.as_bytes()).is_ok() {
        return Ok(());
    }
    if is_known_somewhere(share, index, &found)? {
        return Ok(share.unlink(share.parts(), STAGED.as_bytes())?);
    }
    rescue(
        share,
        index,
        share.parts(),
        STAGED.as_bytes(),
        None,
        &Body::Dir,
    )
    .map(drop)
}

/// Whether what lies there is what was known at some path. At which is not noted, as
/// at most one is ever there, and next to never: all are gone through.
fn is_known_somewhere(share: &impl Disk, index: &impl Store, found: &Stat) -> io::Result<bool> {
    const PAGE: usize = 1000;
    let mut after = None;
    loop {
        let page = index
            .records_after(after.as_ref(), PAGE)
            .map_err(io::Error::other)?;
        for (_, record) in &page {
            let same = record.stamp.is_some_and(|stamp| stamp.ino == found.ino);
            if same && is_superseded(share, share.parts(), STAGED.as_bytes(), record)? {
                return Ok(true);
            }
        }
        match page.into_iter().next_back() {
            Some((path, _)) => after = Some(path),
            None => return Ok(false),
        }
    }
}

/// Whether what lies under a name in a folder of our own certainly is the version
/// that was known when its replacement was decided, so that it may go.
pub fn is_superseded<D: Disk>(
    share: &D,
    folder: &D::Dir,
    name: &[u8],
    known: &Record,
) -> io::Result<bool> {
    let Some(before) = known.stamp else {
        return Ok(false);
    };
    let found = share.stat_at(folder, name)?;
    if found.is_dir() || !found.stamp().same_but_moved(&before) {
        return Ok(false);
    }
    // A stamp that was taken too soon after a write can hide another write.
    match &known.entry.body {
        Body::File { id, .. } if !before.trusted => {
            let now = look(share, folder, name)?;
            Ok(matches!(&now, Body::File { id: found, .. } if found == id))
        }
        _ => Ok(true),
    }
}

/// What lies under a name in a folder of our own; of what cannot be read only that
/// it is there.
fn look<D: Disk>(share: &D, folder: &D::Dir, name: &[u8]) -> io::Result<Body> {
    let Ok(file) = share.open_at(folder, name) else {
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

/// Moves a user's file from a folder of our own to where the user finds it: next
/// to the path it had, else to the top of the share, else to a name in the
/// state folder that nothing touches. Answers where it is now.
pub fn rescue<D: Disk>(
    share: &D,
    index: &impl Store,
    from: &D::Dir,
    name: &[u8],
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
            match share.rename((from, name), (&folder, &copy), Rename::NoReplace) {
                Ok(()) => {
                    let copy = RelPath::below(above.as_ref(), &copy).map_err(io::Error::other)?;
                    return Ok(Kept::InShare(copy));
                }
                Err(Errno::EXIST) => {}
                Err(_) => break,
            }
        }
    }
    Ok(Kept::Aside(set_aside(share, from, name)?))
}
