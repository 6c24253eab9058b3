//! The file system of the kernel, by descriptors.

// The fields of a stat have other types on other architectures.
#![allow(clippy::unnecessary_cast)]

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, Timespec, Timestamps,
    UTIME_OMIT, chmodat, copy_file_range, fallocate, fchmod, fstat, fsync, ftruncate, futimens,
    linkat, mkdirat, openat, readlinkat, renameat, renameat_with, seek, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::{Content, Disk, Handle, Rename, Space, Stat, write_zeros};
use crate::entry::Mtime;
use crate::path::RelPath;
use crate::share::{DIR_FLAGS, Share};

/// Neither waits for the other end of a pipe nor takes a terminal over.
const AT_ONCE: OFlags = OFlags::NOFOLLOW
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

impl From<rustix::fs::Stat> for Stat {
    fn from(stat: rustix::fs::Stat) -> Self {
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            mode: stat.st_mode,
            links: stat.st_nlink as u64,
            size: stat.st_size as u64,
            mtime: Mtime {
                secs: stat.st_mtime as i64,
                nanos: stat.st_mtime_nsec as u32,
            },
            ctime: Mtime {
                secs: stat.st_ctime as i64,
                nanos: stat.st_ctime_nsec as u32,
            },
        }
    }
}

impl<T: AsFd> Handle for T {
    fn stat(&self) -> Result<Stat, Errno> {
        fstat(self).map(Stat::from)
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        fchmod(self, Mode::from_raw_mode(mode))
    }

    fn sync(&self) -> Result<(), Errno> {
        fsync(self)
    }
}

impl Content for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        rustix::io::pread(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        rustix::io::pwrite(self, bytes, offset)
    }

    fn set_len(&self, size: u64) -> Result<(), Errno> {
        ftruncate(self, size)
    }

    fn set_mtime(&self, mtime: Mtime) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.secs,
                tv_nsec: i64::from(mtime.nanos) as _,
            },
        };
        futimens(self, &times)
    }

    /// Moves the descriptor's own offset, which nothing here goes by.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>, Errno> {
        match seek(self, SeekFrom::Data(offset)) {
            Ok(data) => {
                let hole = seek(self, SeekFrom::Hole(data)).unwrap_or(u64::MAX);
                Ok(Some(data..hole.max(data + 1)))
            }
            Err(Errno::NXIO) => Ok(None),
            Err(_) => Ok(Some(offset..u64::MAX)),
        }
    }

    fn clear(&self, range: Range<u64>) -> Result<(), Errno> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(self, how, range.start, range.end - range.start) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(self, range),
            other => other,
        }
    }
}

impl Disk for Share {
    type Dir = OwnedFd;
    type File = File;

    fn state(&self) -> &OwnedFd {
        Share::state(self)
    }

    fn parts(&self) -> &OwnedFd {
        Share::parts(self)
    }

    fn trash(&self) -> &OwnedFd {
        Share::trash(self)
    }

    fn is_still_there(&self) -> bool {
        Share::is_still_there(self)
    }

    fn is_foreign(&self, stat: &Stat) -> bool {
        Share::is_foreign(self, stat)
    }

    fn folds_case(&self) -> bool {
        self.folds_case
    }

    fn open_dir(&self, path: Option<&RelPath>) -> Result<OwnedFd, Errno> {
        Share::open_dir(self, path)
    }

    fn open_file(&self, path: &RelPath) -> Result<File, Errno> {
        Share::open_file(self, path)
    }

