//! What people do to the share: by path, without asking the process, and also
//! while it is dead.

use rustix::io::Errno;

use super::inode::{Id, Kind};
use super::machine::{Machine, Shared};
use crate::disk::Rename;
use crate::entry::Mtime;

/// Somebody at the machine. Faults of the process are none of theirs; the
/// disk's space and permissions are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a>(pub(super) &'a Machine);

/// The folder of a path, and the name in it.
fn split<'a>(shared: &Shared, path: &'a str) -> Result<(Id, &'a [u8]), Errno> {
    let (above, name) = match path.rsplit_once('/') {
        Some((above, name)) => (Some(above), name),
        None => (None, path),
    };
    let names = above.into_iter().flat_map(|above| above.split('/'));
    let folder = shared.fs.walk(names.map(str::as_bytes))?;
    match shared.fs.get(folder) {
        inode if inode.is_dir() => Ok((folder, name.as_bytes())),
        inode if inode.is_link() => Err(Errno::LOOP),
        _ => Err(Errno::NOTDIR),
    }
}

impl User<'_> {
    fn at<T>(
        &self,
        path: &str,
        work: impl FnOnce(&mut Shared, Id, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut shared = self.0.lock();
        shared.fs.tick();
        let (folder, name) = split(&shared, path)?;
        work(&mut shared, folder, name)
    }

    /// Opens for writing, does it, and closes.
    fn writing(
        &self,
        path: &str,
        work: impl FnOnce(&mut Shared, Id) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            let id = shared.fs.create(folder, name, 0o644)?;
            let done = work(shared, id);
            shared.fs.close(id);
            done
        })
    }

    /// Writes a new content in place; what does not fit is missing.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) -> Result<(), Errno> {
        self.writing(path, |shared, id| {
            shared.fs.set_len(id, 0);
            write_all(shared, id, bytes, 0)
        })
    }

    /// Overwrites some bytes of it.
    pub(crate) fn overwrite(&self, path: &str, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        self.writing(path, |shared, id| write_all(shared, id, bytes, offset))
    }

    /// Writes at its end.
    pub(crate) fn append(&self, path: &str, bytes: &[u8]) -> Result<(), Errno> {
        self.writing(path, |shared, id| {
            let end = shared.fs.get(id).data.len;
            write_all(shared, id, bytes, end)
        })
    }

    /// Cuts it, or makes it longer by a hole.
    pub(crate) fn truncate(&self, path: &str, len: u64) -> Result<(), Errno> {
        self.writing(path, |shared, id| {
            shared.fs.set_len(id, len);
            Ok(())
        })
    }

    /// Reads a file.
    pub(crate) fn read(&self, path: &str) -> Result<Vec<u8>, Errno> {
        self.at(path, |shared, folder, name| {
            let id = shared.fs.lookup(folder, name)?;
            match &shared.fs.get(id).kind {
                Kind::File => Ok(shared.fs.get(id).data.all()),
                Kind::Dir => Err(Errno::ISDIR),
                Kind::Link(_) => Err(Errno::LOOP),
            }
        })
    }

    /// Deletes a file or link.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| shared.fs.unlink(folder, name))
    }

    /// Renames, over what has the name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.rename_how(from, to, Rename::Plain)
    }

    /// Swaps two names.
    pub(crate) fn exchange(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.rename_how(from, to, Rename::Exchange)
    }

    fn rename_how(&self, from: &str, to: &str, how: Rename) -> Result<(), Errno> {
        self.at(from, |shared, folder, name| {
            let to = split(shared, to)?;
            shared.fs.rename((folder, name), to, how)
        })
    }

    /// Makes a second name.
    pub(crate) fn link(&self, from: &str, to: &str) -> Result<(), Errno> {
        self.at(from, |shared, folder, name| {
            shared.fs.lookup(folder, name)?;
            let to = split(shared, to)?;
            shared.fs.link((folder, name), to)
        })
    }

    /// Makes a folder.
    pub(crate) fn mkdir(&self, path: &str) -> Result<(), Errno> {
        self.add(path, Kind::Dir, 0o755)
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&self, target: &str, path: &str) -> Result<(), Errno> {
        self.add(path, Kind::Link(target.as_bytes().into()), 0o777)
    }

    fn add(&self, path: &str, kind: Kind, mode: u32) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            shared.fs.add(folder, name, kind, mode).map(drop)
        })
    }

    /// Removes an empty folder.
    pub(crate) fn rmdir(&self, path: &str) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            shared.fs.remove_dir(folder, name)
        })
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) {
        self.0.lock().fs.sync_all();
    }

    /// Sets the permission bits.
    pub(crate) fn chmod(&self, path: &str, mode: u32) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            let id = shared.fs.lookup(folder, name)?;
            if shared.fs.get(id).is_link() {
                return Err(Errno::OPNOTSUPP);
            }
            shared.fs.set_mode(id, mode);
            Ok(())
        })
    }

    /// Sets the modification time.
    pub(crate) fn touch(&self, path: &str, mtime: Mtime) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            let id = shared.fs.lookup(folder, name)?;
            shared.fs.set_mtime(id, mtime);
            Ok(())
        })
    }
}

fn write_all(shared: &mut Shared, id: Id, bytes: &[u8], offset: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        done += shared.fs.write(id, &bytes[done..], offset + done as u64)?;
    }
    Ok(())
}
