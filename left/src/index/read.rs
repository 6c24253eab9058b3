//! Questions to the index. Each sees one state of it, whatever is committed meanwhile.

use std::ops::Bound;

use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::error::{During, sound};
use super::figures::Figures;
use super::{
    BEGUN, BY_SEQ, CONTENTS, DOOMED, ENTRIES, Heard, ID_BYTES, INTENTS, Index, IndexError, META,
    REMOVALS, REMOVING, Removal, TRASH, TRASH_CONTENTS, Trashed, WANTED, WANTS, decode_removal,
};
use crate::entry::{ContentId, Entry};
use crate::pairing::ShareId;
use crate::part::PartId;
use crate::path::RelPath;
use crate::record::{self, Record};

/// What there is in all, told without walking through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Entries, those of deleted paths too.
    pub entries: u64,
    /// Paths that are there.
    pub live: u64,
    /// The lengths of all files among them.
    pub live_bytes: u64,
    /// Conflict copies among them.
    pub copies: u64,
    /// Entries of the peer that are still to be acted on.
    pub wanted: u64,
    /// The lengths of all files among these. Some may be here under other names.
    pub wanted_bytes: u64,
}

impl Index {
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

    /// What there is in all.
    pub fn sums(&self) -> Result<Sums, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let len = |table| -> Result<u64, IndexError> {
            txn.open_table(table).during("read")?.len().during("read")
        };
        let figures = Figures::read(&txn.open_table(META).during("read")?)?;
        Ok(Sums {
            entries: len(ENTRIES)?,
            live: figures.live,
            live_bytes: figures.live_bytes,
            copies: figures.copies,
            wanted: len(WANTS)? + len(REMOVALS)?,
            wanted_bytes: figures.wanted_bytes,
        })
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

    /// The name of what this side and its peer keep the same, once they are joined.
    pub fn share_id(&self) -> Result<Option<ShareId>, IndexError> {
        self.figure("share").map(ShareId::from_number)
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
            joined: read("heard-joined")? != 0,
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
