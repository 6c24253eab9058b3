//! The share of a simulated machine, as a process has it open.

use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::fault::{DEAD, Deed, On};
use super::handle::{SimHandle, call};
use super::inode::{Id, Kind};
use super::machine::{Machine, Shared};
use super::tree::ROOT;
use crate::disk::{Content, Disk, Rename, Space, Stat};
use crate::path::{RelPath, STATE_DIR};
use crate::share::{PARTS_DIR, TRASH_DIR};

/// Stands for the file system in tests; see [`super`].
#[derive(Debug)]
pub(crate) struct SimDisk {
    machine: Machine,
    process: u64,
    state: SimHandle,
    parts: SimHandle,
    trash: SimHandle,
}

impl SimDisk {
    /// Opens the share, and makes its state folder.
    pub(super) fn open(machine: &Machine) -> Result<Self, Errno> {
        let process = machine.lock().process;
        let private = |above: Id, name: &str| {
            let name = name.as_bytes();
            let made = call(machine, process, On::Names, |shared| {
                shared.fs.add(above, name, Kind::Dir, 0o700)
            });
            match made {
                Ok(id) => call(machine, process, On::Sync, |shared| {
                    shared.fs.sync(above);
                    Ok(id)
                }),
                Err(Errno::EXIST) => machine.lock().fs.lookup(above, name),
                Err(errno) => Err(errno),
            }
        };
        let handle = |id: Id| {
            machine.lock().fs.get_mut(id).open += 1;
            SimHandle {
                machine: machine.clone(),
                process,
                id,
                may_write: false,
                is_index: false,
            }
        };
        let state = private(ROOT, STATE_DIR)?;
        let parts = private(state, PARTS_DIR)?;
        let trash = private(state, TRASH_DIR)?;
        Ok(Self {
            machine: machine.clone(),
            process,
            state: handle(state),
            parts: handle(parts),
            trash: handle(trash),
        })
    }

    /// What it is a share of.
    pub(crate) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Counts a change that the process makes elsewhere, such as in an index in
    /// memory; it fails where all else fails.
    pub(crate) fn change(&self) -> Result<(), Errno> {
        self.call(On::Meta, |_| Ok(()))
    }

    fn call<T>(
        &self,
        deed: impl Into<Deed>,
        work: impl FnOnce(&mut Shared) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        call(&self.machine, self.process, deed, work)
    }

    fn opened(
        &self,
        may_write: bool,
        work: impl FnOnce(&mut Shared) -> Result<Id, Errno>,
    ) -> Result<SimHandle, Errno> {
        let on = match may_write {
            true => On::Names.named("create"),
            false => On::Look.into(),
        };
        let id = self.call(on, work)?;
        Ok(SimHandle {
            machine: self.machine.clone(),
            process: self.process,
            id,
            may_write,
            is_index: false,
        })
    }
}

impl Shared {
    /// Whether the process is denied something on the way to `path`.
    fn may_open(&self, path: &[u8]) -> Result<(), Errno> {
        let denied = self.faults.denied.iter().any(|denied| {
            path.strip_prefix(&denied[..])
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        });
        if denied { Err(Errno::ACCESS) } else { Ok(()) }
    }

    fn may_open_in(&self, folder: Id, name: &[u8]) -> Result<(), Errno> {
        if self.faults.denied.is_empty() {
            return Ok(());
        }
        let mut path = self.fs.path_of(folder);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.may_open(&path)
    }

    fn open_dir(&mut self, id: Id) -> Result<Id, Errno> {
        match self.fs.get(id).is_dir() {
            true => self.fs.open(id, false),
            false => Err(Errno::NOTDIR),
        }
    }
}

impl Disk for SimDisk {
    type Dir = SimHandle;
    type File = SimHandle;

    fn state(&self) -> &SimHandle {
        &self.state
    }

    fn parts(&self) -> &SimHandle {
        &self.parts
    }

    fn trash(&self) -> &SimHandle {
        &self.trash
    }

    fn is_still_there(&self) -> bool {
        let found = self.call(On::Look, |shared| {
            shared.fs.lookup(ROOT, STATE_DIR.as_bytes())
        });
        found == Ok(self.state.id)
    }

    fn is_foreign(&self, stat: &Stat) -> bool {
        stat.dev != 1
    }

    fn folds_case(&self) -> bool {
        self.machine.lock().fs.config.folds_case
    }

    fn open_dir(&self, path: Option<&RelPath>) -> Result<SimHandle, Errno> {
        self.opened(false, |shared| match path {
            None => shared.open_dir(ROOT),
            Some(path) => {
                let id = shared.fs.walk(path.names())?;
                shared.may_open(path.as_bytes())?;
                shared.open_dir(id)
            }
        })
    }

    fn open_file(&self, path: &RelPath) -> Result<SimHandle, Errno> {
        self.opened(false, |shared| {
            let id = shared.fs.walk(path.names())?;
            shared.may_open(path.as_bytes())?;
            let id = shared.fs.open(id, false)?;
            if shared.fs.get(id).is_dir() {
                shared.fs.close(id);
                return Err(Errno::INVAL);
            }
            Ok(id)
        })
    }

    fn list(&self, folder: &SimHandle) -> Result<Vec<Box<[u8]>>, Errno> {
        self.call(On::List, |shared| {
            // It is opened once more, by the name of itself.
            shared.fs.may(folder.id, 5)?;
            Ok(shared.fs.get(folder.id).names.keys().cloned().collect())
        })
    }

