//! Changes to the index, which become durable together.

use std::sync::Arc;

use redb::{ReadableTable, Table};

use super::error::{During, IndexError, sound};
use super::figures::Figures;
use super::identity::RUNS;
use super::{
    BEGUN, BY_SEQ, CONTENTS, DOOMED, ENTRIES, Heard, INTENTS, Index, META, REMOVALS, REMOVING,
    Removal, TRASH, TRASH_CONTENTS, Trashed, WANTED, WANTS, content_key, encode_removal, rules,
};
use crate::entry::{Body, ContentId, Entry};
use crate::ignore::Rules;
use crate::pairing::ShareId;
use crate::part::PartId;
use crate::path::RelPath;
use crate::record::{self, Record, Stamp};
use crate::version::VersionVector;

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
    /// Nothing is known of the path any more, nor wanted. The peer is not told.
    Drop {
        /// Whose entry.
        path: RelPath,
    },
    /// These rules say what is ignored from now on.
    Rules(Arc<Rules>),
    /// What they ignore was dropped.
    Clean,
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
    /// The job of a path has begun for this, and something else is wanted by now.
    Begun {
        /// Of which path.
        path: RelPath,
        /// What was wanted.
        entry: Entry,
    },
    /// That job has ended.
    Ended {
        /// Of which path.
        path: RelPath,
    },
    /// A person said that this removal, if it still is wanted like this, is meant.
    Confirm {
        /// Of which path.
        path: RelPath,
        /// The tombstone.
        entry: Entry,
    },
    /// The want is fulfilled or void.
    Unwant {
        /// Of which path.
        path: RelPath,
    },
    /// The peer's listing was taken so far.
    Heard(Heard),
    /// The two shares are one, of this name.
    Share(ShareId),
    /// The peer knows of nothing in our name that we do not know of ourselves.
    Agreed,
    /// It does: this side is to be another replica when it is opened next.
    Doubt,
    /// A person said that whoever this side was paired with is to be forgotten when it
    /// is opened next.
    Forgotten,
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
    /// The peer is another one, or has a new index, and lists everything again:
    /// nothing is wanted, and no tombstone is known to be known.
    ForgetPeer,
    /// The peer has a tombstone of this version. If the one here is the same, it
    /// goes with [`Change::Acked`].
    Doom {
        /// Of which path.
        path: RelPath,
        /// The peer's.
        version: VersionVector,
    },
    /// The peer took the listing so far: tombstones that both have are of no
    /// use any more.
    Acked {
        /// The last sequence number.
        upto: u64,
    },
    /// Something is about to be moved into the trash.
    Removing {
        /// Its name there.
        name: Vec<u8>,
        /// Where it is.
        path: RelPath,
    },
    /// That is over, one way or the other.
    Removed {
        /// Its name there.
        name: Vec<u8>,
    },
    /// Something lies in the trash.
    Trash {
        /// Under which name.
        name: Vec<u8>,
        /// What.
        trashed: Trashed,
    },
    /// It lies there no more.
    Untrash {
        /// Under which name.
        name: Vec<u8>,
    },
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
            let mut removals = txn.open_table(REMOVALS).during("write")?;
            let mut doomed = txn.open_table(DOOMED).during("write")?;
            let mut contents = txn.open_table(CONTENTS).during("write")?;
            let mut wanted = txn.open_table(WANTED).during("write")?;
            let mut begun = txn.open_table(BEGUN).during("write")?;
            let mut trash = txn.open_table(TRASH).during("write")?;
            let mut trash_contents = txn.open_table(TRASH_CONTENTS).during("write")?;
            let mut removing = txn.open_table(REMOVING).during("write")?;
            let mut figures = Figures::read(&meta)?;
            for change in changes {
                match change {
                    Change::Put { path, entry, stamp } => {
                        let key = path.key();
                        let old = match entries.get(key.as_slice()).during("write")? {
                            Some(guard) => Some(sound(record::decode(guard.value()))?),
                            None => None,
                        };
                        if let Some(old) = old {
                            unlist(&mut by_seq, &mut doomed, &mut contents, &key, &old)?;
                            figures.gone(path, &old.entry);
                        }
                        figures.come(path, entry);
                        if let Some(id) = content(entry) {
                            let key = content_key(id, &key);
                            contents.insert(key.as_slice(), ()).during("write")?;
                        }
                        figures.seq += 1;
                        let seq = figures.seq;
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
                    Change::Drop { path } => {
                        let key = path.key();
                        let old = match entries.remove(key.as_slice()).during("write")? {
                            Some(guard) => Some(sound(record::decode(guard.value()))?),
                            None => None,
                        };
                        if let Some(old) = old {
                            unlist(&mut by_seq, &mut doomed, &mut contents, &key, &old)?;
                            figures.gone(path, &old.entry);
                        }
                        unwant(&mut wants, &mut wanted, &mut figures, &key)?;
                        removals.remove(key.as_slice()).during("write")?;
                        begun.remove(key.as_slice()).during("write")?;
                    }
                    Change::Rules(rules) => rules::put(&txn, &mut meta, rules)?,
                    Change::Clean => rules::set_clean(&mut meta, true)?,
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
                        let key = path.key();
                        unwant(&mut wants, &mut wanted, &mut figures, &key)?;
                        removals.remove(key.as_slice()).during("write")?;
                        if entry.is_deleted() {
                            let removal = Removal {
                                entry: entry.clone(),
                                is_confirmed: false,
                            };
                            let value = encode_removal(&removal);
                            removals
                                .insert(key.as_slice(), value.as_slice())
                                .during("write")?;
                        } else {
                            figures.want(entry);
                            let value = record::encode_entry(entry);
                            wants
                                .insert(key.as_slice(), value.as_slice())
                                .during("write")?;
                            if let Some(id) = content(entry) {
                                let key = content_key(id, &key);
                                wanted.insert(key.as_slice(), ()).during("write")?;
                            }
                        }
                    }
                    Change::Begun { path, entry } => {
                        let value = record::encode_entry(entry);
                        begun
                            .insert(path.key().as_slice(), value.as_slice())
                            .during("write")?;
                    }
                    Change::Ended { path } => {
                        begun.remove(path.key().as_slice()).during("write")?;
                    }
                    Change::Confirm { path, entry } => {
                        let key = path.key();
                        let mut removal = Removal {
                            entry: entry.clone(),
                            is_confirmed: false,
                        };
                        let is_wanted = removals
                            .get(key.as_slice())
                            .during("write")?
                            .is_some_and(|guard| guard.value() == encode_removal(&removal));
                        if is_wanted {
                            removal.is_confirmed = true;
                            let value = encode_removal(&removal);
                            removals
                                .insert(key.as_slice(), value.as_slice())
                                .during("write")?;
                        }
                    }
                    Change::Unwant { path } => {
                        let key = path.key();
                        unwant(&mut wants, &mut wanted, &mut figures, &key)?;
                        removals.remove(key.as_slice()).during("write")?;
                    }
                    Change::ForgetPeer => {
                        figures.wanted_bytes = 0;
                        wants.retain(|_, _| false).during("write")?;
                        wanted.retain(|_, _| false).during("write")?;
                        begun.retain(|_, _| false).during("write")?;
                        removals.retain(|_, _| false).during("write")?;
                        doomed.retain(|_, _| false).during("write")?;
                    }
                    Change::Doom { path, version } => {
                        let key = path.key();
                        let known = match entries.get(key.as_slice()).during("write")? {
                            Some(guard) => Some(sound(record::decode(guard.value()))?),
                            None => None,
                        };
                        if let Some(known) = known.filter(|known| {
                            known.entry.is_deleted() && known.entry.version == *version
                        }) {
                            doomed.insert(known.seq, key.as_slice()).during("write")?;
                        }
                    }
                    Change::Acked { upto } => {
                        let mut gone = Vec::new();
                        for item in doomed.range(..=*upto).during("write")? {
                            let (seq, key) = item.during("write")?;
                            gone.push((seq.value(), key.value().to_vec()));
                        }
                        for (seq, key) in gone {
                            doomed.remove(seq).during("write")?;
                            by_seq.remove(seq).during("write")?;
                            entries.remove(key.as_slice()).during("write")?;
                        }
                    }
                    Change::Removing { name, path } => {
                        removing
                            .insert(name.as_slice(), path.key().as_slice())
                            .during("write")?;
                    }
                    Change::Removed { name } => {
                        removing.remove(name.as_slice()).during("write")?;
                    }
                    Change::Trash { name, trashed } => {
                        if let Some(id) = trashed.id {
                            let key = content_key(id, name);
                            trash_contents.insert(key.as_slice(), ()).during("write")?;
                        }
                        trash
                            .insert(name.as_slice(), trashed.encode().as_slice())
                            .during("write")?;
                    }
                    Change::Untrash { name } => {
                        let old = match trash.remove(name.as_slice()).during("write")? {
                            Some(guard) => Some(sound(Trashed::decode(guard.value()))?),
                            None => None,
                        };
                        if let Some(id) = old.and_then(|old| old.id) {
                            let key = content_key(id, name);
                            trash_contents.remove(key.as_slice()).during("write")?;
                        }
                    }
                    Change::Heard(heard) => set_heard(&mut meta, *heard)?,
                    Change::Share(id) => {
                        let number = ShareId::number(Some(*id));
                        meta.insert("share", number).during("write")?;
                    }
                    Change::Agreed => {
                        let runs = txn.open_table(RUNS).during("write")?;
                        let run = runs.last().during("write")?;
                        let number = run.map_or(0, |(number, _)| number.value());
                        meta.insert("agreed", number).during("write")?;
                    }
                    Change::Doubt => {
                        meta.insert("doubted", 1).during("write")?;
                    }
                    Change::Forgotten => {
                        meta.insert("forgotten", 1).during("write")?;
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
            figures.write(&mut meta)?;
        }
        txn.commit().during("commit")?;
        for change in changes {
            if let Change::Rules(rules) = change {
                self.in_force.set(rules.clone());
            }
        }
        Ok(())
    }
}

