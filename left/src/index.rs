//! The database of entries: what this side knows of each path, what it wants
//! of the peer's, and how far it has read the peer's listing.
//!
//! One redb file. Commits are durable and the file opens quickly after a kill.
//! A database that does not open is set aside under another name, never
//! deleted; the scanner then builds a new one under a new replica id.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::entry::Entry;
use crate::part::PartId;
use crate::path::RelPath;
use crate::record::{self, Record, Stamp};
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

/// A failure of the database; it names the operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the index: {source}")]
pub struct IndexError {
    operation: &'static str,
    #[source]
    source: Box<redb::Error>,
}

impl IndexError {
    /// Whether there was no room to write.
    pub fn is_lack_of_room(&self) -> bool {
        use std::io::ErrorKind;
        matches!(self.source.as_ref(), redb::Error::Io(error) if matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        ))
    }

    /// Whether what is in the database cannot be.
    pub fn is_damage(&self) -> bool {
        matches!(self.source.as_ref(), redb::Error::Corrupted(_))
    }

    /// Whether the database may well be sound, and only could not be used now.
    pub fn is_of_the_moment(&self) -> bool {
        use std::io::ErrorKind;
        match self.source.as_ref() {
            redb::Error::Io(error) => !matches!(
                error.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof
            ),
            // After a failure it refuses all else until it is opened again.
            redb::Error::DatabaseAlreadyOpen | redb::Error::PreviousIo => true,
            _ => false,
        }
    }
}

trait During<T> {
    fn during(self, operation: &'static str) -> Result<T, IndexError>;
}

impl<T, E: Into<redb::Error>> During<T> for Result<T, E> {
    fn during(self, operation: &'static str) -> Result<T, IndexError> {
        self.map_err(|error| IndexError {
            operation,
            source: Box::new(error.into()),
        })
    }
}

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

/// One change to the index; a slice of them is committed as a whole.
#[derive(Debug, Clone)]
pub enum Change {
    /// The entry changed: it gets a new sequence number and is listed.
    Put {
        /// Whose entry.
        path: RelPath,
        /// What is now known.
        entry: Entry,
        /// What the disk looked like, if it holds the entry.
        stamp: Option<Stamp>,
    },
    /// Only the stat cache changed.
    Touch {
        /// Whose record.
        path: RelPath,
        /// What the disk looks like now.
        stamp: Stamp,
    },
    /// The peer has something that this side has to act on.
    Want {
        /// Of which path.
        path: RelPath,
        /// The peer's entry.
        entry: Entry,
    },
    /// The want is fulfilled or void.
    Unwant {
        /// Of which path.
        path: RelPath,
    },
    /// The peer's listing was taken so far.
    Heard(Heard),
    /// The part of `id` is about to be exchanged with the file at `path`.
    Intend {
        /// Which part.
        id: PartId,
        /// Where it goes.
        path: RelPath,
    },
    /// The exchange is over, one way or the other.
    Forget {
        /// Which part.
        id: PartId,
    },
    /// The peer has a new index and lists everything again.
    UnwantAll,
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

    /// Makes all changes durable at once, or none.
    pub fn commit(&self, changes: &[Change]) -> Result<(), IndexError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut txn = self.db.begin_write().during("write")?;
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        {
            let mut meta = txn.open_table(META).during("write")?;
            let mut entries = txn.open_table(ENTRIES).during("write")?;
            let mut by_seq = txn.open_table(BY_SEQ).during("write")?;
            let mut wants = txn.open_table(WANTS).during("write")?;
            let mut intents = txn.open_table(INTENTS).during("write")?;
            let mut seq = meta
                .get("seq")
                .during("write")?
                .map_or(0, |guard| guard.value());
            for change in changes {
                match change {
                    Change::Put { path, entry, stamp } => {
                        let key = path.key();
                        let old = match entries.get(key.as_slice()).during("write")? {
                            Some(guard) => Some(sound(record::decode(guard.value()))?),
                            None => None,
                        };
                        if let Some(old) = old {
                            by_seq.remove(old.seq).during("write")?;
                        }
                        seq += 1;
                        let record = Record {
                            seq,
                            stamp: *stamp,
                            entry: entry.clone(),
                        };
                        let value = record::encode(&record);
                        entries
                            .insert(key.as_slice(), value.as_slice())
                            .during("write")?;
                        by_seq.insert(seq, key.as_slice()).during("write")?;
                    }
                    Change::Touch { path, stamp } => {
                        let key = path.key();
                        let old = match entries.get(key.as_slice()).during("write")? {
                            Some(guard) => Some(sound(record::decode(guard.value()))?),
                            None => None,
                        };
                        if let Some(mut record) = old {
                            record.stamp = Some(*stamp);
                            let value = record::encode(&record);
                            entries
                                .insert(key.as_slice(), value.as_slice())
                                .during("write")?;
                        }
                    }
                    Change::Want { path, entry } => {
                        let value = record::encode_entry(entry);
                        wants
                            .insert(path.key().as_slice(), value.as_slice())
                            .during("write")?;
                    }
                    Change::Unwant { path } => {
                        wants.remove(path.key().as_slice()).during("write")?;
                    }
                    Change::UnwantAll => wants.retain(|_, _| false).during("write")?,
                    Change::Heard(heard) => {
                        meta.insert("heard-replica", heard.replica)
                            .during("write")?;
                        meta.insert("heard-epoch", heard.epoch).during("write")?;
                        meta.insert("heard-upto", heard.upto).during("write")?;
                    }
                    Change::Intend { id, path } => {
                        intents
                            .insert(id.name().as_bytes(), path.key().as_slice())
                            .during("write")?;
                    }
                    Change::Forget { id } => {
                        intents.remove(id.name().as_bytes()).during("write")?;
                    }
                }
            }
            meta.insert("seq", seq).during("write")?;
        }
        txn.commit().during("commit")
    }
}

