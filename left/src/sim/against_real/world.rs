//! Runs one call on one of the two file systems.

use rustix::io::Errno;

use super::ops::{Op, Op::*, SLOTS, UserOp};
use super::users::content;
use crate::disk::{Content, Disk, Handle, Stat};
use crate::entry::Mtime;
use crate::path::RelPath;

/// What a call answered, as far as it is the same on every file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// There is nothing to call, or the answer would depend on more than the
    /// simulation knows.
    Skipped,
    Bytes(Vec<u8>),
    Names(Vec<Box<[u8]>>),
    Stat {
        mode: u32,
        size_and_links: Option<(u64, u64)>,
        mtime: Option<i64>,
    },
}

fn answer(stat: &Stat) -> Answer {
    Answer::Stat {
        mode: stat.mode,
        size_and_links: (!stat.is_dir()).then_some((stat.size, stat.links)),
        // The mode of a link says nothing, and its times nobody sets.
        mtime: set_by_test(stat.mtime),
    }
}

/// A time that was set; `None` for one that came from a clock.
pub(super) fn set_by_test(mtime: Mtime) -> Option<i64> {
    (mtime.secs < 1_000_000).then_some(mtime.secs)
}

fn rel(path: &str) -> RelPath {
    RelPath::parse(path.as_bytes()).unwrap()
}

/// One of the two file systems, and what is open on it.
pub(super) struct World<'a, D: Disk> {
    disk: &'a D,
    user: &'a dyn Fn(UserOp) -> Result<(), Errno>,
    files: [Option<D::File>; SLOTS as usize],
    folders: [Option<D::Dir>; SLOTS as usize],
}

impl<'a, D: Disk> World<'a, D> {
    pub(super) fn new(disk: &'a D, user: &'a dyn Fn(UserOp) -> Result<(), Errno>) -> Self {
        Self {
            disk,
            user,
            files: Default::default(),
            folders: Default::default(),
        }
    }

    fn with_file(
        &self,
        slot: usize,
        work: impl FnOnce(&D::File) -> Result<Answer, Errno>,
    ) -> Result<Answer, Errno> {
        self.files[slot].as_ref().map_or(Ok(Answer::Skipped), work)
    }

    fn with_folder(
        &self,
        slot: usize,
        work: impl FnOnce(&D::Dir) -> Result<Answer, Errno>,
    ) -> Result<Answer, Errno> {
        self.folders[slot]
            .as_ref()
            .map_or(Ok(Answer::Skipped), work)
    }

    /// Whether a link is, or may be, on the way; the users of the simulation
    /// follow none.
    fn meets_link(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        ends.chain([path.len()])
            .any(|end| match self.disk.stat(&rel(&path[..end])) {
                Ok(stat) => stat.is_link(),
                Err(errno) => errno == Errno::ACCESS,
            })
    }

