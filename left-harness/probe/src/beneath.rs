//! Folders by descriptor: nothing below a root is ever reached through a link.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::fail::{Doing, Fail, Result};

/// How a folder is opened, always.
pub const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// How a file is opened for reading. NONBLOCK: what was a file a moment ago may be a pipe now.
pub const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// A folder with what tells it from every other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The file system.
    pub device: u64,
    /// The inode in it.
    pub inode: u64,
}

impl Identity {
    /// Of something that was looked at.
    pub fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// Opens the folder everything else is relative to.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
        .doing(|| format!("open folder {}", path.display()))
}

/// Opens a folder in a folder.
pub fn open_folder(parent: impl AsFd, name: &CString) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name.as_c_str(), DIRECTORY, Mode::empty())
}

/// Looks at a name without following it.
pub fn look(parent: impl AsFd, name: &CString) -> rustix::io::Result<Stat> {
    rustix::fs::statat(parent, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
}

/// All names of a folder but `.` and `..`, sorted by their bytes.
pub fn names(folder: impl AsFd) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    // Opened anew, so that the offset of the caller's descriptor does not matter.
    let mut dir = Dir::read_from(folder)?;
    while let Some(entry) = dir.read() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Opens what lies at a relative path, component by component.
pub fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut components = components(path).ok_or(Errno::INVAL)?;
    let last = components.pop().ok_or(Errno::INVAL)?;
    let Some((first, between)) = components.split_first() else {
        return rustix::fs::openat(root, last.as_c_str(), flags, Mode::empty());
    };
    let mut folder = open_folder(root, first)?;
    for name in between {
        folder = open_folder(&folder, name)?;
    }
    rustix::fs::openat(&folder, last.as_c_str(), flags, Mode::empty())
}

/// The components of a relative path; `None` when it could lead out.
pub fn components(path: &[u8]) -> Option<Vec<CString>> {
    path.split(|byte| *byte == b'/')
        .map(|name| {
            if matches!(name, b"" | b"." | b"..") {
                None
            } else {
                CString::new(name).ok()
            }
        })
        .collect()
}

/// The word for a kind of file.
pub fn kind_word(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "dir",
        FileType::Symlink => "link",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "char",
        FileType::BlockDevice => "block",
        FileType::Unknown => "unknown",
    }
}

/// It is a regular file.
pub fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// It is a folder.
pub fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// What changes when somebody writes a file: a hash is true for as long as this stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    identity: Identity,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    /// Of something that was looked at.
    pub fn of(stat: &Stat) -> Self {
        Self {
            identity: Identity::of(stat),
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// When the inode last changed, in nanoseconds since the epoch.
    pub fn changed_ns(&self) -> i128 {
        i128::from(self.changed.0) * 1_000_000_000 + i128::from(self.changed.1)
    }
}

/// A relative path that must be safe.
pub fn checked(path: &[u8]) -> Result<()> {
    match components(path) {
        Some(_) => Ok(()),
        None => Err(Fail(format!(
            "{} is no path below the root",
            String::from_utf8_lossy(path)
        ))),
    }
}

/// The folder for paths of the process itself.
pub fn parent_of(path: &Path) -> Result<OwnedFd> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    rustix::fs::openat(
        CWD,
        parent,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .doing(|| format!("open folder {}", parent.display()))
}