    fn list(&self, folder: &OwnedFd) -> Result<Vec<Box<[u8]>>, Errno> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for item in rustix::fs::Dir::read_from(folder)? {
            let item = item?;
            let name = item.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.into());
            }
        }
        Ok(names)
    }

    fn stat_at(&self, folder: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
        statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from)
    }

    fn read_link(&self, folder: &OwnedFd, name: &[u8]) -> Result<Box<[u8]>, Errno> {
        let target = readlinkat(folder, name, Vec::new())?;
        Ok(target.into_bytes().into())
    }

    fn open_at(&self, folder: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
        let opened = openat(folder, name, AT_ONCE | OFlags::RDONLY, Mode::empty())?;
        Ok(File::from(opened))
    }

    fn open_dir_at(&self, folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        openat(folder, name, DIR_FLAGS, Mode::empty())
    }

    fn create(&self, folder: &OwnedFd, name: &[u8], mode: u32) -> Result<File, Errno> {
        let flags = AT_ONCE | OFlags::RDWR | OFlags::CREATE;
        let opened = openat(folder, name, flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(opened))
    }

    fn set_mode_at(&self, folder: &OwnedFd, name: &[u8], mode: u32) -> Result<(), Errno> {
        // By a descriptor that needs no permission to what is opened, so that nothing is
        // followed, and that an owner who has no permission gets to it.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(folder, name, flags, Mode::empty())?;
        if opened.stat()?.is_link() {
            return Err(Errno::OPNOTSUPP);
        }
        let named = format!("/proc/self/fd/{}", opened.as_raw_fd());
        chmodat(CWD, named, Mode::from_raw_mode(mode), AtFlags::empty())
    }

    fn make_dir(&self, folder: &OwnedFd, name: &[u8], mode: u32) -> Result<(), Errno> {
        mkdirat(folder, name, Mode::from_raw_mode(mode))
    }

    fn make_link(&self, folder: &OwnedFd, name: &[u8], target: &[u8]) -> Result<(), Errno> {
        symlinkat(target, folder, name)
    }

    fn link(&self, from: (&OwnedFd, &[u8]), to: (&OwnedFd, &[u8])) -> Result<(), Errno> {
        linkat(from.0, from.1, to.0, to.1, AtFlags::empty())
    }

    fn unlink(&self, folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        unlinkat(folder, name, AtFlags::empty())
    }

    fn remove_dir(&self, folder: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        unlinkat(folder, name, AtFlags::REMOVEDIR)
    }

    fn rename(
        &self,
        from: (&OwnedFd, &[u8]),
        to: (&OwnedFd, &[u8]),
        how: Rename,
    ) -> Result<(), Errno> {
        let flag = match how {
            // Older file systems know no flags at all, and older kernels not
            // the call that takes them.
            Rename::Plain => return renameat(from.0, from.1, to.0, to.1),
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        renameat_with(from.0, from.1, to.0, to.1, flag)
    }

    /// Within one file system this is a reflink where there are such.
    fn copy_some(&self, from: &File, to: &File, range: Range<u64>) -> Result<u64, Errno> {
        let len = (range.end - range.start) as usize;
        let (mut read, mut written) = (range.start, range.start);
        match copy_file_range(from, Some(&mut read), to, Some(&mut written), len) {
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(Errno::INTR) => return self.copy_some(from, to, range),
            other => return Ok(other? as u64),
        }
        let mut bytes = vec![0; len.min(128 * 1024)];
        let read = from.read_at(&mut bytes, range.start)?;
        to.write_whole_at(&bytes[..read], range.start)?;
        Ok(read as u64)
    }

    fn sync_all(&self) -> Result<(), Errno> {
        rustix::fs::syncfs(Share::parts(self))
    }

    /// Before Linux 5.8 `syncfs` hides what went wrong.
    fn sync_all_tells_errors(&self) -> bool {
        let uname = rustix::system::uname();
        let release = uname.release().to_string_lossy();
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|n| n.parse::<u32>().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
    }

    fn space(&self) -> Result<Space, Errno> {
        let found = rustix::fs::fstatvfs(Share::parts(self))?;
        Ok(Space {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_files: found.f_files,
            free_files: found.f_favail,
        })
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    /// On a busy machine it says what a look costs, where a clock says how
    /// long others were at work.
    fn thread_time(&self) -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.max(0) as u64, now.tv_nsec as u32)
    }

    /// Two threads keep a disk and two cores busy; more would only get in the
    /// way of the machine's owner.
    fn hash_threads(&self) -> usize {
        std::thread::available_parallelism().map_or(1, |cores| cores.get().min(2))
    }
}
