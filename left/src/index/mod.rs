//! The database of entries: what this side knows of each path, what it wants
//! of the peer's, and how far it has read the peer's listing.
//!
//! One redb file. Commits are durable and the file opens quickly after a kill.
//! A database that does not open is set aside under another name, never
//! deleted; the scanner then builds a new one under a new replica id.

mod commit;
mod error;
mod store;

use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

pub use commit::Change;
pub use error::IndexError;
use error::{During, damaged, sound};
pub use store::Store;

use crate::entry::Entry;
use crate::part::PartId;
use crate::path::RelPath;
use crate::record::{self, Record};
use crate::version::ReplicaId;

/// Raised when the meaning of a table changes; another number is set aside.
const SCHEMA: u64 = 1;

/// The page cache of the database: enough for the upper levels of the trees of
/// a million entries, small against the memory budget.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const ENTRIES: Bytes = TableDefinition::new("entries");
const BY_SEQ: TableDefinition<u64, &[u8]> = TableDefinition::new("by-seq");
const WANTS: Bytes = TableDefinition::new("wants");
const INTENTS: Bytes = TableDefinition::new("intents");

/// How far this side has read the listing of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The peer's replica id.
    pub replica: u64,
    /// The epoch of the peer's index.
    pub epoch: u64,
    /// The last sequence number taken.
    pub upto: u64,
}

/// A database that did not open and was kept under another name.
#[derive(Debug)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// Why it did not open.
    pub why: IndexError,
}

/// The open database.
pub struct Index {
    db: Database,
    replica: ReplicaId,
    epoch: u64,
}

impl Index {
    /// Opens or makes the index at `path`. The second value is where a
    /// database that did not open was set aside.
    pub fn open(
        path: &Path,
        fresh: (ReplicaId, u64),
    ) -> Result<(Self, Option<SetAside>), IndexError> {
        let marker = unsound_marker(path);
        let opened = if marker.exists() {
            damaged("it was found damaged while it was in use")
        } else {
            Self::try_open(path, fresh)
        };
        match opened {
            Ok(index) => Ok((index, None)),
            Err(error) if error.is_of_the_moment() => Err(error),
            Err(error) => {
                let aside = (0..1000u32)
                    .map(|n| path.with_extension(format!("set-aside-{n}")))
                    .find(|candidate| !candidate.exists());
                let moved = aside.filter(|aside| std::fs::rename(path, aside).is_ok());
                let Some(aside) = moved else {
                    return Err(error);
                };
                let _ = std::fs::remove_file(marker);
                let aside = SetAside {
                    path: aside,
                    why: error,
                };
                Ok((Self::try_open(path, fresh)?, Some(aside)))
            }
        }
    }

    /// Has the database at `path` set aside when it is opened next.
    pub fn mark_damaged(path: &Path) -> std::io::Result<()> {
        std::fs::write(unsound_marker(path), b"")
    }

