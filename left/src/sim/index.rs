//! The real index on the simulated disk, so that its writes are lost and torn
//! as all others are.

use std::io;

use redb::StorageBackend;

use super::disk::SimDisk;
use super::handle::SimHandle;
use crate::disk::{Content, Disk, Handle, Rename};
use crate::index::{Index, IndexError};
use crate::version::ReplicaId;

const INDEX_FILE: &[u8] = b"index";
const NEW_FILE: &[u8] = b"index.new";

#[derive(Debug)]
struct File(SimHandle);

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.stat()?.size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.read_whole_at(out, offset)? {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(self.0.set_len(len)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(self.0.sync()?)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        Ok(self.0.write_whole_at(data, offset)?)
    }
}

/// Opens the index in the state folder, or makes it, as [`Index::open`] does. A
/// file that cannot be made or named is no index; why says the index.
pub(crate) fn open_index(disk: &SimDisk, fresh: (ReplicaId, u64)) -> Result<Index, IndexError> {
    let state = disk.state();
    let open = |name: &[u8]| {
        let file = disk
            .create(state, name, 0o600)
            .map_err(IndexError::of_file)?;
        Index::open_on(File(file), fresh)
    };
    if disk.stat_at(state, INDEX_FILE).is_err() {
        let _ = disk.unlink(state, NEW_FILE);
        drop(open(NEW_FILE)?);
        let (from, to) = ((state, NEW_FILE), (state, INDEX_FILE));
        let named = disk
            .rename(from, to, Rename::Plain)
            .and_then(|()| state.sync());
        named.map_err(IndexError::of_file)?;
    }
    open(INDEX_FILE)
}
