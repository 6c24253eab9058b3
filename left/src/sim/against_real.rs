//! The simulated file system compared with the real one: random lists of calls
//! have the same answers and leave the same tree.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::machine::{Config, Machine};
use super::rng::Rng;
use super::{Item, Tree};
use crate::disk::{Content, Disk, Handle, Rename, Stat};
use crate::entry::Mtime;
use crate::path::RelPath;
use crate::share::Share;

/// One call. What it prints as can be pasted into a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    MakeDir(&'static str),
    MakeLink(&'static str, &'static str),
    MakeParent(&'static str),
    Create(usize, &'static str),
    OpenAt(usize, &'static str),
    OpenFile(usize, &'static str),
    Write(usize, u64, usize),
    SetLen(usize, u64),
    Read(usize, u64, usize),
    SetMode(usize, u32),
    SetMtime(usize, i64),
    Look(usize),
    Sync(usize),
    Copy(usize, usize),
    Hold(usize, &'static str),
    HeldMakeDir(usize, &'static str),
    HeldCreate(usize, &'static str),
    HeldUnlink(usize, &'static str),
    HeldRename(usize, &'static str, usize, &'static str, Rename),
    HeldOpenDir(usize, &'static str),
    HeldList(usize),
    HeldSetMode(usize, u32),
    HeldSync(usize),
    SetModeAt(&'static str, u32),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    RemoveDir(&'static str),
    Move(&'static str, &'static str, Rename),
    List(&'static str),
    StatAt(&'static str),
    ReadLink(&'static str),
    ByUser(UserOp),
}

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UserOp {
    Save(&'static str, usize),
    Overwrite(&'static str, u64, usize),
    Append(&'static str, usize),
    Truncate(&'static str, u64),
    Delete(&'static str),
    Mv(&'static str, &'static str),
    Mkdir(&'static str),
    Rmdir(&'static str),
    Chmod(&'static str, u32),
    Touch(&'static str, i64),
    Symlink(&'static str, &'static str),
    Hardlink(&'static str, &'static str),
}

use Op::*;
use UserOp::*;

const PATHS: &[&str] = &[
    "a", "b", "c", "a/a", "a/b", "a/c", "b/a", "b/b", "c/a", "a/a/a", "a/b/c", "b/a/b", "a/a/a/a",
    "b/a/b/c",
];
const NAMES: &[&str] = &["a", "b", "x"];
const MODES: &[u32] = &[
    0o644, 0o600, 0o755, 0o700, 0o444, 0o500, 0o300, 0o000, 0o1777,
];
const RENAMES: &[Rename] = &[Rename::Plain, Rename::NoReplace, Rename::Exchange];
const SLOTS: u64 = 3;

fn some_op(rng: &mut Rng) -> Op {
    let path = *rng.pick(PATHS);
    let other = *rng.pick(PATHS);
    let (name, to) = (*rng.pick(NAMES), *rng.pick(NAMES));
    let mode = *rng.pick(MODES);
    let how = *rng.pick(RENAMES);
    let (slot, slot2) = (rng.below(SLOTS) as usize, rng.below(SLOTS) as usize);
    let at = rng.below(1500);
    let len = rng.below(1200) as usize;
    let secs = rng.below(1000) as i64;
    match rng.below(200) {
        0..14 => MakeDir(path),
        14..18 => MakeLink(path, other),
        18..22 => MakeParent(path),
        22..34 => Create(slot, path),
        34..40 => OpenAt(slot, path),
        40..46 => OpenFile(slot, path),
        46..60 => Write(slot, at, len),
        60..64 => SetLen(slot, at),
        64..70 => Read(slot, at, len),
        70..73 => SetMode(slot, mode),
        73..77 => SetMtime(slot, secs),
        77..81 => Look(slot),
        81 => Sync(slot),
        82 => Copy(slot, slot2),
        83..90 => Hold(slot, path),
        90..94 => HeldMakeDir(slot, name),
        94..97 => HeldCreate(slot, name),
        97..99 => HeldUnlink(slot, name),
        99..104 => HeldRename(slot, name, slot2, to, how),
        104..106 => HeldOpenDir(slot, name),
        106..108 => HeldList(slot),
        108..110 => HeldSetMode(slot, mode),
        110 => HeldSync(slot),
        111..114 => SetModeAt(path, mode),
        114..119 => Link(path, other),
        119..123 => Unlink(path),
        123..126 => RemoveDir(path),
        126..146 => Move(path, other, how),
        146..149 => List(path),
        149..152 => StatAt(path),
        152..154 => ReadLink(path),
        _ => ByUser(match rng.below(24) {
            0..5 => Save(path, len),
            5..7 => Overwrite(path, at, len),
            7..9 => Append(path, len),
            9..11 => Truncate(path, at),
            11..13 => Delete(path),
            13..16 => Mv(path, other),
            16..18 => Mkdir(path),
            18 => Rmdir(path),
            19..21 => Chmod(path, mode),
            21 => Touch(path, secs),
            22 => Symlink(other, path),
            _ => Hardlink(path, other),
        }),
    }
}

/// What a call answered, as far as it is the same on every file system.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
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
fn set_by_test(mtime: Mtime) -> Option<i64> {
    (mtime.secs < 1_000_000).then_some(mtime.secs)
}

fn content(len: usize, salt: u64) -> Vec<u8> {
    (0..len).map(|n| (n as u64 * 7 + salt) as u8 | 1).collect()
}

fn rel(path: &str) -> RelPath {
    RelPath::parse(path.as_bytes()).unwrap()
}

/// One of the two file systems, and what is open on it.
struct World<'a, D: Disk> {
    disk: &'a D,
    user: &'a dyn Fn(UserOp) -> Result<(), Errno>,
    files: [Option<D::File>; SLOTS as usize],
    folders: [Option<D::Dir>; SLOTS as usize],
}

impl<'a, D: Disk> World<'a, D> {
    fn new(disk: &'a D, user: &'a dyn Fn(UserOp) -> Result<(), Errno>) -> Self {
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

    /// Whether a link is on the way; the users of the simulation follow none.
    fn meets_link(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| {
            let found = self.disk.stat(&rel(&path[..end]));
            found.is_ok_and(|stat| stat.is_link())
        })
    }

    fn run(&mut self, op: Op) -> Result<Answer, Errno> {
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
                    disk.copy(from, to).map(done)
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

impl UserOp {
    fn paths(self) -> (&'static str, Option<&'static str>) {
        match self {
            Mv(from, to) | Hardlink(from, to) => (from, Some(to)),
            Save(path, _)
            | Overwrite(path, ..)
            | Append(path, _)
            | Truncate(path, _)
            | Delete(path)
            | Mkdir(path)
            | Rmdir(path)
            | Chmod(path, _)
            | Touch(path, _)
            | Symlink(_, path) => (path, None),
        }
    }
}

fn by_simulated_user(machine: &Machine, op: UserOp) -> Result<(), Errno> {
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
fn by_real_user(root: &Path, op: UserOp) -> Result<(), Errno> {
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

/// A real folder that can be removed whatever its modes have become.
struct RealFolder(tempfile::TempDir);

impl Drop for RealFolder {
    fn drop(&mut self) {
        use std::os::unix::fs::PermissionsExt;
        let mut todo: Vec<PathBuf> = vec![self.0.path().to_owned()];
        while let Some(folder) = todo.pop() {
            let _ = std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700));
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push(entry.path());
                }
            }
        }
    }
}

/// Runs a list on both; what differs first.
fn difference(ops: &[Op]) -> Option<String> {
    let folder = RealFolder(tempfile::tempdir().unwrap());
    let root = folder.0.path();
    let share = Share::open(root).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    let config = Config {
        is_root,
        ..Config::default()
    };
    let machine = Machine::new(1, config);
    let disk = machine.start().unwrap();
    let real_user = |op| by_real_user(root, op);
    let sim_user = |op| by_simulated_user(&machine, op);
    let mut real = World::new(&share, &real_user);
    let mut sim = World::new(&disk, &sim_user);
    for (n, op) in ops.iter().enumerate() {
        let (expected, found) = (real.run(*op), sim.run(*op));
        if expected != found {
            return Some(format!(
                "{n}: {op:?} is {expected:?}, but simulated {found:?}"
            ));
        }
    }
    let expected = without_clock(Tree::of_folder(root).unwrap());
    let found = without_clock(machine.tree());
    (expected != found).then(|| format!("the tree is\n{expected:#?}\nbut simulated\n{found:#?}"))
}

/// A tree in which times from a clock are all the same.
fn without_clock(mut tree: Tree) -> Tree {
    for item in tree.0.values_mut() {
        if let Item::File { mtime, .. } | Item::Dir { mtime, .. } = item
            && set_by_test(*mtime).is_none()
        {
            *mtime = Mtime::default();
        }
    }
    tree
}

/// The shortest part of a list that still differs.
fn shrunk(mut ops: Vec<Op>) -> Vec<Op> {
    let mut chunk = ops.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + chunk).min(ops.len()));
            if difference(&fewer).is_some() {
                ops = fewer;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    ops
}

/// As it can be pasted into a test.
fn as_code(ops: &[Op]) -> String {
    let lines: String = ops.iter().map(|op| format!("    {op:?},\n")).collect();
    let lines = lines
        .replace(", Plain)", ", Rename::Plain)")
        .replace(", NoReplace)", ", Rename::NoReplace)")
        .replace(", Exchange)", ", Rename::Exchange)");
    format!("assert_eq!(difference(&[\n{lines}]), None);")
}

fn compare(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut rng = Rng::new(seed);
        let count = 10 + rng.below(50);
        let ops: Vec<Op> = (0..count).map(|_| some_op(&mut rng)).collect();
        if difference(&ops).is_some() {
            let ops = shrunk(ops);
            let text = difference(&ops).unwrap_or_else(|| "it no longer differs".to_owned());
            panic!("seed {seed}: {text}\n{}", as_code(&ops));
        }
    }
}

/// Whether folders are made with the mode that is asked for.
fn umask_is_usual() -> bool {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    std::fs::create_dir(&made).unwrap();
    let mode = std::fs::metadata(made).unwrap().permissions().mode();
    mode & 0o777 == 0o755
}

#[test]
fn the_simulated_file_system_answers_as_the_real_one() {
    if !umask_is_usual() {
        eprintln!("skipped: the simulation knows no umask but 022");
        return;
    }
    let lists = std::env::var("LEFT_SIM_LISTS").ok();
    let lists = lists.and_then(|text| text.parse().ok()).unwrap_or(2000);
    let first = std::env::var("LEFT_SIM_SEED").ok();
    let first = first.and_then(|text| text.parse().ok()).unwrap_or(0);
    compare(first..first + lists);
}
