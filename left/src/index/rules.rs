//! The rules of what is ignored that are in force: those that the scanner has
//! read last. They are kept here, so that they hold when the file cannot be read,
//! and so that what they mean for the entries is done though the process ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{ReadableDatabase, ReadableTable, Table, WriteTransaction};

use super::error::{During, IndexError, damaged};
use super::{Bytes, Index};
use crate::ignore::Rules;

const RULES: Bytes = redb::TableDefinition::new("rules");

const TEXT: &[u8] = b"text";

/// Of the figures: entries that the rules ignore may still be there.
const UNCLEAN: &str = "unclean";

/// In memory what is in the database.
pub(super) struct InForce(Mutex<Option<Arc<Rules>>>);

impl InForce {
    /// Reads them when the database is opened.
    pub(super) fn open(txn: &WriteTransaction) -> Result<Self, IndexError> {
        let table = txn.open_table(RULES).during("open")?;
        let rules = match table.get(TEXT).during("open")? {
            None => None,
            Some(text) => match Rules::read(text.value()) {
                Ok((rules, bad)) if bad.is_empty() => Some(Arc::new(rules)),
                _ => return damaged("it holds rules that cannot be"),
            },
        };
        Ok(Self(Mutex::new(rules)))
    }

    /// They are in the database from now on.
    pub(super) fn set(&self, rules: Arc<Rules>) {
        *self.lock() = Some(rules);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Rules>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// The rules of what is ignored; `None` before the scanner has read any.
    pub fn rules(&self) -> Option<Arc<Rules>> {
        self.in_force.lock().clone()
    }

    /// Whether nothing is known any more of what they ignore.
    pub fn is_clean(&self) -> Result<bool, IndexError> {
        let txn = self.db.begin_read().during("read")?;
        let meta = txn.open_table(super::META).during("read")?;
        let unclean = meta.get(UNCLEAN).during("read")?;
        Ok(unclean.is_none_or(|unclean| unclean.value() == 0))
    }
}

/// Puts rules in force. What they ignore is to be forgotten then.
pub(super) fn put(
    txn: &WriteTransaction,
    meta: &mut Table<'_, &str, u64>,
    rules: &Rules,
) -> Result<(), IndexError> {
    let mut table = txn.open_table(RULES).during("write")?;
    table
        .insert(TEXT, rules.to_bytes().as_slice())
        .during("write")?;
    set_clean(meta, false)
}

/// Whether that is done.
pub(super) fn set_clean(meta: &mut Table<'_, &str, u64>, is_clean: bool) -> Result<(), IndexError> {
    meta.insert(UNCLEAN, u64::from(!is_clean)).during("write")?;
    Ok(())
}
