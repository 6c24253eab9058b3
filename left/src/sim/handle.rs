//! What a process has open, and how each of its calls begins.

use rustix::io::Errno;

use super::fault::{DEAD, On};
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
    on: On,
    work: impl FnOnce(&mut Shared) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let meanwhile = machine.lock().faults.take_meanwhile(on);
    if let Some(meanwhile) = meanwhile {
        (meanwhile.0)(machine);
    }
    let mut shared = machine.lock();
    if shared.process != process {
        return Err(DEAD);
    }
    shared.faults.meet(on)?;
    shared.fs.tick();
    work(&mut shared)
}

impl SimHandle {
    fn call<T>(
        &self,
        on: On,
        work: impl FnOnce(&mut Shared) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        call(&self.machine, self.process, on, work)
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
        self.call(On::Meta, |shared| {
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
        self.call(On::Write, |shared| {
            shared.fs.set_len(self.id, size);
            Ok(())
        })
    }

    fn set_mtime(&self, mtime: Mtime) -> Result<(), Errno> {
        self.call(On::Meta, |shared| {
            shared.fs.set_mtime(self.id, mtime);
            Ok(())
        })
    }
}
