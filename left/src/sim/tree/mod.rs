//! The file system itself: inodes, their names, and what each call does to
//! them, with the answers that Linux gives.

mod keep;
mod rename;

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::data::SECTOR;
use super::inode::{DataChange, Id, Inode, Kind, Meta, Name};
use super::machine::Config;
use super::names::{Effect, NameChange, NameLog};
use super::rng::Rng;
use crate::disk::Stat;
use crate::entry::Mtime;

/// The folder above all.
pub(super) const ROOT: Id = 1;

/// Links, folders and files count as one sector each where space is bounded.
const INODE_BYTES: u64 = SECTOR as u64;

const NAME_BYTES_MAX: usize = 255;

#[derive(Debug, Clone)]
pub(super) struct FileSystem {
    pub(super) config: Config,
    pub(super) inodes: BTreeMap<Id, Inode>,
    pub(super) log: NameLog,
    pub(super) rng: Rng,
    next_id: Id,
    next_ino: u64,
    free_inos: Vec<u64>,
    created: u32,
    /// Since the machine was made.
    pub(super) elapsed_nanos: u64,
    /// What the clock on the wall says at the beginning, in nanoseconds.
    pub(super) wall_nanos: i128,
}

impl FileSystem {
    pub(super) fn new(seed: u64, config: Config) -> Self {
        let mut this = Self {
            config,
            inodes: BTreeMap::new(),
            log: NameLog::default(),
            rng: Rng::new(seed),
            next_id: ROOT,
            next_ino: 2,
            free_inos: Vec::new(),
            created: 0,
            elapsed_nanos: 0,
            // Some day in 2001.
            wall_nanos: 1_000_000_000_000_000_000,
        };
        this.make(Kind::Dir, 0o755, ROOT);
        if let Some(root) = this.inodes.get_mut(&ROOT) {
            root.links = 1;
        }
        this
    }

    /// The time of day, to the nanosecond.
    pub(super) fn wall_nanos(&self) -> i128 {
        self.wall_nanos + i128::from(self.elapsed_nanos)
    }

    /// The time of day as the file system writes it down.
    pub(super) fn timestamp(&self) -> Mtime {
        let step = self.config.timestamp_step.as_nanos().max(1) as i128;
        let nanos = self.wall_nanos().div_euclid(step) * step;
        Mtime {
            secs: nanos.div_euclid(1_000_000_000) as i64,
            nanos: nanos.rem_euclid(1_000_000_000) as u32,
        }
    }

    pub(super) fn tick(&mut self) {
        self.elapsed_nanos += self.config.tick.as_nanos() as u64;
    }

    fn make(&mut self, kind: Kind, mode: u32, parent: Id) -> Id {
        let ino = self.free_inos.pop().unwrap_or_else(|| {
            self.next_ino += 1;
            self.next_ino
        });
        let (id, now) = (self.next_id, self.timestamp());
        self.next_id += 1;
        let meta = Meta {
            mode,
            mtime: now,
            ctime: now,
        };
        self.inodes.insert(id, Inode::new(ino, kind, meta, parent));
        self.created += 1;
        if self.created >= 256 {
            self.created = 0;
            self.forget_unreachable(id);
        }
        id
    }

    pub(super) fn get(&self, id: Id) -> &Inode {
        &self.inodes[&id]
    }

    pub(super) fn get_mut(&mut self, id: Id) -> &mut Inode {
        self.inodes.get_mut(&id).expect("an inode that is in use")
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let live = self
            .inodes
            .values()
            .filter(|inode| inode.links > 0 || inode.open > 0);
        live.map(|inode| INODE_BYTES + inode.data.allocated_bytes())
            .sum()
    }

    fn make_room(&self, bytes: u64) -> Result<(), Errno> {
        match self.config.capacity_bytes {
            Some(bound) if self.used_bytes() + bytes > bound => Err(Errno::NOSPC),
            _ => Ok(()),
        }
    }

