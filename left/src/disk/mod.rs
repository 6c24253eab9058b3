//! What this program needs of a file system, and no more: so narrow that a
//! simulated one can stand in for the real one, which is [`Share`].
//!
//! Every operation is relative to the handle of a folder. No symbolic link is
//! followed, no mount point crossed, nothing outside the share touched.
//!
//! [`Share`]: crate::share::Share

mod extents;
mod real;

use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

pub use extents::Extents;

use rustix::io::Errno;

use crate::entry::Mtime;
use crate::path::RelPath;
use crate::record::Stamp;

/// What a file system says of a file, folder or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The file system that it is on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// How many names it has.
    pub links: u64,
    /// Length in bytes.
    pub size: u64,
    /// When its content was last modified.
    pub mtime: Mtime,
    /// When it was last changed in any way.
    pub ctime: Mtime,
}

/// The part of a mode that says what something is.
pub(crate) const KIND_MASK: u32 = 0o170_000;
pub(crate) const KIND_FILE: u32 = 0o100_000;
pub(crate) const KIND_DIR: u32 = 0o040_000;
pub(crate) const KIND_LINK: u32 = 0o120_000;

impl Stat {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & KIND_MASK == KIND_FILE
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.mode & KIND_MASK == KIND_DIR
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.mode & KIND_MASK == KIND_LINK
    }

    /// The permission bits, with set-id and sticky.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// What the index remembers of it.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            ino: self.ino,
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
            mode: self.mode,
            trusted: true,
        }
    }
}

/// How a rename treats what has the new name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// It is replaced.
    Plain,
    /// It stays, and the rename is refused. Not every file system can.
    NoReplace,
    /// It gets the old name. Not every file system can.
    Exchange,
}

/// How much there is of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total_bytes: u64,
    /// For this user.
    pub free_bytes: u64,
    /// Files that it can hold; zero where there is no such number.
    pub total_files: u64,
    /// Files that can still be made.
    pub free_files: u64,
}

/// Copied at a time, so that whoever waits for the end does not wait long.
const COPY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Copied without making it durable: else others who sync wait for all of it.
const UNSYNCED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Something open, which stays the same whatever becomes of its name.
pub trait Handle {
    /// What the file system says of it.
    fn stat(&self) -> Result<Stat, Errno>;
    /// Sets all permission bits.
    fn set_mode(&self, mode: u32) -> Result<(), Errno>;
    /// Makes a file's content and metadata durable, or a folder's names.
    fn sync(&self) -> Result<(), Errno>;
}

/// An open file. One that was opened by [`Disk::open_at`] may be a folder.
pub trait Content: Handle + Sync {
    /// Reads some bytes; none at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// Writes some of the bytes.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno>;
    /// Cuts it, or makes it longer by zeros.
    fn set_len(&self, size: u64) -> Result<(), Errno>;
    /// Sets the modification time.
    fn set_mtime(&self, mtime: Mtime) -> Result<(), Errno>;