fn unsound_marker(path: &Path) -> PathBuf {
    path.with_extension("unsound")
}

fn damaged<T>(why: &str) -> Result<T, IndexError> {
    Err(redb::Error::Corrupted(why.to_owned())).during("use")
}

/// What is not understood is never passed over: a record that is missing
/// would look like a new file with a young version.
fn sound<T>(read: Option<T>) -> Result<T, IndexError> {
    read.map_or_else(|| damaged("a record in it is not understood"), Ok)
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
mod tests {
    use super::*;
    use crate::entry::Body;
    use crate::version::VersionVector;

    fn fresh() -> (ReplicaId, u64) {
        (ReplicaId(7), 9)
    }

    fn path(text: &str) -> RelPath {
        RelPath::parse(text.as_bytes()).unwrap()
    }

    fn entry(counter: u64) -> Entry {
        let version = VersionVector::from_pairs([(ReplicaId(7), counter)]);
        Entry {
            body: Body::Dir,
            mode: 0o755,
            version,
        }
    }

    #[test]
    fn a_changed_entry_is_listed_once_under_its_new_number() {
        let dir = tempfile::tempdir().unwrap();
        let (index, aside) = Index::open(&dir.path().join("index"), fresh()).unwrap();
        assert!(aside.is_none());
        let put = |text: &str, counter| Change::Put {
            path: path(text),
            entry: entry(counter),
            stamp: None,
        };
        index
            .commit(&[put("b", 1), put("a/x", 1), put("a", 1), put("a.txt", 1)])
            .unwrap();
        index.commit(&[put("b", 2)]).unwrap();
        let listed: Vec<_> = index
            .listed_after(1, 10)
            .unwrap()
            .into_iter()
            .map(|(seq, path, _)| (seq, path.to_string()))
            .collect();
        let expected = [(2, "a/x"), (3, "a"), (4, "a.txt"), (5, "b")];
        assert_eq!(listed, expected.map(|(seq, path)| (seq, path.to_owned())));
        let order: Vec<_> = index
            .records_after(Some(&path("a")), 10)
            .unwrap()
            .into_iter()
            .map(|(path, _)| path.to_string())
            .collect();
        assert_eq!(order, ["a/x", "a.txt", "b"]);
    }

    #[test]
    fn a_broken_database_is_set_aside_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index");
        std::fs::write(&file, b"this is no database at all").unwrap();
        let (index, aside) = Index::open(&file, fresh()).unwrap();
        assert_eq!(index.replica(), ReplicaId(7));
        let aside = aside.expect("it was set aside");
        assert_eq!(
            std::fs::read(aside.path).unwrap(),
            b"this is no database at all"
        );
    }

    #[test]
    fn identity_survives_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index");
        drop(Index::open(&file, fresh()).unwrap());
        let (index, _) = Index::open(&file, (ReplicaId(1), 1)).unwrap();
        assert_eq!((index.replica(), index.epoch()), (ReplicaId(7), 9));
        let heard = Heard {
            replica: 3,
            epoch: 4,
            upto: 5,
        };
        index.commit(&[Change::Heard(heard)]).unwrap();
        assert_eq!(index.heard().unwrap(), heard);
    }

    #[test]
    fn a_database_that_was_found_damaged_is_set_aside_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index");
        drop(Index::open(&file, fresh()).unwrap());
        Index::mark_damaged(&file).unwrap();
        let (index, aside) = Index::open(&file, (ReplicaId(8), 1)).unwrap();
        assert_eq!(index.replica(), ReplicaId(8));
        assert!(aside.is_some_and(|aside| aside.path.exists()));
        drop(index);
        let (index, aside) = Index::open(&file, fresh()).unwrap();
        assert!(aside.is_none());
        assert_eq!(index.replica(), ReplicaId(8));
    }

    #[test]
    fn a_record_that_is_not_understood_is_never_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = Index::open(&dir.path().join("index"), fresh()).unwrap();
        let mut txn = index.db.begin_write().unwrap();
        txn.open_table(ENTRIES)
            .unwrap()
            .insert(path("x").key().as_slice(), &b"nonsense"[..])
            .unwrap();
        txn.set_two_phase_commit(true);
        txn.commit().unwrap();
        assert!(index.get(&path("x")).unwrap_err().is_damage());
        assert!(index.records_after(None, 9).unwrap_err().is_damage());
    }
}
