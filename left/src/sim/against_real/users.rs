//! What a user does, on a simulated machine and on a real one.

use std::path::Path;

use rustix::io::Errno;

use super::ops::{UserOp, UserOp::*};
use crate::entry::Mtime;
use crate::sim::Machine;

/// Bytes that differ from each other and are never zero.
pub(super) fn content(len: usize, salt: u64) -> Vec<u8> {
    (0..len).map(|n| (n as u64 * 7 + salt) as u8 | 1).collect()
}

pub(super) fn by_simulated_user(machine: &Machine, op: UserOp) -> Result<(), Errno> {
    let user = machine.user();
    match op {
        Save(path, len) => user.write(path, &content(len, 3)),
        Overwrite(path, at, len) => user.overwrite(path, &content(len, at), at),
        Append(path, len) => user.append(path, &content(len, 9)),
        Truncate(path, len) => user.truncate(path, len),
        Delete(path) => user.delete(path),
        Mv(from, to) => user.rename(from, to),
        Mkdir(path) => user.mkdir(path),
        Rmdir(path) => user.rmdir(path),
        Chmod(path, mode) => user.chmod(path, mode),
        Touch(path, secs) => user.touch(path, Mtime { secs, nanos: 5 }),
        Symlink(target, path) => user.symlink(target, path),
        Hardlink(from, to) => user.link(from, to),
    }
}

/// By the standard library, so that nothing under test is used.
pub(super) fn by_real_user(root: &Path, op: UserOp) -> Result<(), Errno> {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{FileExt, PermissionsExt};
    let at = |path: &str| root.join(path);
    let open = |path: &str| {
        let is_new = fs::symlink_metadata(at(path)).is_err();
        let mut options = fs::File::options();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(at(path))?;
        if is_new {
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        std::io::Result::Ok(file)
    };
    let done: std::io::Result<()> = match op {
        Save(path, len) => open(path).and_then(|mut file| {
            file.set_len(0)?;
            file.write_all(&content(len, 3))
        }),
        Overwrite(path, offset, len) => {
            open(path).and_then(|file| file.write_all_at(&content(len, offset), offset))
        }
        Append(path, len) => open(path).and_then(|file| {
            let end = file.metadata()?.len();
            file.write_all_at(&content(len, 9), end)
        }),
        Truncate(path, len) => open(path).and_then(|file| file.set_len(len)),
        Delete(path) => fs::remove_file(at(path)),
        Mv(from, to) => fs::rename(at(from), at(to)),
        Mkdir(path) => fs::create_dir(at(path)),
        Rmdir(path) => fs::remove_dir(at(path)),
        Chmod(path, mode) => fs::set_permissions(at(path), fs::Permissions::from_mode(mode)),
        Touch(path, secs) => {
            use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
            let times = Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                last_modification: Timespec {
                    tv_sec: secs,
                    tv_nsec: 5,
                },
            };
            utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
        }
        Symlink(target, path) => std::os::unix::fs::symlink(target, at(path)),
        Hardlink(from, to) => fs::hard_link(at(from), at(to)),
    };
    done.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