    /// The first data at or after an offset; `None` if there is a hole up to the
    /// end. A file system that cannot say has data only.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>, Errno> {
        Ok(Some(offset..u64::MAX))
    }

    /// Makes a range zeros, and a hole where there can be one. It does not go
    /// past the end.
    fn clear(&self, range: Range<u64>) -> Result<(), Errno> {
        write_zeros(self, range)
    }

    /// Reads a whole buffer; `false` at an early end of the file.
    fn read_whole_at(&self, bytes: &mut [u8], offset: u64) -> Result<bool, Errno> {
        let mut done = 0;
        while done < bytes.len() {
            match self.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => return Ok(false),
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }

    /// Writes all the bytes.
    fn write_whole_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        let mut done = 0;
        while done < bytes.len() {
            match self.write_at(&bytes[done..], offset + done as u64) {
                Ok(0) => return Err(Errno::IO),
                Ok(written) => done += written,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

fn write_zeros(file: &(impl Content + ?Sized), range: Range<u64>) -> Result<(), Errno> {
    let len = range.end.saturating_sub(range.start).min(64 * 1024);
    let zeros = vec![0; len as usize];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(len);
        file.write_whole_at(&zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// The file system of one share, and the clocks beside it.
pub trait Disk {
    /// An open folder.
    type Dir: Handle;
    /// An open file.
    type File: Content;

    /// The state folder.
    fn state(&self) -> &Self::Dir;
    /// The folder of parts.
    fn parts(&self) -> &Self::Dir;
    /// The folder of what was removed lately.
    fn trash(&self) -> &Self::Dir;
    /// Whether the share still is where it was, with its state folder. If not,
    /// nothing seen in it may be taken for a deletion.
    fn is_still_there(&self) -> bool;
    /// Whether something is on another file system than the share.
    fn is_foreign(&self, stat: &Stat) -> bool;
    /// Whether the share's file system takes small and capital letters in names for the same.
    fn folds_case(&self) -> bool;

    /// Opens a folder of the share; `None` is the share itself.
    fn open_dir(&self, path: Option<&RelPath>) -> Result<Self::Dir, Errno>;
    /// Opens a regular file for reading; never waits on a pipe or device.
    fn open_file(&self, path: &RelPath) -> Result<Self::File, Errno>;

    /// The names in a folder, in no order, without those of itself and of the
    /// folder above.
    fn list(&self, folder: &Self::Dir) -> Result<Vec<Box<[u8]>>, Errno>;
    /// What has a name.
    fn stat_at(&self, folder: &Self::Dir, name: &[u8]) -> Result<Stat, Errno>;
    /// What a symbolic link says.
    fn read_link(&self, folder: &Self::Dir, name: &[u8]) -> Result<Box<[u8]>, Errno>;
    /// Opens a file or folder for reading and for changes of its metadata;
    /// never waits on a pipe or device.
    fn open_at(&self, folder: &Self::Dir, name: &[u8]) -> Result<Self::File, Errno>;
    /// Opens a folder in a folder.
    fn open_dir_at(&self, folder: &Self::Dir, name: &[u8]) -> Result<Self::Dir, Errno>;
    /// Opens a file for reading and writing, and makes it if there is none.
    fn create(&self, folder: &Self::Dir, name: &[u8], mode: u32) -> Result<Self::File, Errno>;
    /// Sets all permission bits of what has a name and is no link.
    fn set_mode_at(&self, folder: &Self::Dir, name: &[u8], mode: u32) -> Result<(), Errno>;
    /// Makes a folder.
    fn make_dir(&self, folder: &Self::Dir, name: &[u8], mode: u32) -> Result<(), Errno>;
    /// Makes a symbolic link.
    fn make_link(&self, folder: &Self::Dir, name: &[u8], target: &[u8]) -> Result<(), Errno>;
    /// Gives a file a second name.
    fn link(&self, from: (&Self::Dir, &[u8]), to: (&Self::Dir, &[u8])) -> Result<(), Errno>;
    /// Takes a name from what is no folder.
    fn unlink(&self, folder: &Self::Dir, name: &[u8]) -> Result<(), Errno>;
    /// Removes an empty folder.
    fn remove_dir(&self, folder: &Self::Dir, name: &[u8]) -> Result<(), Errno>;
    /// Gives something another name.
    fn rename(
        &self,
        from: (&Self::Dir, &[u8]),
        to: (&Self::Dir, &[u8]),
        how: Rename,
    ) -> Result<(), Errno>;

    /// Copies some bytes of a range to the same place, by the file system's own
    /// means where it has any; none at the end of the file.
    fn copy_some(
        &self,
        from: &Self::File,
        to: &Self::File,
        range: Range<u64>,
    ) -> Result<u64, Errno>;

    /// Makes everything durable.
    fn sync_all(&self) -> Result<(), Errno>;
    /// Whether [`Disk::sync_all`] tells of what could not be written.
    fn sync_all_tells_errors(&self) -> bool;
    /// How much there is.
    fn space(&self) -> Result<Space, Errno>;

    /// The time of day, which may be set back.
    fn wall(&self) -> SystemTime;
    /// A time that only goes forward.
    fn now(&self) -> Instant;
    /// The processor time that this thread has used.
    fn thread_time(&self) -> Duration;
    /// On how many threads a file is hashed.
    fn hash_threads(&self) -> usize;

    /// Copies a whole content with its holes. The copy is empty before. `go_on`
    /// is asked now and then, and `false` says that it has ended the work.
    fn copy(
        &self,
        from: &Self::File,
        to: &Self::File,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool, Errno> {
        let mut at = 0;
        let mut unsynced = 0;
        while let Some(data) = from.next_data(at)? {
            at = data.start;
            while at < data.end {
                if !go_on() {
                    return Ok(false);
                }
                let piece = at..data.end.min(at.saturating_add(COPY_BYTES_MAX));
                match self.copy_some(from, to, piece)? {
                    0 => return Ok(true),
                    copied => {
                        at += copied;
                        unsynced += copied;
                    }
                }
                if unsynced >= UNSYNCED_BYTES_MAX {
                    to.sync()?;
                    unsynced = 0;
                }
            }
        }
        to.set_len(from.stat()?.size)?;
        Ok(true)
    }

    /// What lies at `path` itself.
    fn stat(&self, path: &RelPath) -> Result<Stat, Errno> {
        let parent = self.open_parent(path)?;
        self.stat_at(&parent, path.name())
    }

    /// Opens the folder that holds `path`.
    fn open_parent(&self, path: &RelPath) -> Result<Self::Dir, Errno> {
        self.open_dir(path.parent().as_ref())
    }

    /// As [`Disk::open_parent`], making folders that are missing.
    fn make_parent(&self, path: &RelPath) -> Result<Self::Dir, Errno> {
        match self.open_parent(path) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let Some(parent) = path.parent() else {
            return Err(Errno::NOENT);
        };
        let mut known: Vec<u8> = Vec::new();
        for name in parent.names() {
            let above = RelPath::parse(&known).ok();
            let folder = self.open_dir(above.as_ref())?;
            match self.make_dir(&folder, name, 0o755) {
                // Durable before what is in it: else a power cut could look
                // like a deletion.
                Ok(()) => folder.sync()?,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            if !known.is_empty() {
                known.push(b'/');
            }
            known.extend_from_slice(name);
        }
        self.open_parent(path)
    }
}
