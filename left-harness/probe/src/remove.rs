//! Removes a folder with all that is in it, and nothing else.
//!
//! Never follows a link, never leaves the file system, never recurses on the
//! stack: a thousand folders inside each other go as one.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::beneath::{self, Identity};
use crate::fail::reason;

/// Folders inside each other; a path of 255-byte names cannot be made deeper in any sane tree.
const DEPTH_MAX: usize = 100_000;

struct Level {
    name: CString,
    identity: Identity,
    /// What could not be removed from it; the folder itself then stays too.
    kept: bool,
    names: std::vec::IntoIter<CString>,
}

/// Empties an open folder but for one name directly in it. Gives the first reason why something is left.
///
/// A folder that somebody fills faster than it is emptied is moved to another name, directly in `root`: then
/// whoever fills it by its path cannot any more, and the next try removes it.
pub fn empty(root: &OwnedFd, keep: &[u8]) -> Result<(), String> {
    let why = |error: Errno| reason(&error.into());
    let identity = Identity::of(&fstat(root).map_err(why)?);
    let mut names = beneath::names(root).map_err(why)?;
    names.retain(|name| name.as_bytes() != keep);
    let mut levels = vec![Level {
        name: CString::default(),
        identity,
        kept: false,
        names: names.into_iter(),
    }];
    let mut folder = root.try_clone().map_err(|error| reason(&error))?;
    let mut first_trouble = None;
    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else {
            break;
        };
        let Some(name) = level.names.next() else {
            let Some(done) = levels.pop() else { break };
            let Some(outer) = levels.last_mut() else {
                break;
            };
            folder = step_out(&folder, outer.identity)?;
            if done.kept {
                outer.kept = true;
            } else if let Err(error) = unlinkat(&folder, done.name.as_c_str(), AtFlags::REMOVEDIR)
                && error != Errno::NOENT
            {
                outer.kept = true;
                if matches!(error, Errno::NOTEMPTY | Errno::EXIST) {
                    move_aside(root, &folder, &done.name);
                }
                first_trouble.get_or_insert_with(|| {
                    format!(
                        "cannot remove folder {}: {}",
                        done.name.to_string_lossy(),
                        why(error)
                    )
                });
            }
            continue;
        };
        match remove_one(&folder, &name, identity.device) {
            Ok(None) => {}
            Ok(Some((inner, identity))) if depth < DEPTH_MAX => {
                let names = beneath::names(&inner).map_err(why)?;
                levels.push(Level {
                    name,
                    identity,
                    kept: false,
                    names: names.into_iter(),
                });
                folder = inner;
            }
            Ok(Some(_)) => return Err(format!("more than {DEPTH_MAX} folders inside each other")),
            Err(trouble) => {
                level.kept = true;
                first_trouble.get_or_insert_with(|| {
                    format!("cannot remove {}: {trouble}", name.to_string_lossy())
                });
            }
        }
    }
    first_trouble.map_or(Ok(()), Err)
}

/// Best effort: where it cannot be moved, it stays for the next try as it is.
fn move_aside(root: &OwnedFd, folder: &OwnedFd, name: &CString) {
    for number in 0..1000 {
        let aside = format!(".removing-{}-{number}", std::process::id());
        match statat(root, aside.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                let _ = renameat(folder, name.as_c_str(), root, aside.as_str());
                return;
            }
            _ => continue,
        }
    }
}

/// Removes a file; a folder is given back to be emptied first.
fn remove_one(
    folder: &OwnedFd,
    name: &CString,
    device: u64,
) -> Result<Option<(OwnedFd, Identity)>, String> {
    let why = |error: Errno| reason(&error.into());
    let stat = match beneath::look(folder, name) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(why(error)),
    };
    if !beneath::is_folder(&stat) {
        return match unlink(folder, name) {
            Ok(()) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(why(error)),
        };
    }
    let identity = Identity::of(&stat);
    if identity.device != device {
        return Err("another file system is mounted there".into());
    }
    let inner = match beneath::open_folder(folder, name) {
        Err(Errno::ACCESS) => {
            make_ours(folder, name).map_err(why)?;
            beneath::open_folder(folder, name)
        }
        other => other,
    };
    let inner = inner.map_err(why)?;
    if Identity::of(&fstat(&inner).map_err(why)?) != identity {
        return Err("it was replaced meanwhile".into());
    }
    Ok(Some((inner, identity)))
}

fn unlink(folder: &OwnedFd, name: &CString) -> Result<(), Errno> {
    match unlinkat(folder, name.as_c_str(), AtFlags::empty()) {
        // Somebody took our right to write from the folder.
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(folder, Mode::RWXU)?;
            unlinkat(folder, name.as_c_str(), AtFlags::empty())
        }
        other => other,
    }
}

/// Gives us a folder that we own but may not enter. The descriptor sees to it that no link is followed.
fn make_ours(folder: &OwnedFd, name: &CString) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = openat(folder, name.as_c_str(), flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", place.as_raw_fd()), Mode::RWXU)
}

fn step_out(inner: &OwnedFd, wanted: Identity) -> Result<OwnedFd, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let outer =
        openat(inner.as_fd(), "..", flags, Mode::empty()).map_err(|error| reason(&error.into()))?;
    let stat = fstat(&outer).map_err(|error| reason(&error.into()))?;
    if Identity::of(&stat) == wanted {
        Ok(outer)
    } else {
        Err("a folder was moved while it was removed".into())
    }
}
