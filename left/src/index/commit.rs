//! Changes to the index, which become durable together.

use redb::ReadableTable;

use super::error::{During, IndexError, sound};
use super::{BY_SEQ, ENTRIES, Heard, INTENTS, Index, META, WANTS};
use crate::entry::Entry;
use crate::part::PartId;
use crate::path::RelPath;
use crate::record::{self, Record, Stamp};

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

impl Index {
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
