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
fn split<'a>(shared: &Shared, path: &'a [u8]) -> Result<(Id, &'a [u8]), Errno> {
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (Some(&path[..at]), &path[at + 1..]),
        None => (None, path),
    };
    let names = above
        .into_iter()
        .flat_map(|above| above.split(|byte| *byte == b'/'));
    let folder = shared.fs.walk(names)?;
    match shared.fs.get(folder) {
        inode if inode.is_dir() => Ok((folder, name)),
        inode if inode.is_link() => Err(Errno::LOOP),
        _ => Err(Errno::NOTDIR),
    }
}

impl User<'_> {
    fn at<T>(
        &self,
        path: impl AsRef<[u8]>,
        work: impl FnOnce(&mut Shared, Id, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut shared = self.0.lock();
        shared.fs.tick();
        let (folder, name) = split(&shared, path.as_ref())?;
        work(&mut shared, folder, name)
    }

    /// Opens for writing, does it, and closes.
    fn writing(
        &self,
        path: impl AsRef<[u8]>,
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
    pub(crate) fn write(&self, path: impl AsRef<[u8]>, bytes: &[u8]) -> Result<(), Errno> {
        self.writing(path, |shared, id| {
            shared.fs.set_len(id, 0);
            write_all(shared, id, bytes, 0)
        })
    }

    /// Overwrites some bytes of it.
    pub(crate) fn overwrite(
        &self,
        path: impl AsRef<[u8]>,
        bytes: &[u8],
        offset: u64,
    ) -> Result<(), Errno> {
        self.writing(path, |shared, id| write_all(shared, id, bytes, offset))
    }

    /// Writes at its end.
    pub(crate) fn append(&self, path: impl AsRef<[u8]>, bytes: &[u8]) -> Result<(), Errno> {
        self.writing(path, |shared, id| {
            let end = shared.fs.get(id).data.len;
            write_all(shared, id, bytes, end)
        })
    }

    /// Cuts it, or makes it longer by a hole.
    pub(crate) fn truncate(&self, path: impl AsRef<[u8]>, len: u64) -> Result<(), Errno> {
        self.writing(path, |shared, id| {
            shared.fs.set_len(id, len);
            Ok(())
        })
    }

    /// Reads a file.
    pub(crate) fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>, Errno> {
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
    pub(crate) fn delete(&self, path: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| shared.fs.unlink(folder, name))
    }

    /// Renames, over what has the name.
    pub(crate) fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.rename_how(from, to, Rename::Plain)
    }

    /// Swaps two names.
    pub(crate) fn exchange(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
    ) -> Result<(), Errno> {
        self.rename_how(from, to, Rename::Exchange)
    }

    fn rename_how(
        &self,
        from: impl AsRef<[u8]>,
        to: impl AsRef<[u8]>,
        how: Rename,
    ) -> Result<(), Errno> {
        self.at(from, |shared, folder, name| {
            let to = split(shared, to.as_ref())?;
            shared.fs.rename((folder, name), to, how)
        })
    }

    /// Makes a second name.
    pub(crate) fn link(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.at(from, |shared, folder, name| {
            shared.fs.lookup(folder, name)?;
            let to = split(shared, to.as_ref())?;
            shared.fs.link((folder, name), to)
        })
    }

    /// Makes a folder.
    pub(crate) fn mkdir(&self, path: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.add(path, Kind::Dir, 0o755)
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(
        &self,
        target: impl AsRef<[u8]>,
        path: impl AsRef<[u8]>,
    ) -> Result<(), Errno> {
        self.add(path, Kind::Link(target.as_ref().into()), 0o777)
    }

    fn add(&self, path: impl AsRef<[u8]>, kind: Kind, mode: u32) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            shared.fs.add(folder, name, kind, mode).map(drop)
        })
    }

    /// Removes an empty folder.
    pub(crate) fn rmdir(&self, path: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            shared.fs.remove_dir(folder, name)
        })
    }

    /// Makes what is at a path durable, and of a folder its names.
    pub(crate) fn sync_path(&self, path: impl AsRef<[u8]>) -> Result<(), Errno> {
        self.at(path, |shared, folder, name| {
            let id = shared.fs.lookup(folder, name)?;
            shared.fs.sync(id);
            Ok(())
        })
    }

    /// Makes everything durable.
    pub(crate) fn sync(&self) {
        self.0.lock().fs.sync_all();
    }

    /// Sets the permission bits.
    pub(crate) fn chmod(&self, path: impl AsRef<[u8]>, mode: u32) -> Result<(), Errno> {
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
    pub(crate) fn touch(&self, path: impl AsRef<[u8]>, mtime: Mtime) -> Result<(), Errno> {
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
