//! The database of entries: what this side knows of each path, what it wants
//! of the peer's, and how far it has read the peer's listing.
//!
//! One redb file. Commits are durable and the file opens quickly after a kill.
//! A database that does not open is set aside under another name, never
//! deleted; the scanner then builds a new one under a new replica id.

mod boot;
mod commit;
mod error;
mod identity;
mod migrate;
mod store;
mod trashed;

use std::ops::Bound;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

pub use commit::Change;
pub use error::IndexError;
use error::{During, damaged, sound};
pub use identity::Renewed;
pub use store::Store;
pub use trashed::Trashed;

use crate::entry::{ContentId, Entry};
use crate::part::PartId;
use crate::path::RelPath;
use crate::record::{self, Record};
use crate::version::ReplicaId;

/// Raised when the meaning of a table changes. Older ones are migrated, others
/// set aside.
const SCHEMA: u64 = 2;

/// The page cache of the database: enough for the upper levels of the trees of
/// a million entries, small against the memory budget.
const CACHE_BYTES: usize = 2 * 1024 * 1024;

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const ENTRIES: Bytes = TableDefinition::new("entries");
const BY_SEQ: TableDefinition<u64, &[u8]> = TableDefinition::new("by-seq");
const WANTS: Bytes = TableDefinition::new("wants");
const INTENTS: Bytes = TableDefinition::new("intents");
/// Wants whose entry says deleted, with a byte before it: they are followed
/// from the end, what is in a folder before the folder, and can be held back.
const REMOVALS: Bytes = TableDefinition::new("removals");
/// Tombstones that the peer has too, by sequence number. They go when it has
/// acknowledged ours.
const DOOMED: TableDefinition<u64, &[u8]> = TableDefinition::new("doomed");
/// The beginning of a content id, then the path that has it.
const CONTENTS: TableDefinition<&[u8], ()> = TableDefinition::new("contents");
/// The beginning of a content id, then the path for which it is wanted.
const WANTED: TableDefinition<&[u8], ()> = TableDefinition::new("wanted");
/// What was wanted of a path when its job began, if something else is by now.
const BEGUN: Bytes = TableDefinition::new("begun");
/// What lies in the trash, by name.
const TRASH: Bytes = TableDefinition::new("trash");
/// The beginning of a content id, then the name in the trash.
const TRASH_CONTENTS: TableDefinition<&[u8], ()> = TableDefinition::new("trash-contents");
/// What is about to be moved into the trash: its name there, and its path.
const REMOVING: Bytes = TableDefinition::new("removing");

/// So much of a content id tells contents apart well enough to look for one;
/// whoever uses what is found there hashes it.
const ID_BYTES: usize = 16;

/// How far this side has read the listing of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The peer's replica id.
    pub replica: u64,
    /// The epoch of the peer's index.
    pub epoch: u64,
    /// The run of the peer's program in which that was heard; see
    /// [`Index::run`].
    pub run: u64,
    /// The last sequence number taken.
    pub upto: u64,
    /// The listing was not yet read to its end once: what it holds may be older
    /// than what was forgotten here.
    pub partial: bool,
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
    run: u64,
    former: Vec<(ReplicaId, u64)>,
    renewed: Option<Renewed>,
}

