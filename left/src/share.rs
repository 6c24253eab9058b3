//! The share on disk: every system call relative to a directory descriptor,
//! nothing outside the share is ever touched, no symbolic link is followed and
//! no mount point crossed.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::disk::{Handle, Stat};
use crate::path::{RelPath, STATE_DIR};

/// The folder of partial files inside the state folder.
pub const PARTS_DIR: &str = "parts";

/// How long a lock is waited for at the start.
const LOCK_PATIENCE: Duration = Duration::from_millis(300);

/// The folder of what was removed lately, inside the state folder.
pub const TRASH_DIR: &str = "trash";

pub(crate) const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What helps against that, and not against something else.
fn open_advice(why: &std::io::Error) -> &'static str {
    match why.kind() {
        std::io::ErrorKind::NotFound => "create the directory or give another --share",
        std::io::ErrorKind::NotADirectory => "a share is a directory: give another --share",
        std::io::ErrorKind::PermissionDenied => {
            "let this user read, write and enter it, or give another --share"
        }
        _ => "give another --share",
    }
}

/// Why a directory cannot be used as a share; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// It does not exist or cannot be opened.
    #[error("cannot open share {path}: {source}; {}", open_advice(source))]
    Open {
        /// As the user gave it.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another daemon holds it.
    #[error("share {path} is in use by another left (see `left status --share {path}`)")]
    Locked {
        /// As the user gave it.
        path: String,
    },
    /// The state folder cannot be made or opened.
    #[error(
        "cannot use {path}/{STATE_DIR}: {source}; it must be a directory on the share's file system that this user can write"
    )]
    State {
        /// As the user gave it.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The open share.
pub struct Share {
    /// See [`crate::disk::Disk::folds_case`].
    pub(crate) folds_case: bool,
    path: PathBuf,
    root: OwnedFd,
    state: OwnedFd,
    parts: OwnedFd,
    trash: OwnedFd,
    device: u64,
    lacks_openat2: AtomicBool,
}

impl Share {
    /// Opens and locks the share, and makes its state folder.
    pub fn open(path: &Path) -> Result<Self, ShareError> {
        let named = crate::path::shown(path.as_os_str().as_encoded_bytes());
        let root = openat(
            CWD,
            path,
            DIR_FLAGS.difference(OFlags::NOFOLLOW),
            Mode::empty(),
        )
        .map_err(|errno| ShareError::Open {
            path: named.clone(),
            source: errno.into(),
        })?;
        let mut locked = rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive);
        // Somebody who asks whether a daemon runs holds the lock for a moment.
        let deadline = Instant::now() + LOCK_PATIENCE;
        while locked == Err(Errno::WOULDBLOCK) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            locked = rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive);
        }
        match locked {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ShareError::Locked { path: named }),
            Err(errno) => {
                return Err(ShareError::Open {
                    path: named,
                    source: errno.into(),
                });
            }
        }
        let in_state = |errno: Errno| ShareError::State {
            path: named.clone(),
            source: errno.into(),
        };
        let state = make_private(&root, STATE_DIR).map_err(in_state)?;
        let parts = make_private(&state, PARTS_DIR).map_err(in_state)?;
        let trash = make_private(&state, TRASH_DIR).map_err(in_state)?;
        let device = root.stat().map_err(in_state)?.dev;
        for folder in [&parts, &trash] {
            if folder.stat().map_err(in_state)?.dev != device {
                return Err(in_state(Errno::XDEV));
            }
        }
        // Its name in capitals is another name, or the same.
        let folds_case = statat(&root, STATE_DIR.to_uppercase(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| Ok(found.st_ino) == state.stat().map(|stat| stat.ino));
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Self {
            folds_case,
            path,
            root,
            state,
            parts,
            trash,
            device,
            lacks_openat2: AtomicBool::new(false),
        })
    }

    /// Whether a daemon holds the share at `path`.
    pub fn is_locked(path: &Path) -> std::io::Result<bool> {
        let root = openat(
            CWD,
            path,
            DIR_FLAGS.difference(OFlags::NOFOLLOW),
            Mode::empty(),
        )?;
        match rustix::fs::flock(&root, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of parts.
    pub fn parts(&self) -> &OwnedFd {
        &self.parts
    }

    /// The folder of what was removed lately.
    pub fn trash(&self) -> &OwnedFd {
        &self.trash
    }

    /// The state folder.
    pub fn state(&self) -> &OwnedFd {
        &self.state
    }

    /// Whether the directory under the share's name still is the one that was
    /// opened, and still holds our state folder. If not, nothing seen in it
    /// may be taken for a deletion.
    pub fn is_still_there(&self) -> bool {
        let same = |a: &Stat, b: &Stat| (a.dev, a.ino) == (b.dev, b.ino);
        let named = statat(CWD, &self.path, AtFlags::empty()).map(Stat::from);
        let inside = statat(&self.root, STATE_DIR, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from);
        match (named, self.root.stat(), inside, self.state.stat()) {
            (Ok(named), Ok(root), Ok(inside), Ok(state)) => {
                same(&named, &root) && same(&inside, &state)
            }
            _ => false,
        }
    }

    /// Opens a folder of the share; `None` is the share itself.
    pub fn open_dir(&self, path: Option<&RelPath>) -> Result<OwnedFd, Errno> {
        match path {
            None => openat(&self.root, ".", DIR_FLAGS, Mode::empty()),
            Some(path) => self.resolve(path.as_bytes(), DIR_FLAGS),
        }
    }

    /// Opens a regular file for reading; never waits on a pipe or device.
    pub fn open_file(&self, path: &RelPath) -> Result<File, Errno> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.resolve(path.as_bytes(), flags)?;
        if !file.stat()?.is_file() {
            return Err(Errno::INVAL);
        }
        Ok(File::from(file))
    }

    /// Whether a stat is of another file system than the share's.
    pub fn is_foreign(&self, stat: &Stat) -> bool {
        stat.dev != self.device
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        if !self.lacks_openat2.load(Ordering::Relaxed) {
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            match openat2(&self.root, path, flags, Mode::empty(), how) {
                // Older kernels do not know it, some sandboxes forbid it.
                Err(Errno::NOSYS | Errno::PERM) => {
                    self.lacks_openat2.store(true, Ordering::Relaxed)
                }
                // A rename elsewhere made the kernel unsure; it says to ask again.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        self.resolve_by_component(path, flags)
    }

    fn resolve_by_component(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut folder: Option<OwnedFd> = None;
        let mut names = path.split(|b| *b == b'/').peekable();
        while let Some(name) = names.next() {
            let flags = if names.peek().is_some() {
                DIR_FLAGS
            } else {
                flags | OFlags::NOFOLLOW
            };
            let above = folder.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let next = openat(above, name, flags, Mode::empty())?;
            if self.is_foreign(&next.stat()?) {
                return Err(Errno::XDEV);
            }
            folder = Some(next);
        }
        folder.ok_or(Errno::NOENT)
    }
}

fn make_private(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::from(0o700)) {
        // Durable before anything of a user can lie in it.
        Ok(()) => parent.sync()?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let folder = openat(parent, name, DIR_FLAGS, Mode::empty())?;
    if folder.stat()?.permissions() != 0o700 {
        rustix::fs::fchmod(&folder, Mode::from(0o700))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Disk;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn links_are_never_followed_with_or_without_openat2() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "x").unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/file"), "y").unwrap();
        symlink(outside.path(), dir.path().join("way")).unwrap();
        symlink("real/file", dir.path().join("near")).unwrap();
        let share = Share::open(dir.path()).unwrap();
        for lacks in [false, true] {
            share.lacks_openat2.store(lacks, Ordering::Relaxed);
            assert!(share.open_file(&path("real/file")).is_ok());
            assert!(share.open_file(&path("way/secret")).is_err());
            assert!(share.stat(&path("way/secret")).is_err());
            assert!(share.make_parent(&path("way/new/file")).is_err());
            assert!(share.open_file(&path("near")).is_err());
            assert!(share.open_file(&path("real")).is_err());
            assert!(share.make_parent(&path("x/y/z")).is_ok());
        }
        assert!(!outside.path().join("new").exists());
        assert!(dir.path().join("x/y").is_dir());
    }

    #[test]
    fn a_second_holder_is_refused_and_the_state_is_private() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Share::is_locked(dir.path()).unwrap());
        let share = Share::open(dir.path()).unwrap();
        assert!(matches!(
            Share::open(dir.path()),
            Err(ShareError::Locked { .. })
        ));
        assert!(Share::is_locked(dir.path()).unwrap());
        let mode = std::fs::metadata(dir.path().join(".left/parts"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(share.is_still_there());
        std::fs::remove_dir_all(dir.path().join(".left")).unwrap();
        assert!(!share.is_still_there());
    }

    #[test]
    fn a_question_whether_it_runs_does_not_keep_it_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let asking = openat(CWD, dir.path(), DIR_FLAGS, Mode::empty()).unwrap();
        rustix::fs::flock(&asking, FlockOperation::NonBlockingLockShared).unwrap();
        let asks = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(asking);
        });
        assert!(Share::open(dir.path()).is_ok());
        asks.join().unwrap();
    }
}
