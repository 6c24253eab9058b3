//! What a file system refuses, in the words of whoever can mend it.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::disk::Disk;

/// Kinds of refusals that are mended in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No space is left.
    NoSpace,
    /// No file more can be made, whatever its size.
    NoInodes,
    /// This user may have no more.
    Quota,
    /// Nothing can be written.
    ReadOnly,
    /// This user may not.
    NoPermission,
    /// The disk failed.
    Disk,
    /// This process, or the system, has too much open.
    NoDescriptors,
    /// The file system or a limit of the process does not take such a length.
    TooLarge,
    /// The file system cannot hold such a name.
    Name,
    /// Anything else.
    Other,
}

impl Trouble {
    /// What kind of refusal an error is.
    pub fn of(error: &io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<NoInodes>()) {
            return Trouble::NoInodes;
        }
        match Errno::from_io_error(error) {
            Some(Errno::IO) => return Trouble::Disk,
            Some(Errno::MFILE | Errno::NFILE) => return Trouble::NoDescriptors,
            // Of a name; what else is invalid is never asked for.
            Some(Errno::ILSEQ | Errno::INVAL) => return Trouble::Name,
            _ => {}
        }
        match error.kind() {
            io::ErrorKind::StorageFull => Trouble::NoSpace,
            io::ErrorKind::QuotaExceeded => Trouble::Quota,
            io::ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly,
            io::ErrorKind::PermissionDenied => Trouble::NoPermission,
            io::ErrorKind::FileTooLarge => Trouble::TooLarge,
            io::ErrorKind::InvalidFilename => Trouble::Name,
            _ => Trouble::Other,
        }
    }

    /// Whether it most likely meets every other file as well.
    pub fn is_of_all(self) -> bool {
        use Trouble::{NoDescriptors, NoInodes, NoSpace, Quota, ReadOnly};
        matches!(self, NoSpace | NoInodes | Quota | ReadOnly | NoDescriptors)
    }

    /// What mends it. All of it is tried again by itself.
    pub fn advice(self) -> &'static str {
        match self {
            Trouble::NoSpace => "make room, it goes on by itself",
            Trouble::NoInodes => {
                "the file system holds as many files as it can: delete some, it goes on by itself"
            }
            Trouble::Quota => "make room within the quota or raise it, it goes on by itself",
            Trouble::ReadOnly => {
                "see why the file system is read-only (`dmesg`) and mount it writable, it goes on \
                 by itself"
            }
            Trouble::NoPermission => "give this user the permission, it goes on by itself",
            Trouble::Disk => "the disk may be failing (`dmesg` tells); it is tried again",
            Trouble::NoDescriptors => {
                "too much is open: raise `ulimit -n`, or end what holds files open; it is tried again"
            }
            Trouble::TooLarge => {
                "raise `ulimit -f`, or move the share to a file system that takes files of this \
                 size; it is tried again"
            }
            Trouble::Name => {
                "this file system cannot hold such a name: rename it on the other side, or move \
                 the share to another file system; it is tried again"
            }
            Trouble::Other => "it is tried again",
        }
    }
}

/// Says that no file can be made although there is space.
#[derive(Debug)]
struct NoInodes;

impl fmt::Display for NoInodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("No inodes left on device")
    }
}

impl std::error::Error for NoInodes {}

/// The same error for no space and for no inodes is told apart while the file
/// system can be asked.
pub fn told_apart(disk: &impl Disk, error: io::Error) -> io::Error {
    // Some file systems have no fixed number of inodes, and say zero of zero.
    if Trouble::of(&error) == Trouble::NoSpace
        && disk
            .space()
            .is_ok_and(|space| space.total_files > 0 && space.free_files == 0)
    {
        return io::Error::new(io::ErrorKind::StorageFull, NoInodes);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_named_with_what_mends_it() {
        let check = |errno: Errno, trouble: Trouble| {
            let error = io::Error::from(errno);
            assert_eq!(Trouble::of(&error), trouble, "{error}");
        };
        check(Errno::NOSPC, Trouble::NoSpace);
        check(Errno::DQUOT, Trouble::Quota);
        check(Errno::FBIG, Trouble::TooLarge);
        check(Errno::ROFS, Trouble::ReadOnly);
        check(Errno::ACCESS, Trouble::NoPermission);
        check(Errno::PERM, Trouble::NoPermission);
        check(Errno::IO, Trouble::Disk);
        check(Errno::MFILE, Trouble::NoDescriptors);
        check(Errno::NFILE, Trouble::NoDescriptors);
        check(Errno::NAMETOOLONG, Trouble::Name);
        check(Errno::ILSEQ, Trouble::Name);
        check(Errno::INVAL, Trouble::Name);
        check(Errno::BUSY, Trouble::Other);
        let inodes = io::Error::new(io::ErrorKind::StorageFull, NoInodes);
        assert_eq!(Trouble::of(&inodes), Trouble::NoInodes);
    }
}
