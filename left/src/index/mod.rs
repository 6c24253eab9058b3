//! The database of entries: what this side knows of each path, what it wants
//! of the peer's, and how far it has read the peer's listing.
//!
//! One redb file. Commits are durable and the file opens quickly after a kill.
//! A database that does not open is set aside under another name, never
//! deleted; the scanner then builds a new one under a new replica id.

mod boot;
mod commit;
mod error;
mod figures;
mod identity;
mod migrate;
mod read;
mod rules;
mod store;
mod trashed;

use std::path::{Path, PathBuf};

use redb::{Database, ReadableTable, TableDefinition};

pub use commit::Change;
pub use error::IndexError;
use error::{During, damaged};
pub use identity::Renewed;
pub use read::Sums;
pub use store::Store;
pub use trashed::Trashed;

use crate::entry::{ContentId, Entry};
use crate::record;
use crate::version::ReplicaId;

/// Raised when the meaning of a table changes. Older ones are migrated, others
/// set aside.
const SCHEMA: u64 = 3;

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
    /// The two shares are joined: what the peer lists is followed.
    pub joined: bool,
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
    in_force: rules::InForce,
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
                Some(old @ (1 | 2)) => {
                    let here = ReplicaId(read(&meta, "replica")?.unwrap_or_default());
                    let peer = ReplicaId(read(&meta, "heard-replica")?.unwrap_or_default());
                    if old == 1 {
                        let live = migrate::from_1(&txn, here)?;
                        meta.insert("live", live).during("migrate")?;
                    }
                    migrate::from_2(&txn, here, peer)?;
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
            figures::complete(&txn, &mut meta)?;
        }
        let renewed = identity::on_open(&txn, fresh, place)?;
        let former = identity::former(&txn)?;
        let in_force = rules::InForce::open(&txn)?;
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
            in_force,
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

fn unsound_marker(path: &Path) -> PathBuf {
    path.with_extension("unsound")
}

/// Makes the names in the folder of `path` durable.
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
