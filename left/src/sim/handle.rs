//! What a process has open, and how each of its calls begins.

use rustix::io::Errno;

use super::fault::{DEAD, Deed, On};
use super::inode::Id;
use super::machine::{Machine, Shared};
use crate::disk::{Content, Handle, Stat};
use crate::entry::Mtime;

/// An open file or folder.
#[derive(Debug)]
pub(crate) struct SimHandle {
    pub(super) machine: Machine,
    pub(super) process: u64,
    pub(super) id: Id,
    pub(super) may_write: bool,
    /// It is the index, whose writes are one crash point in tables.
    pub(super) is_index: bool,
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        let mut shared = self.machine.lock();
        // The end of the process has closed it already.
        if shared.process == self.process {
            shared.fs.close(self.id);
        }
    }
}

/// One call of a process.
pub(super) fn call<T>(
    machine: &Machine,
    process: u64,
    deed: impl Into<Deed>,
    work: impl FnOnce(&mut Shared) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let deed = deed.into();
    let meanwhile = machine.lock().faults.take_meanwhile(deed.on);
    if let Some(meanwhile) = meanwhile {
        (meanwhile.0)(machine);
    }
    let mut shared = machine.lock();
    if shared.process != process {
        return Err(DEAD);
    }
    shared.faults.meet(deed)?;
    shared.fs.tick();
    work(&mut shared)
}

impl SimHandle {
    fn call<T>(
        &self,
        deed: impl Into<Deed>,
        work: impl FnOnce(&mut Shared) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mut deed = deed.into();
        if self.is_index {
            deed.name = "index";
        }
        call(&self.machine, self.process, deed, work)
    }

    fn need_write(&self, otherwise: Errno) -> Result<(), Errno> {
        match self.may_write {
            true => Ok(()),
            false => Err(otherwise),
        }
    }
}

impl Handle for SimHandle {
    fn stat(&self) -> Result<Stat, Errno> {
        self.call(On::Look, |shared| Ok(shared.fs.stat(self.id)))
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        self.call(On::Meta.named("mode"), |shared| {
            shared.fs.set_mode(self.id, mode);
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), Errno> {
        let synced = self.call(On::Sync, |shared| {
            shared.fs.sync(self.id);
            Ok(())
        });
        if synced.is_err_and(|errno| errno != DEAD) {
            self.machine.lock().fs.fail_to_sync(self.id);
        }
        synced
    }
}

impl Content for SimHandle {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.call(On::Read, |shared| match shared.fs.get(self.id) {
            inode if inode.is_dir() => Err(Errno::ISDIR),
            inode => Ok(inode.data.read(bytes, offset)),
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
        self.need_write(Errno::BADF)?;
        self.call(On::Write, |shared| shared.fs.write(self.id, bytes, offset))
    }

    fn set_len(&self, size: u64) -> Result<(), Errno> {
        self.need_write(Errno::INVAL)?;
        self.call(On::Write.named("length"), |shared| {
            shared.fs.set_len(self.id, size);
            Ok(())
        })
    }

    fn set_mtime(&self, mtime: Mtime) -> Result<(), Errno> {
        self.call(On::Meta.named("mtime"), |shared| {
            shared.fs.set_mtime(self.id, mtime);
            Ok(())
        })
    }
}