    pub(super) fn run(&mut self, op: Op) -> Result<Answer, Errno> {
        let disk = self.disk;
        let done = |()| Answer::Done;
        let parent = |path: &str| disk.open_parent(&rel(path));
        let last = |path: &'static str| path.rsplit('/').next().unwrap().as_bytes();
        match op {
            MakeDir(path) => disk.make_dir(&parent(path)?, last(path), 0o755).map(done),
            MakeLink(path, target) => disk
                .make_link(&parent(path)?, last(path), target.as_bytes())
                .map(done),
            MakeParent(path) => disk.make_parent(&rel(path)).map(|_| Answer::Done),
            Create(slot, path) => {
                self.files[slot] = Some(disk.create(&parent(path)?, last(path), 0o600)?);
                Ok(Answer::Done)
            }
            OpenAt(slot, path) => {
                self.files[slot] = Some(disk.open_at(&parent(path)?, last(path))?);
                Ok(Answer::Done)
            }
            OpenFile(slot, path) => {
                self.files[slot] = Some(disk.open_file(&rel(path))?);
                Ok(Answer::Done)
            }
            Write(slot, at, len) => self.with_file(slot, |file| {
                file.write_whole_at(&content(len, at), at).map(done)
            }),
            SetLen(slot, len) => self.with_file(slot, |file| file.set_len(len).map(done)),
            Read(slot, at, len) => self.with_file(slot, |file| {
                let mut bytes = vec![0; len];
                let read = file.read_at(&mut bytes, at)?;
                bytes.truncate(read);
                Ok(Answer::Bytes(bytes))
            }),
            SetMode(slot, mode) => self.with_file(slot, |file| file.set_mode(mode).map(done)),
            SetMtime(slot, secs) => self.with_file(slot, |file| {
                file.set_mtime(Mtime { secs, nanos: 5 }).map(done)
            }),
            Look(slot) => self.with_file(slot, |file| Ok(answer(&file.stat()?))),
            Sync(slot) => self.with_file(slot, |file| file.sync().map(done)),
            Copy(from, to) => match (&self.files[from], &self.files[to]) {
                (Some(from), Some(to)) if from.stat()?.is_file() => {
                    to.set_len(0)?;
                    // Both may be the same file by now.
                    disk.copy(from, to, &|| true).map(|_| Answer::Done)
                }
                _ => Ok(Answer::Skipped),
            },
            Hold(slot, path) => {
                self.folders[slot] = Some(disk.open_dir(Some(&rel(path)))?);
                Ok(Answer::Done)
            }
            HeldMakeDir(slot, name) => self.with_folder(slot, |folder| {
                disk.make_dir(folder, name.as_bytes(), 0o755).map(done)
            }),
            HeldCreate(slot, name) => self.with_folder(slot, |folder| {
                let made = disk.create(folder, name.as_bytes(), 0o600);
                made.map(|_| Answer::Done)
            }),
            HeldUnlink(slot, name) => self.with_folder(slot, |folder| {
                disk.unlink(folder, name.as_bytes()).map(done)
            }),
            HeldRename(slot, name, slot2, to, how) => self.with_folder(slot, |from| {
                self.with_folder(slot2, |folder| {
                    let (from, to) = ((from, name.as_bytes()), (folder, to.as_bytes()));
                    disk.rename(from, to, how).map(done)
                })
            }),
            HeldOpenDir(slot, name) => {
                let Some(folder) = &self.folders[slot] else {
                    return Ok(Answer::Skipped);
                };
                let below = disk.open_dir_at(folder, name.as_bytes())?;
                self.folders[slot] = Some(below);
                Ok(Answer::Done)
            }
            HeldList(slot) => self.with_folder(slot, |folder| names(disk, folder)),
            HeldSetMode(slot, mode) => {
                self.with_folder(slot, |folder| folder.set_mode(mode).map(done))
            }
            HeldSync(slot) => self.with_folder(slot, |folder| folder.sync().map(done)),
            SetModeAt(path, _) if self.meets_link(path) => Ok(Answer::Skipped),
            SetModeAt(path, mode) => disk.set_mode_at(&parent(path)?, last(path), mode).map(done),
            Link(from, to) => {
                let (from_dir, to_dir) = (parent(from)?, parent(to)?);
                disk.link((&from_dir, last(from)), (&to_dir, last(to)))
                    .map(done)
            }
            Unlink(path) => disk.unlink(&parent(path)?, last(path)).map(done),
            RemoveDir(path) => disk.remove_dir(&parent(path)?, last(path)).map(done),
            Move(from, to, how) => {
                let (from_dir, to_dir) = (parent(from)?, parent(to)?);
                disk.rename((&from_dir, last(from)), (&to_dir, last(to)), how)
                    .map(done)
            }
            List(path) => names(disk, &disk.open_dir(Some(&rel(path)))?),
            StatAt(path) => Ok(answer(&disk.stat(&rel(path))?)),
            ReadLink(path) => {
                let target = disk.read_link(&parent(path)?, last(path))?;
                Ok(Answer::Bytes(target.into()))
            }
            ByUser(op) => {
                let (path, other) = op.paths();
                let skip = [Some(path), other]
                    .into_iter()
                    .flatten()
                    .any(|path| self.meets_link(path));
                match skip {
                    true => Ok(Answer::Skipped),
                    false => (self.user)(op).map(done),
                }
            }
        }
    }
}

fn names<D: Disk>(disk: &D, folder: &D::Dir) -> Result<Answer, Errno> {
    let mut names = disk.list(folder)?;
    names.sort();
    Ok(Answer::Names(names))
}