    fn stat_at(&self, folder: &SimHandle, name: &[u8]) -> Result<Stat, Errno> {
        self.call(On::Look, |shared| {
            let id = shared.fs.lookup(folder.id, name)?;
            Ok(shared.fs.stat(id))
        })
    }

    fn read_link(&self, folder: &SimHandle, name: &[u8]) -> Result<Box<[u8]>, Errno> {
        self.call(On::Look, |shared| {
            let id = shared.fs.lookup(folder.id, name)?;
            match &shared.fs.get(id).kind {
                Kind::Link(target) => Ok(target.clone()),
                _ => Err(Errno::INVAL),
            }
        })
    }

    fn open_at(&self, folder: &SimHandle, name: &[u8]) -> Result<SimHandle, Errno> {
        self.opened(false, |shared| {
            let id = shared.fs.lookup(folder.id, name)?;
            shared.may_open_in(folder.id, name)?;
            shared.fs.open(id, false)
        })
    }

    fn open_dir_at(&self, folder: &SimHandle, name: &[u8]) -> Result<SimHandle, Errno> {
        self.opened(false, |shared| {
            let id = shared.fs.lookup(folder.id, name)?;
            shared.may_open_in(folder.id, name)?;
            shared.open_dir(id)
        })
    }

    fn create(&self, folder: &SimHandle, name: &[u8], mode: u32) -> Result<SimHandle, Errno> {
        self.opened(true, |shared| {
            shared.may_open_in(folder.id, name)?;
            shared.fs.create(folder.id, name, mode)
        })
    }

    fn set_mode_at(&self, folder: &SimHandle, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.call(On::Meta.named("mode"), |shared| {
            let id = shared.fs.lookup(folder.id, name)?;
            if shared.fs.get(id).is_link() {
                return Err(Errno::OPNOTSUPP);
            }
            shared.fs.set_mode(id, mode);
            Ok(())
        })
    }

    fn make_dir(&self, folder: &SimHandle, name: &[u8], mode: u32) -> Result<(), Errno> {
        self.call(On::Names.named("mkdir"), |shared| {
            let made = shared.fs.add(folder.id, name, Kind::Dir, mode);
            made.map(drop)
        })
    }

    fn make_link(&self, folder: &SimHandle, name: &[u8], target: &[u8]) -> Result<(), Errno> {
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        self.call(On::Names.named("symlink"), |shared| {
            let kind = Kind::Link(target.into());
            shared.fs.add(folder.id, name, kind, 0o777).map(drop)
        })
    }

    fn link(&self, from: (&SimHandle, &[u8]), to: (&SimHandle, &[u8])) -> Result<(), Errno> {
        self.call(On::Names.named("link"), |shared| {
            shared.fs.link((from.0.id, from.1), (to.0.id, to.1))
        })
    }

    fn unlink(&self, folder: &SimHandle, name: &[u8]) -> Result<(), Errno> {
        self.call(On::Names.named("unlink"), |shared| {
            shared.fs.unlink(folder.id, name)
        })
    }

    fn remove_dir(&self, folder: &SimHandle, name: &[u8]) -> Result<(), Errno> {
        self.call(On::Names.named("rmdir"), |shared| {
            shared.fs.remove_dir(folder.id, name)
        })
    }

    fn rename(
        &self,
        from: (&SimHandle, &[u8]),
        to: (&SimHandle, &[u8]),
        how: Rename,
    ) -> Result<(), Errno> {
        let name = match how {
            _ if to.0.id == self.trash.id => "to trash",
            _ if from.0.id == self.trash.id => "from trash",
            Rename::NoReplace => "rename",
            Rename::Exchange => "exchange",
            Rename::Plain => "replace",
        };
        self.call(On::Names.named(name), |shared| {
            shared.fs.rename((from.0.id, from.1), (to.0.id, to.1), how)
        })
    }

    fn copy_some(&self, from: &SimHandle, to: &SimHandle, range: Range<u64>) -> Result<u64, Errno> {
        let len = (range.end - range.start).min(64 * 1024);
        let mut bytes = vec![0; len as usize];
        let read = from.read_at(&mut bytes, range.start)?;
        if read > 0 {
            to.write_whole_at(&bytes[..read], range.start)?;
        }
        Ok(read as u64)
    }

    fn sync_all(&self) -> Result<(), Errno> {
        let synced = self.call(On::Sync, |shared| {
            shared.fs.sync_all();
            Ok(())
        });
        if synced.is_err_and(|errno| errno != DEAD) {
            let mut shared = self.machine.lock();
            let all: Vec<Id> = shared.fs.inodes.keys().copied().collect();
            for id in all {
                shared.fs.fail_to_sync(id);
            }
        }
        synced
    }

    fn sync_all_tells_errors(&self) -> bool {
        true
    }

    fn space(&self) -> Result<Space, Errno> {
        self.call(On::Look, |shared| {
            let total_bytes = shared.fs.config.capacity_bytes.unwrap_or(1 << 40);
            Ok(Space {
                total_bytes,
                free_bytes: total_bytes.saturating_sub(shared.fs.used_bytes()),
                total_files: 1 << 20,
                free_files: 1 << 20,
            })
        })
    }

    fn wall(&self) -> SystemTime {
        let nanos = self.machine.lock().fs.wall_nanos().max(0);
        UNIX_EPOCH + Duration::from_nanos(nanos as u64)
    }

    fn now(&self) -> Instant {
        let shared = self.machine.lock();
        shared.born + Duration::from_nanos(shared.fs.elapsed_nanos)
    }

    fn thread_time(&self) -> Duration {
        Duration::ZERO
    }

    fn hash_threads(&self) -> usize {
        1
    }
}
