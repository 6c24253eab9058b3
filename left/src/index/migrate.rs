//! What an index of an older version of the program lacks.

use redb::{ReadableTable, WriteTransaction};

use super::commit::content;
use super::error::{During, IndexError, sound};
use super::{CONTENTS, ENTRIES, REMOVALS, Removal, WANTED, WANTS, content_key, encode_removal};
use crate::record;

/// Schema 1 did not find paths by content, and kept wanted removals with the
/// other wants. Answers how many paths are not deleted.
pub(super) fn from_1(txn: &WriteTransaction) -> Result<u64, IndexError> {
    let entries = txn.open_table(ENTRIES).during("migrate")?;
    let mut contents = txn.open_table(CONTENTS).during("migrate")?;
    let mut live = 0;
    for item in entries.iter().during("migrate")? {
        let (key, value) = item.during("migrate")?;
        let record = sound(record::decode(value.value()))?;
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
        let entry = sound(record::decode_entry(value.value()))?;
        if let Some(id) = content(&entry) {
            let key = content_key(id, key.value());
            wanted.insert(key.as_slice(), ()).during("migrate")?;
        }
        if entry.is_deleted() {
            let removal = Removal {
                entry,
                is_confirmed: false,
            };
            let value = encode_removal(&removal);
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