    /// Whether the owner may do this: 4 read, 2 write, 1 enter.
    pub(super) fn may(&self, id: Id, what: u32) -> Result<(), Errno> {
        let mode = self.get(id).meta.mode >> 6;
        match self.config.is_root || mode & what == what {
            true => Ok(()),
            false => Err(Errno::ACCESS),
        }
    }

    fn find(&self, folder: Id, name: &[u8]) -> Result<Option<Id>, Errno> {
        if !self.get(folder).is_dir() {
            return Err(Errno::NOTDIR);
        }
        self.may(folder, 1)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let name = self.spelled(folder, name);
        Ok(self.get(folder).names.get(&*name).copied())
    }

    /// A name as the folder has it.
    fn spelled(&self, folder: Id, name: &[u8]) -> Name {
        let mut there = self.get(folder).names.keys();
        let same = |other: &&Name| self.config.folds_case && other.eq_ignore_ascii_case(name);
        there.find(same).cloned().unwrap_or_else(|| name.into())
    }

    pub(super) fn lookup(&self, folder: Id, name: &[u8]) -> Result<Id, Errno> {
        self.find(folder, name)?.ok_or(Errno::NOENT)
    }

    /// The folder at the end of a path; no link is followed.
    pub(super) fn walk<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> Result<Id, Errno> {
        let mut at = ROOT;
        let mut names = names.peekable();
        while let Some(name) = names.next() {
            at = self.lookup(at, name)?;
            let inode = self.get(at);
            if inode.is_link() && names.peek().is_some() {
                return Err(Errno::LOOP);
            }
        }
        Ok(at)
    }

    /// Whether a name can be added to a folder.
    fn may_add(&self, folder: Id) -> Result<(), Errno> {
        if self.get(folder).links == 0 {
            return Err(Errno::NOENT);
        }
        self.may(folder, 3)
    }

    fn may_take(&self, folder: Id, victim: Id, as_folder: bool) -> Result<(), Errno> {
        self.may(folder, 3)?;
        match (as_folder, self.get(victim).is_dir()) {
            (true, false) => Err(Errno::NOTDIR),
            (false, true) => Err(Errno::ISDIR),
            _ => Ok(()),
        }
    }

    pub(super) fn stat(&self, id: Id) -> Stat {
        let inode = self.get(id);
        Stat {
            dev: 1,
            ino: inode.ino,
            mode: inode.full_mode(),
            links: inode.links,
            size: inode.size(),
            mtime: inode.meta.mtime,
            ctime: inode.meta.ctime,
        }
    }

    pub(super) fn open(&mut self, id: Id, write: bool) -> Result<Id, Errno> {
        if self.get(id).is_link() {
            return Err(Errno::LOOP);
        }
        self.may(id, if write { 6 } else { 4 })?;
        self.get_mut(id).open += 1;
        Ok(id)
    }

    /// Opens a file to be read and written, and makes it if there is none.
    pub(super) fn create(&mut self, folder: Id, name: &[u8], mode: u32) -> Result<Id, Errno> {
        if let Some(id) = self.find(folder, name)? {
            if self.get(id).is_dir() {
                return Err(Errno::ISDIR);
            }
            return self.open(id, true);
        }
        let id = self.add(folder, name, Kind::File, mode)?;
        // Whoever makes a file may write it, whatever its mode is.
        self.get_mut(id).open += 1;
        Ok(id)
    }

    /// Makes something that did not exist.
    pub(super) fn add(
        &mut self,
        folder: Id,
        name: &[u8],
        kind: Kind,
        mode: u32,
    ) -> Result<Id, Errno> {
        if self.find(folder, name)?.is_some() {
            return Err(Errno::EXIST);
        }
        self.may_add(folder)?;
        self.make_room(INODE_BYTES)?;
        let id = self.make(kind, mode, folder);
        self.change_names(vec![(folder, name, Some(id))], None, false);
        Ok(id)
    }

    pub(super) fn link(&mut self, from: (Id, &[u8]), to: (Id, &[u8])) -> Result<(), Errno> {
        let id = self.lookup(from.0, from.1)?;
        if self.find(to.0, to.1)?.is_some() {
            return Err(Errno::EXIST);
        }
        self.may_add(to.0)?;
        if self.get(id).is_dir() {
            return Err(Errno::PERM);
        }
        self.change_names(vec![(to.0, to.1, Some(id))], None, false);
        self.touch_ctime(id);
        Ok(())
    }

