//! Walks a tree in order, without recursion and with few descriptors.
//!
//! A tree of a thousand folders inside each other must neither overflow the
//! stack nor use up the descriptors: only the innermost levels are kept open,
//! an outer one is opened again when the walk comes back to it.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use crate::beneath::{self, Identity};

/// Levels kept open; far below the 1,024 descriptors a process has at least.
const OPEN_LEVELS: usize = 64;

/// Something the walk came by.
pub struct Found {
    /// Relative to the root.
    pub path: Vec<u8>,
    /// Its folder and its name there.
    pub place: Option<(Arc<OwnedFd>, CString)>,
    /// What is known of it, or the trouble with it.
    pub what: Result<Stat, String>,
}

/// An ordered walk; folders come before what is in them.
pub struct Walk {
    root: Arc<OwnedFd>,
    device: u64,
    levels: Vec<Level>,
    /// Trouble to tell before the walk goes on.
    pending: Vec<Found>,
    path: Vec<u8>,
}

struct Level {
    folder: Option<Arc<OwnedFd>>,
    identity: Identity,
    names: std::vec::IntoIter<CString>,
    /// Length of `path` for this folder itself.
    path_bytes: usize,
}

impl Walk {
    /// Starts at a root; some names directly below it may be left out.
    pub fn new(root: OwnedFd, skip: &[Vec<u8>]) -> rustix::io::Result<Self> {
        let identity = Identity::of(&rustix::fs::fstat(&root)?);
        let root = Arc::new(root);
        let mut names = beneath::names(&root)?;
        names.retain(|name| !skip.iter().any(|skip| skip == name.as_bytes()));
        let level = Level {
            folder: Some(Arc::clone(&root)),
            identity,
            names: names.into_iter(),
            path_bytes: 0,
        };
        Ok(Self {
            root,
            device: identity.device,
            levels: vec![level],
            pending: Vec::new(),
            path: Vec::new(),
        })
    }

    fn next_found(&mut self) -> Option<Found> {
        if let Some(pending) = self.pending.pop() {
            return Some(pending);
        }
        loop {
            let level = self.levels.last_mut()?;
            self.path.truncate(level.path_bytes);
            let Some(name) = level.names.next() else {
                self.leave();
                if let Some(pending) = self.pending.pop() {
                    return Some(pending);
                }
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.as_bytes());
            // `leave` has opened it again or has removed the level.
            let Some(folder) = level.folder.clone() else {
                continue;
            };
            let stat = match beneath::look(&folder, &name) {
                Ok(stat) => stat,
                // Gone since the folder was listed: as if it had never been seen.
                Err(Errno::NOENT) => continue,
                Err(error) => return Some(self.trouble(error.into())),
            };
            let path = self.path.clone();
            if beneath::is_folder(&stat) {
                if Identity::of(&stat).device != self.device {
                    return Some(Found {
                        path,
                        place: None,
                        what: Err("another file system is mounted here".into()),
                    });
                }
                self.enter(&folder, &name, &stat);
            }
            return Some(Found {
                path,
                place: Some((folder, name)),
                what: Ok(stat),
            });
        }
    }

    fn enter(&mut self, parent: &Arc<OwnedFd>, name: &CString, stat: &Stat) {
        let opened = beneath::open_folder(parent, name)
            .and_then(|folder| Ok((beneath::names(&folder)?, folder)));
        let (names, folder) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let trouble = self.trouble(error.into());
                self.pending.push(trouble);
                return;
            }
        };
        self.levels.push(Level {
            folder: Some(Arc::new(folder)),
            identity: Identity::of(stat),
            names: names.into_iter(),
            path_bytes: self.path.len(),
        });
        if let Some(outer) = self.levels.len().checked_sub(OPEN_LEVELS) {
            self.levels[outer].folder = None;
        }
    }

    fn leave(&mut self) {
        let left = self.levels.pop();
        let Some(level) = self.levels.last() else {
            return;
        };
        if level.folder.is_some() {
            return;
        }
        let inner = left.and_then(|left| left.folder);
        let reopened = inner
            .and_then(|inner| self.step_out(&inner, level.identity))
            .or_else(|| self.open_again(level));
        let names_left = level.names.len();
        let path_bytes = level.path_bytes;
        match (reopened, self.levels.last_mut()) {
            (Some(folder), Some(level)) => level.folder = Some(Arc::new(folder)),
            (None, Some(level)) => {
                level.names = Vec::new().into_iter();
                if names_left > 0 {
                    self.path.truncate(path_bytes);
                    let what = Err("the folder was moved while it was read".into());
                    self.pending.push(Found {
                        path: self.path.clone(),
                        place: None,
                        what,
                    });
                }
            }
            (_, None) => {}
        }
    }

    /// The parent of an open folder, if it is still the one we came from.
    fn step_out(&self, inner: &OwnedFd, wanted: Identity) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let outer = openat(inner.as_fd(), "..", flags, Mode::empty()).ok()?;
        self.same(outer, wanted)
    }

    fn open_again(&self, level: &Level) -> Option<OwnedFd> {
        let path = self.path.get(..level.path_bytes)?;
        let outer = beneath::open(&self.root, path, beneath::DIRECTORY).ok()?;
        self.same(outer, level.identity)
    }

    fn same(&self, folder: OwnedFd, wanted: Identity) -> Option<OwnedFd> {
        let stat = rustix::fs::fstat(&folder).ok()?;
        (Identity::of(&stat) == wanted).then_some(folder)
    }

    fn trouble(&self, error: std::io::Error) -> Found {
        Found {
            path: self.path.clone(),
            place: None,
            what: Err(crate::fail::reason(&error)),
        }
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        self.next_found()
    }
}
