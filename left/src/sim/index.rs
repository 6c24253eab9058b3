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
        let mut file = disk
            .create(state, name, 0o600)
            .map_err(IndexError::of_file)?;
        file.is_index = true;
        Index::open_on(File(file), fresh)
    };
    if disk.stat_at(state, INDEX_FILE).is_err() {
        let _ = disk.unlink(state, NEW_FILE);
        drop(open(NEW_FILE)?);
        let (from, to) = ((state, NEW_FILE), (state, INDEX_FILE));
        disk.rename(from, to, Rename::Plain)
            .map_err(IndexError::of_file)?;
    }
    // Also when it was there already, as a kill may have come between the
    // rename and this.
    state.sync().map_err(IndexError::of_file)?;
    open(INDEX_FILE)
}

mod tests {
    use super::super::{Config, Machine};
    use super::*;
    use crate::entry::{Body, Entry};
    use crate::index::Change;
    use crate::path::RelPath;
    use crate::version::VersionVector;

    fn fresh(id: u64) -> (ReplicaId, u64) {
        (ReplicaId(id), id)
    }

    #[test]
    fn an_index_that_was_used_is_there_after_the_power_cut_whenever_its_maker_was_killed() {
        for change in 0.. {
            let mut was_made = false;
            for seed in 0..20 {
                let machine = Machine::new(seed, Config::default());
                let disk = machine.start().unwrap();
                machine.crash_at(change);
                was_made = open_index(&disk, fresh(1)).is_ok();
                machine.kill();
                let disk = machine.start().unwrap();
                let index = open_index(&disk, fresh(2)).unwrap();
                let path = RelPath::parse(b"folder").unwrap();
                let entry = Entry {
                    body: Body::Dir,
                    mode: 0o755,
                    version: VersionVector::from_pairs([(ReplicaId(1), 1)]),
                };
                let put = Change::Put {
                    path: path.clone(),
                    entry: entry.clone(),
                    stamp: None,
                };
                index.commit(&[put]).unwrap();
                let owner = index.replica();
                drop(index);
                machine.crash(seed);
                let disk = machine.start().unwrap();
                let index = open_index(&disk, fresh(3)).unwrap();
                let found = index.get(&path).unwrap().map(|record| record.entry);
                assert_eq!(
                    (index.replica(), found),
                    (owner, Some(entry)),
                    "killed before change {change}, seed {seed}"
                );
            }
            if was_made {
                return;
            }
        }
    }
}