    pub(super) fn unlink(&mut self, folder: Id, name: &[u8]) -> Result<(), Errno> {
        let id = self.lookup(folder, name)?;
        self.may_take(folder, id, false)?;
        self.change_names(vec![(folder, name, None)], None, false);
        self.touch_ctime(id);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, folder: Id, name: &[u8]) -> Result<(), Errno> {
        let id = self.lookup(folder, name)?;
        self.may_take(folder, id, true)?;
        if !self.get(id).names.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.change_names(vec![(folder, name, None)], Some(id), false);
        Ok(())
    }

    fn touch_ctime(&mut self, id: Id) {
        let now = self.timestamp();
        let inode = self.get_mut(id);
        let meta = Meta {
            ctime: now,
            ..inode.meta
        };
        inode.change_meta(meta);
    }

    fn change_names(
        &mut self,
        effects: Vec<(Id, &[u8], Option<Id>)>,
        removed: Option<Id>,
        moves_folder: bool,
    ) {
        let now = self.timestamp();
        let mut logged = Vec::new();
        for (folder, name, id) in effects {
            let name = self.spelled(folder, name);
            let names = &mut self.get_mut(folder).names;
            let before = match id {
                Some(id) => names.insert(name.clone(), id),
                None => names.remove(&name),
            };
            if let Some(before) = before {
                self.get_mut(before).links -= 1;
            }
            if let Some(id) = id {
                let inode = self.get_mut(id);
                inode.links += 1;
                if inode.is_dir() {
                    inode.parent = folder;
                }
            }
            let inode = self.get_mut(folder);
            let meta = Meta {
                mtime: now,
                ctime: now,
                ..inode.meta
            };
            inode.change_meta(meta);
            logged.push(Effect {
                folder,
                name,
                now: id,
            });
        }
        self.log.push(NameChange {
            effects: logged,
            removed,
            moves_folder,
        });
    }

    pub(super) fn set_mode(&mut self, id: Id, mode: u32) {
        let now = self.timestamp();
        let inode = self.get_mut(id);
        let meta = Meta {
            mode: mode & 0o7777,
            ctime: now,
            ..inode.meta
        };
        inode.change_meta(meta);
    }

    pub(super) fn set_mtime(&mut self, id: Id, mtime: Mtime) {
        let now = self.timestamp();
        let inode = self.get_mut(id);
        let meta = Meta {
            mtime,
            ctime: now,
            ..inode.meta
        };
        inode.change_meta(meta);
    }

    /// Writes as many of the bytes as there is room for.
    pub(super) fn write(&mut self, id: Id, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut bytes = bytes;
        while self
            .make_room(self.get(id).data.would_allocate(offset, bytes.len()))
            .is_err()
        {
            let last = (offset + bytes.len() as u64 - 1) % SECTOR as u64;
            let fewer = bytes.len().saturating_sub(last as usize + 1);
            if fewer == 0 {
                return Err(Errno::NOSPC);
            }
            bytes = &bytes[..fewer];
        }
        let now = self.timestamp();
        let change = DataChange::Write(offset, bytes.into());
        self.get_mut(id).change_data(change, now);
        Ok(bytes.len())
    }

    pub(super) fn set_len(&mut self, id: Id, len: u64) {
        let now = self.timestamp();
        self.get_mut(id).change_data(DataChange::SetLen(len), now);
    }

    pub(super) fn close(&mut self, id: Id) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.open = inode.open.saturating_sub(1);
        }
    }

    /// Where a folder is, for comparing with paths.
    pub(super) fn path_of(&self, mut id: Id) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        while id != ROOT && self.get(id).links > 0 {
            let parent = self.get(id).parent;
            let mut names_there = self.get(parent).names.iter();
            let Some((name, _)) = names_there.find(|(_, child)| **child == id) else {
                break;
            };
            names.push(name);
            id = parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}