impl Index {
    /// Opens or makes the index at `path`, with an id and a number, both random, for
    /// when it has to be a new replica. The second value is where a database
    /// that did not open was set aside.
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
        // Before anything relies on it: a power cut could take the name, and
        // all that was made durable under it. Also when it was there already,
        // as a kill may have come between the rename and this.
        sync_folder_of(path)
            .map_err(redb::Error::Io)
            .during("keep the name of")?;
        Self::try_open_there(path, fresh)
    }

    fn try_open_there(path: &Path, fresh: (ReplicaId, u64)) -> Result<Self, IndexError> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .during("open")?;
        Self::set_up(db, fresh, identity::place_of(path))
    }

    /// Opens or makes the index on something else than a file.
    #[cfg(test)]
    pub(crate) fn open_on(
        backend: impl redb::StorageBackend,
        fresh: (ReplicaId, u64),
    ) -> Result<Self, IndexError> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
            .during("open")?;
        Self::set_up(db, fresh, None)
    }

    fn set_up(
        db: Database,
        fresh: (ReplicaId, u64),
        place: Option<u64>,
    ) -> Result<Self, IndexError> {
        let mut txn = db.begin_write().during("open")?;
        txn.set_two_phase_commit(true);
        txn.set_quick_repair(true);
        let read = |meta: &redb::Table<&str, u64>, key| {
            meta.get(key)
                .during("read")
                .map(|value| value.map(|guard| guard.value()))
        };
        {
            let mut meta = txn.open_table(META).during("open")?;
            match read(&meta, "schema")? {
                None => {
                    meta.insert("schema", SCHEMA).during("write")?;
                    meta.insert("replica", fresh.0.0).during("write")?;
                    meta.insert("epoch", fresh.1).during("write")?;
                }
                Some(SCHEMA) => {}
                Some(1) => {
                    let live = migrate::from_1(&txn)?;
                    meta.insert("live", live).during("migrate")?;
                    meta.insert("schema", SCHEMA).during("migrate")?;
                }
                Some(_) => return damaged("it was made by another version of left"),
            }
            let known = (read(&meta, "replica")?, read(&meta, "epoch")?);
            let (Some(_), Some(_)) = known else {
                return damaged("it does not say whose it is");
            };
            txn.open_table(ENTRIES).during("open")?;
            txn.open_table(BY_SEQ).during("open")?;
            txn.open_table(WANTS).during("open")?;
            txn.open_table(INTENTS).during("open")?;
            txn.open_table(REMOVALS).during("open")?;
            txn.open_table(DOOMED).during("open")?;
            txn.open_table(CONTENTS).during("open")?;
            txn.open_table(WANTED).during("open")?;
            txn.open_table(BEGUN).during("open")?;
            txn.open_table(TRASH).during("open")?;
            txn.open_table(TRASH_CONTENTS).during("open")?;
            txn.open_table(REMOVING).during("open")?;
        }
        let renewed = identity::on_open(&txn, fresh, place)?;
        let former = identity::former(&txn)?;
        let (replica, epoch) = {
            let meta = txn.open_table(META).during("open")?;
            (read(&meta, "replica")?, read(&meta, "epoch")?)
        };
        txn.commit().during("open")?;
        Ok(Self {
            db,
            replica: ReplicaId(replica.unwrap_or_default()),
            epoch: epoch.unwrap_or_default(),
            run: fresh.1,
            former,
            renewed,
        })
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
        let key = path.key();
        if let Some(guard) = table.get(key.as_slice()).during("read")? {
            return sound(record::decode_entry(guard.value())).map(Some);
        }
        let table = txn.open_table(REMOVALS).during("read")?;
        match table.get(key.as_slice()).during("read")? {
            Some(guard) => sound(decode_removal(guard.value())).map(|want| Some(want.entry)),
            None => Ok(None),
        }
    }

    /// What was wanted of a path when its job began, if something else is by now.
    pub fn begun(&self, path: &RelPath) -> Result<Option<Entry>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(BEGUN).during("read")?;
        match table.get(path.key().as_slice()).during("read")? {
            Some(guard) => sound(record::decode_entry(guard.value())).map(Some),
            None => Ok(None),
        }
    }

    /// Up to `count` wanted removals before `before`, from the last path to the
    /// first.
    pub fn removals_before(
        &self,
        before: Option<&RelPath>,
        count: usize,
    ) -> Result<Vec<(RelPath, Removal)>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(REMOVALS).during("read")?;
        let key = before.map(RelPath::key);
        let end = match &key {
            Some(key) => Bound::Excluded(key.as_slice()),
            None => Bound::Unbounded,
        };
        let mut found = Vec::new();
        let range = table
            .range::<&[u8]>((Bound::Unbounded, end))
            .during("read")?;
        for item in range.rev().take(count) {
            let (key, value) = item.during("read")?;
            let path = RelPath::from_key(key.value()).ok();
            found.push(sound(path.zip(decode_removal(value.value())))?);
        }
        Ok(found)
    }

    /// Up to `count` paths that have this content, as far as is known.
    pub fn paths_of(&self, id: ContentId, count: usize) -> Result<Vec<RelPath>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(CONTENTS).during("read")?;
        let mut found = Vec::new();
        for key in with_content(&table, id, count)? {
            found.push(sound(RelPath::from_key(&key).ok())?);
        }
        Ok(found)
    }

    /// Whether a path is to get this content.
    pub fn is_wanted(&self, id: ContentId) -> Result<bool, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(WANTED).during("read")?;
        Ok(!with_content(&table, id, 1)?.is_empty())
    }

    /// Something in the trash with this content.
    pub fn trashed_as(&self, id: ContentId) -> Result<Option<(Vec<u8>, Trashed)>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(TRASH_CONTENTS).during("read")?;
        let Some(name) = with_content(&table, id, 1)?.pop() else {
            return Ok(None);
        };
        let table = txn.open_table(TRASH).during("read")?;
        let trashed = table.get(name.as_slice()).during("read")?;
        let trashed = trashed.and_then(|guard| Trashed::decode(guard.value()));
        sound(trashed).map(|trashed| Some((name, trashed)))
    }

    /// Up to `count` things in the trash after `after`, in the order of names,
    /// which is that of time.
    pub fn trash_after(
        &self,
        after: &[u8],
        count: usize,
    ) -> Result<Vec<(Vec<u8>, Trashed)>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(TRASH).during("read")?;
        let mut found = Vec::new();
        let range = (Bound::Excluded(after), Bound::Unbounded);
        for item in table.range::<&[u8]>(range).during("read")?.take(count) {
            let (name, value) = item.during("read")?;
            let trashed = sound(Trashed::decode(value.value()))?;
            found.push((name.value().to_vec(), trashed));
        }
        Ok(found)
    }

    /// Moves into the trash that were under way when the process ended.
    pub fn removing(&self) -> Result<Vec<(Vec<u8>, RelPath)>, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(REMOVING).during("read")?;
        let mut found = Vec::new();
        for item in table.iter().during("read")? {
            let (name, key) = item.during("read")?;
            let path = sound(RelPath::from_key(key.value()).ok())?;
            found.push((name.value().to_vec(), path));
        }
        Ok(found)
    }

    /// The last sequence number.
    pub fn seq(&self) -> Result<u64, IndexError> {
        self.figure("seq")
    }

    /// How many paths there are that are not deleted.
    pub fn live(&self) -> Result<u64, IndexError> {
        self.figure("live")
    }

    /// How many removals are wanted.
    pub fn removals(&self) -> Result<u64, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(REMOVALS).during("read")?;
        table.len().during("read")
    }

    /// Whether an acknowledgement up to this number makes a tombstone go.
    pub fn is_any_doomed(&self, upto: u64) -> Result<bool, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let table = txn.open_table(DOOMED).during("read")?;
        let first = table.first().during("read")?;
        Ok(first.is_some_and(|(seq, _)| seq.value() <= upto))
    }

    fn figure(&self, key: &str) -> Result<u64, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let meta = txn.open_table(META).during("read")?;
        let value = meta.get(key).during("read")?;
        Ok(value.map_or(0, |guard| guard.value()))
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
        let removals = txn
            .open_table(REMOVALS)
            .during("read")?
            .len()
            .during("read")?;
        Ok((entries, wants + removals))
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
            run: read("heard-run")?,
            upto: read("heard-upto")?,
            partial: read("heard-partial")? != 0,
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

