//! Partial files: one for each content on its way, named by its id, private to
//! the daemon. The truth about what is in one is its hash, not a journal.

use std::fs::File;
use std::io;

use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, RenameFlags, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::entry::ContentId;
use crate::events::Reporter;
use crate::index::{Change, Index, IndexError};
use crate::path::RelPath;
use crate::plan::conflict_name;
use crate::record::Stamp;
use crate::share::{Share, stamp};
use crate::transfer::blocks::{
    BlockList, Geometry, Hashed, chaining_value, hash_file, read_exact_at,
};

/// The name under which a link or folder waits to be exchanged in.
pub const STAGED: &str = "staged";

/// Which part. Large contents have one part each, slot 0, so that it is found
/// again to be resumed; small ones get a slot of their own each time, so that
/// many equal files need not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartId {
    /// What the part will hold.
    pub content: ContentId,
    /// Zero, or different for each part with this content.
    pub slot: u32,
}

impl PartId {
    /// The name of the file.
    pub fn name(self) -> String {
        match self.slot {
            0 => self.content.to_string(),
            slot => format!("{}-{slot}", self.content),
        }
    }

    /// Reads what [`PartId::name`] made.
    pub fn parse(name: &str) -> Option<Self> {
        let (content, slot) = match name.split_once('-') {
            Some((content, slot)) => (content, slot.parse().ok().filter(|slot| *slot > 0)?),
            None => (name, 0),
        };
        Some(Self {
            content: ContentId::parse(content)?,
            slot,
        })
    }
}

/// Opens the part of a content, or makes it. It is never looser than private,
/// whatever the file will be.
pub fn open_part(share: &Share, id: PartId) -> io::Result<File> {
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(share.parts(), id.name(), flags, Mode::from(0o600))?;
    if !crate::share::is_file(&rustix::fs::fstat(&file)?) {
        return Err(Errno::INVAL.into());
    }
    Ok(File::from(file))
}

/// Which blocks of a part already are right.
pub fn blocks_present(file: &File, list: &BlockList) -> io::Result<Vec<bool>> {
    let geometry = list.geometry;
    let mut present = vec![false; list.values.len()];
    let len = file.metadata()?.len();
    let mut bytes = vec![0; geometry.block_bytes as usize];
    for (block, value) in (0u64..).zip(&list.values) {
        let offset = geometry.offset(block);
        if offset >= len {
            break;
        }
        let bytes = &mut bytes[..geometry.len(block)];
        if read_exact_at(file, bytes, offset)? {
            present[block as usize] = chaining_value(offset, bytes) == *value;
        }
    }
    Ok(present)
}

/// Removes the part of a content, if there is one.
pub fn remove_part(share: &Share, id: PartId) {
    let _ = unlinkat(share.parts(), id.name(), AtFlags::empty());
}

/// Whether anything of an earlier run lies there.
pub fn any_parts(share: &Share) -> bool {
    names(share).is_ok_and(|names| !names.is_empty())
}

/// Removes all parts; only called when both sides have listed everything and
/// nothing is wanted, so that none can be of use. What is no part by its name
/// stays.
pub fn remove_all_parts(share: &Share, index: &Index) -> Result<(), IndexError> {
    // A content with an intent may be a user's file that was exchanged out.
    let intended = index.intents()?;
    for name in names(share).unwrap_or_default() {
        let id = std::str::from_utf8(&name).ok().and_then(PartId::parse);
        if let Some(id) = id.filter(|id| intended.iter().all(|(other, _)| other != id)) {
            remove_part(share, id);
        }
    }
    Ok(())
}

fn names(share: &Share) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for item in Dir::read_from(share.parts())? {
        let name = item?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Puts right the exchanges that were under way when the process ended. What
/// lies under a part's name is then either the new content, or the superseded
/// version, or something a user wrote meanwhile; the latter is moved into the
/// share, never removed.
pub fn settle_intents(share: &Share, index: &Index, reporter: &Reporter) -> Result<(), IndexError> {
    for (id, path) in index.intents()? {
        let known = index.get(&path)?.and_then(|record| record.stamp);
        if let Err(error) = settle_intent(share, index, reporter, id, &path, known) {
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

/// A file that a link or folder of the peer replaced, when the process ended
/// before it could be looked at, goes to the top of the share.
fn settle_staged(share: &Share, index: &Index) -> io::Result<()> {
    let found = match statat(share.parts(), STAGED, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if crate::share::is_dir(&found) {
        return Ok(unlinkat(share.parts(), STAGED, AtFlags::REMOVEDIR)?);
    }
    let top = share.open_dir(None)?;
    for attempt in 0..100 {
        let copy = conflict_name(
            b"recovered",
            &crate::entry::Body::Dir,
            index.replica(),
            attempt,
        );
        match renameat_with(
            share.parts(),
            STAGED,
            &top,
            copy.as_slice(),
            RenameFlags::NOREPLACE,
        ) {
            Err(Errno::EXIST) => {}
            other => return Ok(other?),
        }
    }
    Err(Errno::EXIST.into())
}

fn settle_intent(
    share: &Share,
    index: &Index,
    reporter: &Reporter,
    id: PartId,
    path: &RelPath,
    known: Option<Stamp>,
) -> io::Result<()> {
    let name = id.name();
    let found = match statat(share.parts(), &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    if known.is_some_and(|known| known.same_but_moved(&stamp(&found))) {
        unlinkat(share.parts(), &name, AtFlags::empty())?;
        return Ok(());
    }
    let geometry = Geometry::of(found.st_size as u64).ok_or(Errno::FBIG)?;
    let body = if crate::share::is_file(&found) {
        let file = open_part(share, id)?;
        match hash_file(&file, geometry, 1, &|| true)? {
            Hashed::Whole { id: content, .. } if content == id.content => return Ok(()),
            Hashed::Whole { id: content, .. } => crate::entry::Body::File {
                id: content,
                size: found.st_size as u64,
                mtime: crate::share::mtime(&found),
            },
            Hashed::Torn => return Err(Errno::BUSY.into()),
        }
    } else {
        crate::entry::Body::Dir
    };
    let parent = share.make_parent(path)?;
    for attempt in 0..100 {
        let copy = conflict_name(path.name(), &body, index.replica(), attempt);
        match renameat_with(
            share.parts(),
            &name,
            &parent,
            copy.as_slice(),
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) => {
                let copy =
                    RelPath::below(path.parent().as_ref(), &copy).map_err(io::Error::other)?;
                reporter.conflict(path, &copy);
                return Ok(());
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_names_come_back() {
        for slot in [0, 1, u32::MAX] {
            let id = PartId {
                content: ContentId::empty(),
                slot,
            };
            assert_eq!(PartId::parse(&id.name()), Some(id));
        }
        for name in ["", "staged", "-1", "12-1"] {
            assert_eq!(PartId::parse(name), None, "{name}");
        }
        let zero = format!("{}-0", ContentId::empty());
        assert_eq!(PartId::parse(&zero), None);
    }
}