    /// A new database gets its name when it is complete: a kill while it is
    /// made leaves nothing that could be taken for a damaged one.
    fn try_open(path: &Path, fresh: (ReplicaId, u64)) -> Result<Self, IndexError> {
        if !path.exists() {
            let new = path.with_extension("new");
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(redb::Error::Io(error)).during("make");
                }
                _ => {}
            }
            drop(Self::try_open_there(&new, fresh)?);
            std::fs::rename(&new, path)
                .map_err(redb::Error::Io)
                .during("make")?;
        }
        Self::try_open_there(path, fresh)
    }

    fn try_open_there(path: &Path, fresh: (ReplicaId, u64)) -> Result<Self, IndexError> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .during("open")?;
        let mut txn = db.begin_write().during("open")?;
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        let (replica, epoch);
        {
            let mut meta = txn.open_table(META).during("open")?;
            let read = |meta: &redb::Table<&str, u64>, key| {
                meta.get(key)
                    .during("read")
                    .map(|value| value.map(|guard| guard.value()))
            };
            match read(&meta, "schema")? {
                None => {
                    meta.insert("schema", SCHEMA).during("write")?;
                    meta.insert("replica", fresh.0.0).during("write")?;
                    meta.insert("epoch", fresh.1).during("write")?;
                }
                Some(SCHEMA) => {}
                Some(_) => return damaged("it was made by another version of left"),
            }
            let known = (read(&meta, "replica")?, read(&meta, "epoch")?);
            let (Some(known_replica), Some(known_epoch)) = known else {
                return damaged("it does not say whose it is");
            };
            (replica, epoch) = (ReplicaId(known_replica), known_epoch);
            txn.open_table(ENTRIES).during("open")?;
            txn.open_table(BY_SEQ).during("open")?;
            txn.open_table(WANTS).during("open")?;
            txn.open_table(INTENTS).during("open")?;
        }
        txn.commit().during("open")?;
        Ok(Self { db, replica, epoch })
    }

    /// This side's id.
    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// Made new with every new database, so that sequence numbers of an older
    /// one are never taken for this one's.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The record of a path.
    pub fn get(&self, path: &RelPath) -> Result<Option<Record>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(ENTRIES).during("read")?;
        let found = table.get(path.key().as_slice()).during("read")?;
        match found {
            Some(guard) => sound(record::decode(guard.value())).map(Some),
            None => Ok(None),
        }
    }

    /// Up to `count` records after `after`, in the order of paths.
    pub fn records_after(
        &self,
        after: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Record)>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(ENTRIES).during("read")?;
        page(&table, after, count, record::decode)
    }

    /// Up to `count` wants after `after`, in the order of paths.
    pub fn wants_after(
        &self,
        after: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Entry)>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(WANTS).during("read")?;
        page(&table, after, count, record::decode_entry)
    }

    /// The peer's entry that this side wants for a path.
    pub fn want(&self, path: &RelPath) -> Result<Option<Entry>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(WANTS).during("read")?;
        let found = table.get(path.key().as_slice()).during("read")?;
        match found {
            Some(guard) => sound(record::decode_entry(guard.value())).map(Some),
            None => Ok(None),
        }
    }

    /// How many entries and how many wants there are.
    pub fn counts(&self) -> Result<(u64, u64), IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let entries = txn
            .open_table(ENTRIES)
            .during("read")?
            .len()
            .during("read")?;
        let wants = txn.open_table(WANTS).during("read")?.len().during("read")?;
        Ok((entries, wants))
    }

    /// Up to `count` entries listed after sequence number `after`, oldest first.
    pub fn listed_after(
        &self,
        after: u64,
        count: usize,
    ) -> Result<Vec<(u64, RelPath, Entry)>, IndexError> {
        let txn = self.db.begin_read().during("list")?;
        let by_seq = txn.open_table(BY_SEQ).during("list")?;
        let entries = txn.open_table(ENTRIES).during("list")?;
        let mut listed = Vec::new();
        let range = (Bound::Excluded(after), Bound::Unbounded);
        for item in by_seq.range::<u64>(range).during("list")?.take(count) {
            let (seq, key) = item.during("list")?;
            let record = match entries.get(key.value()).during("list")? {
                Some(guard) => record::decode(guard.value()),
                None => None,
            };
            let path = RelPath::from_key(key.value()).ok();
            let (path, record) = sound(path.zip(record))?;
            listed.push((seq.value(), path, record.entry));
        }
        Ok(listed)
    }

    /// How far the peer's listing was taken.
    pub fn heard(&self) -> Result<Heard, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let meta = txn.open_table(META).during("read")?;
        let read = |key| {
            meta.get(key)
                .during("read")
                .map(|value| value.map_or(0, |guard| guard.value()))
        };
        Ok(Heard {
            replica: read("heard-replica")?,
            epoch: read("heard-epoch")?,
            upto: read("heard-upto")?,
        })
    }

    /// Exchanges that were under way when the process ended.
    pub fn intents(&self) -> Result<Vec<(PartId, RelPath)>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(INTENTS).during("read")?;
        let mut intents = Vec::new();
        for item in table.iter().during("read")? {
            let (id, key) = item.during("read")?;
            let id = std::str::from_utf8(id.value()).ok().and_then(PartId::parse);
            if let (Some(id), Ok(path)) = (id, RelPath::from_key(key.value())) {
                intents.push((id, path));
            }
        }
        Ok(intents)
    }
}

fn unsound_marker(path: &Path) -> PathBuf {
    path.with_extension("unsound")
}

fn page<T>(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    after: Option<&RelPath>,
    count: usize,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<(RelPath, T)>, IndexError> {
    let key = after.map(RelPath::key);
    let start = match &key {
        Some(key) => Bound::Excluded(key.as_slice()),
        None => Bound::Unbounded,
    };
    let mut found = Vec::new();
    for item in table
        .range::<&[u8]>((start, Bound::Unbounded))
        .during("read")?
        .take(count)
    {
        let (key, value) = item.during("read")?;
        let path = RelPath::from_key(key.value()).ok();
        found.push(sound(path.zip(decode(value.value())))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