/// A removal that the peer made and this side has to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The tombstone.
    pub entry: Entry,
    /// A person said that it is meant, though much goes with it.
    pub is_confirmed: bool,
}

fn encode_removal(removal: &Removal) -> Vec<u8> {
    let mut value = vec![u8::from(removal.is_confirmed)];
    value.extend(record::encode_entry(&removal.entry));
    value
}

fn decode_removal(bytes: &[u8]) -> Option<Removal> {
    let (first, rest) = bytes.split_first()?;
    let entry = record::decode_entry(rest).filter(|_| *first <= 1)?;
    Some(Removal {
        entry,
        is_confirmed: *first == 1,
    })
}

/// The key of something with a content in a table of contents.
fn content_key(id: ContentId, rest: &[u8]) -> Vec<u8> {
    [&id.0[..ID_BYTES], rest].concat()
}

/// Up to `count` keys of things with this content, without the content.
fn with_content(
    table: &impl ReadableTable<&'static [u8], ()>,
    id: ContentId,
    count: usize,
) -> Result<Vec<Vec<u8>>, IndexError> {
    let prefix = &id.0[..ID_BYTES];
    let mut found = Vec::new();
    for item in table.range::<&[u8]>(prefix..).during("read")?.take(count) {
        let (key, _) = item.during("read")?;
        match key.value().strip_prefix(prefix) {
            Some(rest) => found.push(rest.to_vec()),
            None => break,
        }
    }
    Ok(found)
}

/// Makes the names in the folder of `path` durable.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
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
