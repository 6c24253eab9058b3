//! What an index of an older version of the program lacks.

use std::ops::Bound;

use redb::{ReadableTable, WriteTransaction};

use super::commit::content;
use super::error::{During, IndexError, sound};
use super::{
    BEGUN, Bytes, CONTENTS, ENTRIES, REMOVALS, Removal, WANTED, WANTS, content_key, encode_removal,
};
use crate::record;
use crate::version::ReplicaId;

/// Rewritten at a time.
const BATCH: usize = 512;

/// Schema 1 did not find paths by content, and kept wanted removals with the
/// other wants. Answers how many paths are not deleted.
pub(super) fn from_1(txn: &WriteTransaction, here: ReplicaId) -> Result<u64, IndexError> {
    let entries = txn.open_table(ENTRIES).during("migrate")?;
    let mut contents = txn.open_table(CONTENTS).during("migrate")?;
    let mut live = 0;
    for item in entries.iter().during("migrate")? {
        let (key, value) = item.during("migrate")?;
        let record = sound(record::decode_without_dots(value.value(), here))?;
        live += u64::from(!record.entry.is_deleted());
        if let Some(id) = content(&record.entry) {
            let key = content_key(id, key.value());
            contents.insert(key.as_slice(), ()).during("migrate")?;
        }
    }
    let mut wants = txn.open_table(WANTS).during("migrate")?;
    let mut wanted = txn.open_table(WANTED).during("migrate")?;
    let mut removals = txn.open_table(REMOVALS).during("migrate")?;
    let mut moved = Vec::new();
    for item in wants.iter().during("migrate")? {
        let (key, value) = item.during("migrate")?;
        let entry = sound(record::decode_entry_without_dots(value.value(), here))?;
        if let Some(id) = content(&entry) {
            let key = content_key(id, key.value());
            wanted.insert(key.as_slice(), ()).during("migrate")?;
        }
        if entry.is_deleted() {
            // As schema 2 has it.
            let value = [&[0], value.value()].concat();
            removals
                .insert(key.value(), value.as_slice())
                .during("migrate")?;
            moved.push(key.value().to_vec());
        }
    }
    for key in moved {
        wants.remove(key.as_slice()).during("migrate")?;
    }
    Ok(live)
}

/// Schema 2 did not tell what set the fields of an entry. Those here are taken for as
/// changed here last, those of the peer for as changed there.
pub(super) fn from_2(
    txn: &WriteTransaction,
    here: ReplicaId,
    peer: ReplicaId,
) -> Result<(), IndexError> {
    rewrite(txn, ENTRIES, |value| {
        let record = record::decode_without_dots(value, here)?;
        Some(record::encode(&record))
    })?;
    for table in [WANTS, BEGUN] {
        rewrite(txn, table, |value| {
            let entry = record::decode_entry_without_dots(value, peer)?;
            Some(record::encode_entry(&entry))
        })?;
    }
    rewrite(txn, REMOVALS, |value| {
        let (confirmed, value) = value.split_first()?;
        let entry = record::decode_entry_without_dots(value, peer)?;
        let is_confirmed = *confirmed == 1;
        Some(encode_removal(&Removal {
            entry,
            is_confirmed,
        }))
    })
}

/// Gives every value of a table another form, a few at a time: there may be a million.
fn rewrite(
    txn: &WriteTransaction,
    table: Bytes,
    form: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<(), IndexError> {
    let mut table = txn.open_table(table).during("migrate")?;
    let mut last: Option<Vec<u8>> = None;
    loop {
        let start = match &last {
            Some(key) => Bound::Excluded(key.as_slice()),
            None => Bound::Unbounded,
        };
        let mut batch = Vec::new();
        let range = table.range::<&[u8]>((start, Bound::Unbounded));
        for item in range.during("migrate")?.take(BATCH) {
            let (key, value) = item.during("migrate")?;
            batch.push((key.value().to_vec(), sound(form(value.value()))?));
        }
        for (key, value) in &batch {
            table
                .insert(key.as_slice(), value.as_slice())
                .during("migrate")?;
        }
        match batch.pop() {
            Some((key, _)) => last = Some(key),
            None => return Ok(()),
        }
    }
}