type Bytes<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// How far the peer was heard.
pub(super) fn set_heard(meta: &mut Table<'_, &str, u64>, heard: Heard) -> Result<(), IndexError> {
    for (key, value) in [
        ("heard-replica", heard.replica),
        ("heard-epoch", heard.epoch),
        ("heard-run", heard.run),
        ("heard-upto", heard.upto),
        ("heard-partial", u64::from(heard.partial)),
        ("heard-joined", u64::from(heard.joined)),
    ] {
        meta.insert(key, value).during("write")?;
    }
    Ok(())
}

/// A record is no longer found by its number, nor by its content.
fn unlist(
    by_seq: &mut Table<'_, u64, &'static [u8]>,
    doomed: &mut Table<'_, u64, &'static [u8]>,
    contents: &mut Table<'_, &'static [u8], ()>,
    key: &[u8],
    old: &Record,
) -> Result<(), IndexError> {
    by_seq.remove(old.seq).during("write")?;
    doomed.remove(old.seq).during("write")?;
    if let Some(id) = content(&old.entry) {
        let key = content_key(id, key);
        contents.remove(key.as_slice()).during("write")?;
    }
    Ok(())
}

fn unwant(
    wants: &mut Bytes<'_>,
    wanted: &mut Table<'_, &'static [u8], ()>,
    figures: &mut Figures,
    key: &[u8],
) -> Result<(), IndexError> {
    let old = match wants.remove(key).during("write")? {
        Some(guard) => Some(sound(record::decode_entry(guard.value()))?),
        None => None,
    };
    if let Some(old) = &old {
        figures.unwant(old);
    }
    if let Some(id) = old.as_ref().and_then(content) {
        let key = content_key(id, key);
        wanted.remove(key.as_slice()).during("write")?;
    }
    Ok(())
}

/// What is found by its content; empty files need not be.
pub(super) fn content(entry: &Entry) -> Option<ContentId> {
    match &entry.body {
        Body::File { id, size, .. } if *size > 0 => Some(*id),
        _ => None,
    }
}
