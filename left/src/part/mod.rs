//! Partial files: one for each content on its way, named by its id, private to
//! the daemon. The truth about what is in one is its hash, not a journal.

mod fill;
mod settle;

use std::io;

pub use fill::{clear_range, end_part, fill_page};
pub use settle::{is_superseded, rescue, settle_intents, settle_removing};

use rustix::io::Errno;

use crate::disk::{Disk, Handle, Rename};
use crate::entry::ContentId;
use crate::index::{IndexError, Store};

/// The name under which a link or folder waits to be exchanged in.
pub const STAGED: &str = "staged";

/// How names begin under which things wait that are no parts.
const ASIDE: &str = "aside-";

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
pub fn open_part<D: Disk>(share: &D, id: PartId) -> io::Result<D::File> {
    let name = id.name();
    match share.stat_at(share.parts(), name.as_bytes()) {
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
        // With a second name it would be somebody's file too, and writing into
        // it would change that one.
        Ok(found) if found.is_file() && found.links == 1 => {
            // A kill can leave a part that already has the mode of the file it
            // was about to become, which may not even be writable.
            if found.permissions() != 0o600 {
                share.set_mode_at(share.parts(), name.as_bytes(), 0o600)?;
            }
        }
        Ok(_) => {
            set_aside(share, share.parts(), name.as_bytes())?;
        }
    }
    let file = share.create(share.parts(), name.as_bytes(), 0o600)?;
    if !file.stat()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    Ok(file)
}

/// Opens a part that is complete: it is there, and as long as it has to be.
pub fn open_complete_part<D: Disk>(share: &D, id: PartId, size: u64) -> io::Result<D::File> {
    if size > 0 {
        // Opening it would make a new one.
        share.stat_at(share.parts(), id.name().as_bytes())?;
    }
    let part = open_part(share, id)?;
    if part.stat()?.size != size {
        return Err(io::Error::other("its part was replaced by something else"));
    }
    Ok(part)
}

/// Gives what is not ours to remove another name beside the parts, under which
/// nothing touches it any more; answers the name.
fn set_aside<D: Disk>(share: &D, from: &D::Dir, name: &[u8]) -> io::Result<String> {
    let parts = share.parts();
    let from = (from, name);
    for n in 0..10_000 {
        let aside = format!("{ASIDE}{n}");
        let to = (parts, aside.as_bytes());
        match share.rename(from, to, Rename::NoReplace) {
            Ok(()) => return Ok(aside),
            Err(Errno::EXIST) => {}
            // A file system without the flag; nobody else makes names here.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let there = share.stat_at(parts, aside.as_bytes());
                if matches!(there, Err(Errno::NOENT)) {
                    share.rename(from, to, Rename::Plain)?;
                    return Ok(aside);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}

/// Removes the part of a content, if there is one.
pub fn remove_part(share: &impl Disk, id: PartId) {
    let _ = share.unlink(share.parts(), id.name().as_bytes());
}

/// Whether anything of an earlier run lies there.
pub fn any_parts(share: &impl Disk) -> bool {
    share.list(share.parts()).is_ok_and(|names| {
        let mut names = names.iter();
        names.any(|name| !name.starts_with(ASIDE.as_bytes()))
    })
}

/// Removes all parts; only called when both sides have listed everything and
/// nothing is wanted, so that none can be of use. What is no part by its name
/// stays.
pub fn remove_all_parts(share: &impl Disk, index: &impl Store) -> Result<(), IndexError> {
    remove_parts(share, index, |_| true)
}

/// Removes the parts of small files, of which each attempt has one of its own;
/// only called when there is no attempt.
pub fn remove_small_parts(share: &impl Disk, index: &impl Store) -> Result<(), IndexError> {
    remove_parts(share, index, |id| id.slot != 0)
}

fn remove_parts(
    share: &impl Disk,
    index: &impl Store,
    which: impl Fn(PartId) -> bool,
) -> Result<(), IndexError> {
    // A content with an intent may be a user's file that was exchanged out.
    let intended = index.intents()?;
    for name in share.list(share.parts()).unwrap_or_default() {
        let id = std::str::from_utf8(&name).ok().and_then(PartId::parse);
        if let Some(id) =
            id.filter(|id| intended.iter().all(|(other, _)| other != id) && which(*id))
        {
            remove_part(share, id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::Share;
    use std::os::unix::fs::FileExt;

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

    fn place() -> (tempfile::TempDir, Share, PartId) {
        let dir = tempfile::tempdir().unwrap();
        let share = Share::open(dir.path()).unwrap();
        let id = PartId {
            content: ContentId::empty(),
            slot: 0,
        };
        (dir, share, id)
    }

    #[test]
    fn a_part_that_was_dressed_for_its_place_is_private_and_writable_again() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, share, id) = place();
        drop(open_part(&share, id).unwrap());
        let path = dir.path().join(".left/parts").join(id.name());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        let part = open_part(&share, id).unwrap();
        part.write_all_at(b"x", 0).unwrap();
        assert_eq!(
            part.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
    }

    #[test]
    fn what_lies_under_a_parts_name_and_is_no_part_is_kept_and_never_written() {
        let (dir, share, id) = place();
        let name = dir.path().join(".left/parts").join(id.name());
        let of_user = dir.path().join("of-user");
        std::fs::write(&of_user, "precious").unwrap();
        let makers: [&dyn Fn(); 3] = [
            &|| std::os::unix::fs::symlink(&of_user, &name).unwrap(),
            &|| std::fs::create_dir(&name).unwrap(),
            &|| std::fs::hard_link(&of_user, &name).unwrap(),
        ];
        for make in makers {
            make();
            let part = open_part(&share, id).unwrap();
            part.write_all_at(b"from the peer", 0).unwrap();
            assert_eq!(std::fs::read_to_string(&of_user).unwrap(), "precious");
            remove_part(&share, id);
        }
        let aside = share.list(share.parts()).unwrap();
        assert_eq!(aside.len(), 3, "{aside:?}");
        assert!(!any_parts(&share));
    }
}
